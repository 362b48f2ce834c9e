"""What sessions of every backend share: requests over a channel, statuses, and how a session ends."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from sandbox import reply
from sandbox.base import Chunk, Execution, JSONValue, Language, SessionSpec, Status, Stream
from sandbox.errors import SandboxFailure, SessionClosed

_GRACE = 30.0
"""Seconds that reading a variable or an output may take beyond what it waits for."""
_WHY = {
    "timeout": "a call ran past its time limit, so the session was ended",
    "memory": "the session used more memory than its limit and was ended",
    "killed": "the session's interpreter ended or broke the protocol, so the session was ended",
    "closed": "the session is closed",
}


class Ended(Exception):
    """The session's connection has ended, or what came from it were no frames."""


class SessionChannel(Protocol):
    """Requests to one session's interpreter, and the end of the session."""

    out_of_memory: bool
    """Whether the session's memory was exhausted; settled once `end` has returned."""

    @property
    def gone(self) -> bool:
        """Whether nothing of the session lives any more."""

    async def request(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send one request and wait for its reply. Raises Ended."""

    async def end(self) -> None:
        """Kill, wait until nothing is left, free what the session held. Idempotent."""


C = TypeVar("C", bound=SessionChannel)
T = TypeVar("T")


class ChannelSession(Generic[C]):
    """A session of which a backend adds the files. What it sends is untrusted; `status` and `seconds` are measured
    here. `backend_lives` tells an agent that ended its own interpreter from a backend that failed."""

    def __init__(self, channel: C, spec: SessionSpec, backend_lives: Callable[[], bool]) -> None:
        self._channel, self._spec, self._backend_lives = channel, spec, backend_lives
        self._why: str | None = None

    @property
    def closed(self) -> bool:
        return self._why is not None or self._channel.gone

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
        if ended == "killed" and not self._backend_lives():
            raise SandboxFailure("The process that serves the sessions has ended.")
        if ended == "killed" and self._channel.out_of_memory:
            ended = "memory"
            self._why = ended
        return Execution(status=ended, seconds=seconds)

    async def read_output(self, stream: Stream, offset: int = 0, *, limit: int = 20_000, wait: float = 0.0) -> Chunk:
        message = {"op": "output", "stream": stream, "offset": offset, "limit": limit, "wait": wait}
        return await self._ask(message, wait + _GRACE, lambda m: reply.chunk(m, limit))

    async def read_variable(self, name: str, *, max_bytes: int = 10_000_000) -> JSONValue:
        message = {"op": "variable", "name": name, "max_bytes": max_bytes}
        return await self._ask(message, self._spec.limits.call_seconds, lambda m: reply.variable(m, max_bytes))

    async def close(self) -> None:
        await asyncio.shield(self._end("closed"))

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
