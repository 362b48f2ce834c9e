"""A user of its own for a session, where the server is root. Stdlib only."""

import ctypes
import os
import struct
from contextlib import suppress
from pathlib import Path

from sandbox.embedded.inside.linux import PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, PR_CAPBSET_DROP, prctl

CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
_PR_SET_KEEPCAPS, _AMBIENT_RAISE = 8, 2
_CAPSET = {"x86_64": 126, "aarch64": 91}

_libc = ctypes.CDLL(None, use_errno=True)


def become(user: int, capability: int | None) -> None:
    """Another user and group for good, without any capability but `capability`, by which it reads what only root may.

    Which files those are is for Landlock to say. Raises OSError.
    """
    with suppress(OSError):  # the end of the list, or not allowed to: what is not held cannot be gained either
        for number in range(64):
            if number != capability:
                prctl(PR_CAPBSET_DROP, number)
    os.setgroups([])
    os.setresgid(user, user, user)
    prctl(_PR_SET_KEEPCAPS, int(capability is not None))
    os.setresuid(user, user, user)
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    mask = 0 if capability is None else 1 << capability
    header = struct.pack("=Ii", 0x20080522, 0)
    if _libc.syscall(_CAPSET[os.uname().machine], header, struct.pack("=6I", mask, mask, mask, 0, 0, 0)):
        raise OSError(ctypes.get_errno(), "capset")
    if capability is not None:
        prctl(PR_CAP_AMBIENT, _AMBIENT_RAISE, capability)


def capabilities() -> int:
    """The effective capabilities of this process, as a mask."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)
