"""Limits of episodes: turns, time, idleness, number; and what is left of an episode that ran into one."""

import anyio
import pytest

from mcp_server.config import EpisodeLimits
from tests.mcp_server.calls import Calls
from tests.mcp_server.clinic import NUMBER, ROWS
from tests.mcp_server.conftest import Connect

pytestmark = pytest.mark.anyio


async def ended(calls: Calls, episode: str) -> str:
    """Wait until the server has ended the episode by itself; its outcome."""
    while True:
        for state in (await calls.ok("list_episodes"))["episodes"]:
            if state["episode_id"] == episode and state["state"] == "ended":
                return str(state["outcome"])
        await anyio.sleep(0.02)


async def test_turns(connect: Connect) -> None:
    async with connect(turns=3) as calls:
        episode = await calls.start(ROWS)
        assert (await calls.ok("execute_code", episode_id=episode, code="1"))["note"] is None
        second = await calls.ok("execute_code", episode_id=episode, code="print(5)")
        assert "One turn is left" in second["note"]
        for _ in range(3):
            assert (await calls.ok("read_output", episode_id=episode))["turns_left"] == 1
        last = await calls.ok("execute_code", episode_id=episode, code="1")
        assert "the episode has ended" in last["note"]
        assert (last["turns_left"], last["value"]) == (0, "1")
        assert "has ended (limit)" in await calls.error("submit_answer", episode_id=episode, answer=1)
        record = calls.records()[episode]
    assert (record.outcome, record.reward) == ("limit", 0.0)
    assert record.error
    assert record.error.kind == "turns"


async def test_the_last_turn_may_be_the_submission(connect: Connect) -> None:
    async with connect(turns=2) as calls:
        episode = await calls.start(NUMBER)
        await calls.ok("execute_code", episode_id=episode, code="1")
        assert (await calls.ok("submit_answer", episode_id=episode, answer=38.02))["correct"]
        assert calls.records()[episode].outcome == "graded"


async def test_an_idle_episode_is_abandoned(connect: Connect) -> None:
    async with connect(ttl_seconds=0.1, reap_seconds=0.05) as calls:
        episode = await calls.start(ROWS)
        assert await ended(calls, episode) == "abandoned"
        assert "has ended (abandoned)" in await calls.error("execute_code", episode_id=episode, code="1")
        record = calls.records()[episode]
    assert (record.outcome, record.reward) == ("abandoned", 0.0)
    assert record.error
    assert record.error.kind == "ttl_seconds"


async def test_an_episode_past_its_time_ends(connect: Connect) -> None:
    async with connect(wall_seconds=0.2, reap_seconds=0.05) as calls:
        episode = await calls.start(ROWS)
        assert await ended(calls, episode) == "limit"
        assert calls.records()[episode].reward == 0.0
    async with connect(wall_seconds=0.2, reap_seconds=60) as calls:
        episode = await calls.start(ROWS)
        await anyio.sleep(0.3)
        assert "has ended (limit" in await calls.error("submit_answer", episode_id=episode, answer=1)


async def test_the_number_of_open_episodes(connect: Connect) -> None:
    async with connect(max_episodes=2) as calls:
        first, _ = await calls.start(ROWS), await calls.start(ROWS)
        text = await calls.error("start_task", task_id=ROWS)
        assert "2 episodes are open, which is the limit" in text
        await calls.ok("close_episode", episode_id=first)
        await calls.start(ROWS)


async def test_a_call_that_takes_too_long_ends_the_session_but_not_the_episode(connect: Connect) -> None:
    async with connect(call_seconds=5) as calls:
        episode = await calls.start(NUMBER)
        await calls.ok("execute_code", episode_id=episode, code="kept = 1")
        slow = await calls.ok("execute_code", episode_id=episode, code="while True: pass", timeout_s=600)
        assert slow["status"] == "timeout"
        assert "at most 5 s" in slow["note"]
        assert "fresh one" in slow["note"]
        assert "no output" in await calls.error("read_output", episode_id=episode)
        assert "session has ended" in await calls.error("submit_answer", episode_id=episode, variable="kept")
        assert "limit" in (await calls.ok("debug_code", episode_id=episode))["diagnosis"]["cause"]
        fresh = await calls.ok("execute_code", episode_id=episode, code="'kept' in globals()")
        assert fresh["value"] == "False"
        assert "fresh one" in fresh["note"]
        assert (await calls.ok("submit_answer", episode_id=episode, answer=38.02))["correct"]


async def test_too_much_memory_ends_the_session_but_not_the_episode(connect: Connect) -> None:
    async with connect(memory=200 << 20) as calls:
        episode = await calls.start(NUMBER)
        greedy = await calls.ok("execute_code", episode_id=episode, code="x = bytearray(2 << 30)\nlen(x)")
        assert greedy["status"] in ("memory", "error", "killed")
        assert (await calls.ok("execute_code", episode_id=episode, code="1 + 1"))["value"] == "2"
        assert (await calls.ok("submit_answer", episode_id=episode, answer=38.02))["correct"]


async def test_a_session_that_ends_itself_does_not_end_the_episode(connect: Connect) -> None:
    async with connect() as calls:
        episode = await calls.start(NUMBER)
        result = await calls.client.call_tool("execute_code", {"episode_id": episode, "code": "import os; os._exit(0)"})
        assert "fresh one" in str(result.content)
        assert (await calls.ok("execute_code", episode_id=episode, code="1 + 1"))["value"] == "2"
        assert (await calls.ok("submit_answer", episode_id=episode, answer=38.02))["correct"]


async def test_polling_is_bounded(connect: Connect) -> None:
    async with connect(free_calls=2) as calls:
        episode = await calls.start(ROWS)
        await calls.ok("execute_code", episode_id=episode, code="print(1)")
        for _ in range(2):
            await calls.ok("read_output", episode_id=episode)
        assert "the limit" in await calls.error("read_output", episode_id=episode)
        await calls.ok("close_episode", episode_id=episode)


async def test_closing_the_server_ends_its_episodes(connect: Connect) -> None:
    async with connect() as calls:
        episode = await calls.start(ROWS)
    record = calls.records()[episode]
    assert (record.outcome, record.reward) == ("abandoned", 0.0)
    assert record.error
    assert record.error.kind == "server_closed"


async def test_limits_that_hosts_would_cut_are_refused() -> None:
    with pytest.raises(ValueError, match="less than or equal to 50"):
        EpisodeLimits(call_seconds=55)
