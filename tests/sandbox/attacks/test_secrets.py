"""Reading what is not the session's: files, memory, environment, services, other sources. No canary may come out."""

import os
import platform

import pytest

from sandbox.base import Session
from tests.sandbox.attacks.conftest import attack, canaries
from tests.sandbox.attacks.world import PROJECT, World

pytestmark = pytest.mark.anyio
X86 = {
    "ptrace": 101, "process_vm_readv": 310, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161,
    "unshare": 272, "setns": 308, "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425, "perf_event_open": 298,
    "add_key": 248, "request_key": 249, "keyctl": 250, "init_module": 175, "kexec_load": 246, "reboot": 169,
    "swapon": 167, "open_by_handle_at": 304, "name_to_handle_at": 303, "pidfd_getfd": 438, "fsopen": 430,
    "open_tree": 428, "move_mount": 429, "mount_setattr": 442, "clone3": 435, "setuid": 105, "quotactl": 179,
    "syslog": 103, "acct": 163, "kcmp": 312, "process_vm_writev": 311, "shmget": 29, "mq_open": 240, "msgget": 68,
    "iopl": 172, "settimeofday": 164, "sethostname": 170, "fanotify_init": 300, "lookup_dcookie": 212,
    "personality": 135, "vmsplice": 278, "clone": 56, "setdomainname": 171, "modify_ldt": 154, "chown": 92,
}  # fmt: skip
ARM = {
    "ptrace": 117, "process_vm_readv": 270, "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "unshare": 97,
    "setns": 268, "bpf": 280, "userfaultfd": 282, "io_uring_setup": 425, "perf_event_open": 241, "add_key": 217,
    "request_key": 218, "keyctl": 219, "pidfd_getfd": 438, "open_tree": 428, "clone3": 435, "open_by_handle_at": 265,
    "name_to_handle_at": 264, "kcmp": 272, "process_vm_writev": 271, "shmget": 194, "mq_open": 180, "msgget": 186,
    "fsopen": 430, "move_mount": 429, "clone": 220, "fanotify_init": 262, "personality": 92,
}  # fmt: skip
CALLS = ARM if platform.machine() == "aarch64" else X86

LOOTING = {
    "host file by its path": "show(SECRET); shows(os.path.dirname(SECRET))",
    "host file through dots": "show('/data/' + '../' * 40 + SECRET); show('/work/' + '../' * 40 + SECRET)",
    "host root of process 1": "show('/proc/1/root' + SECRET); shows('/proc/1/cwd/')",
    "host root of any process": "for p in glob.glob('/proc/[0-9]*/root'): show(p + SECRET)",
    "open files of any process": "for p in glob.glob('/proc/*/fd/*') + glob.glob('/proc/*/task/*/fd/*'): show(p)",
    "inherited descriptors": """
for fd in range(3, 1100):
    for read in (lambda: os.pread(fd, 1 << 20, 0), lambda: '\\n'.join(os.listdir(fd)).encode()):
        try: found(read())
        except OSError: pass
    try:
        inner = os.open(SECRET.lstrip('/'), os.O_RDONLY, dir_fd=fd)
        found(os.read(inner, 4096))
    except OSError: pass
""",
    "folder kept open over chroot": """
top = os.open('/' if content('/') else '/work', os.O_RDONLY)
call(N['chroot'], b'/work')
os.fchdir(top)
for _ in range(40): os.chdir('..')
show(SECRET.lstrip('/'))
os.chdir('/work')
""",
    "file handle": """
for fd in range(64):
    handle = struct.pack('=Ii', 8, 1) + struct.pack('=II', 2 + fd, 0)
    got, _ = call(N['open_by_handle_at'], -100, handle, 0)
    if got >= 0: shows(f'/proc/self/fd/{got}')
""",
    "other sources by path": "shows('/run'); shows('/run/sources'); show(TRUTH)",
    "other sources below the cover": "call(N['umount2'], b'/run/sources', 2); call(N['umount2'], b'/data', 2); "
    "shows('/run/sources'); shows('/data/..', 200)",
    "truth by its name": "os.system('find / -xdev -name \"truth*\" -type f -exec cat {} + 2>/dev/null')",
    "symlink to a host file": "os.path.lexists('l') or os.symlink(SECRET, 'l'); show('l')",
    "bind mount of the root": "os.makedirs('m', exist_ok=True); "
    "call(N['mount'], b'/proc/1/root', b'/work/m', 0, 4096); shows('m', 500)",
    "mount of the disk": "os.makedirs('m', exist_ok=True)\nfor dev in (b'/dev/vda', b'/dev/sda', b'/dev/nvme0n1'):\n"
    "    call(N['mount'], dev, b'/work/m', b'ext4', 1)\nshows('m', 500)",
    "new mount interface": "fd, _ = call(N['open_tree'], -100, b'/', 1)\nif fd >= 0: shows(f'/proc/self/fd/{fd}')",
    "disk by its number": "try: os.mknod('disk', 0o60600, os.makedev(254, 0))\nexcept OSError: pass\nshow('disk')",
    "raw memory devices": "for p in ('/dev/mem', '/dev/kmem', '/proc/kcore', '/dev/kmsg', '/dev/port'): show(p)",
    "kernel log": "room = ctypes.create_string_buffer(1 << 20); n, _ = call(N.get('syslog', 116), 3, room, 1 << 20)\n"
    "print('LEAK' if n > 0 else '')",
    "environment": "show('/proc/self/environ'); found(repr(dict(os.environ)).encode())\n"
    "for p in glob.glob('/proc/*/environ'): show(p)\nos.system('env')",
    "command lines": "for p in glob.glob('/proc/*/cmdline') + glob.glob('/proc/*/comm'): show(p)",
    "memory of other processes": """
for p in glob.glob('/proc/[0-9]*'):
    try:
        for line in open(p + '/maps'):
            low, high = (int(x, 16) for x in line.split()[0].split('-'))
            if 'rw' in line and high - low < 64 << 20:
                with open(p + '/mem', 'rb', 0) as memory:
                    memory.seek(low); found(memory.read(high - low))
    except (OSError, ValueError, OverflowError): pass
""",
    "ptrace": "for pid in (1, os.getppid(), SUPERVISOR):\n    got, why = call(N['ptrace'], 16, pid)\n"
    "    print('LEAK' if got == 0 else '')",
    "process_vm_readv": """
buffer = ctypes.create_string_buffer(4096)
local = struct.pack('=QQ', ctypes.addressof(buffer), 4096)
for pid in (1, os.getppid(), SUPERVISOR):
    remote = struct.pack('=QQ', id(libc), 4096)
    got, _ = call(N['process_vm_readv'], pid, local, 1, remote, 1)
    print('LEAK' if got > 0 else '')
""",
    "descriptors of process 1": """
handle = os.pidfd_open(1)
for fd in range(16):
    got, _ = call(N['pidfd_getfd'], handle, fd)
    if got >= 0: print('LEAK')
""",
    "namespaces of process 1": "for p in glob.glob('/proc/1/ns/*') + glob.glob(f'/proc/{os.getppid()}/ns/*'):\n"
    "    try:\n        if call(N['setns'], os.open(p, os.O_RDONLY))[0] == 0: print('LEAK')\n    except OSError: pass\n"
    "show(SECRET)",
    "host over TCP": "for a in ('127.0.0.1', '10.0.2.2', '172.17.0.1', '169.254.169.254'):\n    try: "
    "found(socket.create_connection((a, TCP), 1).recv(99))\n    except OSError: pass",
    "host over IPv6": "try: found(socket.create_connection(('::ffff:127.0.0.1', TCP), 1).recv(99))\n"
    "except OSError: pass",
    "host over UDP": "try:\n    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.5)\n"
    "    s.sendto(b'x', ('127.0.0.1', UDP)); found(s.recv(99))\nexcept OSError: pass",
    "names by DNS": "try: print('LEAK', socket.getaddrinfo('example.org', 80))\nexcept OSError: pass",
    "host socket by path": "try:\n    s = socket.socket(socket.AF_UNIX)\n    s.connect(SOCKET); found(s.recv(99))\n"
    "except OSError: pass",
    "host socket by abstract name": "try:\n    s = socket.socket(socket.AF_UNIX)\n    s.connect('\\0' + ABSTRACT); "
    "found(s.recv(99))\nexcept OSError: pass",
    "engine sockets": """
for p in ('/var/run/docker.sock', '/run/docker.sock', '/run/containerd/containerd.sock', '/run/systemd/private',
          '/run/dbus/system_bus_socket'):
    try:
        s = socket.socket(socket.AF_UNIX)
        s.connect(p); print('LEAK', p)
    except OSError: pass
""",
    "raw and packet sockets": "for f, t in ((2, 3), (17, 3), (17, 2), (10, 3), (16, 3), (40, 1), (38, 5), (31, 3)):\n"
    "    try:\n        socket.socket(f, t); print('LEAK', f, t)\n    except OSError: pass",
    "protocols that load modules": "for t, p in ((1, 132), (2, 136), (6, 33), (1, 262), (2, 1), (2, 115)):\n"
    "    try:\n        socket.socket(2, t, p); print('LEAK', t, p)\n    except OSError: pass",
    "families by socketpair": "for f in (16, 17, 30, 31, 38, 40):\n    try: socket.socketpair(f, 1)\n"
    "    except OSError as e:\n        if e.errno != errno.EPERM: print('LEAK', f, e.errno)",
    "shared memory files": "shows('/dev/shm'); show(SHM)",
    "host temporary files": "shows('/tmp', 500); show(TMP)",
    "System V shared memory": "for key in range(64):\n    if call(N['shmget'], key, 0, 0)[0] >= 0: print('LEAK')",
    "message queues": "if call(N['mq_open'], b'x', 66, 384, 0)[0] >= 0 or call(N['msgget'], 1, 950)[0] >= 0: "
    "print('LEAK')",
    "keyring": """
for ring in (-1, -2, -3, -4, -5):
    key, _ = call(N['keyctl'], 10, ring, b'user', b'med-copilot', 0)
    if key > 0:
        buffer = ctypes.create_string_buffer(4096); call(N['keyctl'], 11, key, buffer, 4096); found(buffer.raw)
if call(N['request_key'], b'user', b'med-copilot', 0, 0)[0] >= 0: print('LEAK')
if call(N['add_key'], b'user', b'k', b'v', 1, -3)[0] >= 0: print('LEAK')
show('/proc/keys')
""",
    "io_uring": "if call(N['io_uring_setup'], 8, ctypes.create_string_buffer(256))[0] >= 0: print('LEAK')",
    "bpf": "if call(N['bpf'], 0, ctypes.create_string_buffer(128), 128)[1] != errno.EPERM: print('LEAK')",
    "perf events": "if call(N['perf_event_open'], ctypes.create_string_buffer(128), 0, -1, -1)[0] >= 0: print('LEAK')",
    "userfaultfd": "if call(N['userfaultfd'], 1)[0] >= 0: print('LEAK')",
    "the network beyond": """
for f, t, a in ((2, 1, ('192.0.2.1', 80)), (2, 2, ('192.0.2.1', 53)), (10, 1, ('2001:db8::1', 80))):
    try:
        s = socket.socket(f, t); s.settimeout(1)
        s.connect(a); print('LEAK', a)
    except OSError: pass
""",
    "kernel configuration": """
for p in ('/proc/sys/kernel/core_pattern', '/proc/kallsyms', '/proc/config.gz', '/proc/cmdline', '/proc/modules',
          '/proc/version', '/proc/keys', '/sys/fs/cgroup', '/sys/class', '/sys/devices', '/sys/firmware', '/boot'):
    if content(p): print('LEAK', p)
for p in ('/proc/sysrq-trigger', '/proc/sys/kernel/core_pattern', '/sys/kernel/uevent_helper'):
    try:
        if not os.path.samefile(p, '/dev/null'): os.close(os.open(p, os.O_WRONLY)); print('LEAK', p)
    except OSError: pass
""",
    "load of the machine": """
for p in ('stat', 'loadavg', 'meminfo', 'uptime', 'locks', 'diskstats', 'interrupts', 'cpuinfo', 'pressure'):
    if content('/proc/' + p): print('LEAK', p)
""",
    "processes of the host": "for p in glob.glob('/proc/*/cmdline') + glob.glob('/proc/*/comm'):\n"
    "    if b'pytest' in content(p): print('LEAK', p)",
    "name of the host": "if HOST in (os.uname().nodename, socket.gethostname()): print('LEAK')\n"
    "for p in ('/etc/hostname', '/etc/hosts', '/proc/sys/kernel/hostname'):\n"
    "    if HOST.encode() in content(p): print('LEAK', p)",
    "existence of a host folder": "if libc.access(PROJECT.encode(), 0) == 0: print('LEAK')",
    "paths of the machine": """
os.chdir('/work')
libc.realpath.restype = ctypes.c_char_p
for text in (content('/proc/self/mountinfo', 1 << 20), libc.realpath(b'../data/a.txt', None)):
    if FOLDER.encode() in text: print('LEAK')
""",
    "our own files": "for p in (PROJECT, PROJECT + '/tasks', PROJECT + '/tests', PROJECT + '/.git'):\n"
    "    if os.path.isdir(p) and 'answers.py' in str(list(os.walk(p))): print('LEAK', p)\n"
    "os.system(\"find / -name 'med_copilot*' -o -path '*/tasks/answers.py' -o -path '*/attacks/world.py'\"\n"
    "          \" 2>/dev/null | sed s/^/LEAK/\")",
    "our own modules": "import importlib.util\nfor n in ('sandbox', 'tasks', 'mcp_server', 'agent', 'med_copilot',\n"
    "    'mcp',"
    "          'pydantic', 'pytest', 'duckdb', '__editable___med_copilot_finder'):\n"
    "    if importlib.util.find_spec(n): print('LEAK', n)",
    "text of our own code": """
for line in open('/proc/self/maps'):
    low, high = (int(x, 16) for x in line.split()[0].split('-'))
    if 'rw' in line and line.split()[4] == '0' and high - low < 64 << 20:
        data = ctypes.string_at(low, high - low)
        for first, second in TEXTS:
            at = data.find(first)
            while at >= 0:
                if data[at + len(first):at + len(first) + len(second)] == second: print('LEAK', first)
                at = data.find(first, at + 1)
""",
    "accounts and keys of the host": """
for p in ('/etc/shadow', '/etc/hostname', '/etc/resolv.conf', '/etc/machine-id', '/etc/ssh', '/root/.ssh', '/home',
          '/var/log', '/root/.bash_history'):
    if content(p): print('LEAK', p)
""",
}  # fmt: skip


OURS = (
    "sandbox/docker_engine/keeper.py",
    "sandbox/embedded/backend.py",
    "sandbox/landlock/backend.py",
    "tasks/answers.py",
)


def text_of(name: str) -> tuple[bytes, bytes]:
    """A line of one of our files in two parts, so that it stands nowhere in the attack itself."""
    line = PROJECT.joinpath(name).read_bytes().splitlines()[0]
    return line[3:30], line[30:60]


async def loot(session: Session, world: World, code: str) -> None:
    given = {
        "SECRET": str(world.secret), "TRUTH": str(world.sources["b"] / "truth.sqlite"), "TCP": world.tcp,
        "UDP": world.udp, "SOCKET": str(world.path), "ABSTRACT": world.abstract, "SHM": str(world.shm),
        "TMP": str(world.tmp), "PROJECT": str(PROJECT), "SUPERVISOR": os.getpid(), "N": CALLS,
        "HOST": platform.node(), "FOLDER": str(world.folder), "TEXTS": [text_of(name) for name in OURS],
    }  # fmt: skip
    names = "\n".join(f"{name} = {value!r}" for name, value in given.items())
    result = await attack(session, f"{names}\n{code}\nprint('tried')")
    assert result.stdout.text.endswith("tried\n"), result
    assert "LEAK" not in result.stdout.text, result.stdout.text
    assert not canaries(result) & set(world.canaries.values()), result.stdout.text


@pytest.mark.parametrize("name", LOOTING)
async def test_looting(session: Session, world: World, name: str) -> None:
    await loot(session, world, LOOTING[name])


async def test_the_existence_of_a_process(session: Session) -> None:
    if os.getpid() < 200:
        pytest.skip("a process of the session may have the same number")
    code = f"try: os.kill({os.getpid()}, 0)\nexcept OSError as e: print(e.errno == errno.ESRCH)"
    assert (await attack(session, code)).stdout.text == "True\n"


async def test_descriptors_lead_nowhere(fresh: Session) -> None:
    """To the session's own files, its ends of sockets and pipes, and nothing else."""
    code = "for fd in os.listdir('/proc/self/fd'):\n    try: print(os.readlink('/proc/self/fd/' + fd))\n"
    result = await attack(fresh, code + "    except OSError: pass")
    own = ("/work", "/tmp", "/dev/null", "/proc", "socket:", "pipe:")
    assert [line for line in result.stdout.text.splitlines() if not line.startswith(own)] == []


async def test_the_canaries_can_be_seen(session: Session, world: World) -> None:
    """The control: what a session may read is found by the same means."""
    assert canaries(await attack(session, "show('/data/a.txt')")) == {world.public}


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"clone", "clone3"}))
async def test_refused_call(session: Session, name: str) -> None:
    result = await attack(session, f"print(call({CALLS[name]}))")
    assert result.stdout.text in ("(-1, 1)\n", "(-1, 38)\n"), result.stdout.text


async def test_clone_makes_no_namespace(session: Session) -> None:
    code = f"""
for flag in (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
    if call({CALLS["clone"]}, flag | 17) != (-1, errno.EPERM): print("LEAK", flag)
if call({CALLS["clone3"]}, struct.pack("=11Q", 0x10000000, *[0] * 10), 88) != (-1, errno.ENOSYS): print("LEAK")
"""
    assert "LEAK" not in (await attack(session, code)).stdout.text
