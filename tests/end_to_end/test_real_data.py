"""Issue by issue what real data must show: every oracle over MCP, on both transports and in both protocol eras."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from agent.client import Environment, connect
from tasks.data import DataRoot
from tasks.registry import Registry
from tests.end_to_end.real import COMMAND, command, import_all

WAYS = [("stdio", "auto"), ("stdio", "legacy"), ("http", "auto"), ("http", "legacy")]
EVERY_WAY = "MED_COPILOT_EVERY_WAY"
"""Set to run every task over each of the four ways; else each task goes over one of them."""


@pytest.fixture(scope="module")
def root(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    path = tmp_path_factory.mktemp("real")
    import_all(shared_data, path)
    return DataRoot(path)


@pytest.fixture(scope="module")
def url(root: DataRoot) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = [*COMMAND, "serve", "--transport", "http", "--port", str(port), "--data", str(root.path), "--pool", "4"]
    with subprocess.Popen(serve, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(600):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/mcp"
        finally:
            server.terminate()
            server.wait(30)


def test_what_was_imported(root: DataRoot) -> None:
    registry = Registry(root)
    mimic = registry.ids(dataset="mimic_iii")
    assert len(mimic) >= 500
    templates = {registry.truth(task).extra["template"] for task in mimic}
    assert len(templates) >= 100
    assert len(registry.ids(dataset="medcalcbench")) == 629
    assert "as registered" in command("data", "verify", "--data", root.path).stdout


@pytest.mark.timeout(3000)
@pytest.mark.anyio
@pytest.mark.parametrize("number", range(len(WAYS)), ids=["-".join(way) for way in WAYS])
async def test_every_oracle_is_graded_1(root: DataRoot, url: str, number: int) -> None:
    transport, mode = WAYS[number]
    registry = Registry(root)
    every = registry.ids()
    ids = every if os.environ.get(EVERY_WAY) else every[number :: len(WAYS)]
    target = url if transport == "http" else [*COMMAND, "serve", "--data", str(root.path), "--pool", "4"]
    failed: list[tuple[str, Any]] = []
    async with connect(target, mode=mode) as environment:

        async def work(mine: list[str]) -> None:
            for task in mine:
                verdict = await solve(environment, task, registry.truth(task).oracle)
                if verdict.get("score") != 1.0:
                    failed.append((task, verdict))

        async with anyio.create_task_group() as group:
            for lane in range(4):
                group.start_soon(work, ids[lane::4])
    assert failed == []


async def solve(environment: Environment, task: str, oracle: str) -> dict[str, Any]:
    episode = (await environment.call("start_task", task_id=task))["episode_id"]
    result = await environment.call("execute_code", episode_id=episode, code=oracle)
    if result["status"] != "ok":
        return result
    return await environment.call("submit_answer", episode_id=episode, variable="answer")
