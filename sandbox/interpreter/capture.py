"""Output of a call: file descriptors 1 and 2 go to unlinked files, so children are captured and nothing can block.

A new pair of files is made for each call; where none can be made (the agent has used up the inodes) the last pair is
emptied and used again. The files lie in the working folder, so their size counts against the session's disk limit:
a flood becomes an `OSError` in the agent's code.
"""

import io
import os
import sys
import tempfile
from bisect import bisect_right
from codecs import utf_8_decode
from contextlib import suppress
from fcntl import F_DUPFD_CLOEXEC, F_SETFL, fcntl
from resource import RLIMIT_NOFILE, getrlimit
from typing import Any, TextIO

from .text import shares

# The agent's code may change the module.
_open, _close, _write, _pread, _unlink = os.open, os.close, os.write, os.pread, os.unlink
_set_inheritable, _dup2, _fstat, _ftruncate = os.set_inheritable, os.dup2, os.fstat, os.ftruncate
_APPEND, _TEMPORARY = os.O_APPEND, getattr(os, "O_TMPFILE", 0) | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC

HIGH = 700  # above the descriptors that code which "closes everything" usually closes
CHUNK = 256 << 10
MOST = 512 << 20  # a sparse file has any size the agent likes
_BAD = "backslashreplace"


def move_high(fd: int) -> int:
    """Move a descriptor to a high number, close-on-exec, as far up as the limit of open files allows."""
    if fd >= HIGH:  # perhaps above the limit, where no new one can be made
        _set_inheritable(fd, False)
        return fd
    soft = getrlimit(RLIMIT_NOFILE)[0]
    for floor in (HIGH, max(soft - 24, 3), 3):
        with suppress(OSError, ValueError, OverflowError):
            high = fcntl(fd, F_DUPFD_CLOEXEC, floor)
            _close(fd)
            return high
    return fd


def unlinked(folder: str) -> int:
    """A new file in the folder, open for reading and appending, that has no name."""
    try:
        return _open(folder, _TEMPORARY, 0o600)
    except OSError:
        fd, path = tempfile.mkstemp(dir=folder)
        _unlink(path)
        fcntl(fd, F_SETFL, _APPEND)
        return fd


class Stream:
    """One captured descriptor: its file, and an index from characters to bytes."""

    def __init__(self, number: int, folder: str) -> None:
        self._number = number
        self._folder = folder
        self._fd = -1
        self._bytes: list[int] = [0]
        self._chars: list[int] = [0]

    def begin(self) -> None:
        """Point the descriptor to an empty file."""
        try:
            fresh = move_high(unlinked(self._folder))
        except OSError:
            with suppress(OSError):
                _ftruncate(self._fd, 0)
        else:
            if self._fd >= 0:
                with suppress(OSError):
                    _close(self._fd)
            self._fd = fresh
        self._bytes, self._chars = [0], [0]
        with suppress(OSError):
            _dup2(self._fd, self._number)

    def append(self, text: str) -> None:
        """Write at the end of the file, as far as there is room."""
        data = text.encode("utf-8", _BAD)
        with suppress(OSError):
            while data:
                data = data[_write(self._fd, data) :]

    def total(self, final: bool) -> int:
        """The number of characters so far. Unless `final`, the bytes of a character that is not complete wait."""
        try:
            size = min(_fstat(self._fd).st_size, MOST)
        except OSError:
            return 0
        if size < self._bytes[-1]:  # the agent cut its own output
            self._bytes, self._chars = [0], [0]
        while True:
            done, chars = self._bytes[-1], self._chars[-1]
            data = self._read(done, min(CHUNK, size - done))
            text, used = utf_8_decode(data, _BAD, False)
            if not used:
                return chars + (len(utf_8_decode(data, _BAD, True)[0]) if final else 0)
            self._bytes.append(done + used)
            self._chars.append(chars + len(text))

    def read(self, offset: int, limit: int, final: bool) -> str:
        """Up to `limit` characters from character `offset`."""
        end = min(offset + limit, self.total(final))
        if offset >= end:
            return ""
        mark = bisect_right(self._chars, offset) - 1
        done, chars = self._bytes[mark], self._chars[mark]
        skip, parts, have = offset - chars, [], -(offset - chars)
        while have < end - offset:
            data = self._read(done, CHUNK)
            text, used = utf_8_decode(data, _BAD, False)
            if not used:
                text, used = utf_8_decode(data, _BAD, True)
                if not used:
                    break
            parts.append(text)
            done += used
            have += len(text)
        return "".join(parts)[skip : skip + end - offset]

    def summary(self, budget: int) -> dict[str, Any]:
        """Head and tail within `budget` characters."""
        total = self.total(True)
        head, marker, tail = shares(total, budget)
        text = self.read(0, head, True) + marker + (self.read(total - tail, tail, True) if tail else "")
        return {"text": text, "truncated": total > budget, "total_chars": total}

    def _read(self, offset: int, size: int) -> bytes:
        try:
            return _pread(self._fd, size, offset) if size > 0 else b""
        except OSError:
            return b""


class Capture:
    """Standard input, output and error of the session."""

    def __init__(self, folder: str) -> None:
        self.streams = {"stdout": Stream(1, folder), "stderr": Stream(2, folder)}
        self._texts: dict[str, TextIO] = {}
        try:
            self._null = move_high(_open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
        except OSError:
            self._null = move_high(unlinked(folder))

    def begin(self) -> None:
        """Start the output of a new call."""
        self.flush()
        with suppress(OSError):
            _dup2(self._null, 0)
        for stream in self.streams.values():
            stream.begin()
        for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
            text = self._texts.get(name)
            if text is None or text.closed:
                text = self._texts[name] = _open_text(number)
            setattr(sys, name, text)
            setattr(sys, f"__{name}__", text)

    def flush(self) -> None:
        """Empty the text layers, those that the agent put in their place too."""
        for name in ("stdout", "stderr"):
            with suppress(Exception):
                getattr(sys, name).flush()  # the agent may have put its own in place
        for name, number in (("stdout", 1), ("stderr", 2)):
            try:
                self._texts[name].flush()
            except Exception:
                # What does not fit on the disk is dropped, else it would come up in the next call.
                with suppress(Exception):
                    _dup2(self._null, number)
                    self._texts[name].flush()

    def summary(self, budget: int) -> dict[str, Any]:
        """Both streams of the call that has just ended."""
        return {name: stream.summary(budget) for name, stream in self.streams.items()}


def _open_text(number: int) -> TextIO:
    raw = io.FileIO(number, "r" if number == 0 else "w", closefd=False)
    if number == 0:
        return io.TextIOWrapper(io.BufferedReader(raw), "utf-8", _BAD)
    # Line buffering keeps the order of what Python and its children write.
    return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", _BAD, line_buffering=True)
