"""What the root of all sessions holds."""

import sys
from pathlib import Path

import pytest

from sandbox.base import SandboxConfig
from sandbox.embedded import plan


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
