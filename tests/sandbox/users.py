"""What a test needs to run something as another user than root."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_CHECK = "import sys; sys.exit(sys.version_info[:2] != {!r})"


def interpreter() -> str:
    """A Python of this version that any user may run."""
    for path in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        real = Path(path).resolve()
        if real.exists() and all(folder.stat().st_mode & 1 for folder in real.parents):
            command = [str(real), "-c", _CHECK.format(sys.version_info[:2])]
            if subprocess.run(command, check=False).returncode == 0:
                return str(real)
    pytest.skip("no interpreter of this version is readable for other users")


def become(user: int) -> list[str]:
    """The begin of a command that is run by this user, without any privilege of root's."""
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not here")
    identity = [f"--reuid={user}", f"--regid={user}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
    return ["setpriv", *identity]
