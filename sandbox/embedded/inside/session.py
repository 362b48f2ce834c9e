"""From a fork of the zygote to a session: namespaces, mounts, limits, no privileges, then the interpreter."""

import fcntl
import json
import os
import random
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from . import linux, ports, seccomp

Run = Callable[[int, dict[str, Any]], NoReturn]

USER = 1000
CHANNEL = 700
"""Descriptor of the protocol's socket."""
_FLAGS = linux.MS_NOSUID | linux.MS_NODEV
_ALL = (
    linux.CLONE_NEWUSER
    | linux.CLONE_NEWNS
    | linux.CLONE_NEWPID
    | linux.CLONE_NEWNET
    | linux.CLONE_NEWIPC
    | linux.CLONE_NEWUTS
)
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def become_session(spec: dict[str, Any], descriptors: list[int], program: bytes, run: Run) -> NoReturn:
    """Never returns: ends as the process that leads the session's process 1, or reports what failed."""
    channel = socket.socket(fileno=descriptors[0])
    try:
        for group in descriptors[1:]:
            os.write(group, b"0")
            os.close(group)
        _isolate(spec)
        ready, go = os.pipe()
        first = os.fork()
        if first == 0:
            os.close(go)
            os.read(ready, 1)  # until the pidfd has been handed over
            os.close(ready)
            _process_one(spec, channel, program, run)
        # This network is the session's, in which nothing of the agent's has run: the ports are still free.
        listeners = [ports.listen(port) for port in spec["ports"]]
        work = os.open("/work", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        socket.send_fds(channel, [b"ok"], [os.pidfd_open(first), work, *(one.fileno() for one in listeners)])
        os.close(go)
    except OSError as error:
        report(channel.fileno(), error)
    os._exit(0)


def report(channel: int, error: OSError) -> None:
    """Tell the server, on the session's socket, why there will be no session."""
    with suppress(OSError):
        os.write(channel, f"error: {error}".encode())


def _isolate(spec: dict[str, Any]) -> None:
    uid, gid = os.getuid(), os.getgid()
    linux.unshare(_ALL)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{USER} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{USER} {gid} 1")
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    if spec["source"] is not None:
        linux.bind_read_only(f"/run/sources/{spec['source']}", "/data")
    size = f"size={spec['disk']},nr_inodes={spec['inodes']}"
    linux.mount("tmpfs", "/run/sources", "tmpfs", _FLAGS, f"mode=700,{size}")
    for name, target in (("work", "/work"), ("tmp", "/tmp"), ("shm", "/dev/shm")):
        Path("/run/sources", name).mkdir(mode=0o700)
        linux.mount(f"/run/sources/{name}", target, None, linux.MS_BIND)
    # Covered once more, so that the three folders have one name each.
    linux.mount("tmpfs", "/run/sources", "tmpfs", _FLAGS | linux.MS_RDONLY, "mode=700,size=4k")
    socket.sethostname("sandbox")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH22x", b"lo", _IFF_UP)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


def _process_one(spec: dict[str, Any], channel: socket.socket, program: bytes, run: Run) -> NoReturn:
    """Process 1 only reaps. Nothing inside can signal it, and its memory and descriptors cannot be read."""
    linux.mount("proc", "/proc", "proc", _FLAGS | linux.MS_NOEXEC, "subset=pid,hidepid=2")
    # When the machine itself runs out of memory, a session goes before the server does.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
    second = os.fork()
    if second == 0:
        _process_two(spec, channel, program, run)
    channel.close()
    linux.drop_capabilities()
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    seccomp.install(program)
    while True:
        try:
            if os.wait()[0] == second:
                os._exit(0)
        except ChildProcessError:
            os._exit(0)


def _process_two(spec: dict[str, Any], channel: socket.socket, program: bytes, run: Run) -> NoReturn:
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    # Above the session's own limit of open files, where code that closes all it can does not reach.
    keep = fcntl.fcntl(channel.fileno(), fcntl.F_DUPFD_CLOEXEC, CHANNEL)
    os.closerange(3, keep)
    os.closerange(keep + 1, CHANNEL + 300)
    limit(spec)
    os.umask(0o022)
    random.seed(spec["seed"])
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(spec["seed"] % (1 << 32))
    linux.drop_capabilities()
    seccomp.install(program)
    run(keep, json.loads(spec["options"]))


def limit(spec: dict[str, Any]) -> None:
    linux.refuse_core_dumps()
    for limit, value in (
        (resource.RLIMIT_NPROC, spec["processes"]),
        (resource.RLIMIT_NOFILE, spec["open_files"]),
        (resource.RLIMIT_FSIZE, spec["disk"]),
        (resource.RLIMIT_CPU, int(spec["cpu_seconds"]) + 1),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_SIGPENDING, 1024),
    ):
        # An operator's hard limit may be lower still, and cannot be raised.
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
