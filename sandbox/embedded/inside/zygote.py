"""The warm process from which every session is forked. It never runs agent code.

Speaks with the supervisor over a SOCK_SEQPACKET socket: one JSON request per message, `{"open": spec}`, with the
session's socket and the control groups' `cgroup.procs` as passed descriptors. It answers nothing: the new session
answers on its own socket, first with `{"id": -1, "pidfd": ...}` and a descriptor of its process 1 and of its /work.
"""

import gc
import importlib
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any, NoReturn

from . import seccomp
from .session import Run, become_session, report


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(control.fileno(), False)
    options = json.loads(sys.argv[2])
    run: Run = importlib.import_module("interpreter.main").run
    sys.path[:] = [path for path in sys.path if path != "/run/sandbox"] + ["/run/packages"]
    sys.argv[:] = [""]
    for name in options["preload"]:
        with suppress(ImportError):
            importlib.import_module(name)
    programs = {contained: seccomp.build(os.uname().machine, contained) for contained in (True, False)}
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    control.send(b'{"ready": true}')
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1 << 16, 8)
        if not message:
            os._exit(0)
        try:
            child = os.fork()
        except OSError as error:  # too many processes: the request fails
            child = -1
            report(descriptors[0], error)
        if child == 0:
            control.close()
            spec = json.loads(message)
            _session(spec, descriptors, programs[spec["memory_files"]], run)
        for descriptor in descriptors:
            os.close(descriptor)


def _session(spec: dict[str, Any], descriptors: list[int], program: bytes, run: Run) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    become_session(spec, descriptors, program, run)
