"""The warm process from which every session is forked, as in the embedded backend. It never runs agent code.

The first message on its SOCK_SEQPACKET socket is the plan of `sandbox.landlock.plan`; it answers `{"ready": true}` or
`{"error": ...}`. Every later one asks for a session, with the session's socket and control groups as descriptors; the
session answers on its own socket, with the pidfd of its keeper and its work folder.
"""

import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from sandbox.embedded.inside import linux
from sandbox.embedded.inside.session import Run, report
from sandbox.landlock import places as paths
from sandbox.landlock.inside import rules
from sandbox.landlock.inside.confine import PR_SET_CHILD_SUBREAPER, become_session, remove


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(control.fileno(), False)
    try:
        plan = json.loads(control.recv(1 << 20))
        _Zygote(control, plan).serve()
    except Exception as error:
        with suppress(OSError):
            control.send(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
    os._exit(1)


class _Zygote:
    def __init__(self, control: socket.socket, plan: dict[str, Any]) -> None:
        self._control, self._root, self._project = control, plan["root"], plan["project"]
        self._keepers: set[int] = set()
        # Before the interpreter and the packages, so that they hold the functions that know the session's paths.
        self._places = paths.Places()
        paths.install(self._places)
        self._run: Run = importlib.import_module("sandbox.interpreter.main").run
        sys.path[:] = [path for path in sys.path if path not in ("", self._project)] + [plan["packages"]]
        sys.argv[:] = [""]
        for name in plan["preload"]:
            with suppress(ImportError):
                importlib.import_module(name)
        for name in [name for name in sys.modules if name.partition(".")[0] == "sandbox"]:
            del sys.modules[name]
        linux.prctl(PR_SET_CHILD_SUBREAPER, 1)
        linux.prctl(linux.PR_SET_DUMPABLE, 0)
        linux.refuse_core_dumps()
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        opened = [rules.opened(path, rights) for path, rights in plan["rules"]]
        self._base = [rule for rule in opened if rule is not None]
        rules.version()

    def serve(self) -> None:
        wake, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        gc.collect()
        gc.freeze()
        self._control.send(b'{"ready": true}')
        while True:
            readable, _, _ = select.select([self._control.fileno(), wake], [], [])
            if wake in readable:
                with suppress(BlockingIOError):
                    os.read(wake, 4096)
                self._reap()
            if self._control.fileno() in readable:
                message, descriptors, _, _ = socket.recv_fds(self._control, 1 << 16, 8)
                if not message:
                    self._leave()
                self._open(json.loads(message), descriptors)

    def _open(self, spec: dict[str, Any], descriptors: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:  # too many processes: the request fails
            report(descriptors[0], error)
        else:
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                self._control.close()
                become_session(spec, descriptors, self._base, self._places, self._run)
            self._keepers.add(pid)
        for descriptor in descriptors:
            os.close(descriptor)

    def _reap(self) -> None:
        while True:
            try:
                ended = os.waitpid(-1, os.WNOHANG)[0]
            except ChildProcessError:
                return
            if ended in self._keepers:
                self._keepers.discard(ended)
            elif not ended:
                break
        # A keeper that was killed leaves its session to this process.
        for pid in _children():
            if pid not in self._keepers:
                with suppress(OSError):
                    os.killpg(os.getpgid(pid), signal.SIGKILL)

    def _leave(self) -> NoReturn:
        """The server is gone: end every session, then remove what is left of the folder."""
        for keeper in self._keepers:
            with suppress(ProcessLookupError):
                os.kill(keeper, signal.SIGTERM)
        with suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
        remove(self._root)
        os._exit(0)


def _children() -> list[int]:
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with suppress(OSError, IndexError, ValueError):
                if int(Path("/proc", name, "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid():
                    found.append(int(name))
    return found
