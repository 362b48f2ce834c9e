"""Attacks on a sandbox. Each test is one attack and asserts a fact that is measured outside the session.

After every attack, a witness session that was open all along must still be served, and the process that serves the
sessions must be the one that was there before. MED_COPILOT_ATTACKED names the backends, apart by commas. What a
backend does not claim to hold is in `claims.NOT_CLAIMED`, and must get through; an attack that cannot be asserted is
skipped and not counted. The counts are printed at the end.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sandbox.base import Execution, Limits, Sandbox, SandboxConfig, Session, SessionSpec
from tests.sandbox.attacks import claims
from tests.sandbox.attacks.world import World
from tests.sandbox.contract.conftest import serving
from tests.sandbox.processes import marked

MIB = 1 << 20
LIMITS = Limits(call_seconds=20, memory=256 * MIB, disk=16 * MIB, inodes=200, processes=24)
SPEC = SessionSpec(source="a", limits=LIMITS)
PRELUDE = r"""
import ctypes, errno, glob, os, re, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(number, *given):
    ctypes.set_errno(0)
    given = [ctypes.c_long(x) if isinstance(x, int) else x for x in given]
    return libc.syscall(ctypes.c_long(number), *given, *[ctypes.c_long(0)] * (6 - len(given))), ctypes.get_errno()
def content(path, most=4096):
    try:  # of a file, or the names in a folder
        if os.path.isdir(path): return ' '.join(os.listdir(path)).encode()
        with open(path, "rb") as file: return file.read(most)
    except (OSError, ValueError): return b""
def found(data):
    for one in set(re.findall(rb"canary-[a-z]+-[0-9a-f]{16}", data)): print(one.decode())
def show(path):
    try:
        with open(path, "rb") as file: found(file.read(4 << 20))
    except (OSError, ValueError): pass
def shows(folder, most=3000):
    for at, _, names in os.walk(folder):
        for name in names:
            most -= 1
            if most > 0: show(os.path.join(at, name))
def protocol():
    for fd in sorted(map(int, os.listdir("/proc/self/fd")), reverse=True):
        try:
            if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"): return fd
        except OSError: pass
def frame(body): return len(body).to_bytes(4, "big") + body
"""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=os.environ.get("MED_COPILOT_ATTACKED", "embedded,landlock,docker").split(","))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(scope="module")
async def sandbox(backend: str, world: World) -> AsyncIterator[Sandbox]:
    config = SandboxConfig(sources=world.sources, packages=("numpy",), preload=("numpy",), pool=0)
    async with serving(backend, config) as one:
        yield one


@pytest.fixture(scope="module")
async def witness(sandbox: Sandbox) -> AsyncIterator[Session]:
    opened = await sandbox.open(SPEC)
    await opened.execute("calls = 0")
    yield opened
    await opened.close()


@pytest.fixture(scope="module")
def levels(backend: str, sandbox: Sandbox) -> list[str]:
    return claims.levels(backend, sandbox)


class Harmed(Exception):
    """An attack has reached the server, another session or the machine. Never what a level leaves unclaimed."""


@pytest.fixture(autouse=True)
async def unharmed(
    request: pytest.FixtureRequest,
    backend: str,
    levels: list[str],
    sandbox: Sandbox,
    witness: Session,
    world: World,
) -> AsyncIterator[None]:
    """What must hold after every attack, whatever it was."""
    name = attack_name(request.node)
    request.node.user_properties.append(("attack", (claims.label(backend, levels), name)))
    for level in levels:
        if (reason := claims.NOT_CLAIMED.get((name, level))) is not None:
            request.applymarker(pytest.mark.xfail(reason=reason, raises=AssertionError, strict=True))
    process = getattr(sandbox, "_process", None)
    before = (await witness.execute("calls")).value
    yield
    after = (await witness.execute("calls += 1\ncalls")).value
    if after != str(int(before or "") + 1):
        raise Harmed(f"the witness has lost its state: {before}, then {after}")
    if getattr(sandbox, "_process", None) is not process or process is not None and process.poll() is not None:
        raise Harmed("the process that serves the sessions has ended")
    try:
        world.check_unchanged()
    except AssertionError as error:
        raise Harmed(str(error)) from error


def attack_name(item: pytest.Item) -> str:
    """The name of a test without the backend."""
    function, _, parameters = item.name.partition("[")
    rest = parameters.rstrip("]").partition("-")[2]
    return f"{function}[{rest}]" if rest else function


@pytest.fixture(scope="module")
def shared() -> dict[str, Session]:
    return {}


@pytest.fixture
async def session(sandbox: Sandbox, shared: dict[str, Session]) -> Session:
    """One session for the attacks of a module that do not end it; another where one did."""
    opened = shared.get("session")
    if opened is None or opened.closed:
        opened = shared["session"] = await sandbox.open(SPEC)
    return opened


@pytest.fixture
async def fresh(sandbox: Sandbox) -> AsyncIterator[Session]:
    opened = await sandbox.open(SPEC)
    yield opened
    await opened.close()


async def attack(session: Session, code: str, **more: float) -> Execution:
    return await session.execute(PRELUDE + code, **more)  # type: ignore[arg-type]


def texts(result: Execution) -> str:
    """All that came out."""
    parts = [result.stdout.text, result.stderr.text, result.value or ""]
    if result.error is not None:
        parts += [result.error.message, result.error.traceback]
    return "\n".join(parts)


def canaries(result: Execution) -> set[str]:
    return set(re.findall(r"canary-[a-z]+-[0-9a-f]{16}", texts(result)))


async def from_outside(session: Session, file: str) -> dict[str, str]:
    """`status` or `limits` of a process of the session, as the machine tells it. Skips for an engine elsewhere."""
    mark = a_mark()
    await session.execute(f"import subprocess\nheld = subprocess.Popen([{mark!r}, '60'], executable='/bin/sleep')")
    found = marked(mark)
    if not found:
        pytest.skip("the session's processes are on another machine")
    lines = Path(f"/proc/{found[0]}/{file}").read_text().splitlines()
    await session.execute("held.kill()")
    if file == "status":
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return {line[:26].strip(): " ".join(line[26:].split()) for line in lines}


def a_mark() -> str:
    return f"attack-{os.urandom(6).hex()}"


async def descriptors() -> int:
    """Open descriptors of this process: the fewest of a few looks, for a watcher opens and closes some all the time."""
    counts = []
    for _ in range(10):
        counts.append(len(os.listdir("/proc/self/fd")))  # noqa: PTH208
        await asyncio.sleep(0.02)
    return min(counts)
