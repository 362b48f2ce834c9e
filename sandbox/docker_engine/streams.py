"""The engine's stream of standard output and error, taken apart."""

from sandbox.wire import WireError

STDOUT, STDERR = 1, 2


class Streams:
    """Takes the engine's stream apart: each part is 8 bytes (stream, 0, 0, 0, length), then so many of that stream."""

    def __init__(self) -> None:
        self._head = b""
        self._stream = self._left = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The parts, or pieces of parts, in `data`. Raises WireError for a stream that does not exist."""
        pieces = []
        while data:
            if not self._left:
                missing = 8 - len(self._head)
                self._head, data = self._head + data[:missing], data[missing:]
                if len(self._head) < 8:
                    break
                if self._head[0] not in (STDOUT, STDERR) or self._head[1:4] != b"\0\0\0":
                    raise WireError("the engine's stream is out of step")
                self._stream, self._left = self._head[0], int.from_bytes(self._head[4:], "big")
                self._head = b""
                continue
            piece, data = data[: self._left], data[self._left :]
            self._left -= len(piece)
            pieces.append((self._stream, piece))
        return pieces
