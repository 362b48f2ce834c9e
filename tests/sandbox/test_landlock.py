"""The level landlock, beyond the contract: paths, both kinds of users, what holds, and what is left at the end."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox.base import Limits, SandboxConfig, SessionSpec
from sandbox.errors import SandboxFailure, SandboxUnavailable
from sandbox.landlock import plan
from sandbox.landlock.backend import LandlockSandbox
from sandbox.landlock.session import LandlockSession

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
LIMITS = Limits(call_seconds=20, memory=256 * MIB, disk=16 * MIB, inodes=200, processes=24)
SPEC = SessionSpec(source="a", database="x.sqlite", limits=LIMITS)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=["own user", "the server's user"])
async def sandbox(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, anyio_backend: str
) -> AsyncIterator[LandlockSandbox]:
    """With a user for each session, as where the server is root, and without, as everywhere else."""
    source = tmp_path_factory.mktemp("landlock")
    (source / "a.txt").write_text("public")
    (source.parent / "secret.txt").write_text("canary")
    with sqlite3.connect(source / "x.sqlite") as connection:
        connection.execute("CREATE TABLE patients (id INTEGER)")
        connection.execute("INSERT INTO patients VALUES (7)")
    connection.close()
    backend = LandlockSandbox(SandboxConfig(sources={"a": source}, packages=("numpy",), preload=("numpy",), pool=0))
    try:
        await backend.start()
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    if request.param == "own user" and backend._users.take() is None:
        await backend.close()
        pytest.skip("the server is not root")
    if request.param != "own user":
        backend._users._count = 0
    yield backend
    await backend.close()


@pytest.fixture
async def session(sandbox: LandlockSandbox) -> AsyncIterator[LandlockSession]:
    opened = await sandbox.open(SPEC)
    yield opened
    await opened.close()


async def value(session: LandlockSession, code: str) -> str | None:
    result = await session.execute(code)
    assert result.status == "ok", result
    return result.value


# ---- the paths of the contract


async def test_python_sees_the_paths_of_the_contract(session: LandlockSession) -> None:
    code = """
import glob, os, pathlib, shutil, sqlite3, tempfile
pathlib.Path("/work/deep").mkdir()
shutil.copy("/data/a.txt", "/work/deep/b.txt")
os.chdir("/work/deep")
rows = sqlite3.connect("file:/data/x.sqlite?mode=ro", uri=True).execute("SELECT * FROM patients").fetchall()
(open("/work/deep/b.txt").read(), os.getcwd(), sorted(os.listdir("/data")), os.path.exists("/work/deep/b.txt"),
 glob.glob("/work/*/*.txt"), rows,
 tempfile.NamedTemporaryFile(dir="/tmp").name.startswith("/tmp"), open("../../data/a.txt").read())
"""
    expected = "('public', '/work/deep', ['a.txt', 'x.sqlite'], True, ['/work/deep/b.txt'], [(7,)], True, 'public')"
    assert await value(session, code) == expected


async def test_programs_see_the_paths_of_the_contract(session: LandlockSession) -> None:
    code = (
        "cd /work; cat /data/a.txt; echo; pwd; cp /data/a.txt /tmp/c && ls /tmp/c; awk '/data/ {print}' /data/a.txt; "
        'echo \'print(open("/data/a.txt").read())\' > p.py; python3 p.py; ls -d "$HOME"; grep -c ublic /data/a.txt'
    )
    result = await session.execute(code, language="shell")
    assert result.stdout.text == "public\n/work\n/tmp/c\npublic\n/work\n1\n", result.stderr.text


async def test_errors_name_the_paths_of_the_contract(session: LandlockSession) -> None:
    result = await session.execute("open('/data/b.txt')")
    assert result.error is not None
    assert (result.error.message, result.error.missing) == (
        "[Errno 2] No such file or directory: '/data/b.txt'",
        "/data/b.txt",
    )
    assert "/data/a.txt" in result.error.candidates
    assert result.error.line == 1


# ---- what holds


async def test_files_elsewhere_cannot_be_opened(sandbox: LandlockSandbox, session: LandlockSession) -> None:
    secret = Path(sandbox._sources["a"]).parent / "secret.txt"
    other = await sandbox.open(SPEC)
    await other.execute("open('mine', 'w').write('x')")
    theirs = other._places.root
    code = f"""
import os
paths = [{str(secret)!r}, "/etc/passwd", "/etc/shadow", "/etc/hostname", {str(ROOT / "tasks" / "answers.py")!r},
         {str(ROOT / "sandbox" / "base.py")!r}, "/proc/1/environ", "/proc/1/cmdline", "/proc/{os.getpid()}/environ",
         "/proc/{os.getpid()}/mem", "/proc/self/environ", "/proc/self/mem", "/sys/kernel/notes", "/dev/kmsg",
         "/dev/mem", {theirs!r} + "/work/mine"]
opened = []
for path in paths:
    for how in (os.O_RDONLY, os.O_WRONLY, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_CREAT):
        try:
            os.close(os.open(path, how))
            opened.append((path, how))
        except OSError:
            pass
listed = []
for path in ("/", "/etc", "/root", "/home", "/proc", "/sys", "/tmp/..", {str(secret.parent)!r}, {theirs!r} + "/work"):
    try:
        listed.append((path, os.listdir(path)))
    except OSError:
        pass
(opened, listed)
"""
    assert await value(session, code) == "([], [])"
    assert secret.read_text() == "canary"
    assert (await other.execute("open('mine').read()")).value == "'x'"
    await other.close()


async def test_the_data_cannot_be_changed(sandbox: LandlockSandbox, session: LandlockSession) -> None:
    folder = Path(sandbox._sources["a"])
    before = {path.name: (path.stat().st_mode, path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}
    code = """
import os
real = os.path.realpath("/data/a.txt")
for path in ("/data/a.txt", real):
    for attack in (lambda: open(path, "w"), lambda: os.truncate(path, 0), lambda: os.unlink(path),
                   lambda: os.rename(path, "/work/a"), lambda: os.link(path, "/work/b"), lambda: os.chmod(path, 0),
                   lambda: os.utime(path, (0, 0)), lambda: os.close(os.open(path, os.O_RDONLY | os.O_TRUNC)),
                   lambda: os.fchmod(os.open(path, os.O_RDONLY), 0), lambda: os.mkdir("/data/new")):
        try:
            attack()
        except OSError:
            pass
"""
    await value(session, code)
    after = {path.name: (path.stat().st_mode, path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}
    assert after == before


async def test_no_sockets(session: LandlockSession) -> None:
    code = """
import socket
made = []
for family, kind in ((1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (10, 1), (16, 3), (17, 3), (40, 1)):
    try:
        socket.socket(family, kind)
        made.append((family, kind))
    except OSError:
        pass
pair = socket.socketpair()
pair[0].send(b"x")
try:
    socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.append("datagrams")
except OSError:
    pass
(made, pair[1].recv(1))
"""
    assert await value(session, code) == "([], b'x')"


async def test_other_processes_cannot_be_touched(session: LandlockSession) -> None:
    with subprocess.Popen(["sleep", "300"]) as bystander:
        code = f"""
import ctypes, os, resource
libc = ctypes.CDLL(None, use_errno=True)
done = []
for pid in ({bystander.pid}, {os.getpid()}, os.getppid()):
    for name, attack in (("kill", lambda: os.kill(pid, 9)),
                         ("limit", lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, 3))),
                         ("affinity", lambda: os.sched_setaffinity(pid, {{0}})),
                         ("priority", lambda: os.setpriority(0, pid, 19))):
        try:
            attack()
            done.append((name, pid))
        except OSError:
            pass
    for number in (101, 310) if os.uname().machine == "x86_64" else (117, 270):  # ptrace, process_vm_readv
        if libc.syscall(number, 16, pid, 0, 0, 0, 0) != -1:
            done.append((number, pid))
done
"""
        assert await value(session, code) == "[]"
        assert bystander.poll() is None
        bystander.kill()


async def test_no_privileges(session: LandlockSession) -> None:
    result = await session.execute("grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid)' /proc/$PPID/status", language="shell")
    facts = dict(line.split(":\t") for line in result.stdout.text.splitlines())
    readable = {"0" * 16, f"{4:016x}", f"{2:016x}"}  # at most the one by which it reads what only the server may
    assert {facts[name] for name in ("CapPrm", "CapEff", "CapAmb")} <= readable
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")


async def test_fork_bomb_and_what_runs_loose(sandbox: LandlockSandbox, session: LandlockSession) -> None:
    root = session._places.root
    code = (
        "import os, time\nos.setsid() if os.fork() == 0 else 0\n"
        "try:\n    while True: os.fork()\nexcept OSError: time.sleep(30)"
    )
    assert (await session.execute(code, timeout=2)).status in ("timeout", "killed", "memory")
    assert session.closed
    assert not _of_session(str(root))
    assert not Path(str(root)).exists()
    other = await sandbox.open(SPEC)
    assert await value(other, "1 + 1") == "2"
    await other.close()


async def test_a_chain_of_forks_does_not_slip_through(session: LandlockSession) -> None:
    """Each process only lives until it has made the next: whoever looks for them one by one comes too late."""
    code = "import os, time\nif os.fork() == 0:\n    while True:\n        if os.fork(): os._exit(0)\ntime.sleep(30)"
    assert (await session.execute(code, timeout=1)).status == "timeout"
    assert not _of_session(str(session._places.root))


async def test_full_folders_end_the_session(sandbox: LandlockSandbox) -> None:
    session = await sandbox.open(SPEC)
    code = "import time\nfor n in range(40):\n    open(f'/tmp/{n}', 'wb').write(b'x' * (1 << 20))\ntime.sleep(15)"
    assert (await session.execute(code)).status == "killed"
    assert not Path(str(session._places.root)).exists()


async def test_a_killed_keeper_leaves_nothing(sandbox: LandlockSandbox) -> None:
    session = await sandbox.open(SPEC)
    await session.execute("(setsid sleep 300 &)", language="shell")
    keeper = session.pid()
    assert keeper is not None
    os.kill(keeper, signal.SIGKILL)
    for _ in range(100):
        if not _of_session(str(session._places.root)):
            break
        await asyncio.sleep(0.1)
    assert not _of_session(str(session._places.root))


# ---- start and end


async def test_a_dead_zygote_is_replaced(sandbox: LandlockSandbox) -> None:
    lost = await sandbox.open(SPEC)
    assert sandbox._process is not None
    sandbox._process.kill()
    for attempt in range(40):
        try:
            session = await sandbox.open(SPEC)
            break
        except SandboxFailure:
            assert attempt < 39, "the backend did not recover"
            await asyncio.sleep(0.25)
    assert await value(session, "1") == "1"
    await lost.close()
    assert not _of_session(str(lost._places.root))
    await session.close()


async def test_a_session_that_cannot_be_made_says_why(sandbox: LandlockSandbox) -> None:
    root = sandbox._root
    assert root is not None
    away = root.rename(root.with_name(f"{root.name}-away"))
    try:
        with pytest.raises(SandboxFailure, match="No such file"):
            await sandbox.open(SPEC)
    finally:
        away.rename(root)
    await (await sandbox.open(SPEC)).close()


async def test_nothing_is_left(tmp_path: Path) -> None:
    """After `close`, and after the server was killed."""
    program = f"""
import asyncio, sys
sys.path.insert(0, {str(ROOT)!r})
from sandbox.base import SandboxConfig, SessionSpec
from sandbox.landlock.backend import LandlockSandbox
async def main():
    backend = LandlockSandbox(SandboxConfig(packages=(), preload=(), pool=0))
    await backend.start()
    session = await backend.open(SessionSpec())
    await session.execute("(setsid sleep 300 &)", language="shell")
    print(backend._root, flush=True)
    if sys.argv[1] == "killed":
        await asyncio.sleep(300)
    await backend.close()
asyncio.run(main())
"""
    for how in ("closed", "killed"):
        command = [sys.executable, "-c", program, how]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
            assert owner.stdout is not None
            root = (await asyncio.to_thread(owner.stdout.readline)).strip()
            if not root:
                pytest.skip("the level landlock cannot start here")
            if how == "killed":
                assert _of_session(root)
                owner.kill()
            await asyncio.to_thread(owner.wait)
        for _ in range(100):
            if not _of_session(root) and not Path(root).exists():
                break
            await asyncio.sleep(0.1)
        assert not _of_session(root), how
        assert not Path(root).exists(), how


def test_only_declared_packages_and_no_code_of_ours_are_readable(tmp_path: Path) -> None:
    config = SandboxConfig(packages=("numpy",))
    made = plan.make_plan(config, tmp_path)
    allowed = [Path(path) for path, rights in made["rules"] if rights & 1 << 2]
    for path in (ROOT / "tasks" / "answers.py", ROOT / "sandbox" / "base.py", Path(pytest.__file__)):
        assert not [one for one in allowed if path.is_relative_to(one)], path
    assert {path.name for path in (tmp_path / "packages").iterdir()} >= {"numpy", "sitecustomize.py"}


def _of_session(root: str) -> list[int]:
    """Processes that carry the session's root in their environment or command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    continue
                if root.encode() in (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found
