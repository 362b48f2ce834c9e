"""A session of the embedded backend (`sandbox.base.Session`): what is shared, its files, and what the watcher needs."""

import asyncio
from collections.abc import Sequence

from sandbox.base import Service
from sandbox.embedded import transfer
from sandbox.embedded.channel import Channel
from sandbox.session import ChannelSession


class EmbeddedSession(ChannelSession[Channel]):
    """One session in a fork of the zygote."""

    @property
    def memory_limit(self) -> int:
        return self._spec.limits.memory

    async def read_file(self, path: str, *, max_bytes: int = 10_000_000) -> bytes:
        self._check_open()
        return await asyncio.to_thread(transfer.read, self._channel.work, path, max_bytes)

    async def write_file(self, path: str, content: bytes) -> None:
        self._check_open()
        await asyncio.to_thread(transfer.write, self._channel.work, path, content)

    def serve(self, services: Sequence[Service]) -> None:
        """From now on the session reaches these services, one for each port that it was opened with."""
        self._channel.relay.serve([service.socket for service in services])

    def kill(self, why: str) -> None:
        """End the tree at once, for the watcher; the call in flight then ends."""
        if why == "memory":
            self._channel.out_of_memory = True
        self._channel.kill()

    def pid(self) -> int | None:
        return None if self.closed else self._channel.pid()
