"""What a level does not claim: the attacks that get through there, and why. Every other attack must be held.

Strict: an attack that is listed and held nevertheless fails the suite, so that this table stays true. Each reason is
also in docs/security.md. A level is a backend, or a backend and a circumstance: see `levels`.
"""

import os
from pathlib import Path
from typing import Any

from sandbox.base import Sandbox

_DISK = "the disk is watched: what was written between two looks lies there until the session is ended for it"
_PATHS = "the folders that are given have names on the machine, and a session can read them"
_SEEN = "files and processes of the machine cannot be opened, but that they exist can be seen"
_NOT_FROZEN = (
    "without the freezer of control groups version 2, what a call leaves behind runs on until the session ends"
)
_READS = "where the data or the interpreter are root's alone, sessions keep the one capability that reads them"

NOT_CLAIMED: dict[tuple[str, str], str] = {
    ("test_disk_fill", "landlock"): _DISK,
    ("test_inode_fill", "landlock"): _DISK,
    ("test_looting[existence of a host folder]", "landlock"): _SEEN,
    ("test_looting[load of the machine]", "landlock"): "programs may read what /proc tells of the machine's load",
    ("test_looting[name of the host]", "landlock"): "the machine's name is that of the session too",
    ("test_the_existence_of_a_process", "landlock"): _SEEN,
    ("test_no_capability_is_left", "landlock that reads as root"): _READS,
    **{("test_looting[paths of the machine]", level): _PATHS for level in ("embedded", "landlock", "docker")},
    **{
        (attack, f"{level} that is not frozen"): _NOT_FROZEN
        for level in ("embedded", "landlock")
        for attack in (
            "test_a_forged_end_does_not_let_code_run_on",
            *(f"test_left_work_stands_still_between_calls[{way}]" for way in ("thread", "child", "shell")),
        )
    },
}


def levels(backend: str, sandbox: Sandbox) -> list[str]:
    """The names, in the table, of what was started."""
    found = [backend]
    groups: Any = getattr(sandbox, "_cgroups", None)
    if groups is not None:
        if not any(Path(root, groups.run, "cgroup.freeze").exists() for root in groups._roots):
            found.append(f"{backend} that is not frozen")
        if not groups._roots:
            found.append(f"{backend} that is watched")
    users: Any = getattr(sandbox, "_users", None)
    if users is not None and not users._count:
        found.append(f"{backend} that shares its user")
    elif users is not None and users.capability is not None:
        found.append(f"{backend} that reads as root")
    return found


def most_processes(found: list[str]) -> int:
    """How many times its limit a session's processes may be, for a moment: a user's own limit counts all that it runs,
    so that it is set wide, and the server looks ten times a second."""
    return 5 if "landlock that shares its user" in found and "landlock that is watched" in found else 1


def label(backend: str, found: list[str]) -> str:
    """How the summary names it."""
    user = "root" if os.geteuid() == 0 else "an ordinary user"
    return f"{backend} as {user}" + (", no control groups" if f"{backend} that is watched" in found else "")


def most_disk(found: list[str]) -> float:
    """How many times its limit a session's files may take: the folders of a container have a limit each."""
    return 1.75 if "docker" in found else 1
