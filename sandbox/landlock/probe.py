"""Whether the level `landlock` can be had here, tried out in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from sandbox.embedded.inside import seccomp
from sandbox.landlock.inside import rules

_PROJECT = Path(__file__).resolve().parents[2]
_SECONDS = 30.0
_TRY = """
import os, sys
sys.path.insert(0, sys.argv[1])
from sandbox.embedded.inside import seccomp
from sandbox.landlock.inside import calls, rules
os.close(os.pidfd_open(os.getpid()))
rules.restrict([rules.opened("/usr", rules.READ)])
seccomp.install(calls.build(os.uname().machine, own_user=False, signals=True, times=True))
seccomp.install(seccomp.build(os.uname().machine))
try:
    os.listdir("/etc")
except PermissionError:
    os.listdir("/usr")
    os._exit(0)
sys.exit("the rules let through what they should refuse")
"""


def failure() -> str | None:
    """None where it works, else why not."""
    machine = os.uname().machine
    if not seccomp.supported():
        return f"there is no table of system calls for {machine}"
    version = rules.version()
    if version < rules.LEAST:
        found = f"version {version} is here" if version else rules.absence()
        return f"Landlock of version {rules.LEAST} or later is needed (Linux 6.2), and {found}"
    command = [str(Path(sys.executable).resolve()), "-I", "-S", "-B", "-c", _TRY, str(_PROJECT)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, cwd="/", check=False)
    except subprocess.TimeoutExpired:
        return "a process that tries it does not answer"
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1][:500] if lines else f"a process that tries it ended with status {done.returncode}"
