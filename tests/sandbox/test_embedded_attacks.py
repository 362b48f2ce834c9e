"""What agents' code may try against the embedded sandbox, and what then must hold."""

import ctypes
import os
import platform
from pathlib import Path

import pytest

from sandbox.base import SessionSpec
from sandbox.embedded.backend import EmbeddedSandbox
from sandbox.embedded.handle import EmbeddedSession
from sandbox.errors import SessionClosed
from tests.sandbox.conftest import LIMITS

pytestmark = pytest.mark.anyio
MIB = 1 << 20


async def value(session: EmbeddedSession, code: str) -> str | None:
    result = await session.execute(code)
    assert result.status == "ok", result
    return result.value


# ---- exhaustion


@pytest.mark.parametrize("processes", [1, 8])
async def test_memory_bomb(sandbox: EmbeddedSandbox, session: EmbeddedSession, processes: int) -> None:
    code = f"""
import os
children = []
for _ in range({processes - 1}):
    pid = os.fork()
    if pid == 0:
        break
blocks = []
for _ in range(128):
    blocks.append(bytearray(b"x") * (8 << 20))
"""
    result = await session.execute(code)
    assert result.status in ("memory", "killed", "error"), result
    if processes == 1:
        assert result.status == "memory"
    other = await sandbox.open(SessionSpec(limits=LIMITS))
    assert await value(other, "1 + 1") == "2"
    await other.close()


async def test_shared_memory_bomb(session: EmbeddedSession) -> None:
    """Memory that belongs to no process: anonymous shared pages and unlinked memory files count as well."""
    code = """
import os
for number in range(64):
    fd = os.memfd_create(str(number))
    for _ in range(2):
        os.write(fd, b"x" * (8 << 20))
"""
    result = await session.execute(code)
    assert result.status != "ok", result


async def test_fork_bomb_python(sandbox: EmbeddedSandbox, session: EmbeddedSession) -> None:
    code = "import os, time\ntry:\n    while True: os.fork()\nexcept OSError: time.sleep(30)"
    assert (await session.execute(code, timeout=3)).status in ("timeout", "killed", "memory")
    other = await sandbox.open(SessionSpec(limits=LIMITS))
    assert await value(other, "1 + 1") == "2"
    await other.close()


async def test_fork_bomb_shell(sandbox: EmbeddedSandbox, session: EmbeddedSession) -> None:
    await session.execute("f() { f | f & }; f; sleep 30", language="shell", timeout=3)
    other = await sandbox.open(SessionSpec(limits=LIMITS))
    result = await other.execute("echo fine", language="shell")
    assert result.stdout.text == "fine\n"
    await other.close()


async def test_disk_limit(session: EmbeddedSession) -> None:
    code = "open('big', 'wb').write(b'x' * (32 << 20))"
    assert (await session.execute(code)).status == "error"
    assert (await session.execute("rm -f big; echo 1 > small && cat small", language="shell")).stdout.text == "1\n"


async def test_inode_limit(session: EmbeddedSession) -> None:
    result = await session.execute("for n in range(1000): open(f'f{n}', 'w').close()")
    assert result.status == "error"
    assert (await session.execute("rm -f f*; echo 1", language="shell")).stdout.text == "1\n"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_output_flood(session: EmbeddedSession, stream: str) -> None:
    result = await session.execute(f"import sys\nwhile True: sys.{stream}.write('x' * 65536)")
    assert result.status in ("error", "timeout")
    assert len(result.stdout.text) <= LIMITS.output
    assert len(result.stderr.text) <= LIMITS.output


async def test_open_files_limit(session: EmbeddedSession) -> None:
    result = await session.execute("files = [open('/dev/null') for _ in range(5000)]")
    assert result.error is not None
    assert result.error.type == "OSError"


async def test_loop_deaf_to_signals(session: EmbeddedSession) -> None:
    code = (
        "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\nwhile True:\n    try:\n        while True: pass\n"
        "    except BaseException: pass"
    )
    assert (await session.execute(code, timeout=0.5)).status == "timeout"


async def test_kill_everyone(session: EmbeddedSession) -> None:
    assert (
        await session.execute("import os\ntry: os.kill(-1, 9)\nexcept OSError: pass\nos.kill(os.getpid(), 9)")
    ).status == "killed"
    with pytest.raises(SessionClosed):
        await session.execute("1")


async def test_closed_descriptors(session: EmbeddedSession) -> None:
    await session.execute("import os\nfor fd in range(256):\n    try: os.close(fd)\n    except OSError: pass")
    if not session.closed:
        assert (await session.execute("1 + 1")).value == "2"


# ---- what can be seen


async def test_no_network(session: EmbeddedSession) -> None:
    code = """
import socket
seen = []
for family, kind, address in (
    (socket.AF_INET, socket.SOCK_STREAM, ("192.0.2.1", 80)),
    (socket.AF_INET, socket.SOCK_DGRAM, ("192.0.2.1", 53)),
    (socket.AF_INET6, socket.SOCK_STREAM, ("2001:db8::1", 80)),
):
    try:
        with socket.socket(family, kind) as one:
            one.settimeout(2)
            one.connect(address)
        seen.append(address)
    except OSError:
        pass
for family, kind in ((socket.AF_INET, socket.SOCK_RAW), (socket.AF_PACKET, socket.SOCK_RAW), (16, 3)):
    try:
        socket.socket(family, kind).close()
        seen.append((family, kind))
    except OSError:
        pass
seen
"""
    assert await value(session, code) == "[]"


async def test_host_and_project_are_invisible(session: EmbeddedSession) -> None:
    project = Path(__file__).resolve().parents[2]
    code = f"""
import os, importlib.util
paths = [{str(project)!r}, {str(project / "tasks")!r}, "/root/.ssh", "/home", "/etc/shadow", "/etc/hostname", "/sys",
         "/var", "/boot", "/dev/mem", "/dev/kmsg", "/run/docker.sock", "/sys/fs/cgroup"]
names = ["sandbox", "tasks", "mcp_server", "agent", "med_copilot", "mcp", "pydantic", "pytest", "duckdb", "pip"]
([p for p in paths if os.path.exists(p) and not (os.path.isdir(p) and not os.listdir(p))],
 [n for n in names if importlib.util.find_spec(n)])
"""
    assert await value(session, code) == "([], [])"


async def test_project_files_are_nowhere(session: EmbeddedSession) -> None:
    command = (
        "find / \\( -name truth.sqlite -o -name catalog.sqlite -o -name med_copilot.py -o -name test_embedded.py "
        "-o -path '*/tasks/answers.py' -o -path '*/sandbox/base.py' \\) 2>/dev/null"
    )
    assert (await session.execute(command, language="shell")).stdout.text == ""


async def test_proc_shows_only_the_session(session: EmbeddedSession) -> None:
    code = """
import os
pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
other = [name for name in os.listdir("/proc") if not name.isdigit() and name not in ("self", "thread-self")]
def readable(path):
    try:
        return bool(open(path, "rb").read(1))
    except OSError:
        return False
(len(pids) <= 3, other, [p for p in ("environ", "mem", "maps", "cmdline") if readable(f"/proc/1/{p}")])
"""
    assert await value(session, code) == "(True, [], [])"


async def test_environment_is_clean(session: EmbeddedSession) -> None:
    os.environ["MED_COPILOT_TEST_SECRET"] = "s3cret"
    try:
        result = await session.execute("env; cat /proc/self/environ", language="shell")
    finally:
        del os.environ["MED_COPILOT_TEST_SECRET"]
    assert "s3cret" not in result.stdout.text
    assert "MED_COPILOT" not in result.stdout.text


async def test_no_foreign_descriptors(session: EmbeddedSession) -> None:
    code = """
import os
kinds = set()
for fd in os.listdir("/proc/self/fd"):
    try:
        kinds.add(os.readlink(f"/proc/self/fd/{fd}").split(":")[0])
    except OSError:
        pass
sorted(k for k in kinds if not k.startswith(("/work", "/dev/null", "/proc", "socket", "/tmp")))
"""
    assert await value(session, code) == "[]"


async def test_root_is_read_only(session: EmbeddedSession) -> None:
    code = """
import os
open_to = []
for folder, _, _ in os.walk("/"):
    if folder.startswith(("/proc", "/work", "/tmp", "/dev/shm")):
        continue
    if os.access(folder, os.W_OK):
        open_to.append(folder)
open_to
"""
    assert await value(session, code) == "[]"


async def test_no_privileges(session: EmbeddedSession) -> None:
    result = await session.execute("grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; id -u", language="shell")
    facts = dict(line.split(":\t") for line in result.stdout.text.splitlines() if ":" in line)
    assert {facts[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
    assert result.stdout.text.endswith("1000\n")


# ---- system calls

X86 = {
    "ptrace": 101, "process_vm_readv": 310, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161,
    "unshare": 272, "setns": 308, "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425, "perf_event_open": 298,
    "add_key": 248, "request_key": 249, "keyctl": 250, "init_module": 175, "kexec_load": 246, "reboot": 169,
    "swapon": 167, "open_by_handle_at": 304, "pidfd_getfd": 438, "fsopen": 430, "open_tree": 428, "move_mount": 429,
    "mount_setattr": 442, "clone3": 435, "setuid": 105, "quotactl": 179, "syslog": 103, "acct": 163,
}  # fmt: skip
ARM = {
    "ptrace": 117, "process_vm_readv": 270, "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "unshare": 97,
    "setns": 268, "bpf": 280, "userfaultfd": 282, "io_uring_setup": 425, "perf_event_open": 241, "add_key": 217,
    "request_key": 218, "keyctl": 219, "pidfd_getfd": 438, "open_tree": 428, "clone3": 435,
}  # fmt: skip
CALLS = ARM if platform.machine() == "aarch64" else X86
REFUSED = (1, 38)  # EPERM, ENOSYS


async def test_refused_calls(session: EmbeddedSession) -> None:
    code = f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
let_through = []
for name, number in {CALLS!r}.items():
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(0)] * 6)
    if result != -1 or ctypes.get_errno() not in {REFUSED!r}:
        let_through.append((name, result, ctypes.get_errno()))
let_through
"""
    assert await value(session, code) == "[]"


async def test_clone_cannot_make_namespaces(session: EmbeddedSession) -> None:
    number = 220 if platform.machine() == "aarch64" else 56
    code = f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
made = []
for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
    if libc.syscall(ctypes.c_long({number}), ctypes.c_long(flag | 17), 0, 0, 0, 0) != -1 or ctypes.get_errno() != 1:
        made.append(flag)
made
"""
    assert await value(session, code) == "[]"


async def test_devices_cannot_be_made(session: EmbeddedSession) -> None:
    code = "import os\nos.mknod('/work/sda', 0o60666, os.makedev(8, 0))"
    result = await session.execute(code)
    assert result.error is not None
    assert result.error.type == "PermissionError"


async def test_interpreter_survives_patched_builtins(session: EmbeddedSession) -> None:
    code = "import builtins, json, os\nbuiltins.len = None\njson.dumps = None\nos.write = None\nos.read = None"
    await session.execute(code)
    if not session.closed:
        assert (await session.execute("1 + 1")).value == "2"


# ---- forged frames


async def test_forged_replies_do_not_reach_the_caller_as_success(session: EmbeddedSession) -> None:
    code = r"""
import os, json
reply = json.dumps({"id": "x", "status": 7}).encode()
for fd in range(3, 1024):
    try:
        if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
            os.write(fd, b"\xff\xff\xff\xff" + reply)
    except OSError:
        pass
"""
    result = await session.execute(code)
    assert result.status == "killed"
    assert session.closed


def test_the_other_architectures_have_a_filter() -> None:
    from sandbox.embedded.inside import seccomp

    for machine in ("x86_64", "aarch64"):
        program = seccomp.build(machine)
        assert len(program) % 8 == 0
        assert len(program) // 8 < 4096
    assert ctypes.sizeof(ctypes.c_void_p) == 8


async def test_shared_mapping_bomb(session: EmbeddedSession) -> None:
    code = (
        "import mmap, time\nheld = [mmap.mmap(-1, 8 << 20) for _ in range(64)]\n"
        "for one in held:\n    one.write(b'x' * (8 << 20))\ntime.sleep(5)"
    )
    assert (await session.execute(code)).status == "memory"
