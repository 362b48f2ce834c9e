"""Containment of memory where no control group can be written: watch each session's tree, and kill it."""

import asyncio
import os
import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from sandbox.embedded.handle import EmbeddedSession

_SECONDS = 0.1


async def watch(sessions: Collection[EmbeddedSession]) -> None:
    """Kill each session whose processes hold more memory than its limit. Runs until cancelled."""
    while True:
        await asyncio.sleep(_SECONDS)
        watched = {pid: session for session in list(sessions) if (pid := session.pid())}
        if watched:
            limits = {pid: session.memory_limit for pid, session in watched.items()}
            for pid in await asyncio.to_thread(too_large, limits):
                watched[pid].kill("memory")


def too_large(limits: dict[int, int]) -> list[int]:
    """The processes whose trees hold more than their limit, in bytes."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with suppress(OSError, IndexError):
                parent = int(Path("/proc", name, "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
    found = []
    for root, limit in limits.items():
        tree, waiting = [], [root]
        while waiting:
            pid = waiting.pop()
            tree.append(pid)
            waiting += children.get(pid, [])
        # The quick figure counts pages that forks share once for each of them; only then is the exact one needed.
        if sum(map(_resident, tree)) > limit and sum(map(_proportional, tree)) > limit:
            found.append(root)
    return found


def _resident(pid: int) -> int:
    with suppress(OSError):
        # Shared anonymous memory counts too; file pages, which the kernel can drop, do not.
        found = re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        return sum(map(int, found)) * 1024
    return 0


def _proportional(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return _resident(pid)
