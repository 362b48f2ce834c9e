"""The connection to one container: our frames inside the engine's stream of standard output and error."""

import asyncio
import base64
import secrets
import socket
import time
from binascii import Error as Base64Error
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sandbox.base import Service
from sandbox.docker_engine.engine import Engine
from sandbox.docker_engine.services import Services
from sandbox.docker_engine.streams import STDERR, Streams
from sandbox.errors import SandboxFailure, TransferError
from sandbox.session import Ended
from sandbox.wire import Decoder, WireError, pack

_RECEIVE, _FILE_PART, _TAIL = 1 << 18, 8 << 20, 2000


class DockerChannel:
    """Owns one container and the connection to its process 1 (`sandbox.docker_engine.keeper`)."""

    def __init__(self, engine: Engine, container: str, connection: socket.socket) -> None:
        self._engine, self._container, self._connection = engine, container, connection
        self._loop = asyncio.get_running_loop()
        self._streams, self._decoder = Streams(), Decoder()
        self._turn = asyncio.Lock()  # a file that is asked for during a call waits for its end
        self._errors = b""
        self._finished = False
        self._ending: asyncio.Task[None] | None = None
        self._services: Services | None = None
        self.born = time.monotonic()
        self.out_of_memory = False
        self.engine_lives = True

    @property
    def gone(self) -> bool:
        if self._finished or self._ending is not None:
            return True
        try:
            return not self._connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    @property
    def ended(self) -> bool:
        """Whether `end` has done all that it does."""
        return self._ending is not None and self._ending.done()

    @property
    def complaint(self) -> str:
        """The last line that the container wrote on standard error, for the operator."""
        lines = self._errors.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "the container ended without a word"

    async def warm(self, payload: dict[str, Any]) -> None:
        """Send the code and wait until the interpreter has loaded its modules. Raises Ended."""
        await self._send(pack(payload))
        await self._until("warm", True)

    async def offer(self, command: list[str], payload: dict[str, Any]) -> None:
        """Start the relay of its services, before any of the agent's code runs. Raises SandboxFailure."""
        starting = asyncio.ensure_future(asyncio.to_thread(self._engine.execute, self._container, command))
        try:
            stream = await asyncio.shield(starting)
        except asyncio.CancelledError:
            with suppress(Exception):
                (await starting).close()
            raise
        self._services = Services(stream)
        await self._services.start(payload)

    async def begin(self, options: dict[str, Any], services: Sequence[Service] = ()) -> None:
        """Make it the session of one episode, with a service for each port. Raises Ended."""
        if self._services is not None:
            self._services.serve([service.socket for service in services])
        await self._send(pack({"op": "begin", "options": options}))
        await self._until("ready", True)

    async def request(self, message: dict[str, Any]) -> dict[str, Any]:
        async with self._turn:
            return await self._request(message)

    async def _request(self, message: dict[str, Any]) -> dict[str, Any]:
        if self.gone:
            raise Ended
        number = secrets.randbits(52)  # so that no reply can be laid ready for a request to come
        try:
            frame = pack({"id": number, **message})
        except WireError as error:
            raise Ended from error
        await self._send(frame)
        return await self._until("id", number)

    async def read_file(self, path: str, max_bytes: int) -> bytes:
        """A regular file below /work. Raises TransferError, Ended."""
        content, message = b"", {"op": "read", "path": path, "max_bytes": max_bytes}
        async with self._turn:
            while True:
                part, more = _part(await self._request(message))
                content += part
                if len(content) > max_bytes:
                    raise Ended
                if not more:
                    return content
                message = {"op": "more"}

    async def write_file(self, path: str, content: bytes) -> None:
        """A regular file below /work. Raises TransferError, Ended."""
        async with self._turn:
            for start in range(0, len(content) or 1, _FILE_PART):
                part = base64.b64encode(content[start : start + _FILE_PART]).decode()
                last = start + _FILE_PART >= len(content)
                _refused(await self._request({"op": "write", "path": path, "content": part, "last": last}))

    async def end(self) -> None:
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._end())
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        try:
            self.out_of_memory = await asyncio.to_thread(self._engine.remove, self._container, self._finished)
        except SandboxFailure:
            # The container ends by itself when its connection does, and the reaper finds it.
            self.engine_lives = False
        if self._services is not None:
            await self._services.close()
        self._connection.close()

    async def _send(self, frame: bytes) -> None:
        try:
            await self._loop.sock_sendall(self._connection, frame)
        except OSError as error:
            self._finished = True
            raise Ended from error

    async def _until(self, key: str, value: object) -> dict[str, Any]:
        """The next message, which must have `value` at `key`. Raises Ended."""
        while True:
            try:
                data = await self._loop.sock_recv(self._connection, _RECEIVE)
            except OSError:
                data = b""
            if not data:
                self._finished = True
                raise Ended
            try:
                for stream, piece in self._streams.feed(data):
                    if stream == STDERR:
                        self._errors = (self._errors + piece)[-_TAIL:]
                        continue
                    for reply in self._decoder.feed(piece):
                        if reply.get(key) != value or type(reply.get(key)) is not type(value):
                            raise Ended
                        return reply
            except WireError as error:
                raise Ended from error


def _refused(reply: dict[str, Any]) -> None:
    text = reply.get("transfer_error")
    if text is not None:
        raise TransferError(str(text)[:2000])


def _part(reply: dict[str, Any]) -> tuple[bytes, bool]:
    _refused(reply)
    try:
        return base64.b64decode(reply["content"], validate=True), reply["more"] is True
    except (KeyError, TypeError, ValueError, Base64Error) as error:
        raise Ended from error
