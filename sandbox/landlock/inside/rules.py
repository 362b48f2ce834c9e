"""Landlock by system calls: which files a process and its children may use, no TCP, and signals only to themselves."""

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable

from sandbox.embedded.inside.linux import PR_SET_NO_NEW_PRIVS, prctl

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_DEVICES = 1 << 6 | 1 << 11
_MAKE_SOCKET, _TRUNCATE, _IOCTL_DEVICE = 1 << 9, 1 << 14, 1 << 15
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | _TRUNCATE | _IOCTL_DEVICE
_ALL = {3: (1 << 15) - 1, 5: (1 << 16) - 1}
_TCP, _SCOPES = 3, 3  # bind and connect; abstract unix sockets and signals

READ = READ_FILE | READ_DIR
RUN = READ | EXECUTE
DEVICE = READ_FILE | WRITE_FILE
OWN = ((1 << 15) - 1) & ~(_MAKE_DEVICES | _MAKE_SOCKET)
"""Everything in a folder of the session's own but device nodes and sockets."""

LEAST = 3
"""Linux 6.2. Before it, a file that may only be read could still be emptied (O_TRUNC)."""
SIGNALS = 6
"""Linux 6.12: signals are kept inside."""

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """Landlock's ABI here, 0 where there is none."""
    return max(0, int(_libc.syscall(_CREATE, None, ctypes.c_size_t(0), _VERSION)))


def absence() -> str:
    """Why `version` is 0."""
    if _libc.syscall(_CREATE, None, ctypes.c_size_t(0), _VERSION) >= 0:
        return "it is here"
    number = ctypes.get_errno()
    return {
        errno.ENOSYS: "this kernel has none, or a filter hides it",
        errno.EOPNOTSUPP: "this kernel was started without it (lsm=)",
        errno.EPERM: "a filter of system calls refuses it",
    }.get(number, os.strerror(number))


def restrict(rules: Iterable[tuple[int, int]]) -> None:
    """Allow what `rules` name, pairs of a descriptor and rights, and nothing else. Raises OSError."""
    abi = version()
    handled = _ALL[5] if abi >= 5 else _ALL[3]
    fields = [handled, *([_TCP] if abi >= 4 else []), *([_SCOPES] if abi >= SIGNALS else [])]
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = _check(_libc.syscall(_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0), "landlock_create_ruleset")
    try:
        for descriptor, rights in rules:
            rule = struct.pack("=Qi", rights & handled, descriptor)
            _check(_libc.syscall(_ADD, ruleset, _PATH_BENEATH, rule, 0), "landlock_add_rule")
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        _check(_libc.syscall(_RESTRICT, ruleset, 0), "landlock_restrict_self")
    finally:
        os.close(ruleset)


def opened(path: str, rights: int) -> tuple[int, int] | None:
    """A rule for what is at `path` now; None where nothing is."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        rights &= _OF_FILES
    return descriptor, rights


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
