"""A small embedded sandbox and a session with tight limits, for the tests of attacks."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox.base import Limits, SandboxConfig, SessionSpec
from sandbox.embedded.backend import EmbeddedSandbox
from sandbox.embedded.handle import EmbeddedSession
from sandbox.errors import SandboxUnavailable

MIB = 1 << 20
LIMITS = Limits(call_seconds=20, memory=256 * MIB, disk=16 * MIB, inodes=200, processes=24)


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[EmbeddedSandbox]:
    tmp_path.chmod(0o755)
    source = tmp_path / "source"
    source.mkdir(mode=0o755)
    (source / "a.txt").write_text("public")
    backend = EmbeddedSandbox(SandboxConfig(sources={"a": source}, packages=("numpy",), preload=("numpy",), pool=0))
    try:
        await backend.start()
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    yield backend
    await backend.close()


@pytest.fixture
async def session(sandbox: EmbeddedSandbox) -> AsyncIterator[EmbeddedSession]:
    opened = await sandbox.open(SessionSpec(source="a", limits=LIMITS))
    yield opened
    await opened.close()
