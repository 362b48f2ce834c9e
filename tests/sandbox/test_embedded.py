"""The embedded sandbox keeps the promises of sandbox.base: languages, state, limits, files, pool, end."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox.base import Limits, SandboxConfig, Session, SessionSpec
from sandbox.embedded.backend import EmbeddedSandbox
from sandbox.errors import SandboxFailure, SandboxUnavailable, SessionClosed, TransferError
from tests.sandbox.groups import control_groups

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[EmbeddedSandbox]:
    tmp_path.chmod(0o755)
    sources = {}
    for name in ("one", "two"):
        sources[name] = tmp_path / name
        sources[name].mkdir(mode=0o755)
        (sources[name] / "name.txt").write_text(name)
        with sqlite3.connect(sources[name] / "x.sqlite") as connection:
            connection.execute("CREATE TABLE patients (id INTEGER, name TEXT)")
            connection.execute("INSERT INTO patients VALUES (7, 'Ada')")
        connection.close()
    backend = EmbeddedSandbox(SandboxConfig(sources=sources, packages=("numpy", "pandas"), pool=1))
    try:
        await backend.start()
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    yield backend
    await backend.close()


@pytest.fixture
async def session(sandbox: EmbeddedSandbox) -> AsyncIterator[Session]:
    opened = await sandbox.open(SessionSpec(source="one", database="/data/x.sqlite"))
    yield opened
    await opened.close()


async def test_python_keeps_its_state(session: Session) -> None:
    assert (await session.execute("import pandas\nx = 20")).status == "ok"
    result = await session.execute("x + 1")
    assert (result.status, result.value) == ("ok", "21")
    assert result.seconds > 0


async def test_python_error_is_reported_and_survived(session: Session) -> None:
    result = await session.execute("y = 1\ny / 0")
    assert result.status == "error"
    assert result.error is not None
    assert (result.error.type, result.error.line) == ("ZeroDivisionError", 2)
    assert (await session.execute("y")).value == "1"


async def test_sql_reads_the_database(session: Session) -> None:
    result = await session.execute("SELECT name FROM patients", language="sql")
    assert result.status == "ok"
    assert "Ada" in (result.value or "")


async def test_sql_cannot_write(session: Session) -> None:
    result = await session.execute("DELETE FROM patients", language="sql")
    assert result.status == "error"
    assert "Ada" in ((await session.execute("SELECT * FROM patients", language="sql")).value or "")


async def test_shell(session: Session) -> None:
    result = await session.execute("pwd; printf %s x > f; exit 3", language="shell")
    assert (result.status, result.exit_code, result.stdout.text) == ("error", 3, "/work\n")
    assert (await session.execute("open('f').read()")).value == "'x'"


async def test_only_the_chosen_source_is_at_data(session: Session) -> None:
    assert (await session.execute("open('/data/name.txt').read()")).value == "'one'"
    found = await session.execute("find / -name name.txt 2>/dev/null", language="shell")
    assert found.stdout.text.split() == ["/data/name.txt"]
    result = await session.execute("open('/data/new', 'w')")
    assert result.error is not None
    assert result.error.type in ("OSError", "PermissionError")


async def test_no_source(sandbox: EmbeddedSandbox) -> None:
    session = await sandbox.open(SessionSpec())
    assert (await session.execute("import os\nos.listdir('/data')")).value == "[]"


async def test_unknown_source(sandbox: EmbeddedSandbox) -> None:
    with pytest.raises(KeyError):
        await sandbox.open(SessionSpec(source="three"))


async def test_timeout_ends_the_session(session: Session) -> None:
    result = await session.execute("while True: pass", timeout=0.3)
    assert result.status == "timeout"
    assert session.closed
    with pytest.raises(SessionClosed, match="time limit"):
        await session.execute("1")


async def test_timeout_ends_what_ran_loose(session: Session) -> None:
    mark = f"loose-{os.urandom(6).hex()}"
    code = f"(setsid sh -c 'trap \"\" TERM; exec -a {mark} sleep 300' &) ; sleep 300"
    assert (await session.execute(code, language="shell", timeout=1.0)).status == "timeout"
    assert not _processes(mark)


async def test_cancelled_call_ends_the_session(session: Session) -> None:
    call = asyncio.ensure_future(session.execute("import time\ntime.sleep(60)"))
    await asyncio.sleep(0.2)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert session.closed


async def test_interpreter_that_ends_is_no_success(session: Session) -> None:
    result = await session.execute("import os\nos._exit(0)")
    assert result.status == "killed"
    assert session.closed


async def test_background(session: Session) -> None:
    code = "import time\nfor i in range(3):\n    print(i, flush=True)\n    time.sleep(0.1)"
    assert (await session.execute(code, background=True)).status == "running"
    text, offset, done = "", 0, False
    while not done:
        chunk = await session.read_output("stdout", offset, wait=1.0)
        text, offset, done = text + chunk.text, chunk.next_offset, chunk.done
    assert text == "0\n1\n2\n"


async def test_variable(session: Session) -> None:
    await session.execute("import pandas as pd\nanswer = pd.DataFrame({'a': [1, 2]})")
    assert await session.read_variable("answer") == [[1], [2]]
    with pytest.raises(TransferError):
        await session.read_variable("nothing")


async def test_output_is_cut(sandbox: EmbeddedSandbox) -> None:
    session = await sandbox.open(SessionSpec(limits=Limits(output=1000)))
    result = await session.execute("print('x' * 1_000_000)")
    assert result.stdout.truncated
    assert len(result.stdout.text) <= 1000
    assert result.stdout.total_chars == 1_000_001


async def test_files(session: Session) -> None:
    await session.write_file("/work/deep/er/f.bin", b"\0\1")
    assert (await session.execute("open('/work/deep/er/f.bin', 'rb').read()")).value == repr(b"\0\1")
    await session.execute("open('/work/deep/er/f.bin', 'ab').write(b'2')")
    assert await session.read_file("deep/er/f.bin") == b"\0\0012"
    await session.write_file("deep/er/f.bin", b"")
    assert await session.read_file("/work/deep/er/f.bin") == b""
    with pytest.raises(TransferError):
        await session.read_file("/work/absent")
    await session.execute("open('big', 'w').write('x' * 100)")
    with pytest.raises(TransferError):
        await session.read_file("big", max_bytes=10)


async def test_sessions_do_not_share(sandbox: EmbeddedSandbox) -> None:
    first, second = await sandbox.open(SessionSpec()), await sandbox.open(SessionSpec())
    await first.execute("x = 1\nopen('/work/f', 'w').write('1')\nopen('/tmp/f', 'w').write('1')")
    assert (await second.execute("import os\nos.listdir('/work') + os.listdir('/tmp')")).value == "['.venv']"
    assert (await second.execute("x")).status == "error"


async def test_random_state_follows_the_seed(sandbox: EmbeddedSandbox) -> None:
    code = "import numpy, random\n(random.random(), float(numpy.random.rand()))"
    values = []
    for seed in (1, 1, 2):
        session = await sandbox.open(SessionSpec(seed=seed))
        values.append((await session.execute(code)).value)
    assert values[0] == values[1] != values[2]


async def test_twenty_at_once(sandbox: EmbeddedSandbox) -> None:
    async def one(number: int) -> str | None:
        session = await sandbox.open(SessionSpec(source="one"))
        await session.execute(f"n = {number}")
        value = (await session.execute("n * 2")).value
        await session.close()
        return value

    assert await asyncio.gather(*(one(number) for number in range(20))) == [str(2 * n) for n in range(20)]


async def test_dead_zygote_is_replaced(sandbox: EmbeddedSandbox) -> None:
    await sandbox.open(SessionSpec(source="two"))
    for pid in _processes("inside.zygote"):
        if _parent(_parent(pid)) == os.getpid() and _sessions_below(pid):
            os.kill(pid, signal.SIGKILL)
    await asyncio.sleep(0.5)
    for attempt in range(240):
        try:
            session = await sandbox.open(SessionSpec(source="two"))
            break
        except SandboxFailure:
            assert attempt < 239, "the backend did not recover"
            await asyncio.sleep(0.25)
    assert (await session.execute("1")).value == "1"


async def test_close_leaves_nothing(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    backend = EmbeddedSandbox(SandboxConfig(packages=("numpy",), preload=("numpy",)))
    await backend.start()
    session = await backend.open(SessionSpec())
    await session.execute("(sleep 300 &)", language="shell")
    run = backend._cgroups.run
    await backend.close()
    await backend.close()
    assert session.closed
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert not control_groups(run)
    assert not [pid for pid in _processes("inside.zygote") if _parent(_parent(pid)) == os.getpid()]


async def test_killed_owner_leaves_nothing(tmp_path: Path) -> None:
    mark = f"orphan-{os.urandom(6).hex()}"
    program = f"""
import asyncio, sys
sys.path.insert(0, {str(ROOT)!r})
from sandbox.base import SandboxConfig, SessionSpec
from sandbox.embedded.backend import EmbeddedSandbox
async def main():
    backend = EmbeddedSandbox(SandboxConfig(packages=(), preload=()))
    await backend.start()
    session = await backend.open(SessionSpec())
    await session.execute("(bash -c 'exec -a {mark} sleep 300' &)", language="shell")
    print(backend._cgroups.run, flush=True)
    await asyncio.sleep(300)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        run = (await asyncio.to_thread(owner.stdout.readline)).strip()
        assert run
        for _ in range(600):
            if _processes(mark):
                break
            await asyncio.sleep(0.1)
        assert _processes(mark)
        owner.kill()
    for _ in range(600):
        if not _processes(mark) and not control_groups(run):
            break
        await asyncio.sleep(0.1)
    assert not _processes(mark)
    assert not control_groups(run)


async def test_start_in_a_folder_with_our_names(tmp_path: Path) -> None:
    """The zygote is not led astray by the operator's folder or PYTHONPATH."""
    (tmp_path / "sandbox").mkdir()
    for name in ("sandbox/__init__.py", "inside.py", "interpreter.py", "socket.py"):
        (tmp_path / name).write_text("raise SystemExit('led astray')\n")
    program = f"""
import sys
sys.path[:] = [{str(ROOT)!r}, *[path for path in sys.path if path not in ("", {str(tmp_path)!r})]]
import asyncio
from sandbox.base import SandboxConfig, SessionSpec
from sandbox.embedded.backend import EmbeddedSandbox
async def main():
    backend = EmbeddedSandbox(SandboxConfig(packages=(), preload=()))
    await backend.start()
    print((await (await backend.open(SessionSpec())).execute("6 * 7")).value)
    await backend.close()
asyncio.run(main())
"""
    command = [sys.executable, "-P", "-c", program]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120
    )
    assert done.stdout.strip() == "42", done.stderr


def _processes(text: str) -> list[int]:
    """Processes of this machine whose command line holds `text`, this one left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if text.encode() in line and b"EmbeddedSandbox" not in line:
                found.append(int(entry.name))
    return found


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _sessions_below(pid: int) -> bool:
    return any(_parent(other) == pid for other in _processes("inside.zygote"))
