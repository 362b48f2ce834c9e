"""What the root of all sessions holds, and that the process which forks them outlives a lack of processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.base import SandboxConfig
from sandbox.embedded import plan

ROOT = Path(__file__).resolve().parents[2]


def test_an_environment_inside_the_interpreters_folder_stays_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pyenv and images keep environments, and so the graders, below the folder of the interpreter."""
    for name in ("bin", "lib/env", "lib64", "envs/env", "share"):
        (tmp_path / name).mkdir(parents=True)
    for environment in ("lib/env", "envs/env"):
        monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
        monkeypatch.setattr(sys, "prefix", str(tmp_path / environment))
        made = plan.make_plan(SandboxConfig(packages=()), Path("/nowhere"), {})
        holding = [target for _, target in made["binds"] if (tmp_path / environment).is_relative_to(target)]
        assert str(tmp_path) not in holding
        assert not holding or str(tmp_path / environment) in made["covers"]


PROGRAM = f"""
import asyncio, os, resource, sys
sys.path.insert(0, {str(ROOT)!r})
from sandbox.base import Limits, SandboxConfig, SessionSpec
from sandbox.embedded.backend import EmbeddedSandbox
from sandbox.errors import SandboxFailure, SandboxUnavailable

def has_room(limit):
    # In a child, as the user of the sessions: the kernel also counts what /proc does not show here.
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))
        if os.getuid() == 0:
            os.setresuid(65534, 65534, 65534)
        try:
            if os.fork() == 0:
                os._exit(0)
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0

async def main():
    most = 60 + next(limit for limit in range(1, 20_000) if has_room(limit))
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    backend = EmbeddedSandbox(SandboxConfig(packages=(), preload=(), pool=0))
    try:
        await backend.start()
    except SandboxUnavailable as error:
        print("skip", error)
        return
    zygote = backend._process
    bombs = [await backend.open(SessionSpec()) for _ in range(2)]
    code = "import os, time\\nwhile True:\\n    try:\\n        if os.fork() == 0: time.sleep(60)\\n"
    code += "    except OSError: time.sleep(0.05)"
    calls = [asyncio.ensure_future(bomb.execute(code, timeout=4)) for bomb in bombs]
    await asyncio.sleep(2)
    failed = 0
    for _ in range(3):
        try:
            await (await backend.open(SessionSpec())).close()
        except SandboxFailure:
            failed += 1
    print([(await call).status for call in calls])
    session = await backend.open(SessionSpec())
    print((await session.execute("6 * 7")).value, backend._process is zygote, zygote.poll())
    await backend.close()
asyncio.run(main())
"""


def test_a_lack_of_processes_fails_an_opening_and_nothing_else() -> None:
    """The user's limit of processes is reached by two sessions; the zygote's own fork fails, and it lives on."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=False)
    if done.stdout.startswith("skip"):
        pytest.skip(done.stdout)
    assert done.stdout.splitlines() == ["['timeout', 'timeout']", "42 True None"], done.stdout + done.stderr[-3000:]
