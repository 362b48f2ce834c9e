"""The seccomp filter that stands before the embedded backend's allow list, where no namespace keeps sessions apart.

Of two filters the stricter answer counts, so this one only takes away: sockets, signals and settings of other
processes, and (where the session has the server's own user) what Landlock does not look at: the mode and the times of
files. Those calls, leaving the session's process group (by which it is killed), and signals to the whole group do
nothing and report success: `timeout` and the `shutil.copy` of Python would else fail. Stdlib only.
"""

import struct

from sandbox.embedded.inside.seccomp import numbers

_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_KILL, _ALLOW, _ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
_EPERM = 1
_LOAD, _EQUAL, _AND, _RETURN = 0x20, 0x15, 0x54, 0x06
_SOCKETPAIR = {"x86_64": 53, "aarch64": 199}
_REFUSED = (
    "socket", "connect", "bind", "listen", "accept", "accept4", "inotify_init", "inotify_init1", "inotify_add_watch",
)  # fmt: skip
_SIGNALS = ("kill", "tkill", "tgkill", "pidfd_send_signal")
_OF_SELF = {
    "prlimit64": (0,), "sched_setaffinity": (0,), "sched_setparam": (0,), "sched_setattr": (0,), "setpriority": (0, 1),
}  # fmt: skip
"""Calls that set something of processes, and the arguments that must be 0 for that to be the caller alone."""
_GROUP = ("setsid", "setpgid")
_MODE, _TIMES = ("chmod", "fchmod", "fchmodat", "fchmodat2"), ("utime", "utimes", "utimensat")


def build(machine: str, *, own_user: bool, signals: bool, times: bool) -> bytes:
    """The program (struct sock_filter[]). `own_user`: no other process has the session's user.

    `signals` and `times` tell whether signals to processes and changes of file times are let through.
    """
    table = numbers(machine)
    refused = [*_REFUSED, *(() if signals else _SIGNALS)]
    ignored = [*(() if own_user else (*_GROUP, *_MODE)), *(() if times else _TIMES)]
    refuse = _one(_RETURN, _ERRNO | _EPERM)
    program = [
        _one(_LOAD, 4),
        _one(_EQUAL, _ARCH[machine], 1, 0),
        _one(_RETURN, _KILL),
        _one(_LOAD, 0),
        # Only streams and sequenced packets: a datagram socket of a pair can be pointed at the host's.
        _one(_EQUAL, _SOCKETPAIR[machine], 0, 8),
        _one(_LOAD, 16),
        _one(_EQUAL, 1, 0, 5),
        _one(_LOAD, 24),
        _one(_AND, 0xF),
        _one(_EQUAL, 1, 1, 0),
        _one(_EQUAL, 5, 0, 1),
        _one(_RETURN, _ALLOW),
        _one(_RETURN, _ERRNO | _EPERM),
    ]
    for name, arguments in _OF_SELF.items():
        checks = [part for one in arguments for part in (_one(_LOAD, 16 + 8 * one), _one(_EQUAL, 0, 1, 0), refuse)]
        program += [_one(_EQUAL, table[name], 0, len(checks) + 1), *checks, _one(_RETURN, _ALLOW)]
    if not own_user:
        kill = table["kill"]
        program += [_one(_EQUAL, kill, 0, 4), _one(_LOAD, 16), _one(_EQUAL, 0, 0, 1), _one(_RETURN, _ERRNO)]
        program.append(_one(_LOAD, 0))
    for names, answer in ((refused, _ERRNO | _EPERM), (ignored, _ERRNO)):
        for name in names:
            if name in table:
                program += [_one(_EQUAL, table[name], 0, 1), _one(_RETURN, answer)]
    program.append(_one(_RETURN, _ALLOW))
    return b"".join(program)


def _one(code: int, constant: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, constant)
