"""The clinic, a server over it in this process, and its records."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from mcp_server.config import AppConfig, EpisodeLimits
from mcp_server.server import create_server
from sandbox.base import Sandbox, SandboxConfig, Session, SessionSpec
from sandbox.embedded.backend import EmbeddedSandbox
from tasks.data import DataRoot
from tests.mcp_server import clinic
from tests.mcp_server.calls import Calls

Connect = Callable[..., AbstractAsyncContextManager[Calls]]


@pytest.fixture(scope="package")
def anyio_backend() -> str:
    """One event loop for all tests of this folder: they share a started sandbox."""
    return "asyncio"


@pytest.fixture(scope="package")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataRoot]:
    forget = clinic.register()
    yield clinic.build(tmp_path_factory.mktemp("clinic"))
    forget()


class Borrowed:
    """A view of a started sandbox; closing it closes the sessions that were opened through it."""

    name = "embedded"

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._opened: list[Session] = []

    async def start(self) -> None:
        pass

    async def open(self, spec: SessionSpec) -> Session:
        self._opened.append(session := await self._sandbox.open(spec))
        return session

    async def close(self) -> None:
        for session in self._opened:
            await session.close()


@pytest.fixture(scope="package")
async def sandbox(root: DataRoot, anyio_backend: str) -> AsyncIterator[Sandbox]:
    sources = {clinic.DATASET: root.public_folder(clinic.DATASET)}
    started = EmbeddedSandbox(SandboxConfig(sources=sources, pool=1))
    await started.start()
    yield started
    await started.close()


@pytest.fixture
def connect(root: DataRoot, tmp_path: Path, sandbox: Sandbox) -> Connect:
    """Serve the clinic in this process and connect the SDK's client. Limits can be given; logs go to tmp_path/logs."""

    @asynccontextmanager
    async def serve(
        mode: str = "auto", feedback: Any = "verdict", reap_seconds: float = 1.0, **limits: Any
    ) -> AsyncIterator[Calls]:
        config = AppConfig(
            data_root=root,
            log_folder=tmp_path / "logs",
            sandbox=lambda _: Borrowed(sandbox),
            feedback=feedback,
            limits=EpisodeLimits(**limits),
            reap_seconds=reap_seconds,
        )
        async with Client(create_server(config), mode=mode) as client:
            yield Calls(client, tmp_path / "logs")

    return serve
