"""PPO on a tiny model: gradients against a slow float64 reference, what no loss may depend on, resuming, processes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training import spread, tiny
from training.checkpoints import checkpoints
from training.errors import CheckpointError, ExampleError, TrainingError
from training.metrics import read_metrics
from training.policy import pad_rows
from training.ppo import PpoTrainer, Rollout

REPOSITORY = Path(__file__).resolve().parents[2]


def slow_scores(model: Any, head: Any, trunk: Any, row: Any) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Log-probability and value of each sampled token, and the final value: one row, one token at a time, unpadded."""
    ids = torch.tensor([row.ids])
    logits = model(input_ids=ids).logits[0] / 0.7
    states = trunk(input_ids=ids).last_hidden_state[0]
    logs, values = [], []
    for place in [place for place, own in enumerate(row.mask) if own]:
        logs.append(logits[place - 1][row.ids[place]] - torch.logsumexp(logits[place - 1], 0))
        values.append((states[place - 1] @ head.weight[0]) + head.bias[0])
    return logs, values, (states[-1] @ head.weight[0]) + head.bias[0]


def slow_loss(trainer: PpoTrainer, old: dict[str, list[list[float]]], recipe: Any) -> Tensor:
    """The whole objective of one minibatch of all episodes, written from the definitions."""
    policy: Any = trainer.policy
    reference: Any = trainer.reference
    terms, count, everything = [], 0, []
    per_episode = []
    for number, rollout in enumerate(tiny.rollouts()):
        logs, values, refs, last = [], [], [], torch.zeros(())
        for row in rollout.rows:
            one, two, last = slow_scores(policy.actor, policy.value_head, policy.critic, row)
            logs += one
            values += two
            refs += [x.item() for x in slow_scores(reference.actor, policy.value_head, policy.critic, row)[0]]
        was, worth = old["logs"][number], old["values"][number]
        rewards = [-recipe.kl.coefficient * (a - b) for a, b in zip(was, refs, strict=True)]
        rewards[-1] += 0.0 if rollout.truncated else rollout.reward
        end = old["final"][number][0] if rollout.truncated else 0.0
        following = [*worth[1:], end]
        deltas = [r + recipe.gamma * n - v for r, n, v in zip(rewards, following, worth, strict=True)]
        decay = recipe.gamma * recipe.lam
        advantages = [sum(decay ** (k - t) * deltas[k] for k in range(t, len(deltas))) for t in range(len(deltas))]
        everything += advantages
        per_episode.append((logs, values, was, worth, advantages))
    mean = sum(everything) / len(everything)
    spread = (sum((a - mean) ** 2 for a in everything) / len(everything)) ** 0.5
    for logs, values, was, worth, advantages in per_episode:
        for log, value, before, v, raw in zip(logs, values, was, worth, advantages, strict=True):
            ratio = torch.exp(log - before)
            scaled = (raw - mean) / spread
            terms.append(-torch.minimum(ratio * scaled, ratio.clamp(1 - recipe.clip, 1 + recipe.clip) * scaled))
            bounded = v + (value - v).clamp(-recipe.critic.clip, recipe.critic.clip)
            goal = raw + v
            terms.append(0.5 * torch.maximum((value - goal) ** 2, (bounded - goal) ** 2))
            count += 1
    return torch.stack(terms).sum() / count


@pytest.mark.parametrize("moved", [0.0, 0.05])
def test_gradients_equal_a_slow_reference(tmp_path: Path, moved: float) -> None:
    """Also after the weights moved away from those that sampled, where ratios and clipping matter."""
    recipe = tiny.recipe(tmp_path, micro_batch=1, max_grad_norm=1e9)
    trainer = tiny.trainer(recipe, tiny.Given(tiny.rollouts()), double=True)
    trainer.policy.eval()
    experience = trainer.score(tiny.rollouts())
    old: dict[str, list[list[float]]] = {"logs": [], "values": [], "final": []}
    for rollout in tiny.rollouts():
        scores = [
            slow_scores(trainer.policy.actor, trainer.policy.value_head, trainer.policy.critic, row)
            for row in rollout.rows
        ]
        old["logs"].append([x.item() for one in scores for x in one[0]])
        old["values"].append([x.item() for one in scores for x in one[1]])
        old["final"].append([scores[-1][2].item()])
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in trainer.policy.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter += moved * noise
    wanted = slow_loss(trainer, old, recipe)
    torch.autograd.backward(wanted)
    slow = {name: one.grad.clone() for name, one in trainer.policy.named_parameters() if one.grad is not None}
    trainer.optimizer.zero_grad()
    got = {}
    trainer.optimizer.step = lambda: got.update(
        {name: one.grad.clone() for name, one in trainer.policy.named_parameters() if one.grad is not None}
    )
    numbers = trainer.update(experience)
    assert numbers["policy_loss"] + numbers["value_loss"] == pytest.approx(wanted.item(), abs=1e-6)
    assert got.keys() == slow.keys()
    for name, gradient in slow.items():
        scale = float(gradient.abs().max()) + 1e-6
        assert float((got[name] - gradient).abs().max()) / scale < 1e-4, name
    if moved:
        assert numbers["clip_share"] > 0


def test_changing_an_observation_token_changes_no_loss(tmp_path: Path) -> None:
    # Without layers a token's probability depends on the token before it alone: what an observation says can then
    # only matter where it is the context of a sampled token, or where it is wrongly taken for an action.
    def numbers(observed: int, sampled: int = 6) -> tuple[dict[str, float], list[Tensor]]:
        row = tiny.example([1, 2, 3, observed, 5, sampled, 7, observed], [0, 0, 1, 0, 0, 1, 1, 0])
        recipe = tiny.recipe(tmp_path)
        trainer = tiny.trainer(recipe, tiny.Given([]), layers=0)
        trainer.policy.eval()
        experience = trainer.score([Rollout((row,), 1.0)])
        found = trainer.update(experience)
        return found, [parameter.detach().clone() for parameter in trainer.policy.parameters()]

    one, other = numbers(4), numbers(9)
    assert one[0] == other[0]
    assert all(torch.equal(left, right) for left, right in zip(one[1], other[1], strict=True))
    assert numbers(4, sampled=10)[0] != one[0]


def test_a_single_turn_is_policy_gradient_with_a_baseline(tmp_path: Path) -> None:
    """One sampled token: before the first step the gradient is -(reward - value) times that of the log-probability."""
    recipe = tiny.recipe(tmp_path, whiten=False, kl={"coefficient": 0.0}, micro_batch=4, max_grad_norm=1e9)
    arms = [(3, 1.0), (5, 0.0), (3, 1.0), (7, 0.0)]
    episodes = [Rollout((tiny.example([0, arm], [0, 1]),), reward) for arm, reward in arms]
    trainer = tiny.trainer(recipe, tiny.Given(episodes), double=True)
    trainer.policy.eval()
    experience = trainer.score(episodes)
    logs = torch.log_softmax(trainer.policy.actor(input_ids=torch.tensor([[0]])).logits[0, -1] / 0.7, -1)
    values = experience.values[:, 1].double()
    wanted = sum(-(reward - values[n]) * logs[arm] for n, (arm, reward) in enumerate(arms)) / len(arms)
    weight = trainer.policy.actor.get_input_embeddings().weight
    (gradient,) = torch.autograd.grad(wanted, weight)
    got = []
    trainer.optimizer.step = lambda: got.append(weight.grad.clone())
    trainer.update(experience)
    assert torch.allclose(got[0], gradient, atol=1e-6)


def test_it_learns_a_bandit(tmp_path: Path) -> None:
    recipe = tiny.recipe(
        tmp_path,
        iterations=40,
        batch=32,
        minibatch=32,
        micro_batch=32,
        epochs=2,
        kl={"coefficient": 0.0},
        save_every=99,
    )
    trainer = tiny.trainer(recipe, tiny.Bandit())
    trainer.train()
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert lines[0]["success"] < 0.6
    assert lines[-1]["success"] > 0.9
    assert [line["iteration"] for line in lines] == list(range(40))


def test_warm_up_moves_the_critic_alone(tmp_path: Path) -> None:
    recipe = tiny.recipe(tmp_path, critic={"warmup": 2, "learning_rate": 1e-2}, iterations=2)
    trainer = tiny.trainer(recipe, tiny.Given(tiny.rollouts()))
    before = {name: one.detach().clone() for name, one in trainer.policy.named_parameters()}
    trainer.train()
    for name, parameter in trainer.policy.named_parameters():
        assert torch.equal(parameter, before[name]) is name.startswith("actor."), name


def test_the_loop_stops_where_the_policy_has_moved_far(tmp_path: Path) -> None:
    recipe = tiny.recipe(tmp_path, epochs=50, stop_kl=0.01, learning_rate=0.05)
    trainer = tiny.trainer(recipe, tiny.Given(tiny.rollouts()))
    trainer.policy.eval()
    numbers = trainer.update(trainer.score(tiny.rollouts()))
    assert numbers["stopped"] == 1
    assert 1 < numbers["updates"] < 50


def test_the_penalty_in_the_loss_pulls_the_policy_to_its_reference(tmp_path: Path) -> None:
    kl = {"coefficient": 5.0, "where": "loss"}
    recipe = tiny.recipe(tmp_path, kl=kl, whiten=False, iterations=15, learning_rate=3e-3, save_every=99)
    quiet = [Rollout(one.rows, 0.0) for one in tiny.rollouts()]
    tiny.trainer(recipe, tiny.Given(quiet)).train()
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert abs(lines[-1]["kl"]) < abs(lines[0]["kl"]) / 3


def test_a_cut_episode_may_be_taken_for_an_ended_one(tmp_path: Path) -> None:
    found: dict[str, Any] = {}
    for truncation in ("bootstrap", "end"):
        recipe = tiny.recipe(tmp_path, truncation=truncation, whiten=False, kl={"coefficient": 0.0})
        trainer = tiny.trainer(recipe, tiny.Given([]))
        trainer.policy.eval()
        found[truncation] = trainer.score(tiny.rollouts())
    # Only the third episode was cut: its last return is the critic's value of where it stood, or its reward.
    assert torch.equal(found["bootstrap"].returns[[0, 1, 2, 4]], found["end"].returns[[0, 1, 2, 4]])
    assert found["end"].returns[3, 5] == pytest.approx(0.5)
    # That value predicts the whole reward: what form had earned so far is not paid beside it.
    trainer = tiny.trainer(tiny.recipe(tmp_path, kl={"coefficient": 0.0}), tiny.Given([]))
    rows = tiny.rollouts()[2].rows
    ids, masks = [rows[0].ids], [rows[0].mask]
    with torch.no_grad():
        stood = float(trainer.policy.eval()(pad_rows(ids, masks, 0), temperature=0.7).final[0])
    assert abs(stood) > 0.01
    assert found["bootstrap"].returns[3, 5] == pytest.approx(stood, abs=1e-5)


def state(trainer: PpoTrainer) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in trainer.policy.parameters()]


@pytest.mark.parametrize("critic", [True, False])
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(tmp_path: Path, critic: bool) -> None:
    def make(folder: str, iterations: int) -> PpoTrainer:
        kl = {"coefficient": 0.05, "target": 0.01, "horizon": 50}
        recipe = tiny.recipe(tmp_path / folder, iterations=iterations, save_every=2, minibatch=8, kl=kl)
        made: PpoTrainer = tiny.trainer(recipe, tiny.Bandit(), critic=critic)
        return made

    whole = make("whole", 5)
    whole.train()
    make("cut", 3).train()
    # A life that ended after its third iteration but before it was saved leaves a line that is made again.
    for folder in checkpoints(tmp_path / "cut")[1:]:
        import shutil

        shutil.rmtree(folder)
    second = make("cut", 5)
    assert second.resume()
    assert second.iteration == 2
    second.train()
    assert all(torch.equal(one, other) for one, other in zip(state(whole), state(second), strict=True))
    clocks = ("seconds", "per_second")
    lines = [
        [{key: value for key, value in line.items() if not key.endswith(clocks)} for line in read_metrics(path)]
        for path in (tmp_path / "whole" / "metrics.jsonl", tmp_path / "cut" / "metrics.jsonl")
    ]
    assert lines[0] == lines[1]
    assert not make("empty", 1).resume()


def test_a_run_that_begins_anew_is_what_the_next_one_goes_on_from(tmp_path: Path) -> None:
    def make(iterations: int) -> PpoTrainer:
        made: PpoTrainer = tiny.trainer(tiny.recipe(tmp_path, iterations=iterations, save_every=2), tiny.Bandit())
        return made

    make(6).train()
    make(4).train()
    assert [folder.name for folder in checkpoints(tmp_path)] == ["checkpoint-000002", "checkpoint-000004"]
    last = make(4)
    assert last.resume()
    assert last.iteration == 4
    assert last.train() == {}
    assert len(checkpoints(tmp_path)) == 2


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    trainer = tiny.trainer(tiny.recipe(tmp_path, iterations=1), tiny.Bandit())
    trainer.train()
    found = checkpoints(tmp_path)[-1]
    told = json.loads((found / "state.json").read_text())
    (found / "state.json").write_text(json.dumps(told | {"tokenizer": "other"}))
    with pytest.raises(CheckpointError, match="another tokenizer"):
        trainer.resume()
    (found / "state.json").write_text(json.dumps(told | {"model": {"name": "other"}}))
    with pytest.raises(CheckpointError, match="another model"):
        trainer.resume()
    (found / "state.json").write_text(json.dumps(told)[:20])
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        trainer.resume()
    (found / "state.json").write_text(json.dumps(told))
    weights = next(found.glob("*.bin"))
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        trainer.resume()


def test_nothing_to_learn_from_and_a_broken_loss_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ExampleError, match="no episode"):
        tiny.trainer(tiny.recipe(tmp_path), tiny.Given([])).train()
    broken = [Rollout((tiny.example([1, 2], [0, 1]),), float("inf"))]
    with pytest.raises(TrainingError, match="not finite"):
        tiny.trainer(tiny.recipe(tmp_path), tiny.Given(broken)).train()
    first = [Rollout((tiny.example([1, 2], [1, 1]),), 1.0)]
    with pytest.raises(ExampleError, match="begins with a sampled token"):
        tiny.trainer(tiny.recipe(tmp_path), tiny.Given(first)).train()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["replicated", "sharded"])
def test_two_processes_give_the_loss_of_one(tmp_path: Path, kind: str) -> None:
    """Three rows in micro-batches of two on two processes: shares are uneven, and one is padded. They stop half way,
    and go on from what each of them wrote."""
    for iterations in (2, 4):
        command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--nproc-per-node", "2"]
        command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "tests.training.spread"]
        command += [str(tmp_path / "two"), str(iterations), kind]
        done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=400)
        assert done.returncode == 0, done.stderr[-3000:]
    two = json.loads((tmp_path / "two" / "result.json").read_text())
    one = spread.train(tmp_path / "one", 4)
    assert (two["processes"], two["resumed"]) == (2, True)
    assert two["kind"] == {"replicated": "MULTI_CPU", "sharded": "FSDP"}[kind]
    for name in ("policy_loss", "value_loss", "kl", "entropy", "reward", "explained_variance", "grad_norm"):
        assert two["metrics"][name] == pytest.approx(one["metrics"][name], rel=1e-4, abs=1e-6), name
    for name in ("weights", "exported"):
        assert two[name] == pytest.approx(one[name], rel=1e-4, abs=2e-5)
