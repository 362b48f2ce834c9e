"""From a fork of the zygote to a session: a keeper that holds the tree together, and the interpreter in its bounds.

The keeper runs our code only. It adopts whatever in the session loses its parent (it is a subreaper), waits for
SIGTERM or for the end of the interpreter, then kills until nothing is left, removes the session's folder, and ends:
its pidfd tells the server that all is gone. One signal reaches the whole session at once: by its user where it has one
of its own, else by its process group, which it then cannot leave. The keeper is in neither.
"""

import fcntl
import json
import os
import random
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from sandbox.embedded.inside import linux, seccomp
from sandbox.embedded.inside.session import CHANNEL, Run, limit, report
from sandbox.landlock.inside import calls, rules
from sandbox.landlock.inside.user import CAP_DAC_OVERRIDE, become
from sandbox.landlock.places import ROOT_VARIABLE, Places

PR_SET_CHILD_SUBREAPER = 36
_SIGNALS = {signal.SIGTERM, signal.SIGCHLD}
_PROC = ("fd", "fdinfo", "status", "stat", "statm", "maps", "comm", "cmdline", "task")


def become_session(
    spec: dict[str, Any], descriptors: list[int], base: list[tuple[int, int]], places: Places, run: Run
) -> NoReturn:
    """Never returns: ends as the keeper of the session, or reports on the session's socket what failed."""
    channel = socket.socket(fileno=descriptors[0])
    root: str = spec["root"]
    interpreter = 0
    try:
        os.setsid()
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGTERM)
        linux.prctl(PR_SET_CHILD_SUBREAPER, 1)
        linux.prctl(linux.PR_SET_DUMPABLE, 0)
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        _make_folders(spec)
        status, told = os.pipe()
        ready, go = os.pipe()
        interpreter = os.fork()
        if interpreter == 0:
            _interpret(spec, channel, (ready, told), descriptors[1:], base, places, run)
        os.close(told)
        with os.fdopen(status, "rb") as said:
            if (failure := said.read()) != b"ok":
                raise OSError(failure.decode() or "the interpreter ended without a word")
        work = os.open(f"{root}/work", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        socket.send_fds(channel, [b"ok"], [os.pidfd_open(os.getpid()), work])
    except OSError as error:
        report(channel.fileno(), error)
        _end(interpreter, spec)
    _close_all_but(0, 1, 2)
    while signal.sigwait(_SIGNALS) is not signal.SIGTERM and _reap(interpreter):
        pass
    _end(interpreter, spec)


def _make_folders(spec: dict[str, Any]) -> None:
    root, user = Path(spec["root"]), spec["user"]
    root.mkdir(0o711)
    for name in ("work", "tmp"):
        (root / name).mkdir(0o700)
        if user is not None:
            os.chown(root / name, user, user)
    if spec["data"] is None:
        (root / "data").mkdir(0o755)
    else:
        (root / "data").symlink_to(spec["data"])
    if spec["wheels"] is not None:
        (root / "wheels").symlink_to(spec["wheels"])


def _reap(interpreter: int) -> bool:
    """Whether the interpreter lives. Reaps those that have ended, but leaves its number taken."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        if ended is None:
            return True
        if ended.si_pid == interpreter:
            return False
        os.waitpid(ended.si_pid, 0)


def _end(interpreter: int, spec: dict[str, Any]) -> NoReturn:
    """Kill until nothing is left, and remove the folder. No number is used again before this process has reaped it."""
    while interpreter:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(interpreter, signal.SIGKILL)
        with suppress(ProcessLookupError, PermissionError):
            os.kill(interpreter, signal.SIGKILL)
        if spec["user"] is not None:
            _kill_all_of(spec["user"])
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            break
        time.sleep(0.002)
    remove(spec["root"])
    os._exit(0)


def _kill_all_of(user: int) -> None:
    """Kill every process of a user at once: one that forks away cannot slip through."""
    pid = os.fork()
    if pid == 0:
        try:
            become(user, None)
            os.kill(-1, signal.SIGKILL)
        finally:
            os._exit(0)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def remove(folder: str) -> None:
    """Remove a folder, however deep; `rm` follows no link."""
    for command in (["rm", "-rf"], ["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
        if os.path.lexists(folder):
            with suppress(OSError):
                os.spawnve(os.P_WAIT, f"/bin/{command[0]}", [*command, "--", folder], {"PATH": "/usr/bin:/bin"})


def _interpret(
    spec: dict[str, Any],
    channel: socket.socket,
    pipes: tuple[int, int],
    groups: list[int],
    base: list[tuple[int, int]],
    places: Places,
    run: Run,
) -> NoReturn:
    """Says "ok", or what failed, on the second of the pipes, and begins when the first one ends."""
    ready, told = pipes
    try:
        keep = _confine(spec, channel, pipes, groups, base)
        os.write(told, b"ok")
    except BaseException as error:
        os.write(told, f"{type(error).__name__}: {error}".encode())
        os._exit(1)
    os.close(told)
    os.read(ready, 1)
    os.close(ready)
    places.use(spec["root"], spec["data"], spec["wheels"])
    run(keep, json.loads(spec["options"]))


def _confine(
    spec: dict[str, Any],
    channel: socket.socket,
    pipes: tuple[int, int],
    groups: list[int],
    base: list[tuple[int, int]],
) -> int:
    root, user, capability = spec["root"], spec["user"], spec["capability"]
    os.setsid()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    for group in groups:
        os.write(group, b"0")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.chdir(f"{root}/work")
    os.umask(0o022)
    os.environ.update(
        {"HOME": f"{root}/work", "TMPDIR": f"{root}/tmp", "MPLCONFIGDIR": f"{root}/tmp", ROOT_VARIABLE: root}
    )
    allowed = base + [rule for rule in _own_rules(spec, os.getpid()) if rule is not None]
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
    if user is not None:
        become(user, capability)
    else:
        linux.drop_capabilities()
    # After the change of user, which takes both away.
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    linux.prctl(linux.PR_SET_DUMPABLE, 1)
    rules.restrict(allowed)
    # Above the session's own limit of open files, where code that closes all it can does not reach.
    keep = fcntl.fcntl(channel.fileno(), fcntl.F_DUPFD_CLOEXEC, CHANNEL)
    _close_all_but(0, 1, 2, keep, *pipes)
    limit(spec)
    random.seed(spec["seed"])
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(spec["seed"] % (1 << 32))
    machine = os.uname().machine
    first = calls.build(
        machine,
        own_user=user is not None,
        signals=user is not None or rules.version() >= rules.SIGNALS,
        times=user is not None and capability != CAP_DAC_OVERRIDE,
    )
    seccomp.install(first)
    seccomp.install(seccomp.build(machine, spec["memory_files"]))
    return keep


def _close_all_but(*kept: int) -> None:
    last = -1
    for descriptor in [*sorted(kept), 1 << 16]:
        if descriptor > last + 1:  # an empty range would close them all
            os.closerange(last + 1, descriptor)
        last = descriptor


def _own_rules(spec: dict[str, Any], pid: int) -> list[tuple[int, int] | None]:
    root = spec["root"]
    return [
        rules.opened(f"{root}/work", rules.OWN),
        rules.opened(f"{root}/tmp", rules.OWN),
        rules.opened(root, rules.READ_DIR),
        rules.opened(spec["data"] or f"{root}/data", rules.READ),
        *([] if spec["wheels"] is None else [rules.opened(spec["wheels"], rules.READ)]),
        *(rules.opened(f"/proc/{pid}/{name}", rules.READ) for name in _PROC),
    ]
