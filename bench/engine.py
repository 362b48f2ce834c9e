"""The Docker engine that the benchmarks use, and what belongs to it on this machine."""

import os
from contextlib import closing, suppress
from pathlib import Path

from sandbox.base import Sandbox, SandboxConfig
from sandbox.choose import LEVELS
from sandbox.docker_engine.backend import DockerSandbox
from sandbox.docker_engine.options import VARIABLE, DockerOptions, options_from_environment
from sandbox.errors import SandboxUnavailable
from tests.sandbox.engine import NoEngine, engine, hollow_options


def docker_options(config: SandboxConfig) -> DockerOptions:
    """What MED_COPILOT_DOCKER configures, else a private engine and a hollow image of this machine's own Python.

    Raises SandboxUnavailable.
    """
    if VARIABLE in os.environ:
        return options_from_environment()
    try:
        return hollow_options(config.packages)
    except NoEngine as error:
        raise SandboxUnavailable(str(error)) from error


def make(level: str, config: SandboxConfig) -> Sandbox:
    """The sandbox of a level, not started. Raises SandboxUnavailable."""
    return DockerSandbox(config, docker_options(config)) if level == "docker" else LEVELS[level](config)


def engine_processes() -> list[int]:
    """The processes of the private engine: its shims belong to no tree of ours, but name its folder. Else []."""
    if VARIABLE in os.environ:
        return []
    folder, found = str(Path(engine().removeprefix("unix://")).parent), []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and folder in (entry / "cmdline").read_text():
                found.append(int(entry.name))
    return found


def containers() -> int:
    """How many the private engine has, ended ones too."""
    import docker

    with closing(docker.APIClient(base_url=engine())) as client:
        return len(client.containers(all=True))
