"""Machines that block user namespaces, each as root and as an ordinary user, and the command `med-copilot` on them.

A container is a default one: `docker run` without any option that loosens or tightens it. The private engine has no
network to give, so that "none" is the only one. A filter is `tests.sandbox.blocked` on this machine.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from agent.client import Environment
from tests.sandbox.blocked import ROOT, blocked
from tests.sandbox.engine import NoEngine, hollow_options
from tests.sandbox.users import interpreter

USER = 1000
RESTRICTED, OPEN = "mimic_iii", "medcalcbench"
"""The families of the data on these machines. Some copies have the first one restricted."""
NAMES = ("container of root", "container of a user", "filter on root", "filter on a user")
_SCRIPT = str(ROOT / "med_copilot.py")
_DATA = ".local/share/med-copilot"


@dataclass
class Machine:
    """`home` is its home folder here, `inside` the same folder as it is called there."""

    user: int
    home: Path
    inside: Path
    python: str = sys.executable
    engine: str | None = None
    options: tuple[str, ...] = ()
    """More options of `docker run`."""
    image: str = ""
    landlock: str = "allowed"
    label: str = field(default_factory=lambda: f"med-copilot-test-{uuid4().hex}")

    @property
    def data(self) -> Path:
        """The data root where none is named, as it is called here."""
        return self.home / _DATA

    def there(self, path: Path) -> str:
        """What a path below `home` is called there."""
        return str(self.inside / path.relative_to(self.home))

    def command(self, *arguments: str) -> list[str]:
        """The command line, to be run here, of `med-copilot` there."""
        return self.run(self.python, _SCRIPT, *arguments)

    def run(self, *command: str) -> list[str]:
        """The command line, to be run here, of any command there."""
        if self.engine is None:
            clean = ["/usr/bin/env", "-i", f"HOME={self.home}", "PATH=/usr/bin:/bin", *command]
            return blocked(*clean, user=self.user, landlock=self.landlock)
        return self.docker("run", "--rm", "-i", *self._options(), self.image, *command)

    def start(self) -> None:
        """Start the container with nothing in it but a process that waits; `enter` runs commands in it."""
        command = [*self._options(), "--detach", "--name", self.label, self.image, "/bin/sleep", "600"]
        subprocess.run(self.docker("run", "--rm", *command), check=True, capture_output=True, timeout=60)

    def enter(self, *arguments: str) -> list[str]:
        """The command line of `med-copilot` in the started container."""
        return self.docker("exec", "-i", self.label, self.python, _SCRIPT, *arguments)

    def stop(self) -> None:
        subprocess.run(self.docker("rm", "--force", self.label), check=True, capture_output=True, timeout=60)

    def processes(self) -> dict[int, str]:
        """Numbers and command lines of those in the started container that are no zombies."""
        asked = self.docker("top", self.label, "-ww", "-eo", "pid,stat,args")
        lines = subprocess.run(asked, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()[1:]
        fields = [line.split(None, 2) for line in lines]
        return {int(pid): text for pid, state, text in fields if not state.startswith("Z")}

    def docker(self, *arguments: str) -> list[str]:
        return ["docker", "--host", str(self.engine), *arguments]

    def _options(self) -> list[str]:
        folders = [Path("/usr"), Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), ROOT]
        folders = [one for one in folders if one == Path("/usr") or not one.is_relative_to("/usr")]
        named = ["/etc/alternatives", "/etc/ld.so.cache", *map(str, folders)]
        binds = [f"{path}:{path}:ro" for path in dict.fromkeys(named) if Path(path).exists()]
        binds += [f"{self.home}:{self.inside}", f"{self.home}-tmp:/tmp"]
        shared = [part for bind in binds for part in ("--volume", bind)]
        place = ["--workdir", str(self.inside), "--env", f"HOME={self.inside}", "--env", "PYTHONDONTWRITEBYTECODE=1"]
        return ["--network", "none", "--user", f"{self.user}:{self.user}", *shared, *place, *self.options]


def make(name: str, folder: Path) -> Machine:
    """The machine of that name, with a home below `folder`, which others may enter. Skips where it cannot be had."""
    kind, user, own = name.split()[0], USER if name.endswith("user") else 0, os.getuid()
    if own != 0 and (kind, user) != ("filter", USER):
        pytest.skip("this needs root")
    home = folder / uuid4().hex
    home.mkdir(mode=0o755)
    if kind == "filter":
        return Machine(own or user, home, home, python=_shared_python(folder) if user and not own else sys.executable)
    if shutil.which("docker") is None:
        pytest.skip("there is no docker command")
    try:
        options = hollow_options()
    except NoEngine as error:
        pytest.skip(str(error))
    temporary = Path(f"{home}-tmp")
    temporary.mkdir()
    temporary.chmod(0o1777)
    return Machine(user, home, Path("/home/agent"), engine=options.engine, image=options.image)


def give(machine: Machine, data: Path, place: str = "") -> Path:
    """Copy a data root into the home of a machine, by default to where it looks for one. Returns the copy."""
    copy = machine.home / place if place else machine.data
    shutil.copytree(data, copy)
    if os.getuid() == 0:
        for path in (machine.home, *machine.home.rglob("*")):
            os.chown(path, machine.user, machine.user)
    return copy


def run(line: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(line, capture_output=True, text=True, timeout=200, stdin=subprocess.DEVNULL, check=False)


def records(data: Path) -> list[dict[str, Any]]:
    """What the servers of a data root have recorded of ended episodes."""
    files = sorted((data / "logs").glob("attempts-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


async def start(environment: Environment, family: str) -> str:
    """Start a task of a family. Returns the episode's id."""
    listed = await environment.call("list_tasks", family=family)
    started = await environment.call("start_task", task_id=listed["tasks"][0]["id"])
    return str(started["episode_id"])


def cells(text: str) -> list[list[str]]:
    """Those of each line of a table that rich drew."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]


def holds(text: str) -> dict[str, str]:
    """What the doctor says of what the levels need."""
    wanted = ("user namespaces", "seccomp", "Landlock")
    return {row[0]: row[1] for row in cells(text) if row[0] in wanted}


def _shared_python(folder: Path) -> str:
    """An interpreter that any user may run, with the packages of this one."""
    environment = folder / "environment"
    if not environment.exists():
        subprocess.run([interpreter(), "-m", "venv", "--without-pip", str(environment)], check=True, timeout=60)
        packages = next((environment / "lib").glob("python*")) / "site-packages"
        (packages / "shared.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return str(environment / "bin" / "python")
