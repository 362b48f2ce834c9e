"""An interpreter in a real child process, with no sandbox around it, for the tests of `sandbox.interpreter`."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sandbox.interpreter
from sandbox.base import Chunk, Execution, JSONValue, Language, Limits, Stream
from sandbox.reply import chunk, execution, variable
from sandbox.wire import Decoder, pack

_START = """
import sys
sys.path.insert(0, {folder!r})
{before}
from interpreter.main import run
run({fd}, {options!r})
"""


class Child:
    """The package is offered alone, under the name `interpreter`, as in a session."""

    def __init__(self, folder: Path, *, database: Path | None = None, output: int = 2000, before: str = "") -> None:
        self.limits = Limits(output=output)
        self.work = folder / "work"
        self.work.mkdir()
        lone = folder / "lone"
        lone.mkdir()
        (lone / "interpreter").symlink_to(Path(sandbox.interpreter.__file__).parent)
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(120)
        options = {"database": database and str(database), "seed": 7, "output": output, "work": str(self.work)}
        code = _START.format(folder=str(lone), before=before, fd=theirs.fileno(), options=options)
        environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], pass_fds=[theirs.fileno()], cwd=folder, env=environment
        )
        theirs.close()
        self._decoder = Decoder()
        self._waiting: list[dict[str, Any]] = []
        self._number = 0
        assert self.receive() == {"id": 0, "ready": True}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()
        self.process.kill()
        self.process.wait()

    def close_socket(self) -> int:
        """End the connection and return the exit status of the interpreter."""
        self._socket.close()
        return self.process.wait(120)

    def receive(self) -> dict[str, Any]:
        """The next message. Raises EOFError when the interpreter is gone."""
        while not self._waiting:
            data = self._socket.recv(1 << 16)
            if not data:
                raise EOFError
            self._waiting += self._decoder.feed(data)
        return self._waiting.pop(0)

    def ask(self, **request: Any) -> dict[str, Any]:
        self._number += 1
        self._socket.sendall(pack({"id": self._number, **request}))
        reply = self.receive()
        assert reply["id"] == self._number
        return reply

    def run(self, code: str, language: Language = "python", background: bool = False) -> Execution:
        reply = self.ask(op="execute", code=code, language=language, background=background)
        return execution(reply, 0.0, self.limits)

    def output(self, stream: Stream, offset: int = 0, limit: int = 100_000, wait: float = 0.0) -> Chunk:
        return chunk(self.ask(op="output", stream=stream, offset=offset, limit=limit, wait=wait))

    def whole(self, stream: Stream) -> str:
        """The whole of a stream, once the background work has ended."""
        text = ""
        while True:
            part = self.output(stream, len(text), wait=5.0)
            text += part.text
            if part.done and part.next_offset == part.total_chars:
                return text

    def variable(self, name: str, max_bytes: int = 1_000_000) -> JSONValue:
        return variable(self.ask(op="variable", name=name, max_bytes=max_bytes), max_bytes)
