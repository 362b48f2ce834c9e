"""The loop of a session: reads requests from a socket, runs the agent's code, answers.

The loop keeps its own references to what it needs, because the agent's code may change any module.
"""

import os
import random
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any, NoReturn

from .capture import Capture, move_high
from .installs import prepare
from .outcome import Outcome, Setting, plain_error
from .python_code import PythonCode
from .shell import ShellCode
from .sql import SqlCode
from .text import clean
from .transfer import Refused, to_json
from .wire import Decoder, WireError, pack

_read, _write, _exit, _getpid = os.read, os.write, os._exit, os.getpid
_monotonic, _sleep = time.monotonic, time.sleep
_MOST_CHARS = 1_000_000
_BUSY = "background work is still running: poll read_output until it is done, then run this"


def run(fd: int, options: dict[str, Any]) -> NoReturn:
    """Serve requests from the socket `fd` until its end, then end the process.

    Options: "database" (path or None), "seed", "output" (characters of one text), "work" and "data" (folders).
    """
    database = options.get("database")
    work = options.get("work") or "/work"
    data = options.get("data") or (os.path.dirname(database) if database else "/data")  # noqa: PTH120
    packages = prepare(work)
    setting = Setting(work, data, database, int(options.get("output") or 20_000), (work, *packages))
    fd = move_high(fd)
    os.set_blocking(fd, True)
    # A server that a script starts in the background ignores it, and so would all that descends from it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.register_at_fork(after_in_child=lambda: os.close(fd))  # the protocol is not the children's
    os.chdir(work)
    sys.path[:0] = setting.changing
    sys.argv = [""]
    os.environ.setdefault("MPLBACKEND", "Agg")
    seed = int(options.get("seed") or 0)
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % (1 << 32))
    try:
        _Loop(fd, setting).serve()
    finally:
        _exit(1)


class _Loop:
    def __init__(self, fd: int, setting: Setting) -> None:
        self._fd = fd
        self._setting = setting
        self._pid = _getpid()
        self._capture = Capture(setting.work)
        self._python = PythonCode(setting)
        self._languages = {
            "python": self._python.run,
            "sql": SqlCode(setting).run,
            "shell": ShellCode(setting, self._capture.streams["stderr"]).run,
        }
        self._calls = 0
        self._background: threading.Thread | None = None

    def serve(self) -> NoReturn:
        self._capture.begin()
        self._send({"id": 0, "ready": True})
        decoder = Decoder()
        while True:
            try:
                data = _read(self._fd, 1 << 16)
            except OSError:
                _exit(1)
            except BaseException:  # a signal handler of the agent's
                continue
            if not data:
                _exit(0)
            try:
                messages = decoder.feed(data)
            except WireError:
                _exit(1)
            for message in messages:
                self._send({"id": message.get("id"), **self._answer(message)})

    def _send(self, message: dict[str, Any]) -> None:
        try:
            frame = pack(message)
        except WireError:
            text = "the reply was too large to be sent"
            if "json" in message:
                frame = pack({"id": message["id"], "transfer_error": text})
            else:
                frame = pack({"id": message["id"], **_reply("error", Outcome(error=plain_error("ReplyError", text)))})
        while frame:
            try:
                frame = frame[_write(self._fd, frame) :]
            except OSError:
                _exit(1)

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        operation = message.get("op")
        try:
            if operation == "execute":
                return self._execute(message)
            if operation == "output":
                return self._output(message)
            if operation == "variable":
                return self._variable(message)
        except BaseException as error:  # what the agent did to its interpreter must not end the session
            text = f"the session's interpreter is damaged: {type(error).__name__}: {clean(str(error))[:500]}"
            return _reply("error", Outcome(error=plain_error("InterpreterError", text)))
        return _reply("error", Outcome(error=plain_error("RequestError", f"unknown operation {operation!r}")))

    # ---- execute

    def _execute(self, message: dict[str, Any]) -> dict[str, Any]:
        if self._running():
            return _reply("error", Outcome(error=plain_error("BackgroundBusy", _BUSY)))
        code, language = str(message.get("code", "")), message.get("language", "python")
        if language not in self._languages:
            return _reply("error", Outcome(error=plain_error("RequestError", f"unknown language {language!r}")))
        self._calls += 1
        self._capture.begin()
        if message.get("background"):
            target, arguments = self._run_background, (language, code, self._calls)
            self._background = threading.Thread(target=target, args=arguments, daemon=True)
            try:
                self._background.start()
            except RuntimeError as error:  # the limit of processes
                self._background = None
                return _reply("error", Outcome(error=plain_error("RuntimeError", str(error))))
            return _reply("running", Outcome())
        outcome = self._run(language, code, self._calls)
        return _reply("ok" if outcome.error is None else "error", outcome, self._capture.summary(self._setting.output))

    def _run(self, language: str, code: str, number: int) -> Outcome:
        try:
            outcome = self._languages[language](code, number)
        except BaseException as error:  # our own failure must not end the session
            outcome = Outcome(error=plain_error(type(error).__name__, clean(str(error))[:2000]))
        if _getpid() != self._pid:  # the agent forked and its child came back here
            with suppress(BaseException):
                self._capture.flush()
            _exit(0)
        with suppress(BaseException):
            self._capture.flush()
        return outcome

    def _run_background(self, language: str, code: str, number: int) -> None:
        outcome = self._run(language, code, number)
        streams = self._capture.streams
        if outcome.value is not None:
            streams["stdout"].append(f"{outcome.value}\n")
        if outcome.error is not None:
            text = outcome.error["traceback"] or f"{outcome.error['type']}: {outcome.error['message']}"
            streams["stderr"].append(text if text.endswith("\n") else f"{text}\n")

    def _running(self) -> bool:
        if self._background is not None and not self._background.is_alive():
            self._background = None
        return self._background is not None

    # ---- output and variables

    def _output(self, message: dict[str, Any]) -> dict[str, Any]:
        stream = self._capture.streams["stderr" if message.get("stream") == "stderr" else "stdout"]
        offset = max(0, int(message.get("offset") or 0))
        limit = max(0, min(int(message.get("limit") or 20_000), _MOST_CHARS))
        until = _monotonic() + min(float(message.get("wait") or 0.0), 600.0)
        while True:
            done = not self._running()
            total = stream.total(done)
            if done or total > offset or _monotonic() >= until:
                break
            _sleep(0.02)
        offset = min(offset, total)
        text = stream.read(offset, limit, done)
        after = offset + len(text)
        return {"text": text, "offset": offset, "next_offset": after, "total_chars": max(total, after), "done": done}

    def _variable(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            name, most = str(message.get("name")), int(message.get("max_bytes") or 10_000_000)
            return {"json": to_json(self._python.namespace, name, most)}
        except Refused as error:
            return {"transfer_error": clean(str(error))[:2000]}
        except BaseException as error:
            return {"transfer_error": f"the variable could not be read: {type(error).__name__}"}


def _reply(status: str, outcome: Outcome, streams: dict[str, Any] | None = None) -> dict[str, Any]:
    empty = {"text": "", "truncated": False, "total_chars": 0}
    return {
        "status": status,
        **(streams or {"stdout": empty, "stderr": empty}),
        "value": outcome.value,
        "value_truncated": outcome.value_truncated,
        "error": outcome.error,
        "exit_code": outcome.exit_code,
    }
