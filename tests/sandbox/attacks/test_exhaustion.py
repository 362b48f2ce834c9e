"""Using up what is limited, and not ending. The limit must hold, nothing may be left, and others are served."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

import pytest

from sandbox.base import Execution, Limits, Sandbox, Session, SessionSpec
from sandbox.errors import SessionClosed
from tests.sandbox.attacks.claims import most_disk, most_processes
from tests.sandbox.attacks.conftest import LIMITS, MIB, a_mark, attack, descriptors, from_outside
from tests.sandbox.processes import marked

pytestmark = pytest.mark.anyio
ENDED = ("timeout", "memory", "killed")


def available() -> int:
    """Bytes of memory that this machine can still give."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


async def gone(mark: str) -> None:
    for _ in range(100):
        if not marked(mark):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{len(marked(mark))} processes are left")


# ---- processes


@pytest.mark.parametrize("way", ["python", "shell", "vfork"])
async def test_fork_bomb(fresh: Session, levels: list[str], way: str) -> None:
    mark = a_mark()
    codes = {
        "python": "import os, subprocess, time\ntry:\n    while True:\n        if os.fork() == 0: "
        f"os.execv('/bin/bash', ['{mark}', '-c', 'while :; do sleep 1; done'])\nexcept OSError: time.sleep(60)",
        "shell": f"f() {{ bash -c 'exec -a {mark} sleep 60' & f | f & }}; f; sleep 60",
        "vfork": "import os, time\ntry:\n    while True:\n"
        f"        os.posix_spawn('/bin/sleep', ['{mark}', '60'], os.environ)\nexcept OSError: time.sleep(60)",
    }
    call = asyncio.ensure_future(
        fresh.execute(codes[way], language="shell" if way == "shell" else "python", timeout=1.5)
    )
    most = 0
    while not call.done():
        most = max(most, len(marked(mark)))
        await asyncio.sleep(0.05)
    assert (await call).status in (*ENDED, "error")
    assert most <= LIMITS.processes * most_processes(levels)
    await fresh.close()
    await gone(mark)


async def test_thread_bomb(fresh: Session) -> None:
    code = "import threading, time\nfor _ in range(5000): threading.Thread(target=time.sleep, args=(60,)).start()"
    result = await fresh.execute(code, timeout=10)
    assert result.status in (*ENDED, "error")


async def test_the_process_that_forks_sessions_survives_a_full_machine(sandbox: Sandbox) -> None:
    bombs = [await sandbox.open(SessionSpec(limits=LIMITS)) for _ in range(4)]
    code = "import os, time\ntry:\n    while os.fork(): pass\nexcept OSError: pass\ntime.sleep(60)"
    calls = [asyncio.ensure_future(bomb.execute(code, timeout=2)) for bomb in bombs]
    other = await sandbox.open(SessionSpec())
    assert (await other.execute("1 + 1")).value == "2"
    assert {(await call).status for call in calls} <= set(ENDED)
    await other.close()


LEFT = {
    "background process": "(bash -c 'exec -a {mark} sleep 300' &)",
    "double fork and setsid": "(setsid setsid bash -c 'exec -a {mark} sleep 300' >/dev/null 2>&1 &)",
    "deaf to signals": '(bash -c \'trap "" TERM HUP INT; while :; do bash -c "exec -a {mark} sleep 9"; done\' &)',
    "nohup": "nohup bash -c 'exec -a {mark} sleep 300' >/dev/null 2>&1 &",
    "a stopped process": "(bash -c 'exec -a {mark} sleep 300' & kill -STOP $!)",
    "a process that respawns": "(bash -c 'while :; do bash -c \"exec -a {mark} sleep 0.2\" & sleep 0.1; done' &)",
}


@pytest.mark.parametrize("name", LEFT)
async def test_left_behind(fresh: Session, name: str) -> None:
    mark = a_mark()
    await fresh.execute(LEFT[name].format(mark=mark) + "\nsleep 0.2", language="shell")
    assert marked(mark), "the attack did not start"
    await fresh.close()
    await gone(mark)


async def test_a_loop_deaf_to_signals(fresh: Session) -> None:
    code = (
        "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\nwhile True:\n    try:\n        while True: pass\n"
        "    except BaseException: pass"
    )
    assert (await fresh.execute(code, timeout=0.5)).status == "timeout"


async def test_a_loop_in_c(fresh: Session) -> None:
    """No bytecode is run, so nothing in the interpreter could interrupt it."""
    assert (await fresh.execute("import re\nre.match(r'(a+)+$', 'a' * 64 + 'b')", timeout=0.5)).status == "timeout"


async def test_kill_everyone(fresh: Session, witness: Session) -> None:
    code = "import os\nfor n in (15, 9, 19):\n    try: os.kill(-1, n)\n    except OSError: pass\n"
    code += "try: os.kill(1, 9)\nexcept OSError: pass\n"
    assert (await fresh.execute(code + "os.kill(os.getpid(), 9)", timeout=5)).status in ENDED
    with pytest.raises(SessionClosed):
        await fresh.execute("1")


async def test_stopping_itself(fresh: Session) -> None:
    assert (await fresh.execute("import os\nos.kill(os.getpid(), 19)", timeout=0.5)).status == "timeout"


# ---- memory

BOMBS = {
    "one process": "held = []\nwhile True: held.append(bytearray(b'x') * (8 << 20))",
    "eight children": """
import os, time
for _ in range(8):
    if os.fork() == 0:
        held = [bytearray(b"x") * (8 << 20) for _ in range(16)]
        time.sleep(60)
time.sleep(60)
""",
    "shared mapping": "import mmap, time\nheld = [mmap.mmap(-1, 8 << 20) for _ in range(64)]\n"
    "for one in held: one.write(b'x' * (8 << 20))\ntime.sleep(60)",
    "memory files": "import os, time\nfor n in range(64):\n    fd = os.memfd_create(str(n))\n"
    "    os.write(fd, b'x' * (8 << 20))\ntime.sleep(60)",
    "integer power": "x = 10\nwhile True: x = x * x",
    "repetition": "x = 'x' * (1 << 34)",
}


@pytest.mark.parametrize("name", BOMBS)
async def test_memory_bomb(sandbox: Sandbox, name: str) -> None:
    await little_memory(sandbox, lambda session: session.execute(BOMBS[name], timeout=2), (*ENDED, "error"))


async def little_memory(
    sandbox: Sandbox, attacking: Callable[[Session], Awaitable[Execution]], ends: Collection[str]
) -> None:
    """The machine never has much less memory free than before: at one of three times, as others use it too."""
    for _ in range(3):
        session = await sandbox.open(SessionSpec(limits=LIMITS))
        free, least = available(), 1 << 62
        call = asyncio.ensure_future(attacking(session))
        while not call.done():
            least = min(least, available())
            await asyncio.sleep(0.02)
        assert (await call).status in ends
        await session.close()
        # Twice the limit and a GiB are far below what an unbounded bomb takes.
        if free - least < 2 * LIMITS.memory + 1024 * MIB:
            return
    raise AssertionError(free - least)


SOCKETS = """
import os, time
held = []
def fill(kind, family, address):
    try:
        while True:
            one = socket.socket(family, kind); one.bind(address); one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 30)
            two = socket.socket(family, kind); two.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 30)
            held.append((one, two)); two.setblocking(False)
            try:
                while True: two.sendto(b"x" * 60000, one.getsockname())
            except OSError: pass
    except OSError: pass
for _ in range(16):
    if os.fork() == 0:
        fill(socket.SOCK_DGRAM, socket.AF_INET, ("127.0.0.1", 0)); time.sleep(60)
time.sleep(60)
"""
PIPES = """
import fcntl
held = []
for _ in range(16):
    if os.fork() == 0: break
try:
    while True:
        r, w = os.pipe(); held.append((r, w)); os.set_blocking(w, False)
        try: fcntl.fcntl(w, 1031, 1 << 20)
        except OSError: pass
        try:
            while True: os.write(w, b"x" * 65536)
        except OSError: pass
except OSError: pass
time.sleep(60)
"""


@pytest.mark.parametrize("name", ["sockets", "pipes"])
async def test_kernel_buffers(sandbox: Sandbox, name: str) -> None:
    code = SOCKETS if name == "sockets" else PIPES
    await little_memory(sandbox, lambda session: attack(session, code, timeout=2), ENDED)


# ---- disk and output


async def test_disk_fill(fresh: Session, levels: list[str]) -> None:
    code = """
full = 0
for folder in ('/work', '/tmp', '/dev/shm'):
    try:
        for n in range(64): open(f'{folder}/big{n}', 'wb').write(b'x' * (1 << 20))
    except OSError: full += 1
full
"""
    assert (await fresh.execute(code)).value == "3"
    code = "import subprocess\nsum(map(int, subprocess.getoutput('du -sk /work /tmp /dev/shm | cut -f1').split()))"
    held = (await fresh.execute(code)).value
    assert 0 < 1024 * int(held or "0") <= LIMITS.disk * most_disk(levels)
    rest = await fresh.execute("rm -f /work/big* /tmp/big* /dev/shm/big*; echo 1", language="shell")
    assert rest.stdout.text == "1\n"


async def test_inode_fill(fresh: Session) -> None:
    assert (await fresh.execute("for n in range(1000): open(f'f{n}', 'w').close()")).status == "error"
    assert (await fresh.execute("rm -f f*; echo 1", language="shell")).stdout.text == "1\n"


@pytest.mark.parametrize("way", ["bytes", "files"])
async def test_a_disk_that_is_filled_for_long(fresh: Session, way: str) -> None:
    """It ends with an error or with the session, and then the machine has its room back."""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    write = "write(b'x' * (8 << 20))" if way == "bytes" else "close()"
    code = f"n = 0\nwhile True:\n    n += 1\n    open(f'{{\"/tmp\" if n % 2 else \"/work\"}}/{{n}}', 'wb').{write}"
    assert (await fresh.execute(code, timeout=10)).status in ("error", "killed")
    await fresh.close()
    # Others use this machine too.
    assert shutil.disk_usage(tempfile.gettempdir()).free > free - 1024 * MIB


async def test_deep_folders(fresh: Session) -> None:
    code = "import os\ntry:\n    while True: os.mkdir('d'); os.chdir('d')\nexcept OSError: pass\nos.chdir('/work')"
    result = await fresh.execute(code)
    assert result.status in ("ok", "error", "killed")
    if fresh.closed:
        return
    assert (await fresh.execute("cd /work; rm -rf d; echo 1", language="shell")).stdout.text == "1\n"


async def test_open_files(fresh: Session) -> None:
    result = await fresh.execute("files = [open('/dev/null') for _ in range(5000)]")
    assert result.error is not None
    assert result.error.type == "OSError"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_output_flood(fresh: Session, stream: str) -> None:
    result = await fresh.execute(f"import sys\nwhile True: sys.{stream}.write('x' * 65536)", timeout=5)
    assert result.status in ("error", "timeout")
    assert max(len(result.stdout.text), len(result.stderr.text)) <= LIMITS.output


async def test_output_flood_by_children(fresh: Session) -> None:
    result = await fresh.execute("yes & yes >&2 & sleep 1; kill %1 %2", language="shell", timeout=8)
    assert max(len(result.stdout.text), len(result.stderr.text)) <= LIMITS.output


async def test_a_long_traceback(fresh: Session) -> None:
    code = "class E(Exception):\n    def __str__(self): return 'line\\n' * 1_000_000\nraise E()"
    result = await fresh.execute(code)
    assert result.error is not None
    assert len(result.error.traceback) <= LIMITS.output
    assert len(result.error.message) <= 10_000


async def test_endless_recursion_and_crash(fresh: Session) -> None:
    result = await fresh.execute("def f(): f()\nf()")
    assert result.error is not None
    assert result.error.type == "RecursionError"
    result = await fresh.execute("import ctypes\nctypes.string_at(0)")
    assert result.status == "killed"


async def test_no_memory_image_is_given_to_the_host(fresh: Session) -> None:
    """The host's crash handler gets nothing: not by the limit as it is, nor by one that the attack sets."""
    code = """
import resource
outcome = []
for value in ((0, 0), (1, 1), (-1, -1)):
    try:
        resource.setrlimit(resource.RLIMIT_CORE, value); outcome.append(value)
    except (OSError, ValueError): pass
print(outcome); sys.stdout.flush()
child = os.fork()
if child == 0: time.sleep(60)
print(child)
time.sleep(1)
os.kill(child, 9)
"""
    result = await attack(fresh, code)
    assert result.stdout.text.startswith("[]\n"), result
    assert (await from_outside(fresh, "limits"))["Max core file size"] in ("1 1 bytes", "0 0 bytes")


async def test_processor_hogs_do_not_stop_the_server(sandbox: Sandbox, fresh: Session) -> None:
    code = "import os\nfor _ in range(4): os.fork()\nwhile True: pass"
    hog = asyncio.ensure_future(fresh.execute(code, timeout=4))
    other = await sandbox.open(SessionSpec())
    assert (await other.execute("1 + 1")).value == "2"
    await other.close()
    assert (await hog).status == "timeout"


async def test_many_short_hostile_sessions_leave_no_descriptor(sandbox: Sandbox) -> None:
    before = await descriptors()
    for _ in range(5):
        session = await sandbox.open(SessionSpec(limits=Limits(call_seconds=0.2)))
        await session.execute("import os\nwhile True: os.getpid()")
        await session.close()
    assert await descriptors() <= before
