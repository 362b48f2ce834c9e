"""Where user namespaces are blocked: all works at the level landlock, which is told; restricted data are refused."""

import json
from pathlib import Path

import pytest

from agent.client import ToolFailed, connect
from tests.end_to_end.machines import NAMES, OPEN, RESTRICTED, Machine, cells, give, holds, make, records, run, start

pytestmark = pytest.mark.anyio
FRESH = "container of a user"
"""There, the demonstration generates its data itself."""


@pytest.fixture(scope="module", params=NAMES)
def machine(request: pytest.FixtureRequest, folder: Path, data: Path, restricted: Path) -> Machine:
    made = make(request.param, folder)
    if request.param != FRESH:
        give(made, data)
    give(made, restricted, "restricted")
    return made


def test_the_demonstration(machine: Machine) -> None:
    done = run(machine.command("demo", "--tasks", "2"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    told = [line for line in done.stderr.splitlines() if "sandbox:" in line]
    assert len(told) == 1, done.stderr
    assert "sandbox: landlock, because the level embedded cannot start here (user namespaces" in told[0]
    assert "Graded by the server" in done.stdout
    made = records(machine.data)
    assert [record["sandbox"] for record in made] == ["landlock"] * 4
    assert sorted(record["reward"] for record in made) == [0.0, 0.0, 1.0, 1.0], "two solve and two guess"


async def test_restricted_data_are_refused_with_the_remedy(machine: Machine) -> None:
    place = machine.home / "restricted"
    line = machine.command("serve", "--pool", "0", "--data", machine.there(place))
    async with connect(line) as environment:
        with pytest.raises(ToolFailed) as refused:
            await start(environment, RESTRICTED)
        episode = await start(environment, OPEN)
        await environment.call("close_episode", episode_id=episode)
    text = str(refused.value)
    for word in ("restricted", "landlock", "med-copilot doctor", "Docker", "--allow-restricted"):
        assert word in text
    assert [record["task"]["family"] for record in records(place)] == [OPEN]


@pytest.mark.parametrize("machine", ["container of a user", "filter on root"], indirect=True)
async def test_restricted_data_are_served_where_the_operator_says_so(machine: Machine) -> None:
    place = machine.home / "restricted"
    before = len(records(place))
    line = machine.command("serve", "--pool", "0", "--allow-restricted", "--data", machine.there(place))
    async with connect(line) as environment:
        episode = await start(environment, RESTRICTED)
        code = "SELECT count(*) FROM patients"
        result = await environment.call("execute_code", episode_id=episode, code=code, language="sql")
        assert "40" in json.dumps(result)
        await environment.call("close_episode", episode_id=episode)
    assert [record["sandbox"] for record in records(place)[before:]] == ["landlock"]


def test_the_doctor_tells_the_truth(machine: Machine) -> None:
    done = run(machine.command("doctor"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert holds(done.stdout) == {"user namespaces": "no", "seccomp": "yes", "Landlock": "yes"}
    assert "sandbox: landlock, because" in done.stdout
    if machine.engine is not None:
        assert "Let this container make user namespaces: start it with --security-opt" in " ".join(
            row[-1] for row in cells(done.stdout)
        )
