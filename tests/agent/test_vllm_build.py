"""The command that builds vLLM's environment, where it cannot."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent import vllm


@pytest.mark.parametrize(
    ("folder", "why"),
    [("/proc/none", "-m venv /proc/none` failed."), ("{tmp}/file", "-m venv {tmp}/file` failed.")],
)
def test_what_cannot_be_built_is_said_in_one_line(tmp_path: Path, folder: str, why: str) -> None:
    (tmp_path / "file").touch()
    folder, why = (text.replace("{tmp}", str(tmp_path)) for text in (folder, why))
    done = CliRunner().invoke(vllm.app, ["build", "--folder", folder])
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    assert done.output.startswith(f"vLLM could not be built in {folder}: ")
    assert done.output.strip().endswith(why)
    assert len(done.output.splitlines()) == 1
