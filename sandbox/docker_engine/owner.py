"""Who a container belongs to: a label that another server on the same machine can check."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def own_label() -> str:
    """This server's label: the machine's boot, the namespace of processes, the process and its start, and a nonce."""
    pid = os.getpid()
    return "/".join((*_place(), str(pid), _start(pid) or "", uuid4().hex[:12]))


def owner_lives(label: str) -> bool | None:
    """Whether the server with that label lives; None where that cannot be told from here."""
    parts = label.split("/")
    if len(parts) != 5 or not parts[3] or tuple(parts[:2]) != _place():
        return None
    return _start(int(parts[2])) == parts[3] if parts[2].isdigit() else None


def _place() -> tuple[str, str]:
    if sys.platform != "linux":
        return "", ""
    with suppress(OSError):
        return _BOOT.read_text().strip(), os.readlink("/proc/self/ns/pid")  # noqa: PTH115
    return "", ""


def _start(pid: int) -> str | None:
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return None
