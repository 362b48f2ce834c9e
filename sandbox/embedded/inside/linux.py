"""The system calls that Python does not offer, by ctypes. Stdlib only: the launcher and the zygote load this file."""

import ctypes
import os
import resource
import struct
from collections.abc import Iterator
from contextlib import contextmanager

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_NOATIME, MS_NODIRATIME, MS_BIND, MS_REC, MS_PRIVATE, MS_RELATIME = 1024, 2048, 4096, 16384, 1 << 18, 1 << 21
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 1, 4, 24, 38, 22
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_OPENAT2, _MOUNT_SETATTR, _AT_RECURSIVE = 437, 442, 0x8000
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_CAPSET = {"x86_64": 126, "aarch64": 91}
# From the flags of statvfs(3), by number: this file is also loaded, though not used, where they have no names.
_KEPT = {2: MS_NOSUID, 4: MS_NODEV, 8: MS_NOEXEC, 1024: MS_NOATIME, 2048: MS_NODIRATIME, 4096: MS_RELATIME}

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def mount(source: str | None, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    encoded = [text.encode() if text is not None else None for text in (source, target, kind)]
    options = data.encode() if data is not None else None
    _check(_libc.mount(*encoded, ctypes.c_ulong(flags), options), f"mount {target}")


def bind_read_only(source: str, target: str, flags: int = MS_NOSUID | MS_NODEV) -> None:
    """Bind `source` at `target`, read-only. Flags that the source's mount has cannot be cleared and are kept."""
    mount(source, target, None, MS_BIND | MS_REC)
    has = os.statvfs(target).f_flag
    kept = sum(flag for seen, flag in _KEPT.items() if has & seen)
    mount(None, target, None, MS_BIND | MS_REMOUNT | MS_RDONLY | flags | kept)
    # What is mounted below came along with its own flags. MS_RDONLY, NOSUID and NODEV equal MOUNT_ATTR_*.
    attributes = struct.pack("=QQQQ", MS_RDONLY | flags, 0, 0, 0)
    result = _libc.syscall(_MOUNT_SETATTR, -100, os.fsencode(target), _AT_RECURSIVE, attributes, len(attributes))
    _check(result, f"mount_setattr (Linux 5.12 or later) {target}")


def pivot_into(root: str) -> None:
    """Make `root` the root folder; the old one is gone from the tree."""
    os.chdir(root)
    _check(_libc.syscall(_PIVOT_ROOT[os.uname().machine], b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", MNT_DETACH), "umount2")
    os.chdir("/")


def prctl(option: int, argument: int = 0, second: object = 0) -> None:
    last = second if not isinstance(second, int) else ctypes.c_ulong(second)
    _check(_libc.prctl(option, ctypes.c_ulong(argument), last, ctypes.c_ulong(0), ctypes.c_ulong(0)), f"prctl {option}")


def drop_capabilities() -> None:
    """Give up every capability for good: bounding, ambient, permitted, effective, inheritable."""
    for number in range(64):
        try:
            prctl(PR_CAPBSET_DROP, number)
        except OSError:
            break
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header = struct.pack("=Ii", 0x20080522, 0)
    _check(_libc.syscall(_CAPSET[os.uname().machine], header, bytes(24)), "capset")


def refuse_core_dumps() -> None:
    """Keep this process and its children from leaving their memory to the host's crash handler.

    A limit of 0 does not: it concerns files, not the program that the host may have named for crashes. 1 does
    (core(5)), but needs a hard limit that is not 0, or root.
    """
    for value in (1, 0):
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (value, value))
            return
        except (OSError, ValueError):
            continue


def openat2(folder: int, path: str, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """Open below `folder`; `resolve` are the RESOLVE_* flags of openat2(2)."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve)
    return _check(_libc.syscall(_OPENAT2, folder, os.fsencode(path), how, len(how)), f"open {path}")


@contextmanager
def owner_of(folder: int) -> Iterator[None]:
    """This thread acts on files as the owner of `folder` does: a root that a user namespace does not know cannot."""
    owner = os.fstat(folder)
    if os.geteuid():
        yield
        return
    _libc.setfsgid(owner.st_gid)
    _libc.setfsuid(owner.st_uid)
    try:
        yield
    finally:
        _libc.setfsuid(0)
        _libc.setfsgid(os.getegid())
