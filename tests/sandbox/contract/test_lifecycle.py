"""Opening, cancelling, many at once, and that an end is an end."""

import asyncio
import os
from pathlib import Path

import pytest

from sandbox.base import Sandbox, SandboxConfig, Session, SessionSpec
from sandbox.errors import SandboxFailure, SandboxUnavailable, SessionClosed
from tests.sandbox.contract.conftest import data_of, good, make, serving
from tests.sandbox.processes import marked

pytestmark = pytest.mark.anyio


def loose() -> tuple[str, str]:
    """A mark, and shell code that leaves a process with this mark behind: detached, deaf to TERM and HUP."""
    mark = f"loose-{os.urandom(6).hex()}"
    return mark, f"(setsid bash -c 'trap \"\" TERM HUP; exec -a {mark} sleep 300' >/dev/null 2>&1 &)"


async def until(gone: str) -> None:
    for _ in range(100):
        if not marked(gone):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{gone} is still there")


async def test_unknown_source(sandbox: Sandbox) -> None:
    with pytest.raises(KeyError):
        await sandbox.open(SessionSpec(source="three"))


async def test_each_source_is_alone(sandbox: Sandbox) -> None:
    for name in ("one", "two", "one"):
        session = await sandbox.open(SessionSpec(source=name, database="x.sqlite"))
        assert "Ada" in (good(await session.execute("SELECT * FROM patients", language="sql")).value or "")
        await session.close()


async def test_a_relative_source_is_that_of_the_folder_it_was_named_in(
    backend: str, sources: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as there:
        there.chdir(sources["one"])
        config = SandboxConfig(sources={"two": Path("../two")}, packages=(), preload=(), pool=0)
    async with serving(backend, config) as one:
        session = await one.open(SessionSpec(source="two"))
        code = f"print(open({data_of(session)!r} + '/name.txt').read())"
        assert good(await session.execute(code)).stdout.text == "two\n"
        await session.close()


async def test_close_is_an_end(session: Session) -> None:
    await session.close()
    await session.close()
    assert session.closed
    for call in (
        session.execute("1"),
        session.read_output("stdout"),
        session.read_variable("x"),
        session.read_file("f"),
        session.write_file("f", b""),
    ):
        with pytest.raises(SessionClosed):
            await call


async def test_close_ends_what_was_left_running(sandbox: Sandbox) -> None:
    session = await sandbox.open(SessionSpec())
    mark, code = loose()
    good(await session.execute(f"{code}; sleep 0.3", language="shell"))
    await session.close()
    await until(mark)


async def test_timeout_ends_what_was_left_running(sandbox: Sandbox) -> None:
    session = await sandbox.open(SessionSpec())
    mark, code = loose()
    assert (await session.execute(f"{code}; sleep 300", language="shell", timeout=1.5)).status == "timeout"
    await until(mark)


async def test_cancelled_call_ends_the_session(session: Session) -> None:
    call = asyncio.ensure_future(session.execute("import time\ntime.sleep(60)"))
    await asyncio.sleep(0.2)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert session.closed
    with pytest.raises(SessionClosed):
        await session.execute("1")


@pytest.mark.parametrize("code", ["import os\nos._exit(0)", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"])
async def test_an_interpreter_that_ends_is_no_success(session: Session, code: str) -> None:
    assert (await session.execute(code)).status == "killed"
    assert session.closed


async def test_twelve_at_once(sandbox: Sandbox) -> None:
    async def one(number: int) -> str | None:
        session = await sandbox.open(SessionSpec(source="one"))
        good(await session.execute(f"import time\nn = {number}\ntime.sleep(0.1)"))
        value = good(await session.execute("n * 2")).value
        await session.close()
        return value

    assert await asyncio.gather(*(one(number) for number in range(12))) == [str(2 * n) for n in range(12)]


async def test_a_busy_session_does_not_hold_up_another(sandbox: Sandbox, session: Session) -> None:
    busy = asyncio.ensure_future(session.execute("while True: pass", timeout=20))
    other = await sandbox.open(SessionSpec())
    assert good(await other.execute("1")).value == "1"
    assert not busy.done()
    await other.close()
    busy.cancel()
    with pytest.raises(asyncio.CancelledError):
        await busy


@pytest.mark.parametrize("seconds", [0, 0.02, 0.1, 0.3])
async def test_a_backend_is_closed_while_it_starts(backend: str, sandbox: Sandbox, seconds: float) -> None:
    own = make(backend, SandboxConfig(packages=("numpy",), preload=("numpy",), pool=1))
    starting = asyncio.ensure_future(own.start())
    await asyncio.sleep(seconds)
    starting.cancel()
    # What it ended with is kept, as a server keeps it for its last words, and all that its frames hold with it.
    ended = await asyncio.gather(starting, return_exceptions=True)
    async with asyncio.timeout(60):
        await own.close()
    assert len(ended) == 1
    with pytest.raises((SandboxFailure, SandboxUnavailable)):
        await own.open(SessionSpec())


async def test_closing_the_backend_leaves_nothing(backend: str, sandbox: Sandbox) -> None:
    own = make(backend, SandboxConfig(packages=("numpy",), preload=(), pool=1))
    try:
        await own.start()
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    session = await own.open(SessionSpec())
    mark, code = loose()
    good(await session.execute(f"{code}; sleep 0.3", language="shell"))
    await own.close()
    await own.close()
    assert session.closed
    with pytest.raises((SandboxFailure, SandboxUnavailable)):
        await own.open(SessionSpec())
    await until(mark)
    for _ in range(100):  # what the other backends of these tests do meanwhile holds some for a moment
        if (left := len(os.listdir("/proc/self/fd"))) <= before:  # noqa: PTH208
            break
        await asyncio.sleep(0.1)
    assert left <= before
