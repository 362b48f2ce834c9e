"""What a container of one session is created with: the request to the engine, and the code that is sent into it."""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

from sandbox.base import DATA_FOLDER, MOST_CONNECTIONS, WORK_FOLDER, Limits, SandboxConfig
from sandbox.docker_engine.engine import OWNER, SANDBOX
from sandbox.docker_engine.masked import MASKED
from sandbox.docker_engine.options import DockerOptions
from sandbox.embedded.plan import ENVIRONMENT

_HERE = Path(__file__).resolve().parent
_CHANNEL = 700
"""Descriptor of the interpreter's socket."""
_START = "sandbox.docker_engine.keeper"
_BEGIN = "sandbox.docker_engine.begin"
_RELAY = "sandbox.docker_engine.relay"
_TO_KEEP = ("errors.py", "wire.py", "interpreter/wire.py", "embedded/transfer.py", "docker_engine/keeper.py")
_OURS = (*_TO_KEEP, "embedded/inside/*.py")
_OURS_TO_BEGIN = ("interpreter/*.py", "docker_engine/begin.py")
_OURS_TO_RELAY = ("docker_engine/mux.py", "docker_engine/relay.py", "embedded/inside/*.py")
# The packages of an image lie where its Python looks for them.
_ENVIRONMENT = {name: value for name, value in ENVIRONMENT.items() if name != "PYTHONPATH"}


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a container is made for. Any session of its kind can have it: the rest is said when one is taken."""

    source: str | None
    limits: Limits
    ports: tuple[int, ...] = ()
    """Of its services."""

    @classmethod
    def of(cls, source: str | None, limits: Limits, ports: tuple[int, ...] = ()) -> "Kind":
        return cls(source, dataclasses.replace(limits, call_seconds=0, output=0), ports)


def payload(kind: Kind, config: SandboxConfig) -> dict[str, Any]:
    """The first message into a container: our code, and the limits that its own process sets."""
    limits = kind.limits
    begin = {"preload": list(config.preload), "channel": _CHANNEL}
    options = {
        "begin": {"files": _sources(_OURS_TO_BEGIN), "start": _BEGIN, "options": begin},
        "open_files": limits.open_files,
        "disk": limits.disk,
        "cpu_seconds": limits.cpu_seconds,
    }
    return {"files": _sources(_OURS), "start": _START, "options": options}


def relay(kind: Kind) -> dict[str, Any]:
    """The first message to a process in the container that listens for its services."""
    options = {"ports": kind.ports, "most": MOST_CONNECTIONS}
    return {"files": _sources(_OURS_TO_RELAY), "start": _RELAY, "options": options}


def command(options: DockerOptions) -> list[str]:
    """What takes such a message."""
    return [options.python, "-P", "-B", "-c", (_HERE / "boot.py").read_text()]


def _sources(patterns: tuple[str, ...]) -> dict[str, str]:
    root = _HERE.parent
    paths = [path for pattern in patterns for path in sorted(root.glob(pattern))]
    files = {f"sandbox/{path.relative_to(root).as_posix()}": path.read_text() for path in paths}
    packages = {f"{folder}/__init__.py" for file in files for folder in list(Path(file).parents)[:-1]}
    return {**dict.fromkeys(sorted(packages), ""), **files}


def request(kind: Kind, image: str, config: SandboxConfig, options: DockerOptions, owner: str) -> dict[str, Any]:
    """The body of the engine's POST /containers/create."""
    limits, user = kind.limits, options.user or _user()
    binds = [_bind(source, target) for source, target in options.binds]
    if kind.source is not None:
        folder = options.sources.get(kind.source) or str(config.sources[kind.source])
        binds.append(_bind(folder, DATA_FOLDER))
    if config.wheelhouse is not None:
        binds.append(_bind(str(config.wheelhouse), "/wheels"))
    host = {
        "NetworkMode": "none",
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "PidsLimit": limits.processes,
        "Memory": limits.memory,
        "MemorySwap": limits.memory,
        "NanoCpus": int(options.cpus * 1e9),
        # When the machine itself runs out of memory, sessions go first.
        "OomScoreAdj": 500,
        "LogConfig": {"Type": "none", "Config": {}},
        "MaskedPaths": list(MASKED),
        "Tmpfs": _folders(limits, user, kind.source is None) | dict.fromkeys(options.covers, "ro,size=4k"),
        "Mounts": binds,
        "RestartPolicy": {"Name": "no"},
        **({"Runtime": options.runtime} if options.runtime else {}),
    }
    return {
        "Image": image,
        "Entrypoint": command(options),
        "Cmd": [],
        "User": user,
        "WorkingDir": "/",
        "Hostname": "sandbox",
        "Env": [f"{name}={value}" for name, value in (_ENVIRONMENT | options.environment).items()],
        "Labels": {SANDBOX: "1", OWNER: owner},
        # Without services there is not even a name for the loopback; the engine writes /etc/hosts for a network only.
        "NetworkDisabled": not kind.ports,
        "Tty": False,
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": host,
    }


def _folders(limits: Limits, user: str, no_data: bool) -> dict[str, str]:
    uid, _, gid = user.partition(":")
    rights = f"nosuid,nodev,mode=0700,uid={uid},gid={gid or uid}"
    sizes = {WORK_FOLDER: 1, "/tmp": 2, "/dev/shm": 4}
    folders = {
        path: f"rw,exec,{rights},size={limits.disk // part},nr_inodes={limits.inodes // part}"
        for path, part in sizes.items()
    }
    return folders | ({DATA_FOLDER: "ro,nosuid,nodev,size=4k"} if no_data else {})


def _bind(source: str, target: str) -> dict[str, Any]:
    # A Mounts entry, unlike a Binds one, refuses a source that does not exist instead of making a folder.
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": True}


def _user() -> str:
    if sys.platform == "win32" or os.getuid() == 0:
        return "1000:1000"
    return f"{os.getuid()}:{os.getgid()}"
