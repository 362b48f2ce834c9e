"""Whatever a client sends: a clear tool error, or a clean recovery; never a broken episode."""

from typing import Any
from uuid import uuid4

import anyio
import pytest

from tests.mcp_server.clinic import NUMBER, ROWS
from tests.mcp_server.conftest import Connect

pytestmark = pytest.mark.anyio

ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@ERAS
async def test_unknown_ids(connect: Connect, mode: str) -> None:
    async with connect(mode) as calls:
        for unknown in ("", "x", str(uuid4()), "../../etc/passwd", "x" * 100_000, "\x00"):
            for tool, rest in (
                ("execute_code", {"code": "1"}),
                ("submit_answer", {"answer": 1}),
                ("close_episode", {}),
            ):
                assert "There is no episode" in await calls.error(tool, episode_id=unknown, **rest)
            text = await calls.error("start_task", task_id=unknown)
            assert "no task" in text
            assert len(text) < 2_000


@ERAS
async def test_arguments_of_wrong_types(connect: Connect, mode: str) -> None:
    async with connect(mode) as calls:
        episode = await calls.start(ROWS)
        text = await calls.error("execute_code", episode_id=episode, code=[1], timeout_s="soon", language="r")
        assert "code: should be a valid string" in text
        assert "timeout_s: should be a valid number" in text
        assert "language: should be 'python' or 'sql'" in text
        assert "It takes: episode_id, code, language?, timeout_s?, background?." in text
        assert "code: is missing" in await calls.error("execute_code", episode_id=episode)
        assert "episode_id: is missing" in await calls.error("execute_code", code="1")
        await calls.error("execute_code", episode_id=5, code="1")
        await calls.error("execute_code", episode_id=episode, code="1", timeout_s=-1)
        assert "The tools are: list_tasks" in await calls.error("run_code", code="1")
        # A call that was refused for its arguments is a turn of its episode, and in its record.
        [state] = (await calls.ok("list_episodes"))["episodes"]
        assert state["turns_used"] == 3
        await calls.ok("close_episode", episode_id=episode)
        record = calls.records()[episode]
        assert (record.messages[2].tool_calls or ())[0].function.arguments["code"] == [1]
        assert "code: should be a valid string" in (record.messages[3].content or "")


@ERAS
async def test_too_much_code(connect: Connect, mode: str) -> None:
    async with connect(mode) as calls:
        episode = await calls.start(ROWS)
        for tool, name in (("execute_code", "code"), ("run_terminal", "command"), ("debug_code", "code")):
            text = await calls.error(tool, episode_id=episode, **{name: "#" * 10_000_000})
            assert "10,000,000 characters; at most 200,000" in text
        assert "nothing to run" in await calls.error("execute_code", episode_id=episode, code=" \n")
        assert (await calls.ok("execute_code", episode_id=episode, code="1 + 1"))["value"] == "2"
        await calls.ok("close_episode", episode_id=episode)
        assert len(calls.records()[episode].model_dump_json()) < 100_000


@ERAS
async def test_text_that_is_not_unicode(connect: Connect, mode: str) -> None:
    async with connect(mode) as calls:
        episode = await calls.start(ROWS)
        # The transports cannot carry it; in memory it reaches the session, which says what is wrong with it.
        refused = await calls.client.call_tool("execute_code", {"episode_id": episode, "code": "print('\ud800')"})
        assert refused.is_error or "Unicode" in str(refused.structured_content)
        await calls.error("submit_answer", episode_id=episode, answer=[["\ud800", 1]])
        printed = await calls.ok("execute_code", episode_id=episode, code="print('a\\ud800b', chr(0), '\\x1b[1m')")
        assert printed["stdout"]["total_chars"] > 0
        binary = "import sys\nsys.stdout.buffer.write(b'\\xff\\xfe binary')\nsys.stdout.buffer.flush()"
        assert "binary" in (await calls.ok("execute_code", episode_id=episode, code=binary))["stdout"]["text"]
        await calls.ok("close_episode", episode_id=episode)
        assert calls.records()[episode].outcome == "abandoned"


@ERAS
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (nested(60), "nested deeper than 32"),
        ("x" * 2_000_000, "larger than 1,000,000 bytes"),
        ([["a" * 1000, 1]] * 2_000, "larger than 1,000,000 bytes"),
        ({}, "does not have the form"),
        ([["Grace"]], "does not have the form"),
        ([[["Grace"], 1]], "does not have the form"),
        ("null and more", "does not have the form"),
    ],
    ids=range(7),
)
async def test_answers_that_are_not_accepted(connect: Connect, mode: str, answer: Any, told: str) -> None:
    async with connect(mode) as calls:
        episode = await calls.start(ROWS)
        text = await calls.error("submit_answer", episode_id=episode, answer=answer)
        assert told in text
        assert "The episode goes on" in text
        assert len(text) < 2_000
        right = [["Grace", 38.9], ["Barbara", 39.4]]
        assert (await calls.ok("submit_answer", episode_id=episode, answer=right))["correct"]
        assert calls.records()[episode].reward == 1.0


async def test_exactly_one_source_of_an_answer(connect: Connect) -> None:
    async with connect() as calls:
        episode = await calls.start(ROWS)
        assert "none was given" in await calls.error("submit_answer", episode_id=episode)
        assert "none was given" in await calls.error("submit_answer", episode_id=episode, variable=None, file="")
        both = await calls.error("submit_answer", episode_id=episode, answer=None, variable="answer")
        assert "answer and variable was given" in both
        assert calls.records() == {}


async def test_refused_submissions_use_up_turns(connect: Connect) -> None:
    async with connect(turns=3) as calls:
        episode = await calls.start(NUMBER)
        assert "One turn" not in await calls.error("submit_answer", episode_id=episode, answer="high")
        assert "One turn is left" in await calls.error("submit_answer", episode_id=episode, answer="higher")
        assert "the last of 3 turns" in await calls.error("submit_answer", episode_id=episode, answer="highest")
        assert "has ended (limit)" in await calls.error("submit_answer", episode_id=episode, answer=38.02)
        record = calls.records()[episode]
    assert (record.outcome, record.reward) == ("limit", 0.0)


@ERAS
async def test_two_calls_at_once_run_one_after_the_other(connect: Connect, mode: str) -> None:
    async with connect(mode) as calls:
        episode = await calls.start(ROWS)
        await calls.ok("execute_code", episode_id=episode, code="log = []")
        code = "log.append('in')\nimport time; time.sleep(0.05)\nlog.append('out')"
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(lambda: calls.ok("execute_code", episode_id=episode, code=code))
        done = await calls.ok("execute_code", episode_id=episode, code="log == ['in', 'out'] * 5")
        assert done["value"] == "True"


async def test_a_call_does_not_wait_for_ever_for_another(connect: Connect) -> None:
    async with connect(lock_seconds=0.2) as calls:
        episode = await calls.start(ROWS)
        slow = "import time; time.sleep(6)"
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: calls.ok("execute_code", episode_id=episode, code=slow))
            while not (await calls.ok("list_episodes"))["episodes"][0]["busy"]:
                await anyio.sleep(0.01)
            assert "still running" in await calls.error("execute_code", episode_id=episode, code="1")
        assert (await calls.ok("execute_code", episode_id=episode, code="1 + 1"))["value"] == "2"


@ERAS
async def test_a_client_that_leaves_in_the_middle_of_a_call(connect: Connect, mode: str) -> None:
    async with connect(mode) as calls:
        episode = await calls.start(ROWS)
        with anyio.move_on_after(0.3) as scope:
            code = "import time; time.sleep(1); left = 'kept'"
            await calls.ok("execute_code", episode_id=episode, code=code)
        assert scope.cancelled_caught
        after = await calls.ok("execute_code", episode_id=episode, code="left")
        assert after["value"] == "'kept'"
        await calls.ok("close_episode", episode_id=episode)
        roles = [message.role for message in calls.records()[episode].messages[2:]]
    assert roles == ["assistant", "tool"] * 3


async def test_both_of_two_submissions_at_once_are_not_graded(connect: Connect) -> None:
    async with connect() as calls:
        episode = await calls.start(NUMBER)
        answered = []

        async def submit(value: float) -> None:
            result = await calls.client.call_tool("submit_answer", {"episode_id": episode, "answer": value})
            answered.append(result.is_error)

        async with anyio.create_task_group() as group:
            for value in (1.0, 38.02, 2.0):
                group.start_soon(submit, value)
        assert sorted(answered) == [False, True, True]
        assert len(calls.records()) == 1
