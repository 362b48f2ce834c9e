"""The Docker backend: one container for each session, from a pool of warm ones, and one connection to each.

Covers: no network, a read-only root, an ordinary user without capabilities or new privileges, the engine's own filter
of system calls and the embedded backend's on top, limits on memory (without swap), processes, processors, disk and
time, no log on the engine's machine, and containers that end with their server and are reaped where they did not.

Does not cover: holes of the kernel itself, unless the engine's runtime is gVisor's `runsc`; the paths of the mounts;
timing channels; an engine that is itself hostile. Whoever can reach an engine is root on its machine: this process
can, its sessions cannot.

`/tmp` and `/dev/shm` have a half and a quarter of the disk limit on top of `/work`; the memory limit counts all three.
"""

import asyncio
import posixpath
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from sandbox.base import DATA_FOLDER, Limits, SandboxConfig, SessionSpec
from sandbox.docker_engine import container
from sandbox.docker_engine.channel import DockerChannel
from sandbox.docker_engine.container import Kind
from sandbox.docker_engine.engine import Engine
from sandbox.docker_engine.options import DockerOptions, options_from_environment
from sandbox.docker_engine.owner import own_label, owner_lives
from sandbox.errors import SandboxFailure, SandboxUnavailable, SessionClosed, TransferError
from sandbox.session import ChannelSession, Ended

_OPEN_SECONDS = 120.0
_REAP_SECONDS = 600.0
_KINDS = 8
"""Kinds of containers that are kept warm."""

T = TypeVar("T")


class DockerSession(ChannelSession[DockerChannel]):
    """One session in a container of its own."""

    async def read_file(self, path: str, *, max_bytes: int = 10_000_000) -> bytes:
        return await self._file(self._channel.read_file(path, max_bytes))

    async def write_file(self, path: str, content: bytes) -> None:
        if len(content) > self._spec.limits.disk:
            raise TransferError(f"{path!r} cannot be written: it is larger than the disk.")
        await self._file(self._channel.write_file(path, content))

    async def _file(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            self._check_open()
            async with asyncio.timeout(_OPEN_SECONDS):
                return await work
        except (Ended, TimeoutError) as error:
            await asyncio.shield(self._end("killed"))
            raise SessionClosed("The session ended while a file was moved.") from error
        except asyncio.CancelledError:
            await asyncio.shield(self._end("killed"))
            raise
        finally:
            work.close()


class DockerSandbox:
    """See `sandbox.base.Sandbox`."""

    name = "docker"

    def __init__(self, config: SandboxConfig, options: DockerOptions | None = None) -> None:
        self._config = config
        self._options = options_from_environment() if options is None else options
        self._engine: Engine | None = None
        self._images: dict[str, str] = {}
        self._channels: set[DockerChannel] = set()
        self._pool: dict[Kind, list[DockerChannel]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def start(self) -> None:
        """Connect, find the images, reap, and open a first container, which shows that everything works."""
        options, sources = self._options, [None, *sorted(self._config.sources)]
        self._engine = await asyncio.to_thread(Engine, options, own_label())
        try:
            for name in {options.image_for(source) for source in sources}:
                self._images[name] = await asyncio.to_thread(self._engine.image, name)
            await asyncio.to_thread(self._engine.reap, options.max_age, owner_lives)
            kind = Kind.of(sources[-1], Limits())
            self._pool[kind] = [await self._make(kind)]
        except SandboxFailure as error:
            await self.close()
            raise SandboxUnavailable(f"The Docker sandbox cannot start here: {error}") from error
        except BaseException:
            await self.close()
            raise
        self._spawn(self._keep_tidy())

    async def open(self, spec: SessionSpec) -> DockerSession:
        if spec.source is not None and spec.source not in self._config.sources:
            raise KeyError(spec.source)
        if self._closed or self._engine is None:
            raise SandboxFailure("The sandbox is closed.")
        self._channels = {channel for channel in self._channels if not channel.ended}
        kind = Kind.of(spec.source, spec.limits, spec.ports)
        channel = await self._take(kind) or await self._make(kind)
        database = None if spec.database is None else posixpath.join(DATA_FOLDER, spec.database)
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                options = {"database": database, "seed": spec.seed, "output": spec.limits.output}
                await channel.begin(options, spec.services)
        except BaseException as error:
            self._spawn(self._discard(channel))
            if isinstance(error, Ended | TimeoutError):
                raise SandboxFailure(f"A session cannot be opened: {channel.complaint}.") from error
            raise
        if self._config.pool:
            self._spawn(self._refill(kind))
        return DockerSession(channel, spec, lambda: channel.engine_lives)

    async def close(self) -> None:
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.clear()
        await asyncio.gather(*(channel.end() for channel in self._channels))
        self._channels.clear()
        if self._engine is not None:
            engine, self._engine = self._engine, None
            with suppress(SandboxFailure):
                await asyncio.to_thread(engine.remove_own)
            await asyncio.to_thread(engine.close)

    async def _take(self, kind: Kind) -> DockerChannel | None:
        waiting = self._pool.get(kind, [])
        while waiting:
            channel = waiting.pop()
            if not channel.gone and time.monotonic() - channel.born < self._options.max_age / 2:
                return channel
            await self._discard(channel)
        return None

    async def _refill(self, kind: Kind) -> None:
        waiting = self._pool[kind] = self._pool.pop(kind, [])
        while len(self._pool) > _KINDS:
            for channel in self._pool.pop(next(iter(self._pool))):
                await self._discard(channel)
        with suppress(SandboxFailure):
            while len(waiting) < self._config.pool and self._pool.get(kind) is waiting and not self._closed:
                waiting.append(await self._make(kind))

    async def _make(self, kind: Kind) -> DockerChannel:
        """A warm container. Raises SandboxFailure."""
        engine = self._engine
        if engine is None:
            raise SandboxFailure("The sandbox is closed.")
        image = self._images[self._options.image_for(kind.source)]
        request = container.request(kind, image, self._config, self._options, engine.owner)
        starting = asyncio.ensure_future(asyncio.to_thread(engine.run, request))
        try:
            name, connection = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The thread goes on: what it starts is waited for and removed.
            with suppress(Exception):
                name, connection = await starting
                await DockerChannel(engine, name, connection).end()
            raise
        channel = DockerChannel(engine, name, connection)
        self._channels.add(channel)
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                await channel.warm(container.payload(kind, self._config))
                if kind.ports:
                    await channel.offer(container.command(self._options), container.relay(kind))
        except BaseException as error:
            await asyncio.shield(self._discard(channel))
            if isinstance(error, Ended | TimeoutError):
                raise SandboxFailure(f"A container does not come up: {channel.complaint}.") from error
            raise
        return channel

    async def _discard(self, channel: DockerChannel) -> None:
        await channel.end()
        self._channels.discard(channel)

    async def _keep_tidy(self) -> None:
        """Remove what has ended, and what other servers left. Runs until cancelled."""
        while self._engine is not None:
            await asyncio.sleep(_REAP_SECONDS)
            for channel in [channel for channel in self._channels if channel.gone]:
                await self._discard(channel)
            with suppress(SandboxFailure):
                await asyncio.to_thread(self._engine.reap, self._options.max_age, owner_lives)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
