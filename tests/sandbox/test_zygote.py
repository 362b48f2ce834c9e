"""The process that forks the sessions: it outlives a lack of processes, and its start is never left half done."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sandbox.base import SandboxConfig, SessionSpec
from sandbox.embedded import control
from sandbox.embedded.backend import EmbeddedSandbox
from sandbox.errors import SandboxFailure
from sandbox.landlock.backend import LandlockSandbox
from tests.sandbox.users import become, interpreter

ROOT = Path(__file__).resolve().parents[2]
USER = 65531
PROGRAM = """
import asyncio, os, resource, sys
from pathlib import Path
from sandbox.base import SandboxConfig, SessionSpec
from sandbox.errors import SandboxFailure, SandboxUnavailable
from sandbox.{level}.backend import {name} as Backend

def below(pid):
    children = [int(one) for one in Path(f"/proc/{{pid}}/task/{{pid}}/children").read_text().split()]
    return [pid, *(one for child in children for one in below(child))]

def allow(pids, processes):
    for pid in pids:
        hard = resource.prlimit(pid, resource.RLIMIT_NPROC)[1]
        resource.prlimit(pid, resource.RLIMIT_NPROC, (hard if processes is None else processes, hard))

async def main():
    backend = Backend(SandboxConfig(packages=(), preload=(), pool=0))
    try:
        await backend.start()
    except SandboxUnavailable as error:
        print("skip", error)
        return
    started = backend._process
    zygote = below(started.pid)
    session = await backend.open(SessionSpec())
    allow(zygote, 1)
    for _ in range(2):
        try:
            await backend.open(SessionSpec())
        except SandboxFailure as error:
            print(error)
    allow(zygote, None)
    for one in (session, await backend.open(SessionSpec())):
        print((await one.execute("6 * 7")).value)
    print(backend._process is started)
    await backend.close()

asyncio.run(main())
"""


@pytest.mark.parametrize(("level", "name"), [("embedded", "EmbeddedSandbox"), ("landlock", "LandlockSandbox")])
def test_a_lack_of_processes_fails_an_opening_and_nothing_else(level: str, name: str) -> None:
    """The zygote's fork fails. As an ordinary user: root may always have one more."""
    before = [*become(USER), interpreter()] if os.getuid() == 0 else [sys.executable]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [*before, "-c", PROGRAM.format(level=level, name=name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    if done.stdout.startswith("skip"):
        pytest.skip(done.stdout)
    refused = "A session cannot be opened: error: [Errno 11] Resource temporarily unavailable."
    assert done.stdout.splitlines() == [refused, refused, "42", "42", "True"], done.stdout + done.stderr[-3000:]


@pytest.mark.anyio
@pytest.mark.parametrize("level", [EmbeddedSandbox, LandlockSandbox])
async def test_a_backend_is_closed_while_its_zygote_starts(level: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, real = asyncio.Event(), control.readable

    async def readable(connection: socket.socket) -> None:
        waits.set()
        await real(connection)

    monkeypatch.setattr(control, "readable", readable)
    backend = level(SandboxConfig(packages=("numpy",), preload=("numpy",)))
    starting = asyncio.ensure_future(backend.start())
    await asyncio.wait([starting, asyncio.ensure_future(waits.wait())], return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        pytest.skip(str(starting.exception()))
    starting.cancel()
    # What it ended with is kept, as a server keeps it for its last words, and all that its frames hold with it.
    ended = (await asyncio.gather(starting, return_exceptions=True))[0]
    assert isinstance(ended, asyncio.CancelledError)
    async with asyncio.timeout(60):
        await backend.close()
    with pytest.raises(SandboxFailure):
        await backend.open(SessionSpec())
