"""A private Docker engine for tests, and an image that is made on the spot, without any registry.

The image is hollow: folders, links and three small files. The machine's own /usr, Python and scientific packages are
bound into it, read-only, as the embedded backend does. Run as a command, it starts an engine and prints what to
export for tests to use that one; the engine ends with the command's standard input.
"""

import atexit
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sandbox.base import SandboxConfig
from sandbox.docker_engine.backend import DockerSandbox
from sandbox.docker_engine.options import DockerOptions
from sandbox.embedded.inside import linux
from sandbox.embedded.plan import PACKAGES, make_plan

VARIABLE = "MED_COPILOT_TEST_ENGINE"
"""Names the socket of an engine that already runs, which is then used and left running."""
IMAGE = "med-copilot-hollow"
_FLAGS = (
    "--iptables=false",
    "--ip6tables=false",
    "--ip-forward=false",
    "--ip-masq=false",
    "--bridge=none",
    "--exec-opt=native.cgroupdriver=cgroupfs",
    "--oom-score-adjust=0",
)
_START_SECONDS = 60.0


class NoEngine(Exception):
    """No engine can be had here. The text says why."""


def engine() -> str:
    """The address of an engine: the one that is named, or one started once for this process. Raises NoEngine."""
    found = _engine()
    if isinstance(found, NoEngine):
        raise found
    return found


@cache
def _engine() -> str | NoEngine:
    """Why there is none is found out once, too."""
    if named := os.environ.get(VARIABLE):
        return named
    if sys.platform != "linux" or os.geteuid() != 0:
        return NoEngine(f"A private engine needs root on Linux; {VARIABLE} can name one that runs.")
    if shutil.which("dockerd") is None:
        return NoEngine("dockerd is not installed (apt-get install docker.io).")
    reasons = []
    for driver in ("overlay2", "vfs"):
        folder = Path(tempfile.mkdtemp(prefix="med-copilot-engine-"))
        try:
            return _start(folder, driver)
        except NoEngine as error:
            reasons.append(f"{driver}: {error}")
    return NoEngine("; ".join(reasons))


def hollow_options(packages: tuple[str, ...] = ("numpy", "pandas"), **more: Any) -> DockerOptions:
    """Options for the engine and the hollow image, with the packages of this machine. Raises NoEngine."""
    return replace(_options(packages), **more)


@cache
def _options(packages: tuple[str, ...]) -> DockerOptions:
    address = engine()
    plan = make_plan(SandboxConfig(packages=packages), Path("/"), {})
    image = _import(address, _tar(plan))
    own = [(source, target) for source, target in plan["late_binds"] if target.startswith(PACKAGES)]
    return DockerOptions(
        image=image,
        engine=address,
        python=plan["python"],
        binds=tuple((source, target) for source, target in plan["binds"] + own),
        # As the launcher does: only what a bound folder would show.
        covers=tuple(path for path in plan["covers"] if any(Path(path).is_relative_to(to) for _, to in plan["binds"])),
        environment={"PYTHONPATH": PACKAGES},
    )


def hollow_sandbox(config: SandboxConfig, **more: Any) -> DockerSandbox:
    """The Docker backend on the hollow image. Skips the test where no engine can be had."""
    try:
        return DockerSandbox(config, hollow_options(config.packages, **more))
    except NoEngine as error:
        pytest.skip(str(error))


def _start(folder: Path, driver: str) -> str:
    address, log = f"unix://{folder}/s", folder / "log"
    paths = (f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid")
    with log.open("wb") as output:
        command = ["dockerd", f"--host={address}", *paths, f"--storage-driver={driver}", *_FLAGS]
        process = subprocess.Popen(
            command, stdout=output, stderr=output, start_new_session=True, preexec_fn=_end_with_parent
        )
    atexit.register(_stop, process, folder, os.getpid())
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if _answers(address):
            return address
        time.sleep(0.1)
    reason = (log.read_text(errors="replace").strip().splitlines() or ["no word"])[-1]
    _stop(process, folder, os.getpid())
    raise NoEngine(f"dockerd does not start: {reason[-500:]}")


def _end_with_parent() -> None:
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGTERM)


def _stop(process: subprocess.Popen[bytes], folder: Path, owner: int) -> None:
    if os.getpid() != owner or not folder.exists():
        return
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        if (place := line.split()[1]).startswith(f"{folder}/"):
            subprocess.run(["umount", "--lazy", place], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def _client(address: str) -> Any:
    import docker

    return docker.APIClient(base_url=address, version="auto", timeout=30)


def _answers(address: str) -> bool:
    from docker.errors import DockerException

    with suppress(DockerException, OSError):
        if not Path(address.removeprefix("unix://")).exists():
            return False
        client = _client(address)
        client.close()
        return True
    return False


def _import(address: str, archive: bytes) -> str:
    """Returns the image's id, which is as good as a digest: two runs must not take each other's."""
    client = _client(address)
    try:
        answer = client.import_image_from_data(archive, repository=IMAGE, tag=f"p{os.getpid()}")
        return str(client.inspect_image(f"{IMAGE}:p{os.getpid()}")["Id"]) if answer else IMAGE
    finally:
        client.close()


def _tar(plan: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("data", "dev", "etc", "proc", "run", "sys", "tmp", "usr/local/bin", "work"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for path, target in plan["links"]:
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
            archive.addfile(entry)
        for path, text in plan["files"].items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(text.encode()), 0o644
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


if __name__ == "__main__":
    print(f"export {VARIABLE}={engine()}", flush=True)
    sys.stdin.read()
