"""Requests to one session's interpreter over its socket, and the end of the session."""

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sandbox.embedded.cgroup import Group
from sandbox.services import Relay
from sandbox.session import Ended as Ended
from sandbox.wire import Decoder, WireError, pack

_CHUNK = 1 << 18
_KILL_SECONDS = 10.0


class Channel:
    """Owns a session's socket and services, the pidfd of its process 1, a descriptor of its /work and its group."""

    def __init__(
        self,
        connection: socket.socket,
        pidfd: int,
        work: int,
        group: Group | None,
        listeners: Sequence[socket.socket] = (),
    ) -> None:
        self._connection, self._pidfd, self.work, self._group = connection, pidfd, work, group
        self.relay = Relay(listeners)
        self._decoder, self._ready, self._background = Decoder(), False, False
        self._loop = asyncio.get_running_loop()
        self._gone = asyncio.Event()
        self.out_of_memory = False
        self._loop.add_reader(pidfd, self._gone_now)

    @property
    def gone(self) -> bool:
        return self._gone.is_set()

    async def request(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send one request and wait for its reply, which must be the next message. Raises Ended.

        Between requests the session's processes are held still, unless it was asked to work in the background.
        """
        number = secrets.randbits(52)  # so that no reply can be laid ready for a request to come
        self._freeze(False)
        try:
            await self._loop.sock_sendall(self._connection, pack({"id": number, **message}))
            while not (replies := await self._receive()):
                pass
        except (OSError, WireError) as error:
            raise Ended from error
        # An honest interpreter sends nothing else. To skip other messages would let a flood of them hold up the loop.
        if replies[0].get("id") != number:
            raise Ended
        if message.get("background") and replies[0].get("status") == "running":
            self._background = True
        elif message.get("op") == "output" and replies[0].get("done") is True:
            self._background = False
        if not self._background:
            self._freeze(True)
        return replies[0]

    def _freeze(self, frozen: bool) -> None:
        if self._group is not None and not self.gone:
            self._group.freeze(frozen)

    async def ready(self) -> None:
        """Wait for the interpreter's first message. Raises Ended."""
        while not self._ready:
            try:
                self._ready = any(reply.get("ready") is True for reply in await self._receive())
            except (OSError, WireError) as error:
                raise Ended from error

    async def _receive(self) -> list[dict[str, Any]]:
        data = await self._loop.sock_recv(self._connection, _CHUNK)
        if not data:
            raise Ended
        return self._decoder.feed(data)

    def pid(self) -> int | None:
        """Process 1's number as the supervisor sees it."""
        with suppress(OSError):
            for line in Path(f"/proc/self/fdinfo/{self._pidfd}").read_text().splitlines():
                if line.startswith("Pid:") and (pid := int(line.split()[1])) > 0:
                    return pid
        return None

    def kill(self) -> None:
        """Kill process 1, and with it the whole tree."""
        if not self.gone:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def end(self) -> None:
        """Kill, wait until nothing is left, free what the session held. Idempotent."""
        self.kill()
        if not self.gone:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), _KILL_SECONDS)
        await self.relay.close()
        if self._pidfd < 0:
            return
        if self._group is not None:
            self.out_of_memory = self.out_of_memory or self._group.out_of_memory()
            for _ in range(50):
                if self._group.remove():
                    break
                await asyncio.sleep(0.01)
        if self._pidfd < 0:
            return
        self._loop.remove_reader(self._pidfd)
        self._connection.close()
        self._decoder = Decoder()  # what came may be large, and the session may be remembered
        os.close(self._pidfd)
        os.close(self.work)
        self._pidfd = -1

    def _gone_now(self) -> None:
        self._loop.remove_reader(self._pidfd)
        if self._group is not None:
            self.out_of_memory = self.out_of_memory or self._group.out_of_memory()
        self._gone.set()
