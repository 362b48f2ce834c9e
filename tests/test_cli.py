"""The command line, in processes of its own."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from agent.client import ToolFailed, connect
from tests.end_to_end.real import COMMAND, command


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with generated tasks of both families."""
    path = tmp_path_factory.mktemp("root")
    command("tasks", "generate", "--patients", "40", "--per-category", "2", "--data", path)
    return path


def test_help_teaches_every_command() -> None:
    text = command("--help").stdout
    for name in ("serve", "doctor", "demo", "data", "tasks", "log"):
        assert name in text


def test_generated_tasks_are_listed_and_shown(root: Path) -> None:
    from tasks.data import DataRoot
    from tasks.registry import Registry

    task = Registry(DataRoot(root)).ids(family="medcalcbench")[0]
    assert task.split("/")[0] in command("data", "ls", "--data", root).stdout
    shown = json.loads(command("tasks", "show", task, "--data", root).stdout)
    assert shown["id"] == task
    assert "oracle" not in shown
    assert "medcalcbench" in command("tasks", "ls", "--family", "medcalcbench", "--data", root).stdout


def test_data_verify_sees_a_changed_file(root: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    assert command("data", "verify", "--data", copy).returncode == 0
    database = next((copy / "datasets").glob("*/public/*.db"))
    database.chmod(0o644)
    with database.open("ab") as file:
        file.write(b"x")
    failed = command("data", "verify", "--data", copy, check=False)
    assert failed.returncode == 1
    assert "has changed" in failed.stdout


def test_every_generated_task_verifies(root: Path) -> None:
    done = command("tasks", "verify", "--data", root, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "medcalcbench" in done.stdout
    assert "mimic_iii" in done.stdout


def test_bad_input_is_one_line_with_the_remedy(root: Path, tmp_path: Path) -> None:
    for arguments in (
        ("tasks", "show", "no/such", "--data", root),
        ("data", "add", "no_such_family", tmp_path, "--data", root),
        ("data", "add", "mimic_iii", tmp_path / "absent", "--data", root),
        ("tasks", "verify", "--data", tmp_path / "empty"),
        ("log", "verify", "--data", tmp_path / "empty"),
    ):
        failed = command(*arguments, check=False)
        assert failed.returncode == 1, arguments
        assert failed.stderr.strip().startswith("med-copilot: ")
        assert "Traceback" not in failed.stderr


def test_a_folder_with_modules_of_our_names_changes_nothing(root: Path, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("raise SystemExit('the wrong tasks')")
    for name in ("agent", "sandbox", "mcp_server"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong package')")
    done = subprocess.run(
        [*COMMAND, "tasks", "ls", "--data", str(root)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_demo_ends_with_a_graded_table_and_a_trajectory(root: Path, tmp_path: Path) -> None:
    done = command("demo", "--data", tmp_path / "demo", "--tasks", "2", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Graded by the server" in done.stdout
    assert "Trajectories: " in done.stdout
    assert command("log", "verify", "--data", tmp_path / "demo").returncode == 0


@pytest.mark.anyio
async def test_a_server_without_data_says_what_to_do(tmp_path: Path) -> None:
    async with connect([*COMMAND, "serve", "--data", str(tmp_path)]) as environment:
        with pytest.raises(ToolFailed, match="med-copilot tasks generate"):
            await environment.call("list_tasks")
