"""The level `landlock`: for machines where user namespaces are blocked, such as most containers.

Covers: files (Landlock: the runtime, the declared packages and the task's data can be read, the session's own folders
written, nothing else opened), the network (no sockets by seccomp, no TCP by Landlock), a seccomp allow list, no
capability and no new privilege, tracing and (from Linux 6.12, or where the server is root) signalling of other
processes, limits on files and time, a tree that is killed whole. Where the server is root every session has a user
of its own. Memory and processes are limited by control groups where they can be written, else watched; the disk is
watched.

Does not cover, and so serves no restricted data unless the operator says so: which processes run here and which files
exist (`stat` tells their sizes and times); a private /proc (there is none but the interpreter's own); quick
overshoots of watched limits; holes of the kernel and timing. Where Linux is older than 6.12 and the server is not
root, a session cannot signal any process, its own included; where the server is not root, `chmod` (but Python's, where
it makes a file a program) and changes of file times do nothing. See `sandbox.landlock.places` for how `/data` and
`/work` come about.
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
from uuid import uuid4

from sandbox.base import DATA_FOLDER, SandboxConfig, SessionSpec
from sandbox.embedded import control
from sandbox.embedded.cgroup import Cgroups, Group
from sandbox.errors import SandboxFailure, SandboxUnavailable
from sandbox.landlock import plan
from sandbox.landlock.inside.confine import remove
from sandbox.landlock.places import Places
from sandbox.landlock.session import LandlockChannel, LandlockSession
from sandbox.landlock.watch import one_file, watch
from sandbox.remedies import for_landlock
from sandbox.services import refuse_services
from sandbox.session import Ended

_ZYGOTE = "import sys; sys.path.insert(0, sys.argv[2]); from sandbox.landlock.inside.zygote import main; main()"
_START_SECONDS, _OPEN_SECONDS = 60.0, 30.0
_SPECS = 16
"""Kinds of sessions that are kept warm."""
_REMEDIES = (
    "The sandbox cannot start at the level landlock: {cause}. Remedies: {remedy} Or allow user namespaces for the "
    "level embedded, or use Docker. `med-copilot doctor` shows what holds here."
)


class LandlockSandbox:
    """See `sandbox.base.Sandbox`."""

    name = "landlock"

    def __init__(self, config: SandboxConfig) -> None:
        self._config = config
        self._sources = {name: str(path) for name, path in config.sources.items()}
        self._wheels = None if config.wheelhouse is None else str(config.wheelhouse)
        self._cgroups = Cgroups()
        self._users = plan.Users([])
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._root: Path | None = None
        self._sessions: set[LandlockSession] = set()
        self._pool: dict[SessionSpec, list[LandlockSession]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()
        self._closed = False

    @property
    def containment(self) -> str:
        """What contains memory: "v1" or "v2" (control groups) or "none" (watched)."""
        return self._cgroups.kind

    async def start(self) -> None:
        cause = await asyncio.to_thread(missing)
        if cause is not None:
            raise SandboxUnavailable(_REMEDIES.format(cause=cause, remedy=for_landlock()))
        await control.to_its_end(self._start_zygote())
        self._spawn(watch(self._sessions, self._cgroups.kind == "none"))

    async def open(self, spec: SessionSpec) -> LandlockSession:
        if spec.source is not None and spec.source not in self._sources:
            raise KeyError(spec.source)
        if self._closed:
            raise SandboxFailure("The sandbox is closed.")
        refuse_services(self.name, spec)
        waiting = self._pool.setdefault(spec, []) if self._config.pool else []
        session = None
        while waiting and session is None:
            session = waiting.pop()
            if session.closed:
                await session.close()
                session = None
        session = session or await self._open(spec)
        if self._config.pool:
            self._spawn(self._refill(spec))
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
            await self._end_zygote()
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

    async def _open(self, spec: SessionSpec) -> LandlockSession:
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
        data = None if spec.source is None else self._sources[spec.source]
        places = Places(f"{self._root}/{uuid4().hex}", data, self._wheels)
        request = self._request(spec, places, data, group is not None)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        entries = group.entries() if group else []
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                with theirs:
                    await self._ask_zygote(json.dumps(request).encode(), [theirs.fileno(), *entries])
                channel = await _receive_channel(ours, group)
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
        session = LandlockSession(channel, spec, control.life_of(self._control), places)
        self._sessions.add(session)
        return session

    def _request(self, spec: SessionSpec, places: Places, data: str | None, contained: bool) -> dict[str, Any]:
        limits, user = spec.limits, self._users.take()
        database = None
        if spec.database is not None:
            database = places.inward(posixpath.join(DATA_FOLDER, spec.database))
        options = {
            "database": database,
            "seed": spec.seed,
            "output": limits.output,
            "work": f"{places.root}/work",
            "data": data or f"{places.root}/data",
        }
        return {
            "root": places.root,
            "data": data,
            "wheels": self._wheels,
            "user": user,
            "capability": self._users.capability,
            "disk": one_file(limits),
            # Of a user who does other things as well the kernel counts them all: then only a brake on fork bombs.
            "processes": limits.processes if user is not None else _own_processes() + 4 * limits.processes,
            "open_files": limits.open_files,
            "cpu_seconds": limits.cpu_seconds,
            "seed": spec.seed,
            "memory_files": contained,
            "options": json.dumps(options),
        }

    async def _ask_zygote(self, request: bytes, descriptors: list[int]) -> None:
        while self._control is not None:
            try:
                socket.send_fds(self._control, [request], descriptors)
                return
            except BlockingIOError:
                await asyncio.sleep(0.005)
        raise OSError("the zygote has ended")

    async def _start_zygote(self) -> None:
        async with self._starting:
            if self._closed:
                raise SandboxFailure("The sandbox is closed.")
            if self._process is not None and self._process.poll() is None:
                return
            await self._end_zygote()
            await asyncio.to_thread(self._cgroups.start)
            root = self._root = Path(os.path.realpath(tempfile.mkdtemp(prefix="med-copilot-")))
            readable = [plan.interpreter(), Path(os.__file__).parent, *map(Path, self._sources.values())]
            readable += [] if self._wheels is None else [Path(self._wheels)]
            self._users = await asyncio.to_thread(plan.Users, [*readable, root.parent, Path(__file__).parent])
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.setblocking(False)
            with tempfile.TemporaryFile() as errors:
                made = await asyncio.to_thread(plan.make_plan, self._config, root)
                with theirs:
                    self._process = await asyncio.to_thread(
                        _start_zygote, theirs.fileno(), made["project"], root, errors
                    )
                try:
                    ours.send(json.dumps(made).encode())
                    async with asyncio.timeout(_START_SECONDS):
                        await control.readable(ours)
                        answer = ours.recv(1 << 16)
                except (OSError, TimeoutError) as error:
                    answer = json.dumps({"error": f"the zygote does not answer ({error})"}).encode()
                message = json.loads(answer) if answer else {"error": control.last_words(errors)}
            self._control = ours
            if "error" in message:
                await self._end_zygote()
                raise SandboxUnavailable(_REMEDIES.format(cause=message["error"], remedy=for_landlock()))

    async def _end_zygote(self) -> None:
        """When its socket ends, the zygote ends every session and clears up."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                await asyncio.to_thread(self._process.wait, _OPEN_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                await asyncio.to_thread(self._process.wait)
            self._process = None
        if self._root is not None:
            await asyncio.to_thread(remove, str(self._root))
            self._root = None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def missing() -> str | None:
    """Why this level cannot be had here; None where it can. Tries it out in a process of its own."""
    if sys.platform != "linux":
        return "this is not Linux"
    from sandbox.landlock.probe import failure

    return failure()


def _own_processes() -> int:
    """How many processes and threads this user has."""
    count = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                if entry.stat().st_uid == os.getuid():
                    count += len(os.listdir(f"/proc/{entry.name}/task"))  # noqa: PTH208
    return count


async def _receive_channel(ours: socket.socket, group: Group | None) -> LandlockChannel:
    await control.readable(ours)
    message, descriptors, _, _ = socket.recv_fds(ours, 4096, 2)
    if len(descriptors) != 2:
        raise OSError(message.decode(errors="replace") or "the zygote has ended")
    return LandlockChannel(ours, descriptors[0], descriptors[1], group)


def _start_zygote(descriptor: int, project: str, root: Path, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    command = [str(plan.interpreter()), "-S", "-B", "-P", "-c", _ZYGOTE, str(descriptor), project]
    return control.start(command, descriptor, errors, plan.environment(root))
