"""Process 1 of a container. It never runs the agent's code: it passes requests on, moves files, freezes, and reaps.

Requests come on standard input and replies leave on standard output, as frames of `sandbox.wire`, one reply for each
request. Standard input ends when the server does, or when it gives the session up: then this process ends, and the
kernel ends every other one in the container. Its memory and descriptors cannot be read by the agent's processes, which
descend from a Python that is started anew: they share neither its memory nor its layout.

Between calls the agent's processes are stopped, unless background work was asked for.
"""

import base64
import os
import resource
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from sandbox.embedded import transfer
from sandbox.embedded.inside import linux, seccomp
from sandbox.errors import TransferError
from sandbox.wire import MAX_FRAME, Decoder, WireError, pack

_CHUNK = 8 << 20  # of a file in one frame; in base64 it stays below the largest
_EARLIER_VICTIM = "1000"


def main(options: dict[str, Any]) -> NoReturn:
    """Never returns. `options`: "begin", the first message to the interpreter's process (see
    `sandbox.docker_engine.boot`), and the limits "open_files", "disk", "cpu_seconds"."""
    machine = os.uname().machine
    program = seccomp.build(machine) if seccomp.supported() else None
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        _interpreter(theirs, options, program)
    theirs.close()
    begin = pack(options.pop("begin"))
    # Zombies are then reaped by the kernel, those of orphans too.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # The kernel keeps from process 1 the signals of its own container for which it has no handler; Python made one.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    if program is not None:
        seccomp.install(program)
    keeper = _Keeper(ours.detach())
    try:
        keeper.serve(begin)
    finally:
        os._exit(1)


def _interpreter(connection: socket.socket, options: dict[str, Any], program: bytes | None) -> NoReturn:
    os.setsid()
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_EARLIER_VICTIM)
    channel = connection.detach()
    os.dup2(channel, 0)
    os.dup2(channel, options["begin"]["options"]["channel"])
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for limit, value in (
        (resource.RLIMIT_NOFILE, options["open_files"]),
        (resource.RLIMIT_FSIZE, options["disk"]),
        (resource.RLIMIT_CPU, int(options["cpu_seconds"]) + 1),
        # Not 0, with which the crash handler of the engine's machine would be given the memory of a crashed session.
        (resource.RLIMIT_CORE, 1),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_SIGPENDING, 1024),
    ):
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    if program is not None:
        seccomp.install(program)
    os.umask(0o022)
    try:
        os.execv(sys.executable, sys.orig_argv)
    finally:
        os._exit(1)


class _Keeper:
    def __init__(self, interpreter: int) -> None:
        self._interpreter = interpreter
        self._background = False
        self._incoming: list[bytes] = []
        self._outgoing = b""
        self._work = os.open("/work", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def serve(self, begin: bytes) -> NoReturn:
        _send(self._interpreter, begin)
        self._relay(-1)
        decoder = Decoder()
        while True:
            data = os.read(0, 1 << 18)
            if not data:
                os._exit(0)
            for message in decoder.feed(data):
                operation = message.get("op")
                if operation in ("read", "more", "write"):
                    _send(1, pack({"id": message["id"], **self._file(operation, message)}))
                else:
                    self._pass_on(message)

    def _pass_on(self, message: dict[str, Any]) -> None:
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGCONT)
        _send(self._interpreter, pack(message))
        reply = self._relay(message.get("id", 0))
        if message.get("background") or self._background:
            self._background = _goes_on(message, reply)
        if not self._background:
            with suppress(ProcessLookupError):
                os.kill(-1, signal.SIGSTOP)

    def _relay(self, number: int) -> dict[str, Any]:
        """Pass the reply to request `number` on: one whole frame, so that nothing the agent sends can tear one of ours
        apart. An honest interpreter sends nothing else; any other frame ends the session."""
        poll = select.poll()
        poll.register(0, 0)
        poll.register(self._interpreter, select.POLLIN)

        def ready() -> None:
            if any(descriptor == 0 for descriptor, _ in poll.poll()):
                os._exit(0)

        frame = _frame(self._interpreter, ready)
        try:
            reply = Decoder().feed(frame)[0]
        except WireError:
            os._exit(1)
        if type(reply.get("id")) is not int or reply["id"] != number:
            os._exit(1)
        _send(1, frame)
        return reply

    def _file(self, operation: str, message: dict[str, Any]) -> dict[str, Any]:
        try:
            if operation == "write":
                self._incoming.append(base64.b64decode(message["content"]))
                if message["last"]:
                    content, self._incoming = b"".join(self._incoming), []
                    transfer.write(self._work, message["path"], content)
                return {}
            if operation == "read":
                self._outgoing = transfer.read(self._work, message["path"], message["max_bytes"])
            part, self._outgoing = self._outgoing[:_CHUNK], self._outgoing[_CHUNK:]
            return {"content": base64.b64encode(part).decode(), "more": bool(self._outgoing)}
        except TransferError as error:
            return {"transfer_error": str(error)}


def _goes_on(message: dict[str, Any], reply: dict[str, Any]) -> bool:
    """Whether background work still runs, as far as the interpreter says."""
    if message.get("op") == "output":
        return reply.get("done") is not True
    error = reply.get("error")
    busy = isinstance(error, dict) and error.get("type") == "BackgroundBusy"
    return message.get("op") != "execute" or reply.get("status") == "running" or busy


def _frame(descriptor: int, ready: Any = None) -> bytes:
    """One whole frame, its length included. Ends the process when the peer has, or breaks the protocol."""
    frame, wanted = bytearray(), 4
    while len(frame) < wanted:
        if ready is not None:
            ready()
        part = os.read(descriptor, wanted - len(frame))
        if not part:
            os._exit(0)
        frame += part
        if len(frame) == 4:
            wanted += int.from_bytes(frame, "big")
            if wanted > MAX_FRAME + 4:
                os._exit(1)
    return bytes(frame)


def _send(descriptor: int, frame: bytes) -> None:
    while frame:
        frame = frame[os.write(descriptor, frame) :]
