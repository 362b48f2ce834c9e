"""What a container of one session is created with: the request to the engine, and the code that is sent into it."""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

from sandbox.base import DATA_FOLDER, WORK_FOLDER, Limits, SandboxConfig
from sandbox.docker_engine.engine import OWNER, SANDBOX
from sandbox.docker_engine.options import DockerOptions
from sandbox.embedded.plan import ENVIRONMENT

_HERE = Path(__file__).resolve().parent
_START = "sandbox.docker_engine.keeper"
_OURS = ("errors.py", "wire.py", "interpreter/*.py", "embedded/transfer.py", "embedded/inside/*.py")
# The packages of an image lie where its Python looks for them.
_ENVIRONMENT = {name: value for name, value in ENVIRONMENT.items() if name != "PYTHONPATH"}


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a container is made for. Any session of its kind can have it: the rest is said when one is taken."""

    source: str | None
    limits: Limits

    @classmethod
    def of(cls, source: str | None, limits: Limits) -> "Kind":
        return cls(source, dataclasses.replace(limits, call_seconds=0, output=0))


def payload(kind: Kind, config: SandboxConfig) -> dict[str, Any]:
    """The first message into a container: our code, and the limits that its own process sets."""
    limits = kind.limits
    options = {
        "preload": list(config.preload),
        "open_files": limits.open_files,
        "disk": limits.disk,
        "cpu_seconds": limits.cpu_seconds,
    }
    return {"files": _sources(), "start": _START, "options": options}


def _sources() -> dict[str, str]:
    root = _HERE.parent
    paths = [path for pattern in _OURS for path in sorted(root.glob(pattern))] + [_HERE / "keeper.py"]
    files = {f"sandbox/{path.relative_to(root).as_posix()}": path.read_text() for path in paths}
    packages = {str(Path(file).parent / "__init__.py") for file in files}
    return {**dict.fromkeys(sorted(packages), ""), **files}


def request(kind: Kind, image: str, config: SandboxConfig, options: DockerOptions, owner: str) -> dict[str, Any]:
    """The body of the engine's POST /containers/create."""
    limits, user = kind.limits, options.user or _user()
    binds = [_bind(source, target) for source, target in options.binds]
    if kind.source is not None:
        folder = options.sources.get(kind.source) or str(config.sources[kind.source].resolve())
        binds.append(_bind(folder, DATA_FOLDER))
    if config.wheelhouse is not None:
        binds.append(_bind(str(config.wheelhouse.resolve()), "/wheels"))
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
        "Tmpfs": _folders(limits, user, kind.source is None) | dict.fromkeys(options.covers, "ro,size=4k"),
        "Mounts": binds,
        "RestartPolicy": {"Name": "no"},
        **({"Runtime": options.runtime} if options.runtime else {}),
    }
    return {
        "Image": image,
        "Entrypoint": [options.python, "-P", "-B", "-c", (_HERE / "boot.py").read_text()],
        "Cmd": [],
        "User": user,
        "WorkingDir": "/",
        "Hostname": "sandbox",
        "Env": [f"{name}={value}" for name, value in (_ENVIRONMENT | options.environment).items()],
        "Labels": {SANDBOX: "1", OWNER: owner},
        "NetworkDisabled": True,
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
