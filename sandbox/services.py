"""A session's services: connections to ports of its own loopback, passed on to unix sockets of this machine.

The listening sockets come from trusted code in the session's empty network, before any of the agent's code has run
there. Here, outside, connections are accepted on them and passed on, so that nothing of the server's is inside: no
process, no file. Which socket a port leads to is decided here alone.

A session has at most `MOST_CONNECTIONS` at a time; further ones wait in the kernel until one has ended. Nothing is read
that has not been passed on, so that little is held in memory.
"""

import asyncio
import socket
import struct
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from sandbox.base import MOST_CONNECTIONS, SessionSpec
from sandbox.embedded.control import readable
from sandbox.errors import SandboxFailure

_CHUNK = 1 << 16
_ROUNDS, _PAUSE = 100, 0.05


class Relay:
    """Passes the connections to `listeners`, sockets in a session's network, on. Owns them."""

    def __init__(self, listeners: Sequence[socket.socket]) -> None:
        self._listeners = listeners
        self._connections: set[socket.socket] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._free = asyncio.Semaphore(MOST_CONNECTIONS)
        for listener in listeners:
            listener.setblocking(False)

    def serve(self, sockets: Sequence[Path]) -> None:
        """Pass connections to each listener on to the socket of the same place. To be called once."""
        for listener, path in zip(self._listeners, sockets, strict=True):
            self._spawn(self._listen(listener, path))

    async def close(self) -> None:
        """End every connection and listen no more. Idempotent."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # A task that was ended before it began has closed nothing.
        for one in (*self._connections, *self._listeners):
            one.close()
        self._connections.clear()

    async def _listen(self, listener: socket.socket, path: Path) -> None:
        while True:
            await readable(listener)
            await self._free.acquire()
            try:
                connection, _ = listener.accept()
            except OSError:  # it has gone again, or the server has no descriptor left
                self._free.release()
                await asyncio.sleep(_PAUSE)
                continue
            connection.setblocking(False)
            self._connections.add(connection)
            self._spawn(self._pass_on(connection, path)).add_done_callback(lambda _: self._free.release())

    async def _pass_on(self, inside: socket.socket, path: Path) -> None:
        outside = None
        try:
            outside = await connect(path)
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(inside, outside))
                both.create_task(_pump(outside, inside))
        except* OSError:
            reset_at_close(inside)
        finally:
            if outside is not None:
                outside.close()
            inside.close()
            self._connections.discard(inside)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def connect(path: Path) -> socket.socket:
    """A connection, which does not block, to a unix socket. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.setblocking(False)
        for _ in range(_ROUNDS):
            try:
                connection.connect(str(path))
                return connection
            except BlockingIOError:  # as many wait as the service lets wait; there is no event for its taking one
                await asyncio.sleep(_PAUSE)
        raise TimeoutError(f"{path} accepts no connection")
    except BaseException:
        connection.close()
        raise


def reset_at_close(connection: socket.socket) -> None:
    """Have the peer see that the connection broke, not that all was said."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def refuse_services(level: str, spec: SessionSpec) -> None:
    """Raises SandboxFailure where a session is to have services at a level without a network of its own."""
    if spec.services:
        names = ", ".join(service.name for service in spec.services)
        text = f"A session at the level {level} cannot have services ({names}): use --sandbox embedded or docker."
        raise SandboxFailure(text)


async def _pump(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, _CHUNK):
        await loop.sock_sendall(sink, data)
        await asyncio.sleep(0)  # both return at once while they can: others have their turn
    sink.shutdown(socket.SHUT_WR)
