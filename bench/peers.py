"""What others offer for the same work: a plain subprocess, a Jupyter kernel, and llm-sandbox on the same Docker engine.

The kernel keeps state, as our sessions do, without any isolation; llm-sandbox isolates and starts an interpreter for
each call; the subprocess does neither. Needs the extra `bench`; a peer that is not installed is left out.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sandbox.docker_engine.options import DockerOptions

Call = Callable[[str], None]


@dataclass
class Peer:
    """Seconds of opening with the first call, and of each call, by its code."""

    name: str
    opened: float = 0.0
    calls: dict[str, list[float]] = field(default_factory=dict)


def peers(options: DockerOptions | None, codes: dict[str, int]) -> list[Peer]:
    """Measure every peer that is here on `codes` (how often each is called). Blocking: run it in a thread."""
    makers: dict[str, Callable[[], Any]] = {"a plain subprocess": _subprocess, "ipykernel": _kernel}
    if options is not None:
        makers["llm-sandbox"] = lambda: _llm_sandbox(options)
    found = []
    for name, make in makers.items():
        try:
            found.append(_measure(name, make, codes))
        except ImportError:
            continue
    return found


def _measure(name: str, make: Callable[[], Any], codes: dict[str, int]) -> Peer:
    peer, began = Peer(name), time.perf_counter()
    with make() as call:
        call("1 + 1")
        peer.opened = time.perf_counter() - began
        for code, count in codes.items():
            call(code)
            peer.calls[code] = [_timed(call, code) for _ in range(count)]
    return peer


def _timed(call: Call, code: str) -> float:
    began = time.perf_counter()
    call(code)
    return time.perf_counter() - began


@contextmanager
def _subprocess() -> Iterator[Call]:
    yield lambda code: _check(subprocess.run([sys.executable, "-c", code]).returncode)


@contextmanager
def _kernel() -> Iterator[Call]:
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel()
    try:
        # Its output is received, as ours is, and dropped.
        yield lambda code: _check(
            client.execute_interactive(code, output_hook=lambda _: None)["content"]["status"] != "ok"
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@contextmanager
def _llm_sandbox(options: DockerOptions) -> Iterator[Call]:
    """With the image, the packages and the network of our own containers; its other settings are its defaults."""
    import docker
    from llm_sandbox import SandboxSession

    mounts = [docker.types.Mount(target, source, type="bind", read_only=True) for source, target in options.binds]
    settings = {
        "network_mode": "none",
        "mounts": mounts,
        "environment": {**options.environment, "PATH": "/usr/local/bin:/usr/bin:/bin"},
        "command": "sleep infinity",
        "working_dir": "/",
        "stop_signal": "SIGKILL",
    }
    client = docker.DockerClient(base_url=options.engine)
    session = SandboxSession(
        client=client,
        image=options.image,
        lang="python",
        keep_template=True,
        skip_environment_setup=True,
        runtime_configs=settings,
        workdir="/work",
    )
    try:
        with session:
            yield lambda code: _check(session.run(code).exit_code)
    finally:
        client.close()


def _check(status: int | bool) -> None:
    if status:
        raise RuntimeError("A peer failed at work that it should do.")
