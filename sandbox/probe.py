"""What the embedded sandbox can rely on here, tried out, not read from version numbers. For `med-copilot doctor`.

Namespaces, seccomp and Landlock are tried in child processes; control groups are made and removed again. Nothing of
this machine is changed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import util
from pathlib import Path

from sandbox.base import SandboxConfig
from sandbox.embedded.cgroup import Cgroups
from sandbox.embedded.inside import linux, seccomp
from sandbox.landlock.inside import rules
from sandbox.landlock.inside.user import capabilities
from sandbox.landlock.probe import failure
from sandbox.remedies import for_control_groups, for_landlock, for_namespaces

_SANDBOX = Path(__file__).resolve().parent
_SECONDS = 30.0
_SETTINGS = {
    "kernel/unprivileged_userns_clone": "0",
    "kernel/apparmor_restrict_unprivileged_userns": "1",
    "user/max_user_namespaces": "0",
}
"""Settings below /proc/sys, and the value of each that denies user namespaces."""
_NAMESPACES = """
import os, sys
from pathlib import Path
sys.path.append(sys.argv[1])
from embedded.inside import launcher, linux
flags = linux.MS_NOSUID | linux.MS_NODEV
every = (linux.CLONE_NEWUSER | linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWNET
         | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS)

def in_child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            os.write(2, f"{where}{error.strerror}".encode())
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        os._exit(1)

def launch():
    top = sys.argv[2]
    launcher._enter_namespaces()
    linux.mount("tmpfs", top, "tmpfs", flags, "mode=755,size=64k")
    for name in ("proc", "tmp"):
        Path(top, name).mkdir()
    linux.mount("/proc", f"{top}/proc", None, linux.MS_BIND | linux.MS_REC)
    linux.pivot_into(top)
    in_child(open_session)

def open_session():
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        linux.prctl(linux.PR_SET_DUMPABLE, 1)
    user, group = os.getuid(), os.getgid()
    linux.unshare(every)
    launcher.map_ids(1000, 1000, user, group)
    in_child(mount)

def mount():
    linux.mount("tmpfs", "/tmp", "tmpfs", flags, "size=4k")
    linux.mount("proc", "/proc", "proc", flags, "subset=pid,hidepid=2")

in_child(launch)
"""
_SECCOMP = """
import os, sys
sys.path.append(sys.argv[1])
from embedded.inside import linux, seccomp
seccomp.install(seccomp.build(os.uname().machine))
try:
    linux.unshare(linux.CLONE_NEWUSER)
except PermissionError:
    sys.exit(0)
sys.exit("the filter let through what it should refuse")
"""


@dataclass(frozen=True)
class Check:
    """One finding. `remedy` says what to do where it does not hold, and is empty where it does.

    `required`: without it the embedded sandbox does not start.
    """

    name: str
    ok: bool
    detail: str
    remedy: str
    required: bool = False


def probe() -> list[Check]:
    """Try everything; takes about a second. Never raises."""
    if sys.platform != "linux":
        return [Check("Linux", False, sys.platform, "Run the server on Linux.", True)]
    kind = _cgroup_kind()
    tries: list[tuple[str, Callable[[], Check]]] = [
        ("user namespaces", _namespaces),
        ("seccomp", _seccomp),
        ("pidfd and openat2", _calls),
        ("control groups", lambda: _cgroups(kind)),
        ("memory containment", lambda: _containment(kind)),
        ("Landlock", _landlock),
        ("Docker", _docker),
        ("packages", _packages),
    ]
    checks = []
    for name, attempt in tries:
        try:
            checks.append(attempt())
        except Exception as error:
            text = f"could not be tried: {type(error).__name__}: {error}"
            checks.append(Check(name, False, text, "Report this as a bug of the probe."))
    return checks


def required() -> list[Check]:
    """The checks without which the embedded sandbox does not start. Never raises."""
    checks = []
    for name, attempt in (("user namespaces", _namespaces), ("seccomp", _seccomp), ("pidfd and openat2", _calls)):
        try:
            checks.append(attempt())
        except Exception as error:
            checks.append(Check(name, False, f"{type(error).__name__}: {error}", "", True))
    return checks


def _namespaces() -> Check:
    name = "user namespaces"
    failure = _child(_NAMESPACES)
    if failure is None:
        return Check(name, True, "user, mount, pid, net, ipc and uts namespaces, with an own /proc", "", True)
    return Check(name, False, "; ".join([failure, *_denials()]), for_namespaces(), True)


def _denials() -> list[str]:
    """Settings of this machine that deny user namespaces, as far as they can be read."""
    found = ["root here lacks CAP_SYS_ADMIN"] if os.getuid() == 0 and not capabilities() >> 21 & 1 else []
    for name, denying in _SETTINGS.items():
        with suppress(OSError):
            if (value := Path("/proc/sys", name).read_text().strip()) == denying:
                found.append(f"{name.replace('/', '.')}={value}")
    return found


def _seccomp() -> Check:
    machine = os.uname().machine
    if not seccomp.supported():
        return Check("seccomp", False, f"no table for {machine}", "Run the server on x86-64 or arm64.", True)
    failure = _child(_SECCOMP)
    if failure is None:
        return Check("seccomp", True, f"an allow list is in force ({machine})", "", True)
    return Check("seccomp", False, failure, "Use a kernel built with CONFIG_SECCOMP_FILTER.", True)


def _calls() -> Check:
    absent = []
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        absent.append(f"pidfd_open: {error.strerror}")
    try:
        os.close(linux.openat2(-100, ".", os.O_PATH, 0, 0x04))
    except OSError as error:
        absent.append(f"openat2: {error.strerror}")
    remedy = "Use Linux 5.6 or later; in a container, a seccomp profile that allows both calls." if absent else ""
    return Check("pidfd and openat2", not absent, "; ".join(absent) or "both answer", remedy, True)


def _cgroup_kind() -> str:
    """The hierarchy in which a session's group can really be made: "v1", "v2" or "none"."""
    try:
        groups = Cgroups()
        groups.start()
    except (OSError, ValueError):
        return "none"
    try:
        group = groups.make(64 << 20, 16)
        if group is not None:
            group.remove()
        return groups.kind
    except OSError:
        return "none"
    finally:
        groups.close()


def _cgroups(kind: str) -> Check:
    if kind != "none":
        return Check("control groups", True, f"version {kind[1]}, a group for each session", "")
    return Check("control groups", False, "none can be made", for_control_groups())


def _containment(kind: str) -> Check:
    name = "memory containment"
    if kind != "none":
        return Check(name, True, "the kernel holds each session to its limit", "")
    text = "the server watches each session's processes and kills those above the limit, a moment late"
    return Check(name, False, text, "See control groups.")


def _landlock() -> Check:
    if (missing := failure()) is None:
        return Check("Landlock", True, f"version {rules.version()}; the level landlock can start", "")
    return Check("Landlock", False, missing, f"Only the level landlock needs it. {for_landlock()}")


def _docker() -> Check:
    client = shutil.which("docker")
    if client is None:
        return Check("Docker", False, "no docker command", "Only the Docker backend needs it.")
    command = [client, "version", "--format", "{{.Server.Version}}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Check("Docker", False, "the engine does not answer", "Start the Docker engine.")
    if answer.returncode == 0:
        return Check("Docker", True, f"engine {answer.stdout.strip()}", "")
    return Check("Docker", False, _last(answer.stderr), "Start the Docker engine, or join its group.")


def _packages() -> Check:
    wanted = SandboxConfig().packages
    present = [name for name in wanted if util.find_spec(name)]
    absent = [name for name in wanted if name not in present]
    if not absent:
        return Check("packages", True, ", ".join(present), "")
    text = f"present: {', '.join(present) or 'none'}; absent: {', '.join(absent)}"
    return Check("packages", False, text, "Install the extra: pip install 'med-copilot[science]'.")


def _child(script: str) -> str | None:
    """Run `script` in an interpreter of its own; None when it succeeds, else why it did not."""
    python = str(Path(sys.executable).resolve())
    command = [python, "-I", "-S", "-B", "-c", script, str(_SANDBOX), tempfile.gettempdir()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, cwd="/", check=False)
    except subprocess.TimeoutExpired:
        return "no answer"
    return None if done.returncode == 0 else _last(done.stderr)


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:500] if lines else "failed without a word"
