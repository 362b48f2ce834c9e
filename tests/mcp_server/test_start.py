"""No episode begins before it is known at which level its code would run."""

from pathlib import Path

import anyio
import pytest
from mcp import Client

from mcp_server import environment
from mcp_server.config import AppConfig
from mcp_server.server import create_server
from sandbox.base import Sandbox
from tasks.data import DataRoot
from tests.mcp_server.calls import Calls
from tests.mcp_server.clinic import NUMBER
from tests.mcp_server.conftest import Borrowed

pytestmark = pytest.mark.anyio


async def test_a_sandbox_that_still_starts(
    root: DataRoot, tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = anyio.Event()

    class Slow(Borrowed):
        async def start(self) -> None:
            await go_on.wait()

    monkeypatch.setattr(environment, "_PATIENCE", 0.05)
    config = AppConfig(data_root=root, log_folder=tmp_path / "logs", sandbox=lambda _: Slow(sandbox))
    async with Client(create_server(config)) as client:
        calls = Calls(client, tmp_path / "logs")
        assert "still starting" in await calls.error("start_task", task_id=NUMBER)
        assert (await calls.ok("list_episodes"))["episodes"] == []
        go_on.set()
        monkeypatch.setattr(environment, "_PATIENCE", 60.0)
        episode = await calls.start(NUMBER)
        await calls.ok("close_episode", episode_id=episode)
        records = calls.records()
    assert [record.sandbox for record in records.values()] == ["embedded"]
