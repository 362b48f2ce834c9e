"""`unsafe-subprocess`: the contract without any isolation, for a first look where no sandbox can be had.

Agents' code runs as the user who started the server: it can read, change and send away whatever that user can. What
holds is what a mistake needs, not what an attack does: a folder per session, limits of time, of one file's size and of
open files, and on Linux of memory and processes, which are watched; processes that were started are found by their
parents and their environment. It serves no restricted data. Linux and macOS.
"""

import asyncio
import dataclasses
import json
import os
import posixpath
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from sandbox.base import DATA_FOLDER, Chunk, Execution, Language, Limits, SandboxConfig, SessionSpec, Stream
from sandbox.errors import SandboxFailure, SandboxUnavailable, TransferError
from sandbox.landlock import plan
from sandbox.landlock.places import ROOT_VARIABLE, Places
from sandbox.landlock.shown import shown
from sandbox.landlock.watch import one_file, watch
from sandbox.services import refuse_services
from sandbox.session import ChannelSession, Ended
from sandbox.wire import Decoder, WireError, pack

WARNING = "unsafe-subprocess isolates NOTHING: agents' code runs as you, on your files and your network."

_PROJECT = Path(__file__).resolve().parents[1]
_LOOP = """
import json, os, resource, sys
fd, options, project = int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
sys.path.insert(0, project)
from sandbox.landlock.places import Places, install
places = Places()
install(places)
from sandbox.interpreter.main import run
for name in options["preload"]:
    try:
        __import__(name)
    except ImportError:
        pass
sys.path.remove(project)
for name in [name for name in sys.modules if name.partition(".")[0] == "sandbox"]:
    del sys.modules[name]
for limit, value in options["limits"]:
    soft = value if (hard := resource.getrlimit(limit)[1]) == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (soft, soft))
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
os.environ["SESSION_ROOT"] = options["root"]
places.use(options["root"], options["source"], options["wheels"])
run(fd, options)
"""
_OPEN_SECONDS, _KILL_ROUNDS = 30.0, 500


class UnsafeChannel:
    """One session's process and socket (`sandbox.session.SessionChannel`)."""

    def __init__(self, connection: socket.socket, process: subprocess.Popen[bytes], root: Path) -> None:
        self._connection, self._process, self.root = connection, process, root
        self._decoder = Decoder()
        self.out_of_memory = False

    @property
    def gone(self) -> bool:
        return self._process.poll() is not None

    @property
    def pid(self) -> int:
        return self._process.pid

    async def request(self, message: dict[str, Any]) -> dict[str, Any]:
        number = secrets.randbits(52)  # so that no reply can be laid ready for a request to come
        try:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(self._connection, pack({"id": number, **message}))
            return await self._reply(number)
        except (OSError, WireError) as error:
            raise Ended from error

    async def ready(self) -> None:
        """Wait for the interpreter's first message. Raises Ended."""
        try:
            await self._reply(0)
        except (OSError, WireError) as error:
            raise Ended from error

    async def _reply(self, number: int) -> dict[str, Any]:
        """The next message, which must be the reply: to skip others would let a flood of them hold up the loop."""
        while True:
            data = await asyncio.get_running_loop().sock_recv(self._connection, 1 << 18)
            if not data:
                raise Ended
            for reply in self._decoder.feed(data):
                if reply.get("id") != number:
                    raise Ended
                return reply

    def kill(self) -> None:
        """Kill what can be found of the session, again and again until nothing is found."""
        for _ in range(_KILL_ROUNDS):
            found = _tree(self._process.pid, str(self.root))
            for pid in found:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self._process.poll()
            if not found:
                return

    async def end(self) -> None:
        await asyncio.to_thread(self.kill)
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, _OPEN_SECONDS)
        self._connection.close()
        await asyncio.to_thread(shutil.rmtree, self.root, ignore_errors=True)


class UnsafeSession(ChannelSession[UnsafeChannel]):
    """One session (`sandbox.base.Session`)."""

    def __init__(self, channel: UnsafeChannel, spec: SessionSpec, places: Places) -> None:
        super().__init__(channel, spec, lambda: True)
        self._places = places

    @property
    def limits(self) -> Limits:
        return self._spec.limits

    def pid(self) -> int | None:
        return None if self.closed else self._channel.pid

    def folder(self) -> int:
        return os.open(self._channel.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def kill(self, why: str) -> None:
        if why == "memory":
            self._channel.out_of_memory = True
        self._channel.kill()

    async def execute(
        self, code: str, *, language: Language = "python", timeout: float | None = None, background: bool = False
    ) -> Execution:
        done = await super().execute(code, language=language, timeout=timeout, background=background)
        return shown(done, self._places)

    async def read_output(self, stream: Stream, offset: int = 0, *, limit: int = 20_000, wait: float = 0.0) -> Chunk:
        chunk = await super().read_output(stream, offset, limit=limit, wait=wait)
        return dataclasses.replace(chunk, text=self._places.text_outward(chunk.text))

    async def read_file(self, path: str, *, max_bytes: int = 10_000_000) -> bytes:
        self._check_open()
        return await asyncio.to_thread(_read, self._file(path), path, max_bytes)

    async def write_file(self, path: str, content: bytes) -> None:
        self._check_open()
        file = self._file(path)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(file.write_bytes, content)
        except OSError as error:
            raise TransferError(f"{path!r} cannot be written: {error.strerror}.") from None

    def _file(self, path: str) -> Path:
        """The real file of a path below /work, behind no link. Raises TransferError."""
        work = self._channel.root / "work"
        relative = path.removeprefix("/work/")
        if not relative or relative.startswith("/") or "\0" in path or ".." in relative.split("/"):
            raise TransferError(f"{path!r} does not name a file below /work.")
        file = work / relative
        if file.is_symlink() or not file.resolve().is_relative_to(work.resolve()):
            raise TransferError(f"{path!r} is a link, or lies behind one.")
        if file.exists() and not file.is_file():
            raise TransferError(f"{path!r} is not a regular file.")
        return file


def _read(file: Path, path: str, max_bytes: int) -> bytes:
    try:
        with file.open("rb") as opened:
            content = opened.read(max_bytes + 1)
    except FileNotFoundError:
        raise TransferError(f"{path!r} does not exist.") from None
    except OSError as error:
        raise TransferError(f"{path!r} cannot be read: {error.strerror}.") from None
    if len(content) > max_bytes:
        raise TransferError(f"{path!r} has more than {max_bytes:,} bytes, the most that can be read.")
    return content


class UnsafeSandbox:
    """See `sandbox.base.Sandbox`. A process is started for each session; there is no pool."""

    name = "unsafe-subprocess"

    def __init__(self, config: SandboxConfig) -> None:
        self._config = config
        self._sources = {name: str(path) for name, path in config.sources.items()}
        self._wheels = None if config.wheelhouse is None else str(config.wheelhouse)
        self._root: Path | None = None
        self._sessions: set[UnsafeSession] = set()
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if sys.platform == "win32":
            raise SandboxUnavailable("unsafe-subprocess needs Linux or macOS. On Windows, use WSL 2 or Docker.")
        self._root = Path(os.path.realpath(tempfile.mkdtemp(prefix="med-copilot-unsafe-")))
        await asyncio.to_thread(plan.share, self._config, self._root)
        if sys.platform == "linux":
            self._watcher = asyncio.ensure_future(watch(self._sessions, True))

    async def open(self, spec: SessionSpec) -> UnsafeSession:
        if spec.source is not None and spec.source not in self._sources:
            raise KeyError(spec.source)
        if self._root is None:
            raise SandboxFailure("The sandbox is closed.")
        refuse_services(self.name, spec)
        for session in [session for session in self._sessions if session.closed]:
            await session.close()
            self._sessions.discard(session)
        source = None if spec.source is None else self._sources[spec.source]
        root = self._root / uuid4().hex
        places = Places(str(root), source, self._wheels)
        _make_folders(root, source, self._wheels)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            process = await asyncio.to_thread(_popen, theirs.fileno(), self._options(spec, places, source), root)
        channel = UnsafeChannel(ours, process, root)
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                await channel.ready()
        except BaseException as error:
            await asyncio.shield(channel.end())
            if isinstance(error, Ended | TimeoutError):
                raise SandboxFailure("A session cannot be opened: its process does not answer.") from error
            raise
        session = UnsafeSession(channel, spec, places)
        self._sessions.add(session)
        return session

    async def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
            self._watcher = None
        await asyncio.gather(*(session.close() for session in list(self._sessions)))
        self._sessions.clear()
        if self._root is not None:
            await asyncio.to_thread(shutil.rmtree, self._root, ignore_errors=True)
            self._root = None

    def _options(self, spec: SessionSpec, places: Places, source: str | None) -> dict[str, Any]:
        import resource

        limits = spec.limits
        database = None
        if spec.database is not None:
            database = places.inward(posixpath.join(DATA_FOLDER, spec.database))
        return {
            "database": database,
            "seed": spec.seed,
            "output": limits.output,
            "root": places.root,
            "source": source,
            "wheels": self._wheels,
            "work": f"{places.root}/work",
            "data": source or f"{places.root}/data",
            "preload": list(self._config.preload),
            "limits": [
                (resource.RLIMIT_NOFILE, limits.open_files),
                (resource.RLIMIT_FSIZE, one_file(limits)),
                (resource.RLIMIT_CPU, int(limits.cpu_seconds) + 1),
                (resource.RLIMIT_CORE, 0),
            ],
        }


def _make_folders(root: Path, source: str | None, wheels: str | None) -> None:
    root.mkdir(mode=0o700)
    for name in ("work", "tmp"):
        (root / name).mkdir()
    if source is None:
        (root / "data").mkdir()
    else:
        (root / "data").symlink_to(source)
    if wheels is not None:
        (root / "wheels").symlink_to(wheels)


def _popen(descriptor: int, options: dict[str, Any], root: Path) -> subprocess.Popen[bytes]:
    environment = {
        **plan.environment(root.parent),
        "HOME": f"{root}/work",
        "TMPDIR": f"{root}/tmp",
        "MPLCONFIGDIR": f"{root}/tmp",
    }
    return subprocess.Popen(
        [str(plan.interpreter()), "-S", "-B", "-P", "-c", _LOOP, str(descriptor), json.dumps(options), str(_PROJECT)],
        pass_fds=[descriptor],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=root / "work",
        env=environment,
        start_new_session=True,
    )


def _tree(top: int, root: str) -> list[int]:
    """The processes of a session: `top`, those below it, and those that carry its root in their environment."""
    parents: dict[int, int] = {}
    found: set[int] = set()
    if sys.platform == "linux":
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                with suppress(OSError, IndexError, ValueError):
                    fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                    if fields[0] == "Z":
                        continue
                    parents[int(entry.name)] = int(fields[1])
                    if f"{ROOT_VARIABLE}={root}".encode() in Path(entry.path, "environ").read_bytes():
                        found.add(int(entry.name))
    else:
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=False)
        for line in listed.stdout.splitlines():
            pid, parent, state = line.split()[:3]
            if not state.startswith("Z"):
                parents[int(pid)] = int(parent)
    if top in parents:
        found.add(top)
    while below := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
        found |= below
    return sorted(found)
