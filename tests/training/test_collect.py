"""PPO over MCP: our agent acts with the policy itself, and what is learned from is what it sampled."""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
import torch

from agent.errors import EnvironmentLost, ToolFailed
from agent.models import Scripted, call
from tasks.data import DataRoot
from tasks.datasets import generate_dataset
from tasks.family import GenerateOptions
from tasks.record import read_records
from tests.training import corpus
from training import collect
from training.checkpoints import checkpoints
from training.collect import McpCollector, train_tasks
from training.config import PpoRecipe, RewardSection, RolloutSection, load_recipe
from training.data import load
from training.errors import CheckpointError, ExampleError
from training.metrics import read_metrics
from training.ppo import train_ppo
from training.rewards import executed, form, reward_of, tool_errors
from training.scratch import make_tokenizer

Small = tuple[Path, Any, Any]


def recipe(small: Small, hospital: DataRoot, output: Path, **changes: Any) -> PpoRecipe:
    rollout: dict[str, Any] = {
        "data": str(hospital.path),
        "categories": list(corpus.CATEGORIES),
        "families": ["medcalcbench"],
    }
    rollout |= {"concurrency": 4, "temperature": 1.0, "turns": 2, "max_tokens": 700, "max_new_tokens": 12}
    fields = {
        "model.name": str(small[0]),
        "output": str(output),
        "rollout": rollout,
        "iterations": 2,
        "batch": 4,
        "minibatch": 2,
        "epochs": 1,
        "save_every": 1,
        "critic.warmup": 1,
    }
    made = load_recipe("ppo-small", fields | changes)
    assert isinstance(made, PpoRecipe)
    return made


@pytest.mark.parametrize("adapters", [False, True])
def test_it_trains_over_mcp_and_goes_on_where_it_stopped(
    small: Small, hospital: DataRoot, tmp_path: Path, adapters: bool
) -> None:
    lora = {"model.lora": {"rank": 4, "alpha": 8}} if adapters else {}
    train_ppo(recipe(small, hospital, tmp_path, iterations=1, **lora))
    chosen = recipe(small, hospital, tmp_path, **lora)
    train_ppo(chosen)
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["iteration"] for line in lines] == [0, 1]
    for line in lines:
        assert line["episodes"] == 4
        assert line["unscored"] == 0
        # Sampler and trainer hold the same weights and the same tokens.
        assert line["sampler_gap"] < 1e-3
        assert line["kl"] == pytest.approx(0, abs=1e-3)
    records = list(read_records([tmp_path / "rollouts"]))
    assert len(records) == 8
    assert {record.task.split for record in records} == {"train"}
    assert all(call.logprobs for record in records for call in record.calls)
    assert len(checkpoints(tmp_path)) == 2
    assert (tmp_path / "model" / ("adapter_config.json" if adapters else "config.json")).is_file()
    assert list((tmp_path / "tensorboard").iterdir())


def test_the_model_that_was_trained_is_the_one_that_is_left(small: Small, hospital: DataRoot, tmp_path: Path) -> None:
    from training.policy import load_model

    chosen = recipe(small, hospital, tmp_path, **{"critic.warmup": 0, "reward.format": 1.0, "entropy": 0.1})
    train_ppo(chosen)
    before = load_model(chosen.model, 1).state_dict()
    after = load_model(chosen.model.model_copy(update={"name": str(tmp_path / "model")}), 1).state_dict()
    assert before.keys() == after.keys()
    assert any(not torch.equal(weights, after[name]) for name, weights in before.items())


def test_tasks_are_of_the_train_split_and_come_in_turn(small: Small, hospital: DataRoot, tmp_path: Path) -> None:
    chosen = recipe(small, hospital, tmp_path, batch=3)
    with McpCollector(chosen, small[1]) as collector:
        tasks = corpus.chosen(hospital, "train", 100)
        assert sorted(collector.tasks) == sorted(tasks)
        drawn = [one for iteration in range(len(tasks)) for one in collector.choose(iteration)]
        assert sorted(drawn) == sorted((task, number) for task in tasks for number in (1, 2, 3))
        assert collector.choose(1) == collector.choose(1) != collector.choose(2)

    async def refused(rollout: RolloutSection) -> None:
        async with corpus.served(hospital, tmp_path) as environment:
            with pytest.raises(ExampleError, match="Not among the served tasks of the train split"):
                await train_tasks(environment, rollout)

    held_out = corpus.chosen(hospital, "test", 1)
    anyio.run(refused, RolloutSection(tasks=tuple(held_out)))


def test_passing_twice_over_the_tasks_makes_other_attempts(small: Small, tmp_path: Path) -> None:
    """`eval` takes two attempts of one number for one."""
    chosen = load_recipe(
        "ppo-small", {"model.name": str(small[0]), "output": str(tmp_path), "batch": 8, "rollout.attempts": 2}
    )
    assert isinstance(chosen, PpoRecipe)
    collector = McpCollector(chosen, small[1])
    collector.tasks = ["a", "b"]
    assert sorted(collector.choose(0)) == [(task, number) for task in "ab" for number in (1, 2, 3, 4)]


def test_a_server_that_hides_verdicts_teaches_nothing(
    small: Small, hospital: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failures have a reward there too, and would be all that is learned from."""

    class Answering(Scripted):
        def close(self) -> None: ...

    class Collector(McpCollector):
        def sampler(self, actor: Any, seed: int) -> Any:
            return Answering([call("execute_code", code="answer = 1"), call("submit_answer", variable="answer")])

    monkeypatch.setattr(collect, "serve_environment", lambda _, logs: corpus.served(hospital, logs, "none"))
    chosen = recipe(small, hospital, tmp_path, batch=1)
    with (
        Collector(chosen, small[1]) as collector,
        pytest.raises(ExampleError, match="tells no verdict.*--feedback verdict"),
    ):
        collector.collect(0, small[2], 0, 1)


def test_a_finished_run_needs_no_server(
    small: Small, hospital: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = recipe(small, hospital, tmp_path, iterations=1)
    train_ppo(chosen)
    shutil.rmtree(tmp_path / "model")

    def serve(*_: Any) -> Any:
        raise AssertionError("served")

    monkeypatch.setattr(collect, "serve_environment", serve)
    assert train_ppo(chosen) == {}
    assert (tmp_path / "model" / "config.json").is_file()


def test_a_category_need_not_be_in_every_family(tmp_path: Path) -> None:
    root = DataRoot(tmp_path / "data")
    for name in ("medcalcbench", "mimic_iii"):
        generate_dataset(root, name, GenerateOptions(patients=20, per_category=2), progress=lambda *_: None)
    families = ("medcalcbench", "mimic_iii")

    async def check() -> None:
        async with corpus.served(root, tmp_path / "logs") as environment:

            async def tasks(*categories: str, families: tuple[str, ...] = families) -> list[str]:
                return await train_tasks(environment, RolloutSection(families=families, categories=categories))

            alone = await tasks("Anion Gap", families=("medcalcbench",))
            assert alone
            assert await tasks("Anion Gap") == alone
            with pytest.raises(ToolFailed, match="No task here has category 'Anion Gab'"):
                await tasks("Anion Gap", "Anion Gab")
            with pytest.raises(ToolFailed, match="No task here has family 'mimic'"):
                await tasks("Anion Gap", families=("medcalcbench", "mimic"))

    anyio.run(check)


@pytest.mark.parametrize("during", [False, True])
def test_a_server_that_dies_costs_nothing(
    small: Small, hospital: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, during: bool
) -> None:
    """Between two iterations, or while episodes are under way; then another is long in coming."""
    monkeypatch.setattr(collect, "PATIENCE", 200.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(__file__).resolve().parents[2] / "med_copilot.py"
    command = [sys.executable, str(script), "serve", "--transport", "http", "--port", str(port), "--pool", "1"]
    command += ["--data", str(hospital.path), "--logs", str(tmp_path / "logs")]
    running: list[subprocess.Popen[bytes]] = []

    def start(late: int = 0) -> None:
        line = ["sh", "-c", f'sleep {late}; exec "$@"', "sh", *command]
        running.append(subprocess.Popen(line, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL))

    def die() -> None:
        running[-1].kill()
        running[-1].wait()
        start(late=16 if during else 0)

    passes = iter(range(1_000_000))

    def forward(*_: Any) -> None:
        if next(passes) == 30 and during:
            die()

    chosen = recipe(small, hospital, tmp_path, batch=8)
    served = chosen.rollout.model_copy(update={"server": f"http://127.0.0.1:{port}/mcp", "concurrency": 2})
    start()
    hook = None
    try:
        with McpCollector(chosen.model_copy(update={"rollout": served}), small[1]) as collector:
            assert len(collector.collect(0, small[2].eval(), 0, 1)[0]) == 8
            hook = small[2].register_forward_pre_hook(forward)
            if not during:
                die()
            rollouts, numbers = collector.collect(1, small[2], 0, 1)
            wanted = collector.choose(1)
    finally:
        if hook is not None:
            hook.remove()
        running[-1].kill()
        running[-1].wait()
    assert len(running) == 2
    assert len(rollouts) == 8
    assert numbers["unscored"] == 0
    # Each attempt was made once: what was finished before the death stands.
    records = [one for one in read_records([tmp_path / "rollouts"]) if one.run_id == "iteration-000001"]
    assert sorted((one.task.id, one.attempt) for one in records) == sorted(wanted)


def test_a_server_that_is_not_there_is_said(
    small: Small, hospital: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "PATIENCE", 1.0)
    chosen = recipe(small, hospital, tmp_path, **{"rollout.server": "http://127.0.0.1:9/mcp"})
    with pytest.raises(EnvironmentLost, match="connection to the server failed"), McpCollector(chosen, small[1]):
        pass


def test_a_checkpoint_of_another_tokenizer_is_refused(small: Small, hospital: DataRoot, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(small[0], folder)
    mine: Small = (folder, small[1], small[2])
    train_ppo(recipe(mine, hospital, tmp_path / "out", iterations=1))
    other = make_tokenizer(["quite another text, again and again"] * 20, folder, size=300)
    assert len(other) < len(small[1])
    with pytest.raises(CheckpointError, match="another tokenizer"):
        train_ppo(recipe(mine, hospital, tmp_path / "out"))
    assert len(read_metrics(tmp_path / "out" / "metrics.jsonl")) == 1


def test_the_reward_is_correctness_and_form(expert: Path) -> None:
    record = next(one for one in load([expert]) if one.reward == 1)
    weights = load_recipe("ppo-small", {"reward": {"correct": 1.0, "format": 0.1}})
    assert isinstance(weights, PpoRecipe)
    assert form(record) == 1
    assert tool_errors(record) == 0
    assert reward_of(record, weights.reward) == pytest.approx(1.1)
    plain = record.model_dump(mode="json")
    half = type(record).model_validate(plain | {"reward": 0.5})
    assert reward_of(half, weights.reward) == pytest.approx(0.1)
    partial = weights.reward.model_copy(update={"grading": "score"})
    assert reward_of(half, partial) == pytest.approx(0.6)
    call = next(message for message in plain["messages"] if message.get("tool_calls"))
    call["tool_calls"][0]["function"]["arguments"] = {"made_up": 1}
    answer = plain["messages"][plain["messages"].index(call) + 1]
    answer["content"] = "error: Invalid arguments."
    wrong = type(record).model_validate(plain)
    turns = sum(message.role == "assistant" for message in record.messages)
    assert form(wrong) == pytest.approx((turns - 1) / turns)
    assert tool_errors(wrong) == 1
    fined = weights.reward.model_copy(update={"tool_error": 0.5, "executed": 1.0})
    share = executed(wrong)
    assert reward_of(wrong, fined) == pytest.approx(1 + 0.1 * (turns - 1) / turns + share - 0.5)
    lost = type(record).model_validate(plain | {"reward": None, "outcome": "infra_error", "grade": None})
    assert reward_of(lost, weights.reward) is None
    counts: dict[str, tuple[Any, Any]] = {
        "correct": (2.0, record),
        "grading": ("score", half),
        "format": (0.5, record),
        "executed": (1.0, record),
        "tool_error": (0.5, wrong),
    }
    assert counts.keys() == RewardSection.model_fields.keys()
    base = RewardSection()
    for key, (value, one) in counts.items():
        assert reward_of(one, base.model_copy(update={key: value})) != reward_of(one, base), key


def test_the_small_experiment_begins_and_its_steps_are_passed_over_when_done(tmp_path: Path) -> None:
    from dataclasses import replace

    from training.scale import SCALES
    from training.small import Experiment
    from training.summary import summary

    scale = replace(SCALES["minute"], patients=20, per_category=4, categories=1, held_out=2)
    experiment = Experiment(tmp_path, scale)
    categories = experiment.tasks()
    assert len(categories) == 1
    assert experiment.demonstrations() == experiment.demonstrations()
    start = experiment.start()
    result = experiment.evaluate(start, "start", categories)
    assert result["all"]["attempts"] > 0
    assert result == json.loads(json.dumps(experiment.evaluate(start, "start", categories)))
    records = load([tmp_path / "records-start"])
    assert {record.task.split for record in records} == {"test"}
    assert summary(records)["all"]["success"] == result["all"]["success"]


@pytest.mark.parametrize("command", ["sft", "ppo"])
def test_the_small_experiment_says_in_one_line_what_is_missing(tmp_path: Path, command: str) -> None:
    from typer.testing import CliRunner

    from training.small import app

    (tmp_path / "categories.json").write_text('["Made Up"]')
    done = CliRunner().invoke(app, [command, "--scale", "minute", "--out", str(tmp_path)])
    assert done.exit_code == 1
    assert done.output.splitlines()[-1].startswith("med-copilot: No task here has family 'medcalcbench'")
