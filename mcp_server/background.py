"""Work that outlives the request that asked for it, in tasks of the server."""

import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

from mcp_server.errors import Refused, ToolError

logger = logging.getLogger(__name__)

T = TypeVar("T")

CLOSING = "The server is closing; this call was not finished."


@dataclass(eq=False)
class Waiter(Generic[T]):
    """A request that waits for work. `left` says that it does so no more: its client has gone."""

    done: anyio.Event = field(default_factory=anyio.Event)
    left: bool = False
    result: T | None = None
    error: Exception | None = None


class Background:
    """An async context manager around tasks; leaving it cancels them."""

    _tasks: TaskGroup

    async def __aenter__(self) -> "Background":
        self._tasks = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `work`, which raises nothing, beside everything else."""
        self._tasks.start_soon(work)

    async def run(self, work: Callable[[Waiter[T]], Awaitable[T]]) -> T:
        """Run `work` to its end, whether or not the caller waits for it. Raises what it raises."""
        waiter: Waiter[T] = Waiter()
        self._tasks.start_soon(self._do, waiter, work)
        try:
            await waiter.done.wait()
        except BaseException:
            waiter.left = True
            raise
        if waiter.error is not None:
            raise waiter.error
        if waiter.result is None:
            raise Refused(CLOSING)
        return waiter.result

    async def _do(self, waiter: Waiter[T], work: Callable[[Waiter[T]], Awaitable[T]]) -> None:
        try:
            waiter.result = await work(waiter)
        except Exception as error:
            if not isinstance(error, ToolError):
                logger.exception("A call failed")
            waiter.error = error
        finally:
            waiter.done.set()
