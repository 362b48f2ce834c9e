"""Many connections over one stream, each with a window of its own, so that none waits for another to be read.

Both ends of the stream use this file: the relay in a container (`sandbox.docker_engine.relay`), which opens
connections, and the server, which accepts them. A frame is its kind, the connection's number and a value, and for DATA
so many bytes. Stdlib only: it is sent into containers.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress

READY, OPEN, DATA, END, RESET, CREDIT = range(6)
"""The value: none | the place of the port | bytes that follow | none | none | bytes that the other end may send on."""
WINDOW, CHUNK = 1 << 18, 1 << 15
_FRAMES = 32
"""That wait to be written."""
_HEAD = struct.Struct(">BII")
_Accept = Callable[[int], Awaitable[socket.socket]]


class MuxError(Exception):
    """The other end broke the protocol. The stream is of no more use."""


class _Connection:
    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.came, self.ended, self.broken = bytearray(), False, False
        self.arrived, self.room = asyncio.Event(), asyncio.Event()
        self.window = self.owed = WINDOW
        """Bytes that this end, and the other end, may still send."""


class Mux:
    """One end. `write` sends bytes on, `accept` gives what a connection to a port (its place) leads to.

    At most `most` connections are accepted at a time; both may raise OSError. Needs a running loop.
    """

    def __init__(
        self,
        write: Callable[[bytes], Awaitable[None]],
        accept: _Accept | None = None,
        most: int = 0,
    ) -> None:
        self._accept, self._most = accept, most
        self._buffer, self._next = bytearray(), 0
        self._connections: dict[int, _Connection] = {}
        # Frames are written by one task, so that one which is cancelled leaves no half of a frame behind.
        self._frames = asyncio.Queue[bytes](_FRAMES)
        self._tasks = {asyncio.ensure_future(self._write_frames(write))}
        self.ready = asyncio.Event()
        """Set when the other end has said so."""

    async def send(self, kind: int, number: int = 0, value: int = 0, data: bytes = b"") -> None:
        await self._frames.put(_HEAD.pack(kind, number, value) + data)

    async def open(self, place: int, connection: socket.socket) -> None:
        """Carry a connection to a port until it has ended. Takes the socket, which must not block."""
        number, self._next = self._next, (self._next + 1) % (1 << 32)
        one = self._connections[number] = _Connection()
        one.task = asyncio.current_task()
        try:
            await self.send(OPEN, number, place)
            await self._carry(number, one, connection)
        finally:
            connection.close()
            del self._connections[number]

    def feed(self, data: bytes) -> None:
        """Take what came, cut anywhere. Raises MuxError."""
        self._buffer += data
        while len(self._buffer) >= _HEAD.size:
            kind, number, value = _HEAD.unpack_from(self._buffer)
            size = _HEAD.size + (value if kind == DATA else 0)
            if size > _HEAD.size + CHUNK:
                raise MuxError("a frame is too long")
            if len(self._buffer) < size:
                return
            body = bytes(self._buffer[_HEAD.size : size])
            del self._buffer[:size]
            self._take(kind, number, value, body)

    async def close(self) -> None:
        """End the connections that were accepted, and send nothing more. Idempotent."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _take(self, kind: int, number: int, value: int, body: bytes) -> None:
        one = self._connections.get(number)
        if kind == READY:
            self.ready.set()
        elif kind == OPEN and one is None and self._accept is not None and len(self._connections) < self._most:
            one = self._connections[number] = _Connection()
            one.task = asyncio.ensure_future(self._accepted(number, one, self._accept, value))
            self._tasks.add(one.task)
            one.task.add_done_callback(self._tasks.discard)
            one.task.add_done_callback(lambda _: self._connections.pop(number))
        elif kind not in (DATA, END, RESET, CREDIT):
            raise MuxError("a frame of no kind, or a connection too many")
        elif one is None:
            return  # it has ended here, which the other end did not know yet
        elif kind == DATA:
            one.owed -= len(body)
            if one.owed < 0 or one.ended:
                raise MuxError("more came than was allowed")
            one.came += body
            one.arrived.set()
        elif kind == END:
            one.ended = True
            one.arrived.set()
        elif kind == CREDIT:
            one.window += value
            if one.window > WINDOW:
                raise MuxError("more was allowed than there is")
            one.room.set()
        elif one.task is not None:
            one.broken = True
            one.task.cancel()

    async def _accepted(self, number: int, one: _Connection, accept: _Accept, place: int) -> None:
        connection = None
        try:
            connection = await accept(place)
            await self._carry(number, one, connection)
        except OSError:
            await self.send(RESET, number)
        finally:
            if connection is not None:
                connection.close()

    async def _carry(self, number: int, one: _Connection, connection: socket.socket) -> None:
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._outward(number, one, connection))
                both.create_task(self._inward(number, one, connection))
        except* OSError:
            await self.send(RESET, number)
        finally:
            if one.broken:
                # The peer is to see that the connection broke, not that all was said.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def _write_frames(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        with suppress(OSError):  # the stream has ended, which its reader sees too
            while True:
                await write(await self._frames.get())

    async def _outward(self, number: int, one: _Connection, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not one.window:
                one.room.clear()
                await one.room.wait()
            data = await loop.sock_recv(connection, min(CHUNK, one.window))
            if not data:
                await self.send(END, number)
                return
            one.window -= len(data)
            await self.send(DATA, number, len(data), data)

    async def _inward(self, number: int, one: _Connection, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while one.came or not one.ended:
            if not one.came:
                one.arrived.clear()
                await one.arrived.wait()
                continue
            data = bytes(one.came[:CHUNK])
            del one.came[:CHUNK]
            await loop.sock_sendall(connection, data)
            one.owed += len(data)
            await self.send(CREDIT, number, len(data))
        connection.shutdown(socket.SHUT_WR)
