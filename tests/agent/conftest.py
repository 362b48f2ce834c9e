"""A small synthetic hospital, and a server over it in this process or in one of its own."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.client import Environment, connect
from mcp_server.config import AppConfig, EpisodeLimits
from mcp_server.server import create_server
from sandbox.base import Sandbox, SandboxConfig
from sandbox.embedded.backend import EmbeddedSandbox
from tasks.data import DataRoot
from tasks.datasets import generate_dataset
from tasks.families import family_names
from tasks.family import GenerateOptions
from tasks.registry import Registry
from tests.mcp_server.conftest import Borrowed

Serve = Callable[..., AbstractAsyncContextManager[Environment]]
SCRIPT = Path(__file__).resolve().parents[2] / "med_copilot.py"


@pytest.fixture(scope="package")
def anyio_backend() -> str:
    """One event loop for all tests of this folder: they share a started sandbox."""
    return "asyncio"


@pytest.fixture(scope="package")
def root(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    made = DataRoot(tmp_path_factory.mktemp("hospital"))
    for family in family_names():
        options = GenerateOptions(seed=3, patients=30, per_category=3 if family == "mimic_iii" else 1)
        generate_dataset(made, family, options, progress=lambda what, done, total: None)
    return made


@pytest.fixture(scope="package")
def registry(root: DataRoot) -> Registry:
    return Registry(root)


@pytest.fixture(scope="package")
async def sandbox(root: DataRoot, anyio_backend: str) -> AsyncIterator[Sandbox]:
    sources = {one.name: root.public_folder(one.name) for one in root.datasets()}
    started = EmbeddedSandbox(SandboxConfig(sources=sources, pool=2))
    await started.start()
    yield started
    await started.close()


@pytest.fixture
def serve(root: DataRoot, tmp_path: Path, sandbox: Sandbox) -> Serve:
    """Serve the hospital in this process and connect the agent's client. Limits can be given."""

    @asynccontextmanager
    async def served(feedback: Any = "verdict", **limits: Any) -> AsyncIterator[Environment]:
        config = AppConfig(
            data_root=root,
            log_folder=tmp_path / "server",
            sandbox=lambda _: Borrowed(sandbox),
            feedback=feedback,
            limits=EpisodeLimits(**limits),
        )
        async with connect(create_server(config)) as environment:
            yield environment

    return served


@pytest.fixture
def command(root: DataRoot, tmp_path: Path) -> list[str]:
    """The command line that serves the hospital over stdio from a process of its own."""
    return [sys.executable, str(SCRIPT), "serve", "--data", str(root.path), "--logs", str(tmp_path / "server")]


@pytest.fixture(scope="package")
def sql_task(registry: Registry) -> str:
    """A task that is answered from the database."""
    return registry.ids(family="mimic_iii")[0]


@pytest.fixture(scope="package")
def note_task(registry: Registry) -> str:
    """A task that is answered from a note, with a number."""
    return next(
        one
        for one in registry.ids(family="medcalcbench")
        if registry.get(one).answer.kind == "number" and registry.truth(one).value is not None
    )
