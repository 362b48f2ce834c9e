"""The probe tells what holds here, and agrees with what the sandbox does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import probe as probe_module
from sandbox.base import SandboxConfig
from sandbox.embedded.backend import EmbeddedSandbox
from sandbox.errors import SandboxUnavailable
from sandbox.probe import Check, probe
from tests.sandbox.groups import control_groups

NAMES = ["user namespaces", "seccomp", "pidfd and openat2", "control groups", "memory containment", "Landlock",
         "Docker", "packages"]  # fmt: skip


def test_checks_are_complete() -> None:
    checks = probe()
    assert [check.name for check in checks] == NAMES
    for check in checks:
        assert isinstance(check, Check)
        assert check.detail
        assert bool(check.remedy) != check.ok, check
    assert [check.name for check in checks if check.required] == NAMES[:3]


@pytest.mark.anyio
async def test_probe_agrees_with_the_sandbox() -> None:
    checks = {check.name: check for check in probe()}
    backend = EmbeddedSandbox(SandboxConfig(packages=(), preload=()))
    try:
        await backend.start()
    except SandboxUnavailable:
        assert not all(check.ok for check in checks.values() if check.required)
        return
    kind = backend.containment
    await backend.close()
    assert all(check.ok for check in checks.values() if check.required)
    assert checks["memory containment"].ok == (kind != "none")


def test_probe_leaves_no_control_group() -> None:
    before = set(control_groups(f"med-copilot-{os.getpid()}-"))
    probe()
    assert set(control_groups(f"med-copilot-{os.getpid()}-")) <= before


def test_a_denied_namespace_is_explained() -> None:
    """In a child that may make no further user namespace, the check fails with the cause and a remedy."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from sandbox.embedded.inside import linux, launcher\n"
        "user, group = __import__('os').getuid(), __import__('os').getgid()\n"
        "linux.unshare(linux.CLONE_NEWUSER)\n"
        "launcher.map_ids(0, 0, user, group)\n"
        "Path('/proc/sys/user/max_user_namespaces').write_text('0')\n"
        "from sandbox.probe import probe\n"
        "check = probe()[0]\n"
        "print(check.ok, check.required, check.detail, check.remedy, sep='|')\n"
    )
    root = str(Path(probe_module.__file__).resolve().parents[1])
    done = subprocess.run([sys.executable, "-c", program, root], capture_output=True, text=True, timeout=120)
    if done.returncode:
        pytest.skip(f"user namespaces cannot be closed off here: {done.stderr.strip().splitlines()[-1]}")
    ok, required, detail, remedy = done.stdout.strip().split("|")
    assert (ok, required) == ("False", "True")
    assert detail
    assert "sysctl" in remedy
