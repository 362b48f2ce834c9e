"""The same attacks where less holds the sessions: on a server of an ordinary user, and of root without control groups.

Each run is a second pytest: under `setpriv`, with an interpreter that others may read, or in a mount namespace of its
own in which no control group is mounted, so that memory and processes are watched.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.sandbox.attacks.summary import LINE
from tests.sandbox.attacks.world import PROJECT
from tests.sandbox.users import become, interpreter

USERS = (65533, 65532)
FILES = ("test_secrets.py", "test_neighbours.py", "test_transfer.py", "test_protocol.py", "test_exhaustion.py")
ATTACKED = [
    name for name in ("embedded", "landlock") if name in os.environ.get("MED_COPILOT_ATTACKED", name).split(",")
]
SECONDS = 600

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")


@pytest.fixture(autouse=True)
def unharmed() -> None:
    """The attacks are in the other process."""


class Runs:
    """The runs of one circumstance, one for each backend, side by side: they mostly wait."""

    def __init__(self, before: Callable[[int], list[str]], python: str, users: Sequence[int], *files: str) -> None:
        """`before` begins the command of a run by one of the users, who is the owner of what it writes."""
        self._homes = [tempfile.TemporaryDirectory(prefix="attacked-") for _ in ATTACKED]
        self._runs: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}
        for backend, home, user in zip(ATTACKED, (home.name for home in self._homes), users, strict=False):
            Path(home).chmod(0o755)
            os.chown(home, user, user)
            environment = {
                "PATH": "/usr/bin:/bin",
                "HOME": home,
                "TMPDIR": home,
                "PYTHONPATH": os.pathsep.join([str(PROJECT), sysconfig.get_path("purelib")]),
                "PYTHONDONTWRITEBYTECODE": "1",
                "OMP_NUM_THREADS": "1",
                "MED_COPILOT_ATTACKED": backend,
            }
            command = [*before(user), python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", "-ra"]
            command += [f"--basetemp={home}/t", *(str(Path(__file__).with_name(name)) for name in files)]
            with Path(home, "said").open("wb") as said:
                run = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=said, stderr=said)
            self._runs[backend] = run, Path(home, "said")

    def attacked(self, request: pytest.FixtureRequest, backend: str) -> None:
        """Wait for the run on a backend, and take its counts over."""
        run, said = self._runs[backend]
        status = run.wait(SECONDS)
        text = said.read_text(errors="replace")
        lines = [line for line in text.splitlines() if line.startswith(LINE)]
        assert status == 0, text[-6000:]
        if not lines:
            pytest.skip(text[-1500:])
        request.node.user_properties.append(("attacks elsewhere", lines))

    def close(self) -> None:
        for run, _ in self._runs.values():
            run.kill()
            run.wait()
        for home in self._homes:
            home.cleanup()


@pytest.fixture(scope="module")
def ordinary() -> Iterator[Runs]:
    runs = Runs(become, interpreter(), USERS, *FILES)
    yield runs
    runs.close()


@pytest.fixture(scope="module")
def watched() -> Iterator[Runs]:
    hide = 'umount --recursive /sys/fs/cgroup && exec "$@"'
    before = ["unshare", "--mount", "sh", "-c", hide, "sh"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*before, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("control groups cannot be hidden here")
    runs = Runs(lambda _: before, sys.executable, (0, 0), "test_exhaustion.py")
    yield runs
    runs.close()


@pytest.mark.timeout(SECONDS + 20)
@pytest.mark.parametrize("backend", ATTACKED)
def test_as_an_ordinary_user(request: pytest.FixtureRequest, ordinary: Runs, backend: str) -> None:
    ordinary.attacked(request, backend)


@pytest.mark.timeout(SECONDS + 20)
@pytest.mark.parametrize("backend", ATTACKED)
def test_without_control_groups(request: pytest.FixtureRequest, watched: Runs, backend: str) -> None:
    watched.attacked(request, backend)
