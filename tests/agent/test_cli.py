"""The commands `rollout` and `eval`."""

import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agent.rollout import finished_attempts
from tasks.data import DataRoot
from tasks.record import RecordWriter, read_records
from tasks.registry import Registry
from tests.agent.command import app
from tests.agent.conftest import SCRIPT
from tests.agent.openai_server import serving, tool_call
from tests.agent.rollouts import keys, over_http, save
from tests.agent.test_evaluate import record


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


def test_the_own_server_allows_the_turns_that_are_given(root: DataRoot, tmp_path: Path) -> None:
    options = ["rollout", "--data", str(root.path), "--family", "medcalcbench", "--limit", "1", "--model", "nothing"]
    done = invoke(*options, "--out", str(tmp_path), "--turns", "20")
    assert done.exit_code == 0, done.stderr
    (one,) = read_records([tmp_path])
    assert "You have 20 calls." in (one.messages[1].content or "")
    assert [seen.limits["turns"] for seen in read_records([tmp_path / "server"])] == [20]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["rollout"], ""),
        (["rollout", "--split", "train", "--family", "medcalcbench"], ""),
        (["rollout", "--split", "test"], "is of the train split, and test was asked for. Give --split train."),
        (["eval"], "is of the train split, and test was asked for. Give --split train."),
        (["rollout", "--family", "mimic_iii"], "is of medcalcbench, which --family leaves out."),
    ],
)
def test_tasks_that_are_named_must_be_of_the_split_and_families(
    root: DataRoot, registry: Registry, tmp_path: Path, options: list[str], told: str
) -> None:
    task = registry.ids(family="medcalcbench", split="train")[0]
    given = [*options, "--tasks", task, "--model", "nothing", "--data", str(root.path), "--out", str(tmp_path)]
    done = invoke(*given)
    assert (done.exit_code, told in done.stderr) == (1 if told else 0, True)
    assert [one.task.id for one in read_records([tmp_path])] == ([] if told else [task])


def test_tasks_that_are_named_at_a_server_elsewhere(registry: Registry, command: list[str], tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    first, second = registry.ids(family="medcalcbench", split="train")[:2]
    options = ["--model", "nothing", "--server", f"http://127.0.0.1:{port}/mcp", "--tasks", first, "--tasks", second]
    with over_http(command, port):
        refused = invoke("eval", *options, "--out", str(tmp_path / "a"))
        unknown = invoke("rollout", *options, "--out", str(tmp_path / "a"), "--tasks", "nowhere/1")
        done = invoke("eval", *options, "--out", str(tmp_path / "b"), "--split", "train", "--limit", "1")
    assert f"{first} is of the train split" in refused.stderr
    assert "nowhere/1" in unknown.stderr
    assert (refused.exit_code, unknown.exit_code, done.exit_code) == (1, 1, 0)
    assert not (tmp_path / "a").exists()
    assert len({first, second} & {one.task.id for one in read_records([tmp_path / "b"])}) == 1


def test_an_endpoint_is_asked_as_the_command_says(root: DataRoot, registry: Registry, tmp_path: Path) -> None:
    pytest.importorskip("openai", reason="the package openai is not installed")
    options = ["rollout", "--data", str(root.path), "--out", str(tmp_path), "--model", "openai:m", "--api-key", "mine"]
    options += ["--tasks", registry.ids(family="medcalcbench")[0], "--call-seconds", "750"]
    with serving([tool_call("close_episode", {})] * 2) as endpoint:
        at = endpoint.url.replace("//", "//me:word@")
        for attempts in ("1", "2"):
            done = invoke(*options, "--base-url", f"{at}/", "--attempts", attempts)
            assert done.exit_code == 0, done.stderr
        other = invoke(*options, "--base-url", endpoint.url.replace("/v1", "/v2"))
    # The client would stop waiting by itself.
    assert [one["x-stainless-read-timeout"] for one in endpoint.headers] == ["750.0"] * 2
    assert len({request["seed"] for request in endpoint.requests}) == 2
    settings = (tmp_path / "rollout.json").read_text()
    assert json.loads(settings)["base_url"] == endpoint.url
    assert not any(secret in settings for secret in ("mine", "word"))
    assert other.exit_code == 1
    assert "another base_url" in other.stderr


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
