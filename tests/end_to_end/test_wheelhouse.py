"""`serve --wheelhouse`: an agent installs a package over MCP, and is told where packages come from."""

from pathlib import Path

import pytest

from agent.client import Environment, connect
from tests.end_to_end.real import COMMAND, command
from tests.sandbox.wheels import make_wheel

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("root")
    command("tasks", "generate", "medcalcbench", "--patients", "20", "--per-category", "1", "--data", path)
    return path


@pytest.fixture
def wheelhouse(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    folder = tmp_path / "house"
    folder.mkdir(mode=0o755)
    make_wheel(folder, "ward", "1.0", {"ward.py": "import clinic\ndef main(): print(clinic.BEDS)\n"}, ["clinic"],
               "ward = ward:main")  # fmt: skip
    make_wheel(folder, "clinic", "1.2", {"clinic.py": "BEDS = 7\n"})
    return folder


async def begin(environment: Environment) -> str:
    task = (await environment.call("list_tasks", limit=1))["tasks"][0]["id"]
    return str((await environment.call("start_task", task_id=task))["episode_id"])


async def test_an_agent_installs_from_the_wheelhouse(root: Path, wheelhouse: Path) -> None:
    serve = [*COMMAND, "serve", "--data", str(root), "--wheelhouse", str(wheelhouse)]
    async with connect(serve) as environment:
        episode = await begin(environment)
        absent = await environment.call("execute_code", episode_id=episode, code="import ward")
        assert absent["error"]["type"] == "ModuleNotFoundError"
        assert "pip install NAME" in absent["note"]
        assert "clinic, ward" in absent["note"]
        advice = await environment.call("debug_code", episode_id=episode)
        assert advice["diagnosis"]["fixes"][0] == "run_terminal: pip install ward"
        done = await environment.call("run_terminal", episode_id=episode, command="pip install ward && ward")
        assert done["status"] == "ok", done
        assert done["stdout"]["text"].endswith("7\n")
        used = await environment.call("execute_code", episode_id=episode, code="import ward\nward.clinic.BEDS")
        assert used["value"] == "7"
        lacking = await environment.call(
            "run_terminal", episode_id=episode, command="pip install nowhere 2>&1 | tail -1"
        )
        assert "only what the operator's wheelhouse holds: clinic, ward" in lacking["note"]
        assert str(wheelhouse) not in str([absent, advice, done, used, lacking])
        fresh = await begin(environment)
        again = await environment.call("execute_code", episode_id=fresh, code="import ward")
        assert again["status"] == "error"


async def test_without_one_the_error_names_the_remedy(root: Path) -> None:
    async with connect([*COMMAND, "serve", "--data", str(root)]) as environment:
        episode = await begin(environment)
        for tool, given in (
            ("run_terminal", {"command": "pip install ward"}),
            ("execute_code", {"code": "import ward"}),
            ("execute_code", {"code": "print('no package is missing')"}),
        ):
            done = await environment.call(tool, episode_id=episode, **given)
            assert ("--wheelhouse DIR" in (done.get("note") or "")) is (done["status"] == "error")
            if done["status"] == "error":
                advice = await environment.call("debug_code", episode_id=episode)
                assert any("--wheelhouse DIR" in fix for fix in advice["diagnosis"]["fixes"])


def test_a_folder_of_which_nothing_can_be_installed_is_refused(root: Path, tmp_path: Path) -> None:
    empty, file = tmp_path / "empty", tmp_path / "file.whl"
    empty.mkdir()
    (empty / "ward.zip").write_text("")
    file.write_text("")
    for folder, reason in (
        (tmp_path / "absent", "is not a folder"),
        (file, "is not a folder"),
        (empty, "holds no package"),
    ):
        failed = command("serve", "--data", root, "--wheelhouse", folder, check=False)
        assert failed.returncode == 1
        assert failed.stderr.startswith("med-copilot: ")
        assert failed.stderr.count("\n") == 1
        assert reason in failed.stderr
        assert f"pip wheel --wheel-dir {folder} PACKAGE" in failed.stderr
