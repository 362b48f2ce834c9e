"""In containers: two servers beside each other, what a killed one leaves, and the options that let embedded start."""

import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import anyio
import pytest

from agent.client import Environment, EnvironmentLost, connect
from sandbox.remedies import for_namespaces
from tests.end_to_end.machines import OPEN, RESTRICTED, Machine, give, holds, make, records, run, start

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["container of root", "container of a user"])
def container(request: pytest.FixtureRequest, folder: Path, data: Path) -> Iterator[Machine]:
    """One that runs, with nothing in it yet."""
    made = make(request.param, folder)
    give(made, data, "one")
    give(made, data, "two")
    made.start()
    yield made
    made.stop()


async def test_two_servers_and_the_end_of_one_by_sigkill(container: Machine) -> None:
    """Each keeps its own sessions; of the killed one nothing is left, background work included."""
    loose = "setsid sleep {0} & (setsid sh -c 'while :; do sleep {0}; done' &)"
    async with AsyncExitStack() as stack:
        served = {}
        for name, mark in (("one", "3001"), ("two", "3002")):
            line = container.enter("serve", "--pool", "0", "--data", container.there(container.home / name))
            environment = await stack.enter_async_context(lasting(line))
            episode = await start(environment, OPEN)
            await environment.call("execute_code", episode_id=episode, code=f"mine = {mark}")
            await environment.call("run_terminal", episode_id=episode, command=loose.format(mark))
            served[name] = (environment, episode)
        before = container.processes()
        assert all(any(f"sleep {mark}" in text for text in before.values()) for mark in ("3001", "3002"))
        (killed,) = [pid for pid, text in before.items() if text.endswith(container.there(container.home / "one"))]
        os.kill(killed, signal.SIGKILL)
        await until(lambda: not any("3001" in text for text in container.processes().values()))
        environment, episode = served["two"]
        result = await environment.call("execute_code", episode_id=episode, code="mine")
        assert result["value"] == "3002"
        assert any("sleep 3002" in text for text in container.processes().values())
    await until(lambda: list(container.processes().values()) == ["/bin/sleep 600"])


async def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        await anyio.sleep(0.2)


@asynccontextmanager
async def lasting(line: list[str]) -> AsyncIterator[Environment]:
    """A connection whose server may be gone at the end."""
    with suppress(EnvironmentLost):
        async with connect(line) as environment:
            yield environment


UNCONFINED = [f"--security-opt={name}=unconfined" for name in ("seccomp", "apparmor", "systempaths")]


@pytest.mark.parametrize(
    ("name", "options"),
    [("container of a user", UNCONFINED), ("container of root", [*UNCONFINED, "--cap-add=SYS_ADMIN"])],
)
async def test_the_options_that_are_told_let_embedded_start(
    name: str, options: list[str], folder: Path, restricted: Path
) -> None:
    """And then restricted data are served."""
    machine = make(name, folder)
    machine.options = tuple(options)
    told = for_namespaces().replace(" ", "=")
    assert all(option in told for option in options)
    place = give(machine, restricted, "restricted")
    async with connect(machine.command("serve", "--pool", "0", "--data", machine.there(place))) as environment:
        episode = await start(environment, RESTRICTED)
        await environment.call("close_episode", episode_id=episode)
    assert [record["sandbox"] for record in records(place)] == ["embedded"]


@pytest.mark.parametrize("options", [["--security-opt=seccomp=unconfined"], ["--cap-add=SYS_ADMIN"], UNCONFINED])
def test_half_of_the_options_are_seen_not_to_be_enough(options: list[str], folder: Path) -> None:
    """The probe finds what would fail later, and says so."""
    machine = make("container of root", folder)
    machine.options = tuple(options)
    done = run(machine.command("doctor"))
    assert holds(done.stdout)["user namespaces"] == "no"
    assert "sandbox: landlock" in done.stdout
