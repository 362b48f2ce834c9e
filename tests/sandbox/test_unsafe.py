"""The level without isolation keeps what does not depend on it, and says what it is."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mcp import Client

from mcp_server.config import AppConfig
from mcp_server.server import create_server
from sandbox.base import Limits, SandboxConfig, SessionSpec
from sandbox.choose import UNSAFE, choose, refuses_restricted
from sandbox.errors import SessionClosed, TransferError
from sandbox.unsafe import UnsafeSandbox, UnsafeSession
from tests.mcp_server import clinic
from tests.mcp_server.calls import Calls
from tests.sandbox.processes import marked

pytestmark = pytest.mark.anyio
MIB = 1 << 20


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def sandbox(tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncIterator[UnsafeSandbox]:
    source = tmp_path_factory.mktemp("unsafe")
    (source / "a.txt").write_text("public")
    backend = UnsafeSandbox(SandboxConfig(sources={"a": source}, packages=("numpy",), preload=()))
    await backend.start()
    yield backend
    await backend.close()
    await backend.close()


@pytest.fixture
async def session(sandbox: UnsafeSandbox) -> AsyncIterator[UnsafeSession]:
    opened = await sandbox.open(SessionSpec(source="a", limits=Limits(memory=256 * MIB, call_seconds=20)))
    yield opened
    await opened.close()


async def test_state_languages_and_paths(session: UnsafeSession) -> None:
    assert (await session.execute("x = open('/data/a.txt').read()")).status == "ok"
    assert (await session.execute("x")).value == "'public'"
    result = await session.execute("pwd; echo 1 > f; cat /work/f /data/a.txt", language="shell")
    assert result.stdout.text == "/work\n1\npublic"
    await session.write_file("/work/deep/g", b"2")
    assert await session.read_file("deep/g") == b"2"
    await session.execute("import os\nos.symlink('/etc/passwd', '/work/l')")
    for path in ("l", "../x", "/etc/passwd", "absent"):
        with pytest.raises(TransferError):
            await session.read_file(path)


async def test_the_whole_tree_is_killed(session: UnsafeSession) -> None:
    mark = f"loose-{os.urandom(6).hex()}"
    code = f"(setsid sh -c 'exec -a {mark} sleep 300' &); (setsid bash -c 'exec -a {mark} sleep 300' &); sleep 300"
    assert (await session.execute(code, language="shell", timeout=1.0)).status == "timeout"
    with pytest.raises(SessionClosed):
        await session.execute("1")
    assert not marked(mark)


async def test_memory_is_watched(session: UnsafeSession) -> None:
    code = "import time\nx = [bytearray(b'x') * (8 << 20) for _ in range(64)]\ntime.sleep(15)"
    assert (await session.execute(code)).status == "memory"


def test_it_says_what_it_is() -> None:
    assert "NOTHING" in choose(UNSAFE).line
    for allowed in (False, True):
        assert "doctor" in (refuses_restricted(UNSAFE, allowed) or "")


@pytest.mark.parametrize(
    ("level", "allowed", "refused"),
    [
        ("unsafe-subprocess", True, True),
        ("landlock", False, True),
        ("landlock", True, False),
        ("embedded", False, False),
    ],
)
async def test_restricted_data(tmp_path: Path, level: str, allowed: bool, refused: bool) -> None:
    """Over MCP: refused with the remedy, or served; each record names the level."""
    forget = clinic.register()
    try:
        root = clinic.build(tmp_path / "data")
        manifest = root.path / "datasets" / clinic.DATASET / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"restricted": false', '"restricted": true'))
        assert root.dataset(clinic.DATASET).restricted
        config = AppConfig(
            data_root=root, log_folder=tmp_path / "logs", sandbox=level, pool=0, allow_restricted=allowed
        )
        async with Client(create_server(config)) as client:
            calls = Calls(client, tmp_path / "logs")
            task = (await calls.ok("list_tasks"))["tasks"][0]["id"]
            if refused:
                text = await calls.error("start_task", task_id=task)
                assert level in text
                assert "restricted" in text
                assert ("--allow-restricted" in text) == (level == "landlock")
                return
            await calls.ok("close_episode", episode_id=await calls.start(task))
        assert [record.sandbox for record in calls.records().values()] == [level]
    finally:
        forget()
