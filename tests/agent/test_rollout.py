"""Rollouts: nothing lost, nothing repeated, whatever is killed."""

import errno
import os
import shutil
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.client import Environment, connect
from agent.errors import ModelFailed, ModelRefused, RolloutError
from agent.expert import Expert
from agent.models import Completion, Model, Nothing, Scripted, call
from agent.rollout import Rollout, Settings, Tally, finished_attempts, last_records, server
from mcp_server.config import AppConfig
from mcp_server.server import create_server
from sandbox.base import Sandbox, SandboxConfig
from sandbox.errors import SandboxUnavailable
from tasks.attempt import AgentRef, AttemptRecord
from tasks.data import DataRoot
from tasks.datasets import generate_dataset
from tasks.family import GenerateOptions
from tasks.record import RecordWriter, read_records
from tasks.registry import Registry
from tests.agent.conftest import Serve
from tests.agent.rollouts import keys, over_http, save
from tests.agent.test_evaluate import record
from tests.mcp_server.conftest import Borrowed

pytestmark = pytest.mark.anyio


def experts(registry: Registry) -> Callable[[str, int], Model]:
    return lambda task, number: Expert(registry.get(task), registry.truth(task).oracle, seed=number)


async def test_every_attempt_is_made_once(serve: Serve, registry: Registry, tmp_path: Path) -> None:
    tasks = registry.ids()[:6]
    seen: list[Tally] = []
    rollout = Rollout(tasks, 2, experts(registry), Settings("expert"), tmp_path / "out", watch=seen.append)
    tally = await rollout.run(serve)
    assert (tally.total, tally.done, tally.score, tally.resumed) == (12, 12, 1.0, 0)
    assert keys(tmp_path / "out") == Counter({(task, number): 1 for task in tasks for number in (1, 2)})
    assert len(seen) == 13
    heats = {one.attempt: one.limits["temperature"] for one in read_records([tmp_path / "out"])}
    assert heats == {1: 0.0, 2: 0.6}


async def test_what_is_there_is_not_made_again(serve: Serve, registry: Registry, tmp_path: Path) -> None:
    tasks = registry.ids()[:4]
    await Rollout(tasks[:3], 1, experts(registry), Settings("expert"), tmp_path).run(serve)
    tally = await Rollout(tasks, 2, experts(registry), Settings("expert"), tmp_path).run(serve)
    assert (tally.done, tally.resumed) == (8, 3)
    assert set(keys(tmp_path).values()) == {1}


async def test_a_folder_of_another_rollout_is_refused(serve: Serve, registry: Registry, tmp_path: Path) -> None:
    await Rollout(registry.ids()[:1], 1, experts(registry), Settings("expert"), tmp_path).run(serve)
    with pytest.raises(RolloutError, match="another seed, temperature"):
        await Rollout([], 1, experts(registry), Settings("expert", 1, 1.0), tmp_path).run(serve)


async def test_attempts_at_other_data_are_not_taken_for_these(
    serve: Serve, registry: Registry, root: DataRoot, tmp_path: Path, sandbox: Sandbox
) -> None:
    """Generated ids are the same for every seed of the data."""
    tasks = registry.ids(family="medcalcbench")[:2]
    other = DataRoot(tmp_path / "other")
    generate_dataset(other, "medcalcbench", GenerateOptions(seed=4, patients=30), progress=lambda *_: None)
    await Rollout(tasks[:1], 1, lambda *_: Nothing(), Settings("x"), tmp_path / "out").run(serve)

    @asynccontextmanager
    async def served() -> AsyncIterator[Environment]:
        config = AppConfig(data_root=other, log_folder=tmp_path / "logs", sandbox=lambda _: Borrowed(sandbox))
        async with connect(create_server(config)) as environment:
            yield environment

    rollout = Rollout(tasks, 1, lambda *_: Nothing(), Settings("x"), tmp_path / "out")
    with pytest.raises(RolloutError, match=rf"{tasks[0]} is another task than the server's\. Give another --out"):
        await rollout.run(served)
    assert (rollout.tally.done, set(keys(tmp_path / "out"))) == (0, {(tasks[0], 1)})
    tally = await Rollout(tasks[:1], 1, lambda *_: Nothing(), Settings("x"), tmp_path / "out").run(serve)
    assert (tally.done, tally.resumed) == (1, 1)


async def test_a_folder_of_records_without_settings_is_refused(tmp_path: Path) -> None:
    save(tmp_path, record("a1", "graded", 1.0))
    with pytest.raises(RolloutError, match=r"holds records but no rollout\.json, .*\. Give another --out"):
        await Rollout(["a1"], 1, lambda *_: Nothing(), Settings("x"), tmp_path).run(server("nowhere"))
    assert not (tmp_path / "rollout.json").exists()


async def test_two_rollouts_cannot_share_a_folder(serve: Serve, registry: Registry, tmp_path: Path) -> None:
    class Second(Nothing):
        async def complete(self, *args: Any, **options: Any) -> Completion:
            with pytest.raises(RolloutError, match="Another rollout"):
                await Rollout([], 1, experts(registry), Settings("x"), tmp_path).run(serve)
            return await super().complete(*args, **options)

    tally = await Rollout(registry.ids()[:1], 1, lambda *_: Second(), Settings("x"), tmp_path).run(serve)
    assert tally.abandoned == 1


async def test_a_model_that_fails_at_times_is_asked_again(serve: Serve, registry: Registry, tmp_path: Path) -> None:
    left = iter([True, True, False, True])

    def players(task: str, number: int) -> Model:
        return Scripted([]) if next(left, False) else Nothing()

    tally = await Rollout(registry.ids()[:3], 1, players, Settings("x"), tmp_path, concurrency=1).run(serve)
    # Each of the first failures is made again by the next connection only: none is left over.
    assert (tally.done, tally.abandoned, tally.unscored) == (3, 3, 0)
    assert tally.lost == 3
    assert len(list(read_records([tmp_path]))) == 6


@pytest.mark.parametrize(("error", "asked"), [(ModelRefused, 1), (ModelFailed, 5)])
async def test_a_model_that_cannot_be_asked_stops_the_rollout(
    serve: Serve, registry: Registry, tmp_path: Path, error: type[Exception], asked: int
) -> None:
    class Refuses(Nothing):
        async def complete(self, *args: Any, **options: Any) -> Completion:
            raise error("no such key")

    with pytest.raises(RolloutError, match="no such key"):
        await Rollout(registry.ids()[:20], 1, lambda *_: Refuses(), Settings("x"), tmp_path, concurrency=1).run(serve)
    assert len(list(read_records([tmp_path]))) == asked


async def test_where_no_episode_can_be_started_the_rollout_stops(
    root: DataRoot, registry: Registry, tmp_path: Path
) -> None:
    def broken(config: SandboxConfig) -> Sandbox:
        raise SandboxUnavailable("no room. Remedy: make some.")

    @asynccontextmanager
    async def serve() -> AsyncIterator[Environment]:
        config = AppConfig(data_root=root, log_folder=tmp_path / "server", sandbox=broken)
        async with connect(create_server(config)) as environment:
            yield environment

    rollout = Rollout(registry.ids()[:20], 1, lambda *_: Nothing(), Settings("x"), tmp_path / "out", concurrency=3)
    with pytest.raises(RolloutError, match=r"No episode can be started: .*no room\. Remedy: make some\."):
        await rollout.run(serve)
    # One more each may be under way when it is seen.
    assert len(list(read_records([tmp_path / "out"]))) <= 10


async def test_what_fails_always_is_given_up_unscored(serve: Serve, registry: Registry, tmp_path: Path) -> None:
    tasks = registry.ids()[:2]

    def players(task: str, number: int) -> Model:
        return Scripted([call("execute_code", code="1")]) if task == tasks[0] else Nothing()

    tally = await Rollout(tasks, 1, players, Settings("x"), tmp_path, retries=2).run(serve)
    assert (tally.done, tally.unscored, tally.abandoned, tally.lost) == (2, 1, 1, 2)
    assert {one.task.id: one.outcome for one in last_records([tmp_path])} == {
        tasks[0]: "infra_error",
        tasks[1]: "abandoned",
    }


async def test_an_unknown_task_stops_the_rollout(serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(RolloutError, match="nowhere"):
        await Rollout(["nowhere/1"], 1, lambda *_: Nothing(), Settings("x"), tmp_path).run(serve)


async def test_records_that_cannot_be_written_stop_the_rollout(
    serve: Serve, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full after two records: what a model has been paid for is not asked for again."""
    asked: list[Nothing] = []

    class Counted(Nothing):
        async def complete(self, *args: Any, **options: Any) -> Completion:
            asked.append(self)
            return await super().complete(*args, **options)

    real, written = RecordWriter.write, iter(range(2))

    def write(writer: RecordWriter, one: AttemptRecord) -> None:
        if next(written, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(writer, one)

    monkeypatch.setattr(RecordWriter, "write", write)
    rollout = Rollout(registry.ids()[:12], 1, lambda *_: Counted(), Settings("x"), tmp_path / "out", concurrency=2)
    with pytest.raises(RolloutError, match=r"Records cannot be written to .*out: No space left on device\."):
        await rollout.run(serve)
    assert len(asked) <= 4


async def test_what_the_operating_system_refuses_the_block_is_not_a_lost_connection(serve: Serve) -> None:
    with pytest.raises(ExceptionGroup) as raised:
        async with serve():
            raise PermissionError("mine")
    assert raised.group_contains(PermissionError, match="mine")


async def test_a_run_counts_anew(serve: Serve, registry: Registry, tmp_path: Path) -> None:
    tasks = registry.ids()[:3]
    broken = [True]

    def players(task: str, number: int) -> Model:
        return Scripted([]) if broken[0] and task != tasks[0] else Nothing()

    rollout = Rollout(tasks, 1, players, Settings("x"), tmp_path, concurrency=1, retries=0)
    tally = await rollout.run(serve)
    assert (tally.total, tally.done, tally.unscored) == (3, 3, 2)
    broken[0] = False
    tally = await rollout.run(serve)
    assert (tally.total, tally.done, tally.resumed, tally.abandoned, tally.unscored) == (3, 3, 1, 3, 0)


async def test_only_what_was_asked_for_is_reported(serve: Serve, registry: Registry, tmp_path: Path) -> None:
    train, test = registry.ids(split="train")[0], registry.ids(split="test")[0]
    await Rollout([train], 2, lambda *_: Nothing(), Settings("x"), tmp_path).run(serve)
    rollout = Rollout([train, test], 1, lambda *_: Nothing(), Settings("x"), tmp_path)
    await rollout.run(serve)
    assert [(one.task.id, one.attempt) for one in rollout.records()] == [(train, 1), (test, 1)]
    assert len(last_records([tmp_path])) == 3


async def test_a_server_that_dies_loses_nothing(registry: Registry, command: list[str], tmp_path: Path) -> None:
    """It is killed twice in mid-rollout; what was under way is made again, what was finished is not."""
    tasks = registry.ids()[:12]
    killed: list[int] = []

    def kill(tally: Tally) -> None:
        if tally.done in (3, 7) and len(killed) < (1 if tally.done == 3 else 2):
            pids = {int(path.name.split("-")[2]) for path in (tmp_path / "server").glob("events-*.jsonl")}
            (pid,) = pids - set(killed)
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    rollout = Rollout(tasks, 1, experts(registry), Settings("expert"), tmp_path / "out", concurrency=3, watch=kill)
    tally = await rollout.run(server(command))
    assert len(killed) == 2
    assert (tally.done, tally.score, tally.unscored) == (12, 1.0, 0)
    assert keys(tmp_path / "out") == Counter(dict.fromkeys(((task, 1) for task in tasks), 1))


async def test_a_dead_http_server_is_said_and_another_goes_on(
    registry: Registry, command: list[str], tmp_path: Path
) -> None:
    tasks = registry.ids()[:8]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    connect = server(f"http://127.0.0.1:{port}/mcp")
    with over_http(command, port) as process:

        def kill(tally: Tally) -> None:
            if tally.done == 3:
                process.kill()

        rollout = Rollout(tasks, 1, experts(registry), Settings("expert"), tmp_path / "out", concurrency=2, watch=kill)
        with pytest.raises(RolloutError, match="in a row"):
            await rollout.run(connect)
    before = len(keys(tmp_path / "out"))
    assert 3 <= before < 8
    with over_http(command, port):
        rollout = Rollout(tasks, 1, experts(registry), Settings("expert"), tmp_path / "out")
        tally = await rollout.run(connect)
    assert (tally.done, tally.resumed, tally.score) == (8, before, 1.0)
    assert set(keys(tmp_path / "out").values()) == {1}


async def test_a_server_that_cannot_start_is_said(tmp_path: Path) -> None:
    rollout = Rollout(["a/1"], 1, lambda *_: Nothing(), Settings("x"), tmp_path)
    with pytest.raises(RolloutError, match="in a row"):
        await rollout.run(server([sys.executable, "-c", "raise SystemExit(2)"]))


def test_the_last_record_that_says_something_stands(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    for one in (
        record("a1", "infra_error"),
        record("a1", "graded", 1.0),
        record("a1", "infra_error"),
        record("a2", "infra_error"),
    ):
        writer.write(one)
    writer.close()
    assert [(one.task.id, one.outcome) for one in last_records([tmp_path])] == [("a1", "graded"), ("a2", "infra_error")]
    assert list(finished_attempts(tmp_path)) == [("a1", 1)]


@pytest.mark.parametrize("feedback", ["verdict", "none"])
async def test_what_agent_and_server_recorded_is_counted_once(
    serve: Serve, registry: Registry, tmp_path: Path, feedback: str
) -> None:
    """A model that failed once is no score, and a verdict that was hidden is one, whichever folder comes first."""
    tasks = registry.ids(family="medcalcbench")[:3]
    failed: set[str] = set()

    def players(task: str, number: int) -> Model:
        if task in failed:
            return experts(registry)(task, number)
        failed.add(task)
        return Scripted([], "expert")

    out = tmp_path / "out"
    await Rollout(tasks, 1, players, Settings("x"), out, concurrency=1).run(lambda: serve(feedback))
    both = [last_records(paths) for paths in ([out, tmp_path / "server"], [tmp_path / "server", out])]
    for records in both:
        assert [(one.task.id, one.outcome, one.reward) for one in records] == [(task, "graded", 1.0) for task in tasks]
    # The server was not told why the agent left.
    assert Counter(one.outcome for one in last_records([tmp_path / "server"])) == {"abandoned": 3, "graded": 3}


@pytest.mark.parametrize(
    ("there", "others"),
    [
        ("a", {"seed": 2}),
        ("a", {"agent": AgentRef(name="med-copilot", model="m", config_digest="hotter")}),
        # Of a scaffold, or of a checkpoint that was saved over another, a record says nothing.
        ("b", {}),
    ],
)
def test_rollouts_of_one_model_are_kept_apart(tmp_path: Path, there: str, others: dict[str, Any]) -> None:
    agent = AgentRef(name="med-copilot", model="m", config_digest="cold")
    first = record("a1", "graded", 1.0).model_copy(update={"seed": 1, "agent": agent})
    second = first.model_copy(update={"id": "other", "reward": 0.0, **others})
    save(tmp_path / "a", first.model_copy(update={"id": "try", "outcome": "infra_error", "reward": None}), first)
    save(tmp_path / there, second)
    folders = [tmp_path / name for name in sorted({"a", there})]
    assert sorted(one.id for one in last_records(folders)) == ["a1 graded", "other"]
    # The same folder by another name, and a copy, bring nothing new.
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    again = [*folders, tmp_path / "copy" / ".." / "a", *(tmp_path / "a").glob("*.jsonl"), tmp_path / "copy"]
    assert sorted(one.id for one in last_records(again)) == ["a1 graded", "other"]


def test_a_record_file_cut_in_the_middle_loses_only_its_end(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    for name in ("a1", "a2"):
        writer.write(record(name, "graded", 1.0))
    writer.close()
    writer.path.write_bytes(writer.path.read_bytes()[:-30])
    assert list(finished_attempts(tmp_path)) == [("a1", 1)]
