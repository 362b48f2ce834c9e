"""What every sandbox backend promises: sessions with state, limits, and three languages.

A `Sandbox` is one backend on one machine; a `Session` is the private machine of one episode. All paths inside a
session are the same on every backend: `/data` (the task's public data, read-only) and `/work` (writable, the
current folder, lost at the end). There is no network but the session's own loopback, with the services that the
session was opened with.

Whatever a session sends is untrusted: strings may imitate anything, and only the fields of `Execution` that are
documented as measured by the supervisor (`status`, `seconds`) are facts.
"""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

DATA_FOLDER = "/data"
WORK_FOLDER = "/work"
MOST_SERVICES, MOST_CONNECTIONS = 8, 16
"""Of one session: its services, and its connections at a time to all of them; further ones wait until one has ended."""
_PORTS, _SOCKET_PATH = range(1024, 1 << 16), 107

Language = Literal["python", "sql", "shell"]
Stream = Literal["stdout", "stderr"]
JSONValue = None | bool | int | float | str | list["JSONValue"] | dict[str, "JSONValue"]


@dataclass(frozen=True)
class Limits:
    """Limits of one session. Sizes are bytes, times are seconds, `output` is characters per stream of one call.

    `cpu_seconds` and `open_files` are of each process, `memory`, `disk`, `inodes` and `processes` of the whole tree.
    """

    call_seconds: float = 30.0
    cpu_seconds: float = 600.0
    memory: int = 1 << 30
    disk: int = 256 << 20
    inodes: int = 20_000
    processes: int = 64
    open_files: int = 256
    output: int = 20_000


@dataclass(frozen=True)
class Service:
    """A service of the operator's that a session reaches at `http://localhost:PORT`, and nothing else through it.

    Bytes are passed on between TCP connections to that port of the session's own loopback and `socket`, a unix stream
    socket of this machine that need not listen yet: while it does not, connections are reset. `name` is for people.
    The session is untrusted, and so is what it sends. Raises ValueError for a port outside 1024 to 65535 and for a
    path that no socket can have.
    """

    name: str
    port: int
    socket: Path

    def __post_init__(self) -> None:
        if self.port not in _PORTS:
            raise ValueError(f"service {self.name}: port {self.port} is outside 1024 to 65535")
        if len(os.fsencode(self.socket)) > _SOCKET_PATH:
            raise ValueError(f"service {self.name}: the path {self.socket} is too long for a unix socket")


@dataclass(frozen=True)
class SessionSpec:
    """What one session sees.

    `source` names one of the folders that the sandbox was started with; it appears, read-only, at `/data`.
    `database` is the file in `/data` (its name, or its path inside) that the language `sql` queries, opened read-only.
    `services` are at most 8, each on a port of its own (ValueError); the levels embedded and docker have them.
    """

    source: str | None = None
    database: str | None = None
    limits: Limits = field(default_factory=Limits)
    seed: int = 0
    services: tuple[Service, ...] = ()

    def __post_init__(self) -> None:
        if len({service.port for service in self.services}) < len(self.services):
            raise ValueError("two services of a session have the same port")
        if len(self.services) > MOST_SERVICES:
            raise ValueError(f"a session has at most {MOST_SERVICES} services")

    @property
    def ports(self) -> tuple[int, ...]:
        return tuple(service.port for service in self.services)

    @property
    def warm(self) -> "SessionSpec":
        """What can be made before the episode is known: all but which sockets its services are."""
        if not self.services:
            return self
        return replace(self, services=tuple(replace(service, name="", socket=Path()) for service in self.services))


@dataclass(frozen=True)
class Output:
    """One stream of one call: its head and tail, at most `Limits.output` characters, and how long it was in full."""

    text: str = ""
    truncated: bool = False
    total_chars: int = 0


@dataclass(frozen=True)
class CodeError:
    """Facts about an exception in the agent's code, gathered in the session.

    `line` is 1-based in the code that was sent (None outside it), `source` is that line, `names` maps each name on
    the line to a short description of its value ("DataFrame 58976x19, columns: ..."), and `candidates` holds the
    identifiers that were available where a name, key, column, table or attribute was not found.
    `missing` is the identifier that was looked for. Raw material for error grounding, not prose.
    """

    type: str
    message: str
    traceback: str = ""
    line: int | None = None
    source: str | None = None
    names: dict[str, str] = field(default_factory=dict)
    missing: str | None = None
    candidates: tuple[str, ...] = ()


Status = Literal["ok", "error", "timeout", "memory", "killed", "running"]


@dataclass(frozen=True)
class Execution:
    """The result of one call.

    `status`: ok | error (the code raised, or the shell's exit status was not 0) | timeout, memory, killed (the
    whole session was ended and every later call raises `SessionClosed`) | running (background work goes on; poll
    with `read_output`). `value` is the `repr` of the last expression (python), the result table as text (sql), or
    None. `exit_code` is the shell's. `seconds` is wall time, measured by the supervisor.
    """

    status: Status
    stdout: Output = field(default_factory=Output)
    stderr: Output = field(default_factory=Output)
    value: str | None = None
    value_truncated: bool = False
    error: CodeError | None = None
    exit_code: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Chunk:
    """A slice of a long output. `next_offset` continues it; `done` is true when nothing more will come."""

    text: str
    offset: int
    next_offset: int
    total_chars: int
    done: bool


class Session(Protocol):
    """The private machine of one episode. Calls must not overlap: the caller holds a lock per episode."""

    async def execute(
        self, code: str, *, language: Language = "python", timeout: float | None = None, background: bool = False
    ) -> Execution:
        """Run `code` and return what it did. State (names, files, working folder) persists between calls.

        `timeout` is capped by `Limits.call_seconds`; when it passes, the process tree of the session is killed.
        Only one background call may run at a time; its output is read by `read_output`, and its end frees the slot.
        Raises SessionClosed, SandboxFailure.
        """

    async def read_output(self, stream: Stream, offset: int = 0, *, limit: int = 20_000, wait: float = 0.0) -> Chunk:
        """Page through the output of the latest call, or of the background call while one runs.

        Waits up to `wait` seconds for something new past `offset`. Raises SessionClosed.
        """

    async def read_variable(self, name: str, *, max_bytes: int = 10_000_000) -> JSONValue:
        """Read a Python variable as strict JSON. pandas and numpy objects are converted (a DataFrame becomes its rows).

        Raises TransferError (no such name, not JSON, NaN, too large), SessionClosed.
        """

    async def read_file(self, path: str, *, max_bytes: int = 10_000_000) -> bytes:
        """Read a regular file under `/work` without following any link. Raises TransferError, SessionClosed."""

    async def write_file(self, path: str, content: bytes) -> None:
        """Write a regular file under `/work`, making parent folders. Raises TransferError, SessionClosed."""

    async def close(self) -> None:
        """Kill the whole process tree and free everything. Idempotent, never raises for a dead session."""

    @property
    def closed(self) -> bool:
        """Whether the session has ended."""


class Sandbox(Protocol):
    """One backend, started once per server process. An async context manager around `start` and `close`."""

    name: str

    async def start(self) -> None:
        """Start the backend and fill its warm pool. Raises SandboxUnavailable with the remedy."""

    async def open(self, spec: SessionSpec) -> Session:
        """Open a session, from the warm pool when one is ready.

        Raises SandboxFailure (also where the backend has no services), and KeyError for an unknown source.
        """

    async def close(self) -> None:
        """End every session and the backend; leaves no process, mount, cgroup or folder behind."""


@dataclass(frozen=True)
class SandboxConfig:
    """What a backend is started with. `sources` maps a name to a host folder offered read-only as `/data`. Relative
    paths mean those of this moment, and links are followed.

    `wheelhouse`: a folder of packages that appears at `/wheels`, read-only. pip in a session installs from there alone,
    into a virtual environment in `/tmp`; all that is provided counts as installed and is not changed.
    """

    sources: dict[str, Path] = field(default_factory=dict)
    packages: tuple[str, ...] = (
        "numpy",
        "pandas",
        "scipy",
        "statsmodels",
        "sklearn",
        "lifelines",
        "Bio",
        "matplotlib",
    )
    wheelhouse: Path | None = None
    pool: int = 2
    preload: tuple[str, ...] = ("numpy", "pandas", "sqlite3")

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", {name: path.resolve() for name, path in self.sources.items()})
        if self.wheelhouse is not None:
            object.__setattr__(self, "wheelhouse", self.wheelhouse.resolve())
