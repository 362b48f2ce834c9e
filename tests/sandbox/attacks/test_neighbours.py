"""One session against another of the same server: nothing written in one is read in the other, none ends the other."""

import os
import platform
import secrets

import pytest

from sandbox.base import Session
from tests.sandbox.attacks.conftest import attack, from_outside

pytestmark = pytest.mark.anyio
MARK = f"canary-session-{secrets.token_hex(8)}"

PAIRS = {
    "working folder": ("open('/work/left', 'w').write(MARK)", "shows('/work')"),
    "temporary folder": ("open('/tmp/left', 'w').write(MARK)", "shows('/tmp')"),
    "shared memory": ("open('/dev/shm/left', 'w').write(MARK)", "shows('/dev/shm')"),
    "variables": ("left = MARK", "found(repr(globals()).encode())"),
    "environment": ("os.environ['LEFT'] = MARK", "found(repr(os.environ).encode())"),
    "modules": ("import json; json.left = MARK", "import json; print(getattr(json, 'left', ''))"),
    "open files": (
        "f = open('/work/o', 'w+'); f.write(MARK); f.flush()",
        "for p in glob.glob('/proc/*/fd/*'): show(p)",
    ),
    "memory files": (
        "f = os.memfd_create('left'); os.write(f, MARK.encode())",
        "for p in glob.glob('/proc/*/fd/*') + glob.glob('/proc/*/map_files/*'): show(p)",
    ),
    "command line": (
        "import subprocess; subprocess.Popen(['sh', '-c', 'sleep 30', MARK])",
        "for p in glob.glob('/proc/*/cmdline'): show(p)",
    ),
    "process name": (
        "ctypes.CDLL(None).prctl(15, MARK[-15:].encode(), 0, 0, 0)",
        "for p in glob.glob('/proc/*/comm'):\n    try:\n        if MARK_END in open(p).read(): print('LEAK')\n"
        "    except OSError: pass",
    ),
    "abstract socket": (
        "s = socket.socket(socket.AF_UNIX); s.bind('\\0left'); s.listen()",
        "try:\n    s = socket.socket(socket.AF_UNIX)\n    s.connect('\\0left'); print('LEAK')\nexcept OSError: pass",
    ),
    "loopback port": (
        "s = socket.create_server(('127.0.0.1', 4711))",
        "try:\n    socket.create_connection(('127.0.0.1', 4711), 1); print('LEAK')\nexcept OSError: pass",
    ),
    "memory of the process": (
        "held = MARK * 1000",
        "for p in glob.glob('/proc/[0-9]*'):\n    if p != f'/proc/{os.getpid()}': show(p + '/mem')",
    ),
    "host name": ("try: socket.sethostname(MARK[:20])\nexcept OSError: pass", "found(socket.gethostname().encode())"),
    "read-only folders": (
        "for d in ('/run', '/data', '/dev', '/usr/bin', '/etc', '/'):\n    try: open(d + '/left', 'w').write(MARK)\n"
        "    except OSError: pass",
        "for d in ('/run', '/data', '/dev', '/usr/bin', '/etc', '/'): show(d + '/left')",
    ),
    "random numbers": (
        "import random; random.seed(MARK)",
        "import random, hashlib; r = random.Random(MARK_END)\nif random.random() == r.random(): print('LEAK')",
    ),
}


@pytest.mark.parametrize("name", PAIRS)
async def test_nothing_is_shared(session: Session, fresh: Session, name: str) -> None:
    write, read = PAIRS[name]
    await attack(session, f"MARK = {MARK!r}\n{write}")
    result = await attack(fresh, f"MARK_END = {MARK[-15:]!r}\n{read}\nprint('tried')")
    assert result.stdout.text.endswith("tried\n"), result
    assert MARK not in result.stdout.text
    assert "LEAK" not in result.stdout.text


async def test_signals_do_not_reach_the_neighbour(session: Session, fresh: Session) -> None:
    await session.execute("alive = 1")
    code = f"""
own = os.getpid()
for pid in {{*range(2, 3000), *range(own - 300, own + 300), {os.getpid()}, {os.getppid()}}} - {{own}}:
    try: os.kill(pid, 9)
    except OSError: pass
"""
    await attack(fresh, code)
    assert (await session.execute("alive")).value == "1"


async def test_priorities_do_not_reach_the_neighbour(session: Session, fresh: Session) -> None:
    """Nor the server: all of a user's processes can be meant."""
    await session.execute("import os")
    before = (await session.execute("os.getpriority(os.PRIO_PROCESS, 0)")).value
    own = os.getpriority(os.PRIO_PROCESS, 0)
    code = f"""
for which in (0, 1, 2):
    for who in (0, os.getuid(), {os.getpid()}):
        try: os.setpriority(which, who, 19)
        except OSError: pass
"""
    await attack(fresh, code)
    assert (await session.execute("os.getpriority(os.PRIO_PROCESS, 0)")).value == before
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


_READING = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


async def test_no_privilege_is_left(fresh: Session) -> None:
    facts = await from_outside(fresh, "status")
    assert {int(facts[name], 16) & ~_READING for name in _SETS} == {0}
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
    assert "0" not in facts["Uid"].split() + facts["Gid"].split()


async def test_no_capability_is_left(fresh: Session) -> None:
    facts = await from_outside(fresh, "status")
    assert {int(facts[name], 16) for name in _SETS} == {0}


@pytest.mark.parametrize(
    "program", ["su -c id", "sudo -n id", "mount -t tmpfs x /work", "passwd -S", "newgrp root", "chsh -s /bin/sh"]
)
async def test_setuid_programs_give_nothing(session: Session, program: str) -> None:
    """They run as whoever called them, and what they would do as root fails."""
    result = await session.execute(f"{program} </dev/null", language="shell")
    assert "uid=0" not in result.stdout.text
    assert result.exit_code != 0 or program.startswith(("passwd", "newgrp"))
    assert (await session.execute("id -u; id -g", language="shell")).stdout.text.split().count("0") == 0


@pytest.mark.parametrize("name", ["int 0x80", "x32"])
async def test_other_call_tables_kill(session: Session, fresh: Session, name: str) -> None:
    """The child that tries is killed by SIGSYS (31); it would have got its number (getpid) instead."""
    if platform.machine() != "x86_64":
        pytest.skip("x86-64 only")
    machine_code = (
        "b'\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3'" if name == "int 0x80" else "b'\\xb8\\x27\\0\\0\\x40\\x0f\\x05\\xc3'"
    )
    code = f"""
import mmap
page = mmap.mmap(-1, 4096, prot=7); page.write({machine_code})
run = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
child = os.fork()
if child == 0:
    run(); os._exit(0)
print(os.waitpid(child, 0)[1] & 127)
"""
    assert (await attack(fresh, code)).stdout.text == "31\n"
