"""What lies around the sandbox for the attacks: secrets with a canary in each, services, files that must not change."""

import ctypes
import os
import secrets
import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

PROJECT = Path(__file__).resolve().parents[3]
_ADD_KEY = {"x86_64": 248, "aarch64": 217}
_SESSION_KEYRING = -3


def canary(kind: str) -> str:
    return f"canary-{kind}-{secrets.token_hex(8)}"


class World:
    """A context manager. `hits` names each service that was reached from anywhere."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)
        self.folder, self.hits, self._sockets = folder, list[str](), list[socket.socket]()
        self.names = ("file", "truth", "env", "memory", "shm", "path", "abstract", "tcp", "udp", "key", "tmp")
        self.canaries = {kind: canary(kind) for kind in self.names}
        self.public = canary("public")
        self.sources = {name: folder / name for name in ("a", "b")}
        self.memory = bytearray(self.canaries["memory"].encode())  # must be found in no other process
        for path in self.sources.values():
            path.mkdir(mode=0o755)
        self._write(self.sources["a"] / "a.txt", self.public)
        self._write(self.sources["b"] / "truth.sqlite", self.canaries["truth"])
        self.secret = self._write(folder / "secret.txt", self.canaries["file"])
        self.shm = self._write(Path("/dev/shm") / f"med-copilot-{secrets.token_hex(4)}", self.canaries["shm"])
        self.tmp = self._write(
            Path(tempfile.gettempdir()) / f"med-copilot-{secrets.token_hex(4)}", self.canaries["tmp"]
        )
        self.abstract = f"med-copilot-{secrets.token_hex(4)}"
        self.path = folder / "socket"
        self.tcp = self._serve("tcp", socket.AF_INET, ("127.0.0.1", 0))
        self.udp = self._serve_datagrams()
        self._serve("path", socket.AF_UNIX, str(self.path))
        self.path.chmod(0o777)
        self._serve("abstract", socket.AF_UNIX, f"\0{self.abstract}")
        self._kept = {path: self._state(path) for path in (self.sources["a"] / "a.txt", self.secret)}

    def __enter__(self) -> "World":
        os.environ["MED_COPILOT_CANARY"] = self.canaries["env"]
        text = self.canaries["key"].encode()
        libc = ctypes.CDLL(None, use_errno=True)
        libc.syscall(_ADD_KEY.get(os.uname().machine, -1), b"user", b"med-copilot", text, len(text), _SESSION_KEYRING)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        del os.environ["MED_COPILOT_CANARY"]
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self.shm.unlink()
        self.tmp.unlink()

    def check_unchanged(self) -> None:
        """Nobody reached a service, no file that was given or lies near has changed, no name was added."""
        assert self.hits == []
        assert {path: self._state(path) for path in self._kept} == self._kept
        assert os.listdir(self.sources["a"]) == ["a.txt"]  # noqa: PTH208

    def _state(self, path: Path) -> tuple[bytes, int, int, int, int]:
        status = path.stat()
        return path.read_bytes(), status.st_mode, status.st_uid, status.st_nlink, status.st_mtime_ns

    def _write(self, path: Path, text: str) -> Path:
        path.write_text(text)
        path.chmod(0o644)
        return path

    def _serve(self, name: str, family: int, address: tuple[str, int] | str) -> int:
        server = socket.socket(family, socket.SOCK_STREAM)
        server.bind(address)
        server.listen(8)
        self._sockets.append(server)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    self.hits.append(name)
                    with connection, suppress(OSError):
                        connection.sendall(self.canaries[name].encode())

        threading.Thread(target=accept, daemon=True).start()
        return int(server.getsockname()[1]) if family == socket.AF_INET else 0

    def _serve_datagrams(self) -> int:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("127.0.0.1", 0))
        self._sockets.append(server)

        def receive() -> None:
            with suppress(OSError):
                while True:
                    data, peer = server.recvfrom(100)
                    if not data:
                        return
                    self.hits.append("udp")
                    server.sendto(self.canaries["udp"].encode(), peer)

        threading.Thread(target=receive, daemon=True).start()
        return int(server.getsockname()[1])
