"""Tool calls as text, and the text scaffold: what is read, and that nothing can break the reader."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.chat import Parsed, action_text, parse_action, parse_calls, tools_text
from agent.models import Completion, Scripted, call
from agent.scaffold import Scaffold
from tasks.attempt import FunctionCall, Message, Usage

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "execute_code",
            "description": "Run code.",
            "parameters": {"properties": {"code": {}, "language": {}}, "required": ["code"]},
        },
    }
]
LOOK = FunctionCall(name="look", arguments={"at": "beds"})


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("No call.", Parsed("No call.")),
        ('<tool_call>\n{"name": "look", "arguments": {"at": "beds"}}\n</tool_call>', Parsed(None, None, (LOOK,))),
        ('So.<tool_call>{"name":"look","arguments":{"at":"beds"}}', Parsed("So.", None, (LOOK,))),
        ("<think>Hm.</think>So.", Parsed("So.", "Hm.")),
        ("Hm.</think>So.", Parsed("So.", "Hm.")),
        ('<tool_call>{"name": "look"}</tool_call>', Parsed(None, None, (FunctionCall(name="look", arguments={}),))),
        (
            '<tool_call>{"name": "look", "arguments": {"at": "a\nb"}}</tool_call>',
            Parsed(None, None, (FunctionCall(name="look", arguments={"at": "a\nb"}),)),
        ),
    ],
)
def test_calls_are_read(text: str, read: Parsed) -> None:
    assert parse_calls(text) == read


@pytest.mark.parametrize(
    "block",
    [
        "",
        "look",
        "[]",
        '{"name": 1}',
        '{"name": "look", "arguments": [1]}',
        '{"name": "look", "arguments": {"x": NaN}}',
    ],
)
def test_an_unusable_call_is_told_and_kept_as_text(block: str) -> None:
    text = f"So.<tool_call>{block}</tool_call>"
    read = parse_calls(text)
    assert read.calls == ()
    assert read.content == text
    assert read.malformed is not None
    assert "<tool_call>" in read.malformed


def test_one_unusable_call_spoils_the_turn() -> None:
    good = '<tool_call>{"name": "look", "arguments": {}}</tool_call>'
    assert parse_calls(f"{good}<tool_call>no</tool_call>").calls == ()


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ('{"action": "look", "params": {"at": "beds"}}', Parsed(None, None, (LOOK,))),
        ('So: ```json\n{"action": "look", "params": {"at": "beds"}}\n```', Parsed("So:", None, (LOOK,))),
        ('{"action": "look", "params": {"at": "beds"}} and more', Parsed(None, None, (LOOK,))),
        ('<think>{}</think>{"action": "look", "params": {"at": "beds"}}', Parsed(None, "{}", (LOOK,))),
        (
            '{"action": "code_execution", "params": {"code": "1"}}',
            Parsed(None, None, (FunctionCall(name="execute_code", arguments={"code": "1"}),)),
        ),
    ],
)
def test_actions_are_read(text: str, read: Parsed) -> None:
    assert parse_action(text) == read


@pytest.mark.parametrize("text", ["", "The answer is 4.", '{"action": ', '{"params": {}}', "{'action': 'look'}"])
def test_what_is_no_action_is_told(text: str) -> None:
    read = parse_action(text)
    assert (read.calls, read.content) == ((), text)
    assert read.malformed is not None
    assert '{"action": <tool>' in read.malformed


@given(st.text() | st.text(alphabet='{}[]"<>/tool_call:,\\ntink'))
def test_no_text_breaks_the_readers(text: str) -> None:
    for read in (parse_calls(text), parse_calls(f"<tool_call>{text}"), parse_action(text), parse_action("{" + text)):
        assert read.malformed is None or read.calls == ()


def test_deep_nesting_is_malformed() -> None:
    deep = "[" * 100_000
    assert parse_action('{"action": "look", "params": ' + deep).malformed
    assert parse_calls('<tool_call>{"name": "look", "arguments": ' + deep).malformed


@given(st.text(min_size=1), st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text()))
def test_an_action_reads_back(name: str, arguments: dict[str, Any]) -> None:
    from agent.chat import ACTIONS

    one = FunctionCall(name=ACTIONS.get(name, name), arguments=arguments)
    assert parse_action(action_text(one)).calls == (one,)


def wrote(text: str, tokens: int = 7) -> Completion:
    usage = Usage(prompt_tokens=10, completion_tokens=tokens)
    return Completion(Message(role="assistant", content=text), usage, 0.5, "stop", 0.25, (1, 2), (3,), (-0.5,))


GOOD = '{"action": "execute_code", "params": {"code": "1"}}'


@pytest.mark.anyio
async def test_the_scaffold_shows_tools_and_history_as_text() -> None:
    inner = Scripted([wrote(GOOD), wrote(GOOD)])
    model = Scaffold(inner)
    messages = [Message(role="system", content="You answer."), Message(role="user", content="How many?")]
    first = await model.complete(messages, TOOLS, temperature=0, max_tokens=100)
    assert first.message.tool_calls is not None
    assert first.message.tool_calls[0].function == call("execute_code", code="1")
    messages += [first.message, Message(role="tool", content="value: 1", tool_call_id="call_1", name="execute_code")]
    await model.complete(messages, TOOLS, temperature=0, max_tokens=100)
    system, _, turn, observed = inner.seen[1]
    assert system.content == f"You answer.\n\n{tools_text(TOOLS)}"
    assert "execute_code(code, language?): Run code." in tools_text(TOOLS)
    assert turn.content == GOOD
    assert (observed.role, observed.content) == ("user", "Observation of execute_code:\nvalue: 1")


@pytest.mark.anyio
async def test_malformed_turns_are_sampled_again_and_all_of_them_counted() -> None:
    inner = Scripted([wrote("Hm."), wrote("{"), wrote(GOOD)])
    done = await Scaffold(inner).complete([Message(role="user", content="?")], TOOLS, temperature=1, max_tokens=100)
    assert done.malformed is None
    assert done.message.tool_calls is not None
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (30, 21)
    assert (done.seconds, done.cost_usd) == (1.5, 0.75)
    assert inner.seen[0] == inner.seen[1] == inner.seen[2]


@pytest.mark.anyio
async def test_the_last_malformed_turn_is_told() -> None:
    inner = Scripted([wrote("1"), wrote("2"), wrote("3"), wrote(GOOD)])
    done = await Scaffold(inner).complete([Message(role="user", content="?")], TOOLS, temperature=1, max_tokens=100)
    assert done.malformed is not None
    assert done.message.content == "3"


@pytest.mark.anyio
@pytest.mark.parametrize(("temperature", "tokens"), [(0.0, 7), (1.0, 100)])
async def test_it_is_not_sampled_again_in_vain(temperature: float, tokens: int) -> None:
    """Greedily the same would come, and a spent budget leaves no room."""
    inner = Scripted([wrote("Hm.", tokens), wrote(GOOD)])
    done = await Scaffold(inner).complete(
        [Message(role="user", content="?")], TOOLS, temperature=temperature, max_tokens=100
    )
    assert done.malformed is not None
    assert len(inner.seen) == 1


@pytest.mark.anyio
async def test_turns_of_others_are_shown_as_actions() -> None:
    inner = Scripted([wrote(GOOD)])
    turn = Message.model_validate(
        {
            "role": "assistant",
            "content": "So.",
            "tool_calls": [{"id": "call_1", "function": {"name": "look", "arguments": {"at": "beds"}}}],
        }
    )
    await Scaffold(inner).complete([Message(role="user", content="?"), turn], TOOLS, temperature=0, max_tokens=9)
    said, action = str(inner.seen[0][1].content).split("\n")
    assert said == "So."
    assert json.loads(action) == {"action": "look", "params": {"at": "beds"}}
