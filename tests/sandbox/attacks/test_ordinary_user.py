"""The same attacks on a server that an ordinary user started: no root, no control group, limits by watching.

Run in a second pytest under `setpriv`, with an interpreter that others may read.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

from tests.sandbox.attacks.world import PROJECT

USER = 65533
FILES = ("test_secrets.py", "test_neighbours.py", "test_transfer.py", "test_protocol.py", "test_exhaustion.py")
CHECK = "import sys; sys.exit(sys.version_info[:2] != {!r})"


@pytest.fixture(autouse=True)
def unharmed() -> None:
    """The attacks are in the other process."""


def interpreter() -> str:
    """A Python of this version that any user may run."""
    for path in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        real = Path(path).resolve()
        if real.exists() and all(folder.stat().st_mode & 1 for folder in real.parents):
            command = [str(real), "-c", CHECK.format(sys.version_info[:2])]
            if subprocess.run(command, check=False).returncode == 0:
                return str(real)
    pytest.skip("no interpreter of this version is readable for other users")


@pytest.mark.skipif(os.getuid() != 0, reason="these attacks are already an ordinary user's")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not here")
@pytest.mark.timeout(280)
def test_as_an_ordinary_user() -> None:
    python = interpreter()
    with tempfile.TemporaryDirectory(prefix="ordinary-") as home:
        os.chown(home, USER, USER)
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": home,
            "TMPDIR": home,
            "PYTHONPATH": os.pathsep.join([str(PROJECT), sysconfig.get_path("purelib")]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
        }
        identity = [f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
        command = ["setpriv", *identity, python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", "-ra"]
        command += [f"--basetemp={home}/t", *(str(Path(__file__).with_name(name)) for name in FILES)]
        done = subprocess.run(
            command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=270, check=False
        )
    last = done.stdout.strip().splitlines()[-1:] or [done.stderr[-2000:]]
    if "passed" not in last[0] and "skipped" in last[0]:
        pytest.skip(done.stdout[-1500:])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "passed" in last[0]
    print(last[0])
