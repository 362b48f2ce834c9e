"""A session as the rest of the server sees it (`sandbox.base.Session`)."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sandbox import reply
from sandbox.base import Chunk, Execution, JSONValue, Language, SessionSpec, Status, Stream
from sandbox.embedded import transfer
from sandbox.embedded.channel import Channel, Ended
from sandbox.errors import SandboxFailure, SessionClosed

T = TypeVar("T")

_GRACE = 5.0
"""Seconds that reading a variable or an output may take beyond what it waits for."""
_WHY = {
    "timeout": "a call ran past its time limit, so the session was ended",
    "memory": "the session used more memory than its limit and was ended",
    "killed": "the session's interpreter ended or broke the protocol, so the session was ended",
    "closed": "the session is closed",
}


class EmbeddedSession:
    """One session. What it sends is untrusted; `status` and `seconds` are measured here."""

    def __init__(self, channel: Channel, spec: SessionSpec, zygote_lives: Callable[[], bool]) -> None:
        self._channel, self._spec, self._zygote_lives = channel, spec, zygote_lives
        self._why: str | None = None

    @property
    def closed(self) -> bool:
        return self._why is not None or self._channel.gone

    @property
    def memory_limit(self) -> int:
        return self._spec.limits.memory

    async def execute(
        self, code: str, *, language: Language = "python", timeout: float | None = None, background: bool = False
    ) -> Execution:
        self._check_open()
        limits = self._spec.limits
        allowed = limits.call_seconds if timeout is None else max(0.0, min(timeout, limits.call_seconds))
        started = time.perf_counter()
        message = {"op": "execute", "code": code, "language": language, "background": background}
        try:
            async with asyncio.timeout(allowed):
                answer = await self._channel.request(message)
            return reply.execution(answer, time.perf_counter() - started, limits)
        except TimeoutError:
            ended: Status = "timeout"
        except (Ended, SandboxFailure):
            ended = "killed"
        except BaseException:
            # Cancelled: the code may still run, and its answer would meet the next request.
            await asyncio.shield(self._end("killed"))
            raise
        seconds = time.perf_counter() - started
        await asyncio.shield(self._end(ended))
        if ended == "killed" and not self._zygote_lives():
            raise SandboxFailure("The process that serves the sessions has ended.")
        if ended == "killed" and self._channel.out_of_memory:
            ended = "memory"
            self._why = ended
        return Execution(status=ended, seconds=seconds)

    async def read_output(self, stream: Stream, offset: int = 0, *, limit: int = 20_000, wait: float = 0.0) -> Chunk:
        message = {"op": "output", "stream": stream, "offset": offset, "limit": limit, "wait": wait}
        return await self._ask(message, wait + _GRACE, reply.chunk)

    async def read_variable(self, name: str, *, max_bytes: int = 10_000_000) -> JSONValue:
        message = {"op": "variable", "name": name, "max_bytes": max_bytes}
        return await self._ask(message, self._spec.limits.call_seconds, lambda m: reply.variable(m, max_bytes))

    async def read_file(self, path: str, *, max_bytes: int = 10_000_000) -> bytes:
        self._check_open()
        return await asyncio.to_thread(transfer.read, self._channel.work, path, max_bytes)

    async def write_file(self, path: str, content: bytes) -> None:
        self._check_open()
        await asyncio.to_thread(transfer.write, self._channel.work, path, content)

    async def close(self) -> None:
        await asyncio.shield(self._end("closed"))

    def kill(self, why: str) -> None:
        """End the tree at once, for the watcher; the call in flight then ends."""
        if why == "memory":
            self._channel.out_of_memory = True
        self._channel.kill()

    def pid(self) -> int | None:
        return None if self.closed else self._channel.pid()

    async def _ask(self, message: dict[str, Any], seconds: float, read: Callable[[dict[str, Any]], T]) -> T:
        self._check_open()
        try:
            async with asyncio.timeout(seconds):
                return read(await self._channel.request(message))
        except TimeoutError:
            ended = "timeout"
        except (Ended, SandboxFailure):
            ended = "killed"
        except asyncio.CancelledError:
            await asyncio.shield(self._end("killed"))
            raise
        await asyncio.shield(self._end(ended))
        raise SessionClosed(f"The session has ended: {_WHY[self._why or ended]}.")

    def _check_open(self) -> None:
        if self._why is None and self._channel.gone:
            self._why = "memory" if self._channel.out_of_memory else "killed"
        if self._why is not None:
            raise SessionClosed(f"The session has ended: {_WHY[self._why]}.")

    async def _end(self, why: str) -> None:
        if self._why is None:
            self._why = why
        await self._channel.end()
