"""A session at the level `landlock`: as in the embedded backend, but its tree is ended by its keeper."""

import asyncio
import dataclasses
import os
import signal
from collections.abc import Callable
from contextlib import suppress

from sandbox.base import Chunk, Execution, Language, Limits, SessionSpec, Stream
from sandbox.embedded.channel import Channel
from sandbox.embedded.handle import EmbeddedSession
from sandbox.errors import TransferError
from sandbox.landlock.places import Places
from sandbox.landlock.shown import shown
from sandbox.landlock.watch import usage


class LandlockChannel(Channel):
    """Its pidfd is that of the keeper."""

    def kill(self) -> None:
        """Tell the keeper, which kills the whole tree and ends when nothing is left."""
        if not self.gone:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)


class LandlockSession(EmbeddedSession):
    """One session. Real paths in what it sends are shown as those of the contract."""

    def __init__(self, channel: Channel, spec: SessionSpec, backend_lives: Callable[[], bool], places: Places) -> None:
        super().__init__(channel, spec, backend_lives)
        self._places = places

    @property
    def limits(self) -> Limits:
        return self._spec.limits

    def folder(self) -> int:
        """A new descriptor of the folder that holds its own. Raises OSError once the session has ended."""
        if self.closed:
            raise OSError("the session has ended")
        return os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._channel.work)

    async def write_file(self, path: str, content: bytes) -> None:
        self._check_open()
        size, count = await asyncio.to_thread(self._used)
        if size + len(content) > self.limits.disk or count + path.count("/") + 1 > self.limits.inodes:
            raise TransferError(f"{path!r} does not fit into the session's disk.")
        await super().write_file(path, content)

    def _used(self) -> tuple[int, int]:
        try:
            folder = self.folder()
        except OSError:
            return 0, 0
        try:
            return usage(folder, self.limits.inodes)
        finally:
            os.close(folder)

    async def execute(
        self, code: str, *, language: Language = "python", timeout: float | None = None, background: bool = False
    ) -> Execution:
        done = await super().execute(code, language=language, timeout=timeout, background=background)
        return shown(done, self._places)

    async def read_output(self, stream: Stream, offset: int = 0, *, limit: int = 20_000, wait: float = 0.0) -> Chunk:
        chunk = await super().read_output(stream, offset, limit=limit, wait=wait)
        return dataclasses.replace(chunk, text=self._places.text_outward(chunk.text))
