"""What every benchmark here returns, and how times are summarised."""

import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measurement:
    """One line of the report. `bound` says, where the goal is missed, what bounds it."""

    what: str
    goal: str
    measured: str
    reached: bool
    bound: str = ""


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    return percentile(values, 0.5)


async def timed(call: Callable[[], Awaitable[object]]) -> float:
    """Seconds that one awaited call takes."""
    started = time.perf_counter()
    await call()
    return time.perf_counter() - started


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def tree_memory(*pids: int) -> int:
    """Proportional set size, in bytes, of processes and all that descend from them."""
    return sum(map(process_memory, descendants(*pids)))


def descendants(*pids: int) -> set[int]:
    """These processes and all that descend from them."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(folder.name))
    seen, waiting = set[int](), list(pids)
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            waiting += children.get(one, [])
    return seen


def process_memory(pid: int) -> int:
    """Proportional set size of one process, in bytes; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def child_of(parent: int) -> int:
    """The process id of the newest child of `parent`. Raises LookupError when it has none."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                found.append((int(fields[19]), int(folder.name)))
    if not found:
        raise LookupError(f"Process {parent} has no child.")
    return max(found)[1]


def load() -> str:
    """The machine's load, for the report: figures taken beside other work are worse."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
