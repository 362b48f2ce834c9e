"""Runs a command on this machine as a default container would: no user namespace, no mount, by a seccomp filter.

As a script: `python tests/sandbox/blocked.py USER LANDLOCK COMMAND...`. USER is a number; root keeps what a default
container leaves it. LANDLOCK is "allowed", or the name of the error that asking for it gives.
"""

import errno
import os
import struct
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CAPABILITIES = 0xA80425FB
"""Those of root in a default Docker container, as a mask."""
_NAMESPACES = 0x7E020080
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_LOAD, _EQUAL, _MASKED, _RETURN = 0x20, 0x15, 0x45, 0x06
_CLONE3, _LANDLOCK_CREATE, _MOUNT_SETATTR = 435, 444, 442
_CLONE = {"x86_64": 56, "aarch64": 220}
_OTHERS = {"x86_64": (155, 165, 272, 308), "aarch64": (41, 40, 97, 268)}
"""pivot_root, mount, unshare, setns."""


def blocked(*command: str, user: int | None = None, landlock: str = "allowed") -> list[str]:
    """The command line that runs `command` so; `user` is by default the caller's."""
    identity = str(os.getuid() if user is None else user)
    return [sys.executable, str(Path(__file__).resolve()), identity, landlock, *command]


def run_blocked(*arguments: str, landlock: str = "allowed", timeout: float = 120) -> "subprocess.CompletedProcess[str]":
    """Run this Python with `arguments` so."""
    return subprocess.run(
        blocked(sys.executable, *arguments, landlock=landlock),
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
    )


def _filter(machine: str, landlock: str) -> bytes:
    program = [_one(_LOAD, 0), _one(_EQUAL, _CLONE3, 0, 1), _one(_RETURN, _ERRNO | errno.ENOSYS)]
    program += [_one(_EQUAL, _CLONE[machine], 0, 4), _one(_LOAD, 16), _one(_MASKED, _NAMESPACES, 0, 1)]
    program += [_one(_RETURN, _ERRNO | errno.EPERM), _one(_RETURN, _ALLOW)]
    answers = dict.fromkeys((*_OTHERS[machine], _MOUNT_SETATTR), errno.EPERM)
    if landlock != "allowed":
        answers[_LANDLOCK_CREATE] = getattr(errno, landlock)
    for number, answer in answers.items():
        program += [_one(_EQUAL, number, 0, 1), _one(_RETURN, _ERRNO | answer)]
    return b"".join([*program, _one(_RETURN, _ALLOW)])


def _one(code: int, constant: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, constant)


def _main() -> None:
    sys.path.insert(0, str(ROOT))
    from sandbox.embedded.inside import linux, seccomp

    user, landlock, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if os.getuid() == 0:
        last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
        for number in range(last + 1):
            if not user and not CAPABILITIES >> number & 1:
                linux.prctl(linux.PR_CAPBSET_DROP, number)
        if user:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
    elif user != os.getuid():
        sys.exit("only root can become another user")
    seccomp.install(_filter(os.uname().machine, landlock))
    os.execv(command[0], command)


if __name__ == "__main__":
    _main()
