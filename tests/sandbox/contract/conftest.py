"""The backends that the contract is run on, and a sandbox of each that lives as long as one module of tests.

A new backend is added to `BACKENDS`; one that is not built in, or that cannot start on this machine, is skipped with
its reason. `WEAKER` names, by backend, the limits that it says it does not hold; everything else must hold unchanged.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path

import pytest

from sandbox.base import DATA_FOLDER, Execution, Limits, Sandbox, SandboxConfig, Session, SessionSpec
from sandbox.errors import SandboxUnavailable

BACKENDS = {
    "embedded": "sandbox.embedded.backend:EmbeddedSandbox",
    "landlock": "sandbox.landlock.backend:LandlockSandbox",
    "unsafe-subprocess": "sandbox.unsafe:UnsafeSandbox",
    "docker": "tests.sandbox.engine:hollow_sandbox",
}
WEAKER = {
    "landlock": {"disk", "inodes"},
    "unsafe-subprocess": {"disk", "inodes", "memory", "processes", "network", "read-only data"},
}
MIB = 1 << 20
TIGHT = Limits(call_seconds=20, memory=256 * MIB, disk=16 * MIB, inodes=200, processes=32, output=2000)


def make(name: str, config: SandboxConfig) -> Sandbox:
    """The backend of that name, not started. Skips where it is not part of this build."""
    module, _, attribute = BACKENDS[name].partition(":")
    try:
        factory: Callable[[SandboxConfig], Sandbox] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        pytest.skip(f"{name} is not here: {error}")
    return factory(config)


@asynccontextmanager
async def serving(name: str, config: SandboxConfig) -> AsyncIterator[Sandbox]:
    """The backend of that name, until the end of the block. Skips where it cannot start on this machine."""
    one = make(name, config)
    try:
        await one.start()
    except SandboxUnavailable as error:
        await one.close()
        pytest.skip(f"{name} cannot start here: {error}")
    try:
        yield one
    finally:
        await one.close()


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("contract")
    root.chmod(0o755)
    found = {}
    for name in ("one", "two"):
        found[name] = root / name
        found[name].mkdir(mode=0o755)
        (found[name] / "name.txt").write_text(name)
        with sqlite3.connect(found[name] / "x.sqlite") as connection:
            connection.execute("CREATE TABLE patients (id INTEGER, name TEXT)")
            connection.execute("INSERT INTO patients VALUES (7, 'Ada'), (8, NULL)")
        connection.close()
    return found


@pytest.fixture(scope="module")
async def sandbox(backend: str, sources: dict[str, Path]) -> AsyncIterator[Sandbox]:
    config = SandboxConfig(sources=sources, packages=("numpy", "pandas"), preload=("numpy", "pandas"), pool=1)
    async with serving(backend, config) as one:
        yield one


@pytest.fixture
async def session(sandbox: Sandbox) -> AsyncIterator[Session]:
    opened = await sandbox.open(SessionSpec(source="one", database="x.sqlite"))
    yield opened
    await opened.close()


@pytest.fixture
async def tight(sandbox: Sandbox) -> AsyncIterator[Session]:
    """A session with limits that a test can reach."""
    opened = await sandbox.open(SessionSpec(source="one", limits=TIGHT))
    yield opened
    await opened.close()


def need(backend: str, limit: str) -> None:
    """Skip where the backend says that it does not hold this limit."""
    if limit in WEAKER.get(backend, ()):
        pytest.skip(f"{backend} does not hold: {limit}")


def data_of(session: Session) -> str:
    """Where the session sees its source: /data, unless the backend cannot place it there and says where it is."""
    return str(getattr(session, "data_folder", DATA_FOLDER))


def good(result: Execution) -> Execution:
    assert result.status == "ok", result
    return result
