"""Frames between the supervisor and a session: a 4-byte big-endian length, then a JSON object in UTF-8.

Used on both ends, and hardened for the one that reads from an untrusted peer: sizes, depth and the number of values
are bounded before anything is built from them.
"""

import json
import re
from typing import Any

MAX_FRAME = 16 << 20
MAX_DEPTH = 16
# A frame is a handful of values with long texts; millions of tiny values would cost 20 times their size in memory.
MAX_STRUCTURE = 256 << 10

# The closing quote is optional so that a text without one is passed over once, not from each of its quotes.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")
# Made once: in a session, the agent's code may change the json module.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
_decode_json = json.JSONDecoder().decode


class WireError(Exception):
    """A message cannot be framed, or the bytes that came are not a frame. The connection is of no more use."""


def pack(message: dict[str, Any]) -> bytes:
    """One frame. Raises WireError if the message is not JSON or longer than `MAX_FRAME`."""
    try:
        try:
            body = _encode(message).encode()
        except UnicodeEncodeError:  # lone surrogates travel as escapes
            body = _encode_ascii(message).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise WireError(f"not a JSON message: {error}") from error
    if len(body) > MAX_FRAME:
        raise WireError(f"a message of {len(body)} bytes is longer than {MAX_FRAME}")
    return len(body).to_bytes(4, "big") + body


class Decoder:
    """Turns a stream of bytes, cut anywhere, into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The messages that `data` completes. Raises WireError for bytes that are not frames."""
        self._buffer += data
        messages: list[dict[str, Any]] = []
        start = 0
        while len(self._buffer) - start >= 4:
            size = int.from_bytes(self._buffer[start : start + 4], "big")
            if not 2 <= size <= MAX_FRAME:
                raise WireError(f"a frame of {size} bytes is outside 2 to {MAX_FRAME}")
            if len(self._buffer) - start - 4 < size:
                break
            messages.append(_decode(bytes(self._buffer[start + 4 : start + 4 + size])))
            start += 4 + size
        del self._buffer[:start]
        return messages


def _decode(body: bytes) -> dict[str, Any]:
    structure = _STRINGS.sub(b"", body)
    if len(structure) > MAX_STRUCTURE:
        raise WireError("a frame holds too many values")
    depth = 0
    for bracket in _BRACKETS.findall(structure):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise WireError(f"a frame is nested deeper than {MAX_DEPTH}")
    try:
        message = _decode_json(body.decode())
    except (ValueError, RecursionError) as error:
        raise WireError(f"a frame is not JSON in UTF-8: {error}") from error
    if not isinstance(message, dict):
        raise WireError("a frame is not a JSON object")
    return message
