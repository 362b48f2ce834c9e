"""Processes of this machine, looked at from outside."""

import os
from contextlib import suppress
from pathlib import Path


def marked(mark: str) -> list[int]:
    """Living ones with `mark` in their command line. They come and go meanwhile."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if mark.encode() in (entry / "cmdline").read_bytes() and state != "Z":
                    found.append(int(entry.name))
    return found
