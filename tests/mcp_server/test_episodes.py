"""Episodes side by side, and who may act on them."""

from pathlib import Path

import anyio
import pytest

from mcp_server.config import AppConfig
from mcp_server.episodes import EpisodeManager
from mcp_server.errors import EpisodeEnded, UnknownEpisode
from sandbox.base import Sandbox
from tasks.data import DataRoot
from tasks.record import read_records, verify_log
from tests.mcp_server.clinic import NUMBER, ROWS
from tests.mcp_server.conftest import Borrowed, Connect

pytestmark = pytest.mark.anyio


async def test_episodes_share_nothing(connect: Connect) -> None:
    async with connect() as calls:
        first, second = await calls.start(NUMBER), await calls.start(NUMBER)
        await calls.ok("execute_code", episode_id=first, code="secret = 1; open('/work/secret', 'w').write('1')")
        other = await calls.ok(
            "execute_code", episode_id=second, code="import os\n('secret' in globals(), os.listdir())"
        )
        assert other["value"] == "(False, [])"
        assert (await calls.ok("submit_answer", episode_id=first, answer=38.02))["correct"]
        assert (await calls.ok("execute_code", episode_id=second, code="1"))["status"] == "ok"


async def test_many_episodes_at_once(connect: Connect) -> None:
    async with connect() as calls:

        async def play(number: int) -> None:
            episode = await calls.start(NUMBER)
            await calls.ok("execute_code", episode_id=episode, code=f"mine = {number}")
            assert (await calls.ok("execute_code", episode_id=episode, code="mine"))["value"] == str(number)
            answer = 38.02 if number % 2 else 1
            assert (await calls.ok("submit_answer", episode_id=episode, answer=answer))["correct"] is bool(number % 2)

        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(play, number)
        assert sorted(record.reward or 0 for record in calls.records().values()) == [0] * 6 + [1] * 6
        assert [verify_log(log) for log in calls.logs.glob("events-*.jsonl")] == [[]]


async def test_an_episode_belongs_to_its_caller(root: DataRoot, sandbox: Sandbox, tmp_path: Path) -> None:
    config = AppConfig(data_root=root, log_folder=tmp_path, sandbox=lambda _: Borrowed(sandbox))
    async with EpisodeManager(config) as manager:
        episode = (await manager.start(ROWS, caller="ada")).episode_id
        for caller in (None, "grace"):
            assert manager.states(caller) == []
            with pytest.raises(UnknownEpisode):
                manager.state(episode, caller)
            with pytest.raises(UnknownEpisode):
                await manager.call(episode, "close_episode", {}, manager.close_episode, caller=caller)
        assert [state.episode_id for state in manager.states("ada")] == [episode]
        await manager.call(episode, "close_episode", {}, manager.close_episode, caller="ada")
        with pytest.raises(EpisodeEnded):
            await manager.call(episode, "close_episode", {}, manager.close_episode, caller="ada")
        with pytest.raises(UnknownEpisode):
            await manager.call(episode, "close_episode", {}, manager.close_episode, caller="grace")
    assert [record.outcome for record in read_records([tmp_path])] == ["abandoned"]


async def test_a_client_that_leaves_while_an_episode_opens_leaves_no_episode(connect: Connect) -> None:
    async with connect() as calls:
        with anyio.move_on_after(0.001):
            await calls.start(ROWS)
        while any(one["state"] == "open" for one in (await calls.ok("list_episodes"))["episodes"]):
            await anyio.sleep(0.02)
