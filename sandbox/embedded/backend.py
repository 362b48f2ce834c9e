"""The embedded backend: a fork server in namespaces of its own. No daemon, no binary, nothing to install.

Covers: no network but an empty loopback, a read-only root that holds only the interpreter and the declared packages,
no capability, a seccomp allow list, limits on memory, processes, disk, files and time, a tree that is killed whole.
Does not cover: holes of the kernel itself, and timing channels between sessions that share its cores.
"""

import asyncio
import json
import os
import posixpath
import socket
import subprocess
import sys
import tempfile
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from sandbox.base import DATA_FOLDER, SandboxConfig, SessionSpec
from sandbox.embedded import control
from sandbox.embedded.cgroup import Cgroups, Group
from sandbox.embedded.channel import Channel, Ended
from sandbox.embedded.handle import EmbeddedSession
from sandbox.embedded.plan import make_plan
from sandbox.embedded.watch import watch
from sandbox.errors import SandboxFailure, SandboxUnavailable
from sandbox.remedies import for_namespaces

_LAUNCHER = "import sys; sys.path.insert(0, sys.argv[1]); from inside.launcher import main; main()"
_START_SECONDS, _OPEN_SECONDS = 60.0, 30.0
_SPECS = 16
"""Kinds of sessions that are kept warm."""
_REMEDIES = (
    "The embedded sandbox cannot start here: {cause}. Remedies: {remedy} `med-copilot doctor` shows what holds here."
)


class EmbeddedSandbox:
    """See `sandbox.base.Sandbox`."""

    name = "embedded"

    def __init__(self, config: SandboxConfig) -> None:
        self._config = config
        self._sources = {name: number for number, name in enumerate(sorted(config.sources))}
        self._cgroups = Cgroups()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._sessions: set[EmbeddedSession] = set()
        self._pool: dict[SessionSpec, list[EmbeddedSession]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()
        self._closed = False

    @property
    def containment(self) -> str:
        """What contains memory: "v1" or "v2" (control groups) or "none" (watched)."""
        return self._cgroups.kind

    async def start(self) -> None:
        if sys.platform != "linux":
            raise SandboxUnavailable(_REMEDIES.format(cause="this is not Linux", remedy="Run the server on Linux."))
        await control.to_its_end(self._start_zygote())
        if self._cgroups.kind == "none":
            self._spawn(watch(self._sessions))

    async def open(self, spec: SessionSpec) -> EmbeddedSession:
        if spec.source is not None and spec.source not in self._sources:
            raise KeyError(spec.source)
        if self._closed:
            raise SandboxFailure("The sandbox is closed.")
        warm = spec.warm
        waiting = self._pool.setdefault(warm, []) if self._config.pool else []
        session = None
        while waiting and session is None:
            session = waiting.pop()
            if session.closed:
                await session.close()
                session = None
        session = session or await self._open(warm)
        session.serve(spec.services)
        if self._config.pool:
            self._spawn(self._refill(warm))
        return session

    async def close(self) -> None:
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(session.close() for session in list(self._sessions)))
        self._sessions.clear()
        self._pool.clear()
        async with self._starting:  # until a start that is under way has ended
            if self._control is not None:
                self._control.close()
                self._control = None
            if self._process is not None:
                await asyncio.to_thread(self._process.wait)
            self._process = None
        await asyncio.to_thread(self._cgroups.close)

    async def _refill(self, spec: SessionSpec) -> None:
        while len(self._pool) > _SPECS:
            for session in self._pool.pop(next(iter(self._pool))):
                await session.close()
        waiting = self._pool.get(spec)
        while waiting is not None and len(waiting) < self._config.pool and not self._closed:
            with suppress(SandboxFailure):
                waiting.append(await self._open(spec))
                continue
            return

    async def _open(self, spec: SessionSpec) -> EmbeddedSession:
        if self._process is None or self._process.poll() is not None:
            await control.to_its_end(self._start_zygote())
        for session in [session for session in self._sessions if session.closed]:
            await session.close()
            self._sessions.discard(session)
        limits = spec.limits
        try:
            group = self._cgroups.make(limits.memory, limits.processes)
        except OSError as error:
            raise SandboxFailure(f"No control group can be made: {error.strerror}.") from error
        database = None if spec.database is None else posixpath.join(DATA_FOLDER, spec.database)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        request = {
            "source": None if spec.source is None else self._sources[spec.source],
            "disk": limits.disk,
            "inodes": limits.inodes,
            "processes": limits.processes,
            "open_files": limits.open_files,
            "cpu_seconds": limits.cpu_seconds,
            "seed": spec.seed,
            "ports": spec.ports,
            "memory_files": group is not None,
            "options": json.dumps({"database": database, "seed": spec.seed, "output": limits.output}),
        }
        entries = group.entries() if group else []
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                with theirs:
                    await self._ask_zygote(json.dumps(request).encode(), [theirs.fileno(), *entries])
                channel = await self._receive_channel(ours, group, len(spec.ports))
                try:
                    await channel.ready()
                except BaseException:
                    await asyncio.shield(channel.end())
                    raise
        except BaseException as error:
            # Its end of the socket closed, a session that was on its way ends by itself.
            ours.close()
            if group is not None:
                group.remove()
            if isinstance(error, OSError | TimeoutError | Ended):
                raise SandboxFailure(f"A session cannot be opened: {error or type(error).__name__}.") from error
            raise
        finally:
            for entry in entries:
                os.close(entry)
        assert self._control is not None
        session = EmbeddedSession(channel, spec, control.life_of(self._control))
        self._sessions.add(session)
        return session

    async def _ask_zygote(self, request: bytes, descriptors: list[int]) -> None:
        while self._control is not None:
            try:
                socket.send_fds(self._control, [request], descriptors)
                return
            except BlockingIOError:
                await asyncio.sleep(0.005)
        raise OSError("the zygote has ended")

    async def _receive_channel(self, ours: socket.socket, group: Group | None, ports: int) -> Channel:
        await control.readable(ours)
        message, descriptors, _, _ = socket.recv_fds(ours, 4096, 2 + ports)
        if len(descriptors) != 2 + ports:
            raise OSError(message.decode(errors="replace") or "the zygote has ended")
        pidfd, work, *listeners = descriptors
        return Channel(ours, pidfd, work, group, [socket.socket(fileno=one) for one in listeners])

    async def _start_zygote(self) -> None:
        async with self._starting:
            if self._closed:
                raise SandboxFailure("The sandbox is closed.")
            if self._process is not None and self._process.poll() is None:
                return
            # New ones: those of a zygote that has died are cleared up by its launcher, perhaps right now.
            await asyncio.to_thread(self._cgroups.start)
            if self._control is not None:
                self._control.close()
                self._control = None
            root = Path(tempfile.mkdtemp(prefix="med-copilot-"))
            try:
                plan = await asyncio.to_thread(make_plan, self._config, root, self._sources)
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                ours.setblocking(False)
                with tempfile.TemporaryFile() as errors:
                    with theirs:
                        self._process = await asyncio.to_thread(_start_launcher, theirs.fileno(), errors)
                    folders = self._cgroups.folders()
                    plan["cgroup"] = self._cgroups.run
                    try:
                        socket.send_fds(ours, [json.dumps(plan).encode()], folders)
                        async with asyncio.timeout(_START_SECONDS):
                            await control.readable(ours)
                            answer = ours.recv(1 << 16)
                    except (OSError, TimeoutError) as error:
                        answer = json.dumps({"error": f"the launcher does not answer ({error})"}).encode()
                    finally:
                        for folder in folders:
                            os.close(folder)
                    message = json.loads(answer) if answer else {"error": control.last_words(errors)}
                if "error" in message:
                    ours.close()
                    self._process.kill()
                    await asyncio.to_thread(self._process.wait)
                    await asyncio.to_thread(self._cgroups.close)
                    raise SandboxUnavailable(_REMEDIES.format(cause=message["error"], remedy=for_namespaces()))
                self._control = ours
            finally:
                with suppress(OSError):
                    root.rmdir()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _start_launcher(descriptor: int, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    python, here = str(Path(sys.executable).resolve()), str(Path(__file__).resolve().parent)
    return control.start([python, "-I", "-S", "-B", "-c", _LAUNCHER, here, str(descriptor)], descriptor, errors, {})
