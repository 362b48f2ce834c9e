"""What a model reads, rendered from what a server sends."""

import json
from pathlib import Path

import pytest

from agent import prompts
from agent.loop import Agent
from agent.models import Nothing
from tasks.attempt import Message
from tasks.record import read_records
from tests.agent.conftest import Serve


def execution(**changes: object) -> dict[str, object]:
    empty = {"text": "", "truncated": False, "total_chars": 0}
    fields: dict[str, object] = {"turns_left": 9, "note": None, "status": "ok", "stdout": empty, "stderr": empty}
    return {**fields, "value": None, "value_truncated": False, "error": None, "seconds": 0.123, **changes}


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (execution(), "status: ok"),
        (execution(value="[[4]]"), "status: ok\nvalue: [[4]]"),
        (execution(value="0"), "status: ok\nvalue: 0"),
        (execution(turns_left=2), "turns_left: 2\nstatus: ok"),
        (
            execution(stdout={"text": "a\n\nb\n", "truncated": True, "total_chars": 30000}),
            "status: ok\nstdout: (cut: 30000 characters in all)\na\n\nb",
        ),
        (
            execution(status="error", error={"type": "KeyError", "message": "'x'", "line": 2, "source": " d['x']"}),
            "status: error\nerror: KeyError: 'x' (line 2: d['x'])",
        ),
        ({"kind": "values", "values": {"total": 0, "values": [{"value": None, "count": 3}]}},
         'values:\ntotal: 0\nvalues:\n{"count":3}'),
        ({"diagnosis": {"fixes": ["Use 'a'."], "cause": "x\ny"}}, "diagnosis:\nfixes: [\"Use 'a'.\"]\ncause:\nx\ny"),
        ({"rows": [[1, None], [0, ""]]}, 'rows: [[1,null],[0,""]]'),
        ({}, "done"),
    ],
)  # fmt: skip
def test_observations_say_what_there_is_and_no_more(result: dict[str, object], text: str) -> None:
    assert prompts.observation(result) == text


def test_a_tool_is_shown_without_the_episode() -> None:
    schema = {
        "type": "function",
        "function": {
            "name": "look",
            "description": " Look. ",
            "parameters": {
                "title": "lookArguments",
                "type": "object",
                "properties": {"episode_id": {"type": "string"}, "title": {"title": "Title", "type": "string"}},
                "required": ["episode_id", "title"],
            },
        },
    }
    assert prompts.tool_schema(schema)["function"] == {
        "name": "look",
        "description": "Look.",
        "parameters": {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]},
    }


@pytest.mark.anyio
async def test_the_servers_record_gives_the_same_view(
    serve: Serve, note_task: str, sql_task: str, tmp_path: Path
) -> None:
    """A record of any client, read through the functions of this module, is what our own agent saw."""
    async with serve() as environment:
        own = {task: await Agent(environment, Nothing()).attempt(task) for task in (note_task, sql_task)}
    theirs = {record.task.id: record for record in read_records([tmp_path / "server"])}
    for task, record in own.items():
        other = theirs[task]
        assert other.id == record.id
        started = json.loads(other.messages[1].content or "")
        assert prompts.problem_text(started) == record.messages[1].content
        assert (other.messages[0].content or "").strip() == record.messages[0].content
        assert tuple(map(prompts.tool_schema, other.tools)) == record.tools
        closed = json.loads(other.messages[-1].content or "")
        assert prompts.observation(closed) == record.messages[-1].content


def history(turns: int) -> list[Message]:
    found = [Message(role="system", content="s"), Message(role="user", content="task " * 100)]
    for number in range(turns):
        found += [Message(role="assistant", content=f"turn {number}"), prompts.tool_message("o" * 3000, "c", "look")]
    return found


def test_trimming_goes_in_steps_and_never_touches_the_task() -> None:
    messages = history(4)
    sizes = []
    level = 0
    while (found := prompts.trimmed(messages, level)) is not None:
        assert found[:2] == tuple(messages[:2])
        assert found[-2].content == "turn 3"
        sizes.append(sum(len(one.content or "") for one in found))
        level += 1
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes) == 6
    assert sizes[-1] < 600 + 1_100


def test_a_bare_task_cannot_be_trimmed() -> None:
    messages = history(0)
    assert prompts.trimmed(messages, 0) == tuple(messages)
    assert prompts.trimmed(messages, 1) is None
