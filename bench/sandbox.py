"""Speed and density of the sandbox itself, without a server: open, call, kill, cycles, memory of many sessions.

A plain subprocess per call is the peer: what one pays without any isolation and without state.
MED_COPILOT_BENCH names the levels, apart by commas (see sandbox.choose).
"""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import anyio

from bench.measure import Measurement, median, milliseconds, percentile, timed, tree_memory
from sandbox.base import Sandbox, SandboxConfig, Session, SessionSpec
from sandbox.choose import LEVELS
from sandbox.errors import SandboxUnavailable

TRIVIAL = "1 + 1"
PANDAS = """
import pandas as pd
frame = pd.DataFrame({"ward": ["a", "b", "c"] * 100, "value": range(300)})
frame.groupby("ward")["value"].mean().to_dict()
"""
OPENS, CALLS, CYCLES, PEERS, LIVE = 40, 300, 100, 7, 300
SPEC = SessionSpec()


async def run(folder: Path) -> list[Measurement]:
    """`folder` is not used: sessions need no data here."""
    found = []
    trivial, pandas = await _peer(TRIVIAL), await _peer(PANDAS)
    for name in os.environ.get("MED_COPILOT_BENCH", "embedded").split(","):
        try:
            found += await _level(name, trivial, pandas)
        except SandboxUnavailable as error:
            found.append(Measurement(f"{name}: sandbox", "starts", str(error)[:200], False, "cannot start here"))
    return found


async def _level(name: str, trivial: float, pandas: float) -> list[Measurement]:
    cold_start = time.perf_counter()
    sandbox = await _start(name, pool=0)
    cold_start = time.perf_counter() - cold_start
    try:
        cold = await _openings(sandbox)
        session = await sandbox.open(SPEC)
        calls, tables = await _calls(session, TRIVIAL, CALLS), await _calls(session, PANDAS, CALLS // 3)
        await session.close()
        kills = await _kills(sandbox)
        rate = await _cycles(sandbox)
        memory = await _memory(sandbox)
    finally:
        await sandbox.close()
    sandbox = await _start(name, pool=4)
    try:
        taken = await _taken(sandbox)
    finally:
        await sandbox.close()
    peer = "a plain subprocess"
    return [
        _row(f"{name}: start of the backend", "", [cold_start], True),
        _row(f"{name}: open, cold", "", cold, True),
        _row(f"{name}: take from the pool and first call", "p50 <= 5 ms", taken, median(taken) <= 0.005),
        _row(
            f"{name}: trivial call", "p50 <= 5 ms", calls, median(calls) <= 0.005,
            f", {trivial / median(calls):.0f}x {peer} ({milliseconds(trivial)})",
        ),
        _row(
            f"{name}: a small pandas groupby", "", tables, True,
            f", {pandas / median(tables):.0f}x {peer} ({milliseconds(pandas)})",
        ),
        _row(f"{name}: kill and reap a busy tree", "", kills, True),
        Measurement(f"{name}: open, call, close", ">= 40/s", f"{rate:.1f}/s, 4 at once", rate >= 40, "processor time"),
        Measurement(
            f"{name}: memory of {LIVE} live sessions after a pandas call", "<= 4 GB",
            f"{memory / 2**30:.2f} GB ({memory / 2**20 / LIVE:.1f} MiB each, PSS)", memory <= 4 * 2**30,
        ),
    ]  # fmt: skip


def _row(what: str, goal: str, seconds: list[float], reached: bool, more: str = "") -> Measurement:
    text = f"p50 {milliseconds(median(seconds))}, p95 {milliseconds(percentile(seconds, 0.95))}{more}"
    return Measurement(what, goal, text if len(seconds) > 1 else milliseconds(seconds[0]) + more, reached, "two cores")


async def _start(name: str, pool: int) -> Sandbox:
    sandbox = LEVELS[name](SandboxConfig(pool=pool))
    await sandbox.start()
    return sandbox


async def _openings(sandbox: Sandbox) -> list[float]:
    seconds = []
    for _ in range(OPENS):
        began = time.perf_counter()
        session = await sandbox.open(SPEC)
        seconds.append(time.perf_counter() - began)
        await session.close()
    return seconds


async def _taken(sandbox: Sandbox) -> list[float]:
    """The pool is given the time to fill: what is measured is the taking, not a pool that is run dry."""
    await (await sandbox.open(SPEC)).close()
    seconds = []
    for _ in range(OPENS):
        await asyncio.sleep(0.2)
        began = time.perf_counter()
        session = await sandbox.open(SPEC)
        await session.execute(TRIVIAL)
        seconds.append(time.perf_counter() - began)
        await session.close()
    return seconds


async def _calls(session: Session, code: str, count: int) -> list[float]:
    await session.execute(code)
    return [await timed(lambda: session.execute(code)) for _ in range(count)]


async def _kills(sandbox: Sandbox) -> list[float]:
    seconds = []
    for _ in range(OPENS // 2):
        session = await sandbox.open(SPEC)
        await session.execute("for n in 1 2 3 4; do (while :; do :; done) & done", language="shell")
        seconds.append(await timed(session.close))
    return seconds


async def _cycles(sandbox: Sandbox) -> float:
    async def worker() -> None:
        for _ in range(CYCLES // 4):
            session = await sandbox.open(SPEC)
            await session.execute(TRIVIAL)
            await session.close()

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(4)))
    return CYCLES / (time.perf_counter() - began)


async def _memory(sandbox: Sandbox) -> int:
    sessions = []
    for _ in range(LIVE):
        sessions.append(await sandbox.open(SPEC))
        await sessions[-1].execute(PANDAS)
    own = int(next(line.split()[1] for line in _rollup() if line.startswith("Pss:"))) * 1024
    held = tree_memory(os.getpid()) - own
    await asyncio.gather(*(session.close() for session in sessions))
    return held


def _rollup() -> list[str]:
    return Path("/proc/self/smaps_rollup").read_text().splitlines()


async def _peer(code: str) -> float:
    """Seconds of the median `python -c code`."""
    command = [sys.executable, "-c", code]
    run_it = lambda: anyio.to_thread.run_sync(lambda: subprocess.run(command, check=True))  # noqa: E731
    return median([await timed(run_it) for _ in range(PEERS)])
