"""Speed and density of the sandbox itself, without a server, level beside level, and others on the same work.

Rows: open, call, kill, cycles, memory of many live sessions. MED_COPILOT_BENCH names the levels, apart by commas (see
sandbox.choose). Docker is measured on the engine and image that MED_COPILOT_DOCKER configures, else on a private engine
and a hollow image of this machine's own Python (tests/sandbox/engine.py).
"""

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path

from bench.engine import docker_options, engine_processes, make
from bench.measure import Measurement, median, milliseconds, percentile, process_memory, timed, tree_memory
from bench.peers import Peer, peers
from sandbox.base import Sandbox, SandboxConfig, Session, SessionSpec
from sandbox.docker_engine.backend import DockerSandbox
from sandbox.errors import SandboxUnavailable

TRIVIAL = "1 + 1"
PANDAS = """
import pandas as pd
frame = pd.DataFrame({"ward": ["a", "b", "c"] * 100, "value": range(300)})
frame.groupby("ward")["value"].mean().to_dict()
"""
OPENS, CALLS, CYCLES, LIVE = 40, 300, 100, 300
PEER_CALLS = {TRIVIAL: 9, PANDAS: 5}
SPEC = SessionSpec()


async def run(folder: Path) -> list[Measurement]:
    """`folder` is not used: sessions need no data here."""
    names = os.environ.get("MED_COPILOT_BENCH", "embedded,docker").split(",")
    found: list[Measurement] = []
    options = None
    if "docker" in names:
        with suppress(SandboxUnavailable):
            options = await asyncio.to_thread(docker_options, SandboxConfig())
    others = await asyncio.to_thread(peers, options, PEER_CALLS)
    for name in names:
        try:
            found += await _level(name, others)
        except SandboxUnavailable as error:
            found.append(Measurement(f"{name}: sandbox", "starts", str(error)[:200], False, "cannot start here"))
    return found


async def _level(name: str, others: list[Peer]) -> list[Measurement]:
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
    slower = [f"{median(peer.calls[TRIVIAL]) / median(calls):.0f}x {_named(peer, TRIVIAL)}" for peer in others]
    tables_slower = [f"{median(peer.calls[PANDAS]) / median(tables):.0f}x {_named(peer, PANDAS)}" for peer in others]
    opened = [f"{peer.opened / median(cold):.1f}x {peer.name} ({milliseconds(peer.opened)})" for peer in others]
    cycles = ">= 40/s" if name == "embedded" else ""
    return [
        _row(f"{name}: start of the backend", "", [cold_start], True),
        _row(f"{name}: open, cold", "", cold, True, opened),
        _row(f"{name}: take from the pool and first call", "p50 <= 5 ms", taken, median(taken) <= 0.005),
        _row(f"{name}: trivial call", "p50 <= 5 ms", calls, median(calls) <= 0.005, slower),
        _row(f"{name}: a small pandas groupby", "", tables, True, tables_slower),
        _row(f"{name}: kill and reap a busy tree", "", kills, True),
        Measurement(
            f"{name}: open, call, close", cycles, f"{rate:.1f}/s, 4 at once", not cycles or rate >= 40, "processor time"
        ),
        Measurement(
            f"{name}: memory of {LIVE} live sessions after a pandas call", "<= 4 GB",
            f"{memory / 2**30:.2f} GB ({memory / 2**20 / LIVE:.1f} MiB each, PSS)", memory <= 4 * 2**30,
            "a container has no interpreter to share pages with, and a shim of its own" if name == "docker" else "",
        ),
    ]  # fmt: skip


def _named(peer: Peer, code: str) -> str:
    return f"{peer.name} ({milliseconds(median(peer.calls[code]))})"


def _row(what: str, goal: str, seconds: list[float], reached: bool, ratios: list[str] | None = None) -> Measurement:
    text = f"p50 {milliseconds(median(seconds))}, p95 {milliseconds(percentile(seconds, 0.95))}"
    text = ", ".join([text if len(seconds) > 1 else milliseconds(seconds[0]), *(ratios or ())])
    return Measurement(what, goal, text, reached, "two cores")


async def _start(name: str, pool: int) -> Sandbox:
    sandbox = make(name, SandboxConfig(pool=pool))
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
    """Bytes that the backend and its sessions hold, for Docker with the engine and the shims."""
    sessions = []
    for _ in range(LIVE):
        sessions.append(await sandbox.open(SPEC))
        await sessions[-1].execute(PANDAS)
    own = os.getpid()
    if isinstance(sandbox, DockerSandbox):
        held = tree_memory(*engine_processes())
    else:
        held = tree_memory(own) - process_memory(own)
    await asyncio.gather(*(session.close() for session in sessions))
    return held
