"""Limits that nothing in the kernel holds here: the server looks at each session often, and ends it above them.

Memory and the number of processes where no control group can be written, and what lies in a session's folders. One
file stays below the disk limit (RLIMIT_FSIZE), so what a session can take beyond it between two looks is bounded by
the speed of the disk.
"""

import asyncio
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from sandbox.base import Limits
from sandbox.embedded.watch import too_large

_SECONDS = 0.1
_DISK_EVERY = 5


class Watched(Protocol):
    """A session that is watched."""

    @property
    def limits(self) -> Limits:
        """What holds for it."""

    def pid(self) -> int | None:
        """The process at the top of its tree, which is not the session's; None when it has ended."""

    def folder(self) -> int:
        """A new descriptor of the folder that holds its `work` and `tmp`. Raises OSError."""

    def kill(self, why: str) -> None:
        """End it at once."""


def one_file(limits: Limits) -> int:
    """Bytes that one file may have. The rest is for others: who fills one gets an error, and is not ended."""
    return limits.disk * 15 // 16


async def watch(sessions: Collection[Watched], processes_too: bool) -> None:
    """Runs until cancelled. `processes_too`: also memory and the number of processes."""
    for turn in range(1 << 62):
        await asyncio.sleep(_SECONDS)
        watched = {pid: session for session in list(sessions) if (pid := session.pid())}
        if not watched:
            continue
        if processes_too:
            memory = {pid: session.limits.memory for pid, session in watched.items()}
            for pid in await asyncio.to_thread(too_large, memory):
                watched[pid].kill("memory")
            most = {pid: session.limits.processes for pid, session in watched.items()}
            for pid in await asyncio.to_thread(too_many, most):
                watched[pid].kill("processes")
        if turn % _DISK_EVERY == 0:
            for session in await asyncio.to_thread(too_full, list(watched.values())):
                session.kill("disk")


def too_many(limits: dict[int, int]) -> list[int]:
    """The keepers below which more processes live than their limit."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with suppress(OSError, IndexError, ValueError):
                parents[int(name)] = int(Path("/proc", name, "stat").read_text().rpartition(")")[2].split()[1])
    counts = dict.fromkeys(limits, 0)
    for pid in parents:
        above: int | None = pid
        for _ in range(1000):
            above = parents.get(above or 0)
            if above is None or above in counts:
                break
        if above in counts:
            counts[above] += 1
    return [keeper for keeper, count in counts.items() if count > limits[keeper]]


def too_full(sessions: list[Watched]) -> list[Watched]:
    """The sessions whose folders hold more bytes or files than their limits."""
    full = []
    for session in sessions:
        try:
            folder = session.folder()
        except OSError:
            continue
        try:
            size, count = usage(folder, session.limits.inodes)
        except OSError:
            continue
        finally:
            os.close(folder)
        if size > session.limits.disk or count > session.limits.inodes:
            full.append(session)
    return full


def usage(top: int, most: int) -> tuple[int, int]:
    """Bytes and files in the session's two folders; stops above `most` files. Links are not followed."""
    size = count = 0
    for name in ("work", "tmp"):
        for _, folders, files, here in os.fwalk(name, dir_fd=top):
            count += len(folders) + len(files)
            if count > most:
                return size, count
            for file in files:
                with suppress(OSError):
                    size += os.stat(file, dir_fd=here, follow_symlinks=False).st_blocks * 512
    return size, count
