"""Where user namespaces and Landlock are blocked: nothing starts in their place, and every refusal says what to do."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mcp import StdioServerParameters
from mcp.client.stdio import stdio_client

from agent.client import ToolFailed, connect
from tests.end_to_end.machines import OPEN, RESTRICTED, Machine, give, holds, make, records, run, start

pytestmark = pytest.mark.anyio
WHY = {
    "ENOSYS": "this kernel has none, or a filter hides it",
    "EOPNOTSUPP": "this kernel was started without it (lsm=)",
    "EPERM": "a filter of system calls refuses it",
}


def bare(landlock: str, name: str, folder: Path) -> Machine:
    """No user namespaces and no Landlock: the kernel has none, has it switched off, or a filter refuses it."""
    made = make(name, folder)
    made.landlock = landlock
    return made


@pytest.mark.parametrize(
    ("landlock", "name"),
    [("ENOSYS", "filter on root"), ("EOPNOTSUPP", "filter on a user"), ("EPERM", "filter on root")],
)
def test_nothing_starts(landlock: str, name: str, folder: Path, data: Path) -> None:
    machine = bare(landlock, name, folder)
    give(machine, data)
    with ThreadPoolExecutor(2) as both:
        demo = both.submit(run, machine.command("demo"))
        served = run(machine.command("serve", "--transport", "http", "--port", "0"))
    for done, status in ((served, 2), (demo.result(), 1)):
        assert done.returncode == status, done.stderr
        assert "No sandbox can start here. embedded: user namespaces: unshare" in done.stderr
        assert f"landlock: Landlock of version 3 or later is needed (Linux 6.2), and {WHY[landlock]}" in done.stderr
        for remedy in ("max_user_namespaces", "seccomp=unconfined", "lsm=", "--sandbox docker", "unsafe-subprocess"):
            assert remedy in done.stderr
        assert "Traceback" not in done.stderr + done.stdout
    assert records(machine.data) == []


def test_a_named_level_is_never_replaced(folder: Path) -> None:
    machine = bare("ENOSYS", "filter on root", folder)
    for level in ("embedded", "landlock"):
        done = run(machine.command("serve", "--sandbox", level, "--transport", "http", "--port", "0"))
        assert done.returncode == 2
        assert "cannot start" in done.stderr
        assert "Remedies" in done.stderr
        assert "Traceback" not in done.stderr


def test_the_doctor_says_that_nothing_can_start(folder: Path) -> None:
    done = run(bare("EOPNOTSUPP", "filter on a user", folder).command("doctor"))
    assert done.returncode == 1
    assert holds(done.stdout) == {"user namespaces": "no", "seccomp": "yes", "Landlock": "no"}
    assert "No sandbox can start here" in done.stdout
    assert "sandbox: " not in done.stdout


async def test_the_unsafe_level_starts_by_name_only(folder: Path, restricted: Path) -> None:
    machine = bare("ENOSYS", "filter on root", folder)
    place = give(machine, restricted, "restricted")
    named = ("--sandbox", "unsafe-subprocess", "--allow-restricted")
    line = machine.command("serve", *named, "--data", str(place))
    with tempfile.TemporaryFile("w+") as errors:
        server = StdioServerParameters(command=line[0], args=line[1:])
        async with connect(stdio_client(server, errlog=errors)) as environment:
            with pytest.raises(ToolFailed, match="restricted.*unsafe-subprocess.*does not serve"):
                await start(environment, RESTRICTED)
            episode = await start(environment, OPEN)
            result = await environment.call("execute_code", episode_id=episode, code="6 * 7")
            assert result["value"] == "42"
        errors.seek(0)
        assert "WARNING: " in errors.read()
    assert {record["sandbox"] for record in records(place)} == {"unsafe-subprocess"}
