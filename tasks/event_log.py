"""The event log: what happened in one server process, append-only, one JSON line an event, chained by hashes.

A line holds seq (from 1), ts (UTC), run, episode, kind, tool, arguments, result, digests (sha256 of the canonical
JSON of arguments and of result), seconds, prev and hash. `hash` is the sha256 of the canonical JSON of the line
without it; `prev` is the hash of the line before, so no line can be changed, removed, inserted or moved without
breaking the chain. At `close` (or when a dead server's log is recovered) a seal beside the log holds the number of
lines and the last hash, so that lines cannot be dropped from the end either.

Every append reaches the kernel before it returns: kill -9 loses nothing that was appended. `sync` makes it survive a
loss of power. What is *not* covered: someone who may write to the folder can replace a log and its seal as a whole.
"""

import fcntl
import hashlib
import json
import math
import os
import re
import secrets
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from pydantic import BaseModel

EventKind = Literal["open", "start", "call", "result", "submit", "grade", "end", "amend"]
KINDS: tuple[EventKind, ...] = ("open", "start", "call", "result", "submit", "grade", "end", "amend")

GENESIS = "0" * 64
"""`prev` of the first line."""
_FIELDS = {
    "seq",
    "ts",
    "run",
    "episode",
    "kind",
    "tool",
    "arguments",
    "result",
    "digests",
    "seconds",
    "prev",
    "hash",
}
_MAX_DEPTH = 100
_MAX_BITS = 4096
_MAX_PROBLEMS = 50
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def plain(value: Any, _depth: int = 0) -> Any:
    """`value` as JSON that every reader can read back, whatever it was.

    Models become objects; a lone surrogate becomes U+FFFD; NaN, infinities, integers past 4,096 bits, bytes and other
    objects become texts; what lies deeper than 100 levels is cut.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if not _SURROGATE.search(value):
            return str(value)
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, int):
        return int(value) if value.bit_length() <= _MAX_BITS else hex(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else repr(float(value))
    if _depth >= _MAX_DEPTH:
        return "(cut: nested too deeply)"
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="python", by_alias=True), _depth)
    if isinstance(value, dict):
        return {plain(key if isinstance(key, str) else str(key)): plain(one, _depth + 1) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one, _depth + 1) for one in value]
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "replace")
    return plain(str(value))


def canonical(value: Any) -> bytes:
    """The one spelling of a JSON value: keys sorted, no blanks, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def digest(value: Any) -> str:
    """sha256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical(plain(value))).hexdigest()


def now() -> str:
    """UTC with microseconds, as every record spells it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class LineFile:
    """A new file of lines, mode 0600, locked (flock) while open; its name tells when and by which process it was made.

    The name appears in the folder only once the lock is held, so whoever finds an unlocked file knows that its writer
    is gone. A line that cannot be written whole (disk full) is taken back. Any thread may write.
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        self.path = folder / f"{prefix}-{stamp}-{os.getpid()}-{secrets.token_hex(2)}.jsonl"
        hidden = folder / f".{self.path.name}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(hidden, flags, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A link, unlike a rename, refuses to replace a log that another thread made in the same instant.
        os.link(hidden, self.path)
        hidden.unlink()
        self._size = 0

    def write(self, line: bytes) -> int:
        """Append a line; its offset. Raises OSError, and ValueError once closed."""
        if self._fd < 0:
            raise ValueError(f"{self.path.name} is closed")
        data = memoryview(line + b"\n")
        try:
            written = 0
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        offset, self._size = self._size, self._size + len(data)
        return offset

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def sync(self) -> None:
        if self._fd >= 0:
            os.fsync(self._fd)

    def close(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


class EventLog:
    """The log of one server process: <folder>/events-<utc>-<pid>-<hex>.jsonl. Any thread may append.

    Raises OSError when the disk does; the chain then goes on from the last line that was written.
    """

    def __init__(self, folder: Path) -> None:
        self._file = LineFile(folder, "events")
        self.path = self._file.path
        self._lock = threading.Lock()
        self._seq = 0
        self._prev = GENESIS
        self._closed = False
        self._places: dict[str, list[tuple[int, int]]] = {}
        """Where the events are of the episodes that have begun and are not forgotten."""

    def append(
        self,
        kind: EventKind,
        *,
        episode: str | None = None,
        run: str | None = None,
        tool: str | None = None,
        arguments: Any = None,
        result: Any = None,
        seconds: float | None = None,
    ) -> str:
        """Append one event and return its hash."""
        entry: dict[str, Any] = plain(
            {
                "run": run,
                "episode": episode,
                "kind": kind,
                "tool": tool,
                "arguments": arguments,
                "result": result,
                "seconds": None if seconds is None else round(seconds, 6),
            }
        )
        entry["digests"] = {
            name: hashlib.sha256(canonical(entry[name])).hexdigest()
            for name in ("arguments", "result")
            if entry[name] is not None
        }
        with self._lock:
            entry |= {"seq": self._seq + 1, "ts": now(), "prev": self._prev}
            entry["hash"] = hashlib.sha256(canonical(entry)).hexdigest()
            line = canonical(entry)
            offset = self._file.write(line)
            self._seq += 1
            self._prev = entry["hash"]
            if entry["episode"] is not None:
                self._note(entry["episode"], kind, (offset, len(line)))
            return self._prev

    def _note(self, episode: str, kind: EventKind, place: tuple[int, int]) -> None:
        if kind == "start":
            self._places[episode] = []
        if episode in self._places:
            self._places[episode].append(place)

    def events(self, episode: str) -> list[dict[str, Any]]:
        """The events of an episode from its start on, read back from the file; [] once it is forgotten."""
        with self._lock:
            return [json.loads(self._file.read(*place)) for place in self._places.get(episode, [])]

    def forget(self, episode: str) -> None:
        """Say that the episode's record is on the disk: its events are not needed any more."""
        with self._lock:
            self._places.pop(episode, None)

    def sync(self) -> None:
        """Make all that was appended survive a loss of power."""
        self._file.sync()

    def close(self) -> None:
        """Seal the log, unless an episode is not forgotten: its record is left to `recover`. Idempotent."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._file.sync()
                if not self._places:
                    write_seal(self.path, self._seq, self._prev, recovered=False)
                self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def seal_path(log: Path) -> Path:
    return log.with_suffix(".seal")


def write_seal(log: Path, events: int, last: str, *, recovered: bool) -> None:
    """Say that nothing will be appended to `log` any more. Atomic."""
    path = seal_path(log)
    hidden = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    fd = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, canonical({"events": events, "hash": last, "recovered": recovered}) + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)
    hidden.replace(path)


def read_lines(path: Path) -> Iterator[tuple[int, bytes, bool]]:
    """(line number, line without its end, whether the end was there); only the last line may lack it."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            yield number, line.removesuffix(b"\n"), line.endswith(b"\n")


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a log in order; lines that are not whole events (a torn last one) are passed over."""
    for _, line, _ in read_lines(path):
        if (entry := _entry(line)) is not None:
            yield entry


def verify_log(path: Path) -> list[str]:
    """What is wrong with the chain of a log, naming line numbers; [] when all is well. Raises OSError.

    A log whose writer was killed may end in the middle of a line: that is said apart from tampering.
    """
    problems: list[str] = []
    seq, prev = 0, GENESIS
    for number, line, ended in read_lines(path):
        if len(problems) >= _MAX_PROBLEMS:
            problems.append("and perhaps more: checking stopped here")
            return problems
        if not ended:
            problems.append(f"line {number}: the log was cut in the middle of its last line (the server was killed)")
            break
        if (entry := _entry(line)) is None:
            problems.append(f"line {number}: is not an event")
            seq, prev = seq + 1, ""
            continue
        if prev and entry["prev"] != prev:
            problems.append(f"line {number}: does not follow the line before it: lines were removed, added or moved")
        if entry["seq"] != seq + 1:
            problems.append(f"line {number}: has number {entry['seq']} where {seq + 1} was due")
        body = {name: value for name, value in entry.items() if name != "hash"}
        if entry["hash"] != hashlib.sha256(canonical(body)).hexdigest() or line != canonical(entry):
            problems.append(f"line {number}: was changed")
        seq, prev = entry["seq"], entry["hash"]
    return problems + _seal_problems(path, seq, prev)


def _seal_problems(path: Path, seq: int, prev: str) -> list[str]:
    try:
        seal = json.loads(seal_path(path).read_bytes())
        events, last = seal["events"], seal["hash"]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError):
        return ["the seal is not readable"]
    if (events, last) != (seq, prev):
        return [f"the end is not the one that was sealed: {events} lines were sealed, the last here has number {seq}"]
    return []


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or set(entry) != _FIELDS:
        return None
    if type(entry["seq"]) is not int or not isinstance(entry["hash"], str) or entry["kind"] not in KINDS:
        return None
    try:
        canonical(entry)
    except (ValueError, RecursionError):
        return None
    return entry
