"""Rollouts: nothing lost, nothing repeated, whatever is killed; and the commands."""

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

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
from tasks.record import RecordWriter, read_records
from tasks.registry import Registry
from tests.agent.command import app
from tests.agent.conftest import SCRIPT, Serve
from tests.agent.test_evaluate import record

pytestmark = pytest.mark.anyio


def experts(registry: Registry) -> Callable[[str, int], Model]:
    return lambda task, number: Expert(registry.get(task), registry.truth(task).oracle, seed=number)


def keys(out: Path) -> Counter[tuple[str, int]]:
    """How many finished records there are of each attempt."""
    return Counter((one.task.id, one.attempt) for one in read_records([out]) if one.outcome != "infra_error")


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


@contextmanager
def over_http(command: list[str], port: int) -> "Iterator[subprocess.Popen[bytes]]":
    process = subprocess.Popen([*command, "--transport", "http", "--port", str(port)])
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None
            time.sleep(0.1)
        else:
            raise AssertionError("the server did not come")
        yield process
    finally:
        process.kill()
        process.wait()


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


def save(folder: Path, *records: AttemptRecord) -> None:
    writer = RecordWriter(folder)
    for one in records:
        writer.write(one)
    writer.close()


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


# The commands


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tests.agent.command", *arguments],
        cwd=SCRIPT.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )


def invoke(*arguments: str) -> Result:
    """In this process, but not in the thread of the tests' event loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(CliRunner().invoke, app, list(arguments)).result()


def test_a_killed_command_goes_on_where_it_was(root: DataRoot, registry: Registry, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["rollout", "--data", str(root.path), "--out", str(out), "--model", "expert", "--limit", "10"]
    options += ["--attempts", "2", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.agent.command", *options],
        cwd=SCRIPT.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 60
    while not finished_attempts(out) and time.monotonic() < until:
        assert process.poll() in (None, 0)
        time.sleep(0.02)
    process.kill()
    process.wait()
    before = {one.id for one in finished_attempts(out).values()}
    assert before
    done = run(*options)
    assert done.returncode == 0, done.stderr
    assert f"{len(before)} of 40 attempts were there already." in done.stderr
    assert set(keys(out).values()) == {1}
    assert len(keys(out)) == 40
    assert before <= {one.id for one in finished_attempts(out).values()}
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["family"], row["attempts"], row["success"]["mean"]) for row in rows] == [
        ("medcalcbench", 20, 1.0),
        ("mimic_iii", 20, 1.0),
        ("all", 40, 1.0),
    ]
    assert [row["actions"]["submit_answer"] for row in rows] == [20, 20, 40]


def test_eval_reports_on_records(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    for one in (record("a1", "graded", 1.0), record("b1", "graded", 0.0), record("c1", "infra_error")):
        writer.write(one)
    writer.close()
    done = invoke("eval", str(tmp_path))
    assert done.exit_code == 0, done.stderr
    assert "50.0%" in done.stdout
    assert "unscored" in done.stdout
    assert "0 calls: none" in done.stdout


def test_eval_reports_on_the_records_that_are_asked_for(tmp_path: Path) -> None:
    train = record("b1", "graded", 0.0)
    train = train.model_copy(update={"task": train.task.model_copy(update={"split": "train"})})
    save(tmp_path, record("a1", "graded", 1.0), train, record("c1", "limit", family="clinic"))

    def counts(*options: str) -> dict[str, int]:
        done = invoke("eval", str(tmp_path), "--json", *options)
        assert done.exit_code == 0, done.stderr
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        return {row["family"]: row["attempts"] for row in rows}

    assert counts() == {"clinic": 1, "ward": 2, "all": 3}
    assert counts("--split", "test") == {"clinic": 1, "ward": 1, "all": 2}
    assert counts("--family", "ward") == {"ward": 2}
    assert counts("--tasks", "b1", "--tasks", "c1") == {"clinic": 1, "ward": 1, "all": 2}


def test_eval_attempts_the_test_tasks_with_a_baseline(root: DataRoot, registry: Registry, tmp_path: Path) -> None:
    options = ["eval", "--model", "guess", "--data", str(root.path), "--out", str(tmp_path / "out"), "--limit", "3"]
    done = run(*options, "--json")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    tests = [min(3, len(registry.ids(family=one.name, split="test"))) for one in registry.families()]
    assert [row["attempts"] for row in rows if row["family"] != "all"] == [count for count in tests if count]
    assert {one.task.split for one in read_records([tmp_path / "out"])} == {"test"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["rollout", "--out", "{tmp}/out", "--model", "gpt"], "is not one of"),
        (["rollout", "--out", "{tmp}/out", "--split", "dev"], "is not one of train, test"),
        (["rollout", "--out", "{tmp}/out", "--model", "local:{tmp}"], "no model"),
        (["rollout", "--out", "{tmp}/out", "--data", "{tmp}/empty"], "no such tasks"),
        (["eval"], "Give records"),
        (["rollout", "--out", "{tmp}/out", "--tasks", "nowhere/1"], "nowhere/1"),
        (["rollout", "--out", "{tmp}/file"], "Records cannot be written to {tmp}/file: File exists."),
        (["rollout", "--out", "/proc/none"], "Records cannot be written to /proc/none: No such file or directory."),
        (["eval", "{tmp}/none"], "There is no"),
        (["eval", "{tmp}"], "There are no such records"),
        (["eval", "{tmp}", "--split", "dev"], "is not one of train, test"),
        (["eval", "{tmp}", "--limit", "3", "--out", "x"], "--limit, --out: of use with --model only"),
        (["eval", "--model", "guess"], "needs --out"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(root: DataRoot, tmp_path: Path, arguments: list[str], text: str) -> None:
    (tmp_path / "file").touch()
    given = [one.replace("{tmp}", str(tmp_path)) for one in arguments]
    if "--data" not in given and given[0] == "rollout":
        given += ["--data", str(root.path)]
    done = invoke(*given)
    assert done.exit_code in (1, 2)
    assert done.exception is None or isinstance(done.exception, SystemExit)
    # The box around usage errors wraps lines.
    assert text.replace("{tmp}", str(tmp_path)) in " ".join(done.stderr.replace("│", " ").split())


def test_the_commands_load_nothing_heavy() -> None:
    code = "import sys, agent.cli; print([n for n in ('torch', 'transformers', 'openai', 'mcp') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=SCRIPT.parent, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_more_attempts_of_a_local_model_are_no_copies(root: DataRoot, tmp_path: Path) -> None:
    """What an attempt draws follows from its own seed: not from where the process begins."""
    pytest.importorskip("torch", reason="the extra [local] is not installed")
    from tests.agent import tiny

    tokenizer = tiny.tokenizer(tmp_path / "model")
    tiny.qwen2(len(tokenizer), positions=32_768).save_pretrained(tmp_path / "model")
    options = [
        "rollout",
        "--data",
        str(root.path),
        "--out",
        str(tmp_path / "out"),
        "--limit",
        "1",
        "--temperature",
        "1",
    ]
    options += ["--model", f"local:{tmp_path / 'model'}", "--call-tokens", "20", "--seed", str(2**64), "--attempts"]
    for attempts in ("1", "2"):
        result = invoke(*options, attempts)
        assert result.exit_code == 0, result.output
    drawn = {
        (one.task.id, one.attempt): [made.completion_token_ids for made in one.calls]
        for one in read_records([tmp_path / "out"])
        if one.source == "agent"
    }
    assert len(drawn) == 4
    for task, number in drawn:
        assert drawn[task, 1] != drawn[task, 2], number
