"""Builds the read-only root of all sessions, enters it, and starts the zygote there.

Started by the supervisor in an isolated interpreter with one end of a control socket, from which it reads its plan
(see sandbox.embedded.plan). Works as root, which is given up for an unprivileged user before the zygote
starts, and as an ordinary user, by a user namespace.

The root is a tmpfs that holds nothing but binds of what sessions may read. The plan's sources appear below
/run/sources, which each session covers.
"""

import json
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import linux
from .linux import CLONE_NEWIPC, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWUTS

NOBODY = 65534
_ZYGOTE = "import sys; sys.path.insert(0, '/run/sandbox'); from inside.zygote import main; main()"
DEVICES = ("null", "zero", "full", "random", "urandom")


def main() -> None:
    """The one argument is the number of the control socket's descriptor."""
    control = socket.socket(fileno=int(sys.argv[-1]))
    message, groups, _, _ = socket.recv_fds(control, 1 << 20, 4)
    plan = json.loads(message)
    root = Path(plan["root"])
    beside = os.open(root.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _enter_namespaces()
        _build_root(plan)
        linux.pivot_into(plan["root"])
        os.rmdir(root.name, dir_fd=beside)
        os.close(beside)
        child = os.fork()
    except OSError as error:
        control.send(json.dumps({"error": str(error)}).encode())
        os._exit(1)
    if child:
        control.close()
        _clear_up(child, groups, plan["cgroup"])
        os._exit(0)
    for group in groups:
        os.close(group)
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    linux.refuse_core_dumps()
    if os.getuid() == 0 and plan["drop"]:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    os.set_inheritable(control.fileno(), True)
    zygote = json.dumps(plan["zygote"])
    arguments = [plan["python"], "-S", "-B", "-c", _ZYGOTE, str(control.fileno()), zygote]
    os.execve(plan["python"], arguments, plan["environment"])


def _clear_up(zygote: int, groups: list[int], name: str) -> None:
    """When the zygote has ended, and with it every session, remove the control groups: the server may be gone."""
    os.waitpid(zygote, 0)
    for _ in range(200):
        left = False
        for group in groups:
            try:
                own = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=group)
            except OSError:
                continue
            for child in os.listdir(own):  # noqa: PTH208
                with suppress(OSError):
                    os.rmdir(child, dir_fd=own)
            os.close(own)
            try:
                os.rmdir(name, dir_fd=group)
            except OSError:
                left = True
        if not left:
            return
        time.sleep(0.02)


def _enter_namespaces() -> None:
    uid, gid = os.getuid(), os.getgid()
    if uid:
        linux.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS)
        map_ids(uid, gid, uid, gid)
    else:
        linux.unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS)
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)


def map_ids(inside: int, inside_group: int, outside: int, outside_group: int) -> None:
    """Map one user and one group into the user namespace just entered."""
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{inside} {outside} 1")
    Path("/proc/self/gid_map").write_text(f"{inside_group} {outside_group} 1")


def _build_root(plan: dict[str, Any]) -> None:
    root = plan["root"]
    linux.mount("tmpfs", root, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755,size=4m,nr_inodes=8k")
    for folder in ("proc", "data", "work", "tmp", "dev/shm", "run/sources", "etc"):
        Path(root, folder).mkdir(parents=True)
    for link, target in plan["links"]:
        path = Path(root, link.lstrip("/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    for path, text in plan["files"].items():
        Path(root, path.lstrip("/")).write_text(text)
    for source, target in plan["binds"]:
        _bind(source, root + target)
    for path in plan["covers"]:
        # What must not be seen below a bound folder (site-packages) is covered, by an empty folder.
        if Path(root + path).is_dir():
            linux.mount("tmpfs", root + path, "tmpfs", linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV, "size=4k")
    for source, target in plan["late_binds"]:
        _bind(source, root + target)
    for device in DEVICES:
        target = f"{root}/dev/{device}"
        Path(target).touch()
        linux.mount(f"/dev/{device}", target, None, linux.MS_BIND)
    linux.mount("/proc", f"{root}/proc", None, linux.MS_BIND | linux.MS_REC)
    linux.mount(None, root, None, linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV)


def _bind(source: str, target: str) -> None:
    path = Path(target)
    if Path(source).is_dir():
        path.mkdir(parents=True, exist_ok=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    linux.bind_read_only(source, target)
