"""The loop with scripted models against a real server: what it does, records, limits, and survives."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from agent import prompts
from agent.errors import ContextOverflow, ModelFailed, ToolFailed
from agent.loop import Agent
from agent.models import Completion, Constant, Guess, Nothing, Scripted, assistant, call, without_tokens
from agent.trajectory import AgentLimits
from tasks.attempt import AttemptRecord, Message, Usage
from tasks.record import RecordWriter, read_records
from tasks.registry import Registry
from tests.agent.conftest import Serve

pytestmark = pytest.mark.anyio
PRINT = call("execute_code", code="print(1)")


async def play(
    serve: Serve, task: str, *turns: Any, served: dict[str, Any] | None = None, **limits: Any
) -> AttemptRecord:
    async with serve(**(served or {})) as environment:
        return await Agent(environment, Scripted(turns), AgentLimits(**limits)).attempt(task)


def texts(record: AttemptRecord, role: str) -> list[str]:
    return [message.content or "" for message in record.messages if message.role == role]


async def test_a_right_answer_is_graded_one_and_the_record_reads_back(
    serve: Serve, registry: Registry, note_task: str, tmp_path: Path
) -> None:
    value = registry.truth(note_task).value
    turns: list[Any] = [
        ("I compute.", call("execute_code", code=f"x = {value!r}\nx")),
        call("submit_answer", answer=value),
    ]
    writer = RecordWriter(tmp_path)
    async with serve() as environment:
        agent = Agent(environment, Scripted(turns))
        record = await agent.attempt(note_task, number=2, temperature=0.6, seed=7, run_id="r", save=writer.write)
    writer.close()
    assert (record.outcome, record.reward, record.attempt, record.seed) == ("graded", 1.0, 2, 7)
    assert record.grade is not None
    assert record.grade.correct
    assert [message.role for message in record.messages] == ["system", "user", "assistant", "tool", "assistant", "tool"]
    assert [one.message for one in record.calls] == [2, 4]
    assert record.task.digest == registry.get(note_task).digest()
    assert record.task.cluster == registry.get(note_task).cluster
    assert record.submission is not None
    assert record.submission.value == value
    assert (record.limits["temperature"], record.source) == (0.6, "agent")
    assert list(read_records([tmp_path])) == [record]


async def test_a_wrong_answer_is_graded_zero(serve: Serve, note_task: str) -> None:
    record = await play(serve, note_task, call("submit_answer", answer=-987654.0))
    assert (record.outcome, record.reward) == ("graded", 0.0)


async def test_the_model_never_sees_an_episode_id(serve: Serve, note_task: str) -> None:
    record = await play(serve, note_task, PRINT, call("close_episode"))
    shown = [record.model_dump_json(include={"messages", "tools"})]
    assert "episode_id" not in shown[0]
    assert record.id not in shown[0]
    assert {tool["function"]["name"] for tool in record.tools} >= {"execute_code", "submit_answer"}


async def test_the_same_call_again_is_remarked_and_then_ends_the_episode(serve: Serve, note_task: str) -> None:
    record = await play(serve, note_task, PRINT, PRINT, PRINT, PRINT)
    assert record.outcome == "limit"
    assert record.reward == 0.0
    assert record.error is not None
    assert record.error.kind == "loop"
    assert [prompts.REPEATED in text for text in texts(record, "tool")] == [False, True]


async def test_other_calls_between_are_no_loop(serve: Serve, note_task: str) -> None:
    other = call("execute_code", code="print(2)")
    record = await play(serve, note_task, PRINT, other, PRINT, other, PRINT, call("close_episode"))
    assert record.outcome == "abandoned"
    assert not any(prompts.REPEATED in text for text in texts(record, "tool"))


async def test_polling_is_no_loop(serve: Serve, note_task: str) -> None:
    poll = call("read_output")
    record = await play(serve, note_task, PRINT, poll, poll, poll, poll, call("close_episode"))
    assert record.outcome == "abandoned"


async def test_an_unknown_tool_is_answered_with_the_tools_there_are(serve: Serve, note_task: str) -> None:
    record = await play(serve, note_task, call("start_task", task_id=note_task), call("close_episode"))
    assert record.outcome == "abandoned"
    assert "There is no tool 'start_task' here" in texts(record, "tool")[0]
    assert "execute_code" in texts(record, "tool")[0]


async def test_text_without_a_call_is_answered_and_ends_at_the_limit(serve: Serve, note_task: str) -> None:
    record = await play(serve, note_task, "The answer is 4.", "It is 4.", "4!")
    assert record.outcome == "limit"
    assert record.error is not None
    assert record.error.kind == "malformed"
    assert texts(record, "user")[1:] == [prompts.NO_CALL] * 3


async def test_a_usable_call_forgives_what_went_before(serve: Serve, note_task: str) -> None:
    record = await play(serve, note_task, "Hm.", "Hm.", PRINT, "Hm.", "Hm.", call("close_episode"))
    assert record.outcome == "abandoned"


async def test_a_malformed_call_is_an_ordinary_event(serve: Serve, note_task: str) -> None:
    bad = Completion(
        Message(role="assistant", content='<tool_call>{"name": '),
        Usage(prompt_tokens=5, completion_tokens=3),
        malformed="not JSON",
    )
    record = await play(serve, note_task, bad, call("close_episode"))
    assert record.outcome == "abandoned"
    assert texts(record, "user")[1:] == ["not JSON"]
    assert record.calls[0].usage.completion_tokens == 3


async def test_bad_arguments_are_answered_and_the_episode_goes_on(serve: Serve, note_task: str) -> None:
    turns = [call("execute_code", program="1"), call("submit_answer", answer={"a": 1}), call("close_episode")]
    record = await play(serve, note_task, *turns)
    assert record.outcome == "abandoned"
    assert "code: is missing" in texts(record, "tool")[0]
    assert texts(record, "tool")[1].startswith("error: ")


async def test_arguments_that_json_cannot_carry_reach_nobody(serve: Serve, note_task: str) -> None:
    turns = [call("execute_code", code="'\ud800'"), call("submit_answer", answer=float("nan")), call("close_episode")]
    assert (await play(serve, note_task, *turns)).outcome == "abandoned"


async def test_several_calls_of_one_turn_run_in_order(serve: Serve, note_task: str) -> None:
    both = [call("execute_code", code="x = 20"), call("execute_code", code="x + 1")]
    turn = without_tokens(assistant("Both.", both))
    record = await play(serve, note_task, turn, call("close_episode"))
    assert "value: 21" in texts(record, "tool")[1]
    assert [message.tool_call_id for message in record.messages if message.role == "tool"][:2] == ["call_1", "call_2"]


async def test_the_turns_of_the_server_end_the_episode(serve: Serve, note_task: str) -> None:
    turns = [call("execute_code", code=f"print({number})") for number in range(5)]
    record = await play(serve, note_task, *turns, served={"turns": 3})
    assert (record.outcome, record.reward) == ("limit", 0.0)
    assert len(record.calls) == 3


async def test_a_refused_submission_on_the_last_turn_ends_the_episode(serve: Serve, note_task: str) -> None:
    record = await play(serve, note_task, call("submit_answer", answer={"a": 1}), served={"turns": 1})
    assert record.outcome == "limit"


async def test_the_turns_of_the_agent_end_the_episode_and_free_it(serve: Serve, note_task: str) -> None:
    turns = [call("execute_code", code=f"print({number})") for number in range(5)]
    async with serve() as environment:
        record = await Agent(environment, Scripted(turns), AgentLimits(turns=2)).attempt(note_task)
        listed = await environment.call("list_episodes")
    assert (record.outcome, len(record.calls)) == ("limit", 2)
    assert [one["state"] for one in listed["episodes"]] == ["ended"]


async def test_tokens_end_the_episode(serve: Serve, note_task: str) -> None:
    turns = [
        Completion(assistant(None, [call("execute_code", code=f"{n}")]), Usage(prompt_tokens=1, completion_tokens=60))
        for n in range(5)
    ]
    record = await play(serve, note_task, *turns, tokens=100)
    assert record.error is not None
    assert (record.outcome, record.error.kind, len(record.calls)) == ("limit", "tokens", 2)


class Slow(Scripted):
    """Takes `seconds` for a turn."""

    seconds = 0.3

    async def complete(self, *args: Any, **options: Any) -> Completion:
        await anyio.sleep(self.seconds)
        return await super().complete(*args, **options)


async def test_time_ends_the_episode(serve: Serve, note_task: str) -> None:
    async with serve() as environment:
        record = await Agent(environment, Slow([PRINT, PRINT]), AgentLimits(seconds=0.25)).attempt(note_task)
        listed = await environment.call("list_episodes")
    assert record.error is not None
    assert (record.outcome, record.error.kind, len(record.calls)) == ("limit", "seconds", 1)
    assert [one["state"] for one in listed["episodes"]] == ["ended"]


async def test_a_slow_start_of_the_episode_takes_none_of_the_agents_time(
    serve: Serve, note_task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve() as environment:
        real = environment.call

        async def slow(tool: str, /, **arguments: Any) -> dict[str, Any]:
            if tool == "start_task":
                await anyio.sleep(2.5)
            return await real(tool, **arguments)

        monkeypatch.setattr(environment, "call", slow)
        turns = [call("submit_answer", answer=1)]
        record = await Agent(environment, Scripted(turns), AgentLimits(seconds=2)).attempt(note_task)
    assert (record.outcome, len(record.calls)) == ("graded", 1)


async def test_a_model_that_never_answers_has_failed_and_the_agent_has_not(serve: Serve, note_task: str) -> None:
    model = Slow([PRINT])
    model.seconds = 600
    async with serve() as environment:
        record = await Agent(environment, model, AgentLimits(seconds=60, call_seconds=0.4)).attempt(note_task)
        listed = await environment.call("list_episodes")
    assert record.error is not None
    assert (record.outcome, record.reward, record.error.kind) == ("infra_error", None, ModelFailed.__name__)
    assert "0.4 s" in record.error.message
    assert [one["state"] for one in listed["episodes"]] == ["ended"]


async def test_an_episode_that_the_server_ended_says_which_limit_it_was(serve: Serve, note_task: str) -> None:
    async with serve(wall_seconds=0.5) as environment:
        record = await Agent(environment, Slow([call("execute_code", code=f"{n}") for n in range(5)])).attempt(
            note_task
        )
    assert record.error is not None
    assert (record.outcome, record.error.kind) == ("limit", "wall_seconds")


async def test_a_model_that_fails_says_nothing_about_the_agent(serve: Serve, note_task: str) -> None:
    saved: list[AttemptRecord] = []
    async with serve() as environment:
        record = await Agent(environment, Scripted([PRINT])).attempt(note_task, save=saved.append)
        listed = await environment.call("list_episodes")
    assert (record.outcome, record.reward) == ("infra_error", None)
    assert record.error is not None
    assert record.error.kind == ModelFailed.__name__
    assert len(record.messages) == 4
    assert saved == [record]
    assert [one["state"] for one in listed["episodes"]] == ["ended"]


async def test_a_cancelled_attempt_is_saved(serve: Serve, note_task: str) -> None:
    saved: list[AttemptRecord] = []

    class Cancels(Scripted):
        async def complete(self, *args: Any, **options: Any) -> Completion:
            scope.cancel()
            await anyio.sleep(600)
            raise AssertionError

    async with serve() as environment:
        with anyio.CancelScope() as scope:
            await Agent(environment, Cancels([])).attempt(note_task, save=saved.append)
    assert [(one.outcome, one.error and one.error.kind) for one in saved] == [("infra_error", "cancelled")]


async def test_an_error_of_ours_is_raised_and_saved(serve: Serve, note_task: str) -> None:
    saved: list[AttemptRecord] = []

    class Broken(Scripted):
        async def complete(self, *args: Any, **options: Any) -> Completion:
            raise ZeroDivisionError

    async with serve() as environment:
        with pytest.raises(ZeroDivisionError):
            await Agent(environment, Broken([])).attempt(note_task, save=saved.append)
    assert [one.error and one.error.kind for one in saved] == ["ZeroDivisionError"]


async def test_no_such_task(serve: Serve) -> None:
    async with serve() as environment:
        with pytest.raises(ToolFailed, match="nowhere"):
            await Agent(environment, Nothing()).attempt("nowhere/1")


class Small(Scripted):
    """A model whose context holds `size` characters."""

    def __init__(self, turns: Any, size: int) -> None:
        super().__init__(turns)
        self.size = size

    async def complete(self, messages: Any, tools: Any, **options: Any) -> Completion:
        if sum(len(message.content or "") for message in messages) > self.size:
            raise ContextOverflow("too long")
        return await super().complete(messages, tools, **options)


async def test_what_does_not_fit_is_trimmed_but_never_the_task(serve: Serve, note_task: str) -> None:
    long = [call("execute_code", code=f"print('{letter}' * 3000)") for letter in "abcdef"]
    async with serve() as environment:
        first = await environment.call("start_task", task_id=note_task)
        size = len(prompts.problem_text(first)) + len(prompts.system_prompt(first)) + 4_000
        model = Small([*long, call("close_episode")], size)
        record = await Agent(environment, model).attempt(note_task)
    assert record.outcome == "abandoned"
    assert all(seen[:2] == record.messages[:2] for seen in model.seen)
    assert any(message.content == prompts.LEFT_OUT for message in model.seen[-1])
    assert not any(message.content == prompts.LEFT_OUT for message in record.messages)
    assert "f" * 3000 in texts(record, "tool")[5]
    # What was once left out stays out, so that the beginning of what is sent changes seldom.
    left_out = [sum(one.content == prompts.LEFT_OUT for one in seen) for seen in model.seen]
    assert left_out == sorted(left_out)


async def test_a_context_too_small_for_the_task_is_a_limit(serve: Serve, note_task: str) -> None:
    async with serve() as environment:
        record = await Agent(environment, Small([PRINT], 10)).attempt(note_task)
    assert record.error is not None
    assert (record.outcome, record.error.kind) == ("limit", "context")


async def test_what_a_model_counted_is_held_against_the_context(serve: Serve, note_task: str) -> None:
    """Tools and numbers are more tokens than their characters say: the agent learns that from the first answer."""
    code = "print('7' * 3000)"
    turns = [
        Completion(assistant(None, [call("execute_code", code=f"{n}; {code}")]), used)
        for n, used in enumerate(
            [Usage(prompt_tokens=2_000, completion_tokens=9), Usage(prompt_tokens=3_500, completion_tokens=9)]
        )
    ]
    model = Scripted([*turns, call("close_episode")])
    async with serve() as environment:
        await Agent(environment, model, AgentLimits(context_tokens=4_000)).attempt(note_task)
    left_out = [sum(message.content == prompts.LEFT_OUT for message in seen) for seen in model.seen]
    assert left_out == [0, 0, 1]


async def test_the_agent_keeps_a_context_limit_of_its_own(serve: Serve, note_task: str) -> None:
    long = [call("execute_code", code=f"print('{letter}' * 6000)") for letter in "abcd"]
    async with serve() as environment:
        model = Scripted([*long, call("close_episode")])
        await Agent(environment, model, AgentLimits(context_tokens=4_000)).attempt(note_task)
    assert sum(len(message.content or "") for message in model.seen[-1]) <= 12_000


async def test_an_execution_that_solves_the_task_ends_it(serve: Serve, registry: Registry, note_task: str) -> None:
    oracle = call("execute_code", code=registry.truth(note_task).oracle)
    record = await play(serve, note_task, oracle, served={"feedback": "oracle"})
    assert (record.outcome, record.reward, len(record.calls)) == ("graded", 1.0, 1)


async def test_without_feedback_there_is_no_reward(serve: Serve, note_task: str) -> None:
    record = await play(serve, note_task, call("submit_answer", answer=1.0), served={"feedback": "none"})
    assert (record.outcome, record.reward, record.grade) == ("graded", None, None)


async def test_baselines_come_to_an_end(serve: Serve, registry: Registry, sql_task: str, note_task: str) -> None:
    async with serve() as environment:
        for task in (sql_task, note_task):
            assert (await Agent(environment, Nothing()).attempt(task)).outcome == "abandoned"
            for model in (Constant(), Guess(1)):
                record = await Agent(environment, model).attempt(task)
                assert record.outcome == "graded"
                assert record.reward in (0.0, 1.0)


async def test_equal_seeds_guess_equally(serve: Serve, note_task: str) -> None:
    async with serve() as environment:
        made = [await Agent(environment, Guess(5)).attempt(note_task) for _ in range(2)]
    assert made[0].messages == made[1].messages
