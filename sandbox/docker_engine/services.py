"""The server's end of a container's relay: connections that it opens are passed on to unix sockets of this machine."""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sandbox.base import MOST_CONNECTIONS
from sandbox.docker_engine.mux import Mux, MuxError
from sandbox.docker_engine.streams import STDOUT, Streams
from sandbox.errors import SandboxFailure
from sandbox.services import connect
from sandbox.wire import WireError, pack

_RECEIVE, _TAIL = 1 << 17, 2000


class Services:
    """Owns the stream. When it ends, or what comes is no frames, the session goes on without its services."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream, self._sockets = stream, list[Path]()
        # A connection may have ended inside while its last bytes still wait here.
        self._mux = Mux(self._write, self._accept, 2 * MOST_CONNECTIONS)
        self._errors = b""
        self._reading: asyncio.Task[None] | None = None

    async def start(self, payload: dict[str, Any]) -> None:
        """Send the relay's code and wait until it listens. Raises SandboxFailure."""
        with suppress(OSError):
            await self._write(pack(payload))
        self._reading = asyncio.ensure_future(self._read())
        ready = asyncio.ensure_future(self._mux.ready.wait())
        try:
            await asyncio.wait((ready, self._reading), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if not self._mux.ready.is_set():
            lines = self._errors.decode(errors="replace").strip().splitlines() or ["it ended without a word"]
            raise SandboxFailure(f"the relay of the services: {lines[-1]}")

    def serve(self, sockets: Sequence[Path]) -> None:
        """From now on connections lead to these sockets, one for each port."""
        self._sockets = list(sockets)

    async def close(self) -> None:
        """End every connection. Idempotent."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._mux.close()
        self._stream.close()

    async def _read(self) -> None:
        streams, loop = Streams(), asyncio.get_running_loop()
        try:
            with suppress(OSError, WireError, MuxError):
                while data := await loop.sock_recv(self._stream, _RECEIVE):
                    for stream, piece in streams.feed(data):
                        if stream == STDOUT:
                            self._mux.feed(piece)
                        else:
                            self._errors = (self._errors + piece)[-_TAIL:]
                    await asyncio.sleep(0)  # it returns at once while it can: others have their turn
        finally:
            await self._mux.close()
            self._stream.close()  # the relay then ends too

    async def _write(self, frame: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._stream, frame)

    async def _accept(self, place: int) -> socket.socket:
        if place >= len(self._sockets):
            raise ConnectionRefusedError
        return await connect(self._sockets[place])
