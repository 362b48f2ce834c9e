"""Proximal policy optimisation over episodes of tool use: roll out, score, learn, repeat.

Token in, token out: what is learned from are the ids that were sampled. A step of the decision process is one sampled
token; prompts and observations are context, never actions, so no loss depends on how likely they are. The reward of an
episode is on its last sampled token. An episode that a limit of tokens or time cut has not ended: the critic's value of
where it stood takes the place of its reward (`truncation: bootstrap`).

Every process holds all the experience of an iteration (token ids and four numbers per token) and learns from its share
of each minibatch; sums are divided by the tokens of the whole minibatch, so the number of processes and the size of
micro-batches do not change the loss. Everything random is seeded by (seed, iteration), so a run that resumes from a
checkpoint goes on bit for bit where its collector does.

Left out: generation (a `Collector` brings episodes; `training.collect` rolls them out over MCP), the arithmetic
(`training.ppo_math`), the network (`training.policy`).
"""

import copy
import hashlib
import json
import math
import random
import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from accelerate.utils import DistributedType, gather_object, set_seed  # type: ignore[import-untyped]
from torch import Tensor

from training import ppo_math as pm
from training.checkpoints import checkpoints, forget_later, open_output
from training.config import PpoRecipe
from training.data import Example
from training.errors import CheckpointError, ExampleError, TrainingError
from training.metrics import MetricsLog
from training.policy import Policy, Scored, exported, make_policy, pad_rows
from training.render import fingerprint, load_tokenizer
from training.replica import copy_weights

COLUMNS = ("reward", "success", "kl", "entropy", "clip_share", "explained_variance", "tokens", "tool_errors", "seconds")
"""What the live table shows."""


@dataclass(frozen=True)
class Rollout:
    """One episode to learn from: its rows (segments, in order) and the reward of the whole. `truncated`: it was cut by
    a limit of tokens or time and has not ended. `facts` are averaged into the metrics (success, turns, tool errors)."""

    rows: tuple[Example, ...]
    reward: float
    truncated: bool = False
    facts: dict[str, float] = field(default_factory=dict)


class Collector(Protocol):
    """Brings the episodes of an iteration."""

    def collect(self, iteration: int, actor: Any, share: int, shares: int) -> tuple[list[Rollout], dict[str, float]]:
        """This process's share of the episodes, sampled from `actor`, and numbers to report (they are averaged over
        processes). Episodes that say nothing about the agent are left out."""


@dataclass
class Experience:
    """What an iteration learns from. Tensors are [rows, width] on the CPU, float32; `episodes` lists rows."""

    rows: list[Example]
    episodes: list[list[int]]
    rollouts: list[Rollout]
    mask: Tensor
    logprobs: Tensor
    reference: Tensor
    entropy: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    weight: Tensor | None
    metrics: dict[str, float]


class PpoTrainer:
    """Trains `policy` on what `collector` brings. Create it, then `resume` if wanted, then `train`."""

    def __init__(
        self,
        recipe: PpoRecipe,
        policy: Policy,
        reference: Policy | None,
        collector: Collector,
        *,
        tokenizer: Any = None,
        accelerator: Accelerator | None = None,
    ) -> None:
        """`reference` None: the policy carries adapters, which are switched off for it."""
        self.recipe, self.collector, self.tokenizer = recipe, collector, tokenizer
        # Without `cpu`, processes on a machine without accelerators would not find one another.
        self.accelerator = accelerator or Accelerator(
            cpu=not torch.accelerator.is_available(), mixed_precision=recipe.precision.mixed
        )
        self.pad = getattr(tokenizer, "pad_token_id", None) or 0
        optimizer = torch.optim.AdamW(
            policy.groups(recipe.learning_rate, recipe.critic.learning_rate),
            betas=(0.9, 0.95),
            weight_decay=recipe.weight_decay,
        )
        self.replica: Any = None
        if self.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
            self.replica = copy.deepcopy(policy.actor).requires_grad_(False).eval().to(self.accelerator.device)
        if self.accelerator.distributed_type == DistributedType.DEEPSPEED:
            # `prepare` would read it from a data loader, and there is none.
            config = self.accelerator.state.deepspeed_plugin.deepspeed_config
            config["train_micro_batch_size_per_gpu"] = recipe.micro_batch
        self.policy, self.optimizer = self.accelerator.prepare(policy, optimizer)
        # The reference is not sharded: with full weights on few devices, adapters save it altogether.
        self.reference: Any = None if reference is None else reference.to(self.accelerator.device)
        self.kl = pm.KLController(recipe.kl.coefficient, recipe.kl.target, recipe.kl.horizon)
        self.iteration = 0

    @property
    def actor(self) -> Any:
        """The language model with all its weights, for the sampler."""
        own = self.accelerator.unwrap_model(self.policy).actor
        if self.replica is None:
            return own
        copy_weights(own, self.replica)
        return self.replica

    def train(self) -> dict[str, float]:
        """Run the iterations that are left; the metrics of the last (empty where none was left). Checkpoints of later
        iterations than the one that it goes on from are removed. Raises TrainingError: a loss is not finite."""
        metrics: dict[str, float] = {}
        recipe, main = self.recipe, self.accelerator.is_main_process
        if main:
            forget_later(recipe.output, self.iteration)
        self.accelerator.wait_for_everyone()
        with MetricsLog(
            recipe.output, COLUMNS, recipe.iterations, begin=self.iteration, writes=main, title="ppo"
        ) as log:
            while self.iteration < recipe.iterations:
                began = time.monotonic()
                self._seed()
                self.policy.eval()
                rollouts, metrics = self._collect()
                sampled = time.monotonic()
                experience = self.score(rollouts)
                metrics |= experience.metrics | self.update(experience)
                ended = time.monotonic()
                metrics |= _speeds(experience, sampled - began, ended - sampled)
                self.kl.update(experience.metrics["kl"], len(rollouts))
                log.write(self.iteration, metrics)
                self.iteration += 1
                if self.iteration % recipe.save_every == 0 or self.iteration == recipe.iterations:
                    self.save()
        return metrics

    def _collect(self) -> tuple[list[Rollout], dict[str, float]]:
        share, shares = self.accelerator.process_index, self.accelerator.num_processes
        mine, numbers = self.collector.collect(self.iteration, self.actor, share, shares)
        if shares > 1:
            # Dealt out like cards: the order is that of one process.
            parts, several = gather_object([mine]), gather_object([numbers])
            rollouts = [one for dealt in zip_longest(*parts) for one in dealt if one is not None]
            numbers = {name: sum(one[name] for one in several) / len(several) for name in several[0]}
        else:
            rollouts = mine
        if not rollouts:
            raise ExampleError(f"Iteration {self.iteration}: no episode can be learned from: {numbers}.")
        return rollouts, numbers

    def score(self, rollouts: Sequence[Rollout]) -> Experience:
        """Log-probabilities, values and advantages under the policy as it is now. Raises ExampleError."""
        recipe = self.recipe
        rows: list[Example] = []
        episodes: list[list[int]] = []
        for rollout in rollouts:
            episodes.append(list(range(len(rows), len(rows) + len(rollout.rows))))
            rows += rollout.rows
        if any(row.mask[:1] == (True,) for row in rows):
            raise ExampleError("A row begins with a sampled token: nothing came before it.")
        mask = pad_rows([row.ids for row in rows], [row.mask for row in rows], self.pad).mask
        own, final = self._score_all(self.policy, rows, mask)
        if self.reference is not None:
            reference, _ = self._score_all(self.reference, rows, mask)
        else:
            reference, _ = self._score_all(self.policy, rows, mask, reference=True)
        logprobs, entropy, values = own

        index, valid = pm.steps_of(mask, episodes)
        per_step = [tensor.flatten()[index] for tensor in (logprobs, reference[0], values)]
        kl = pm.kl_k1(per_step[0], per_step[1])
        penalties = self.kl.coefficient * kl if recipe.kl.where == "reward" else None
        cut = [one.truncated and recipe.truncation == "bootstrap" for one in rollouts]
        # The value of where a cut episode stood predicts its whole reward, what its past turns earn in it included.
        paid = [0.0 if unended else one.reward for one, unended in zip(rollouts, cut, strict=True)]
        rewards = pm.place_rewards(torch.tensor(paid), valid, penalties)
        ends = [
            final[numbers[-1]] if unended else torch.zeros(()) for numbers, unended in zip(episodes, cut, strict=True)
        ]
        steps = pm.gae(rewards, per_step[2], torch.stack(ends), valid, recipe.gamma, recipe.lam)
        advantages, returns = (_scatter(tensor, index, valid, mask) for tensor in steps)
        sampler = _sampler_logprobs(rows, mask)
        metrics = _facts(rollouts, rows) | {
            "kl": _mean(kl, valid),
            "kl_coefficient": self.kl.coefficient,
            "entropy": _mean(entropy, mask),
            "explained_variance": pm.explained_variance(values, returns, mask),
            "value": _mean(values, mask),
            "sampler_gap": float((logprobs - sampler).abs()[mask].max()) if sampler is not None else float("nan"),
        }
        weight = None
        if sampler is not None and recipe.sampler_cap is not None:
            weight = pm.sampler_weight(logprobs, sampler, mask, recipe.sampler_cap)
        if recipe.whiten:
            advantages = pm.whiten(advantages, mask)
        return Experience(
            rows, episodes, list(rollouts), mask, logprobs, reference[0], entropy, values, advantages, returns, weight,
            metrics,
        )  # fmt: skip

    def update(self, experience: Experience) -> dict[str, float]:
        """Learn from one iteration's experience; means over its minibatches."""
        recipe = self.recipe
        warming = self.iteration < recipe.critic.warmup
        self._set_rates(warming)
        self.policy.train()
        sums: dict[str, float] = {}
        steps, stopped = 0, 0.0
        for epoch in range(recipe.epochs):
            order = list(range(len(experience.episodes)))
            random.Random(f"{recipe.seed} {self.iteration} {epoch}").shuffle(order)
            for start in range(0, len(order), recipe.minibatch):
                rows = [row for one in order[start : start + recipe.minibatch] for row in experience.episodes[one]]
                numbers = self._minibatch(experience, rows, warming)
                steps += 1
                for name, value in numbers.items():
                    sums[name] = sums.get(name, 0.0) + value
                if recipe.stop_kl is not None and not warming and numbers["kl_step"] > recipe.stop_kl:
                    stopped = 1.0
                    break
            if stopped:
                break
        return {name: value / steps for name, value in sums.items()} | {"updates": float(steps), "stopped": stopped}

    def _minibatch(self, experience: Experience, rows: Sequence[int], warming: bool) -> dict[str, float]:
        """One optimiser step on these rows, split over processes and micro-batches."""
        tokens = max(int(experience.mask[list(rows)].sum()), 1)
        parts = self._shares(rows, experience.rows)
        totals = torch.zeros(len(_SUMS), dtype=torch.float64)
        for number, (part, real) in enumerate(parts):
            self.accelerator.sync_gradients = number == len(parts) - 1
            with self._maybe_no_sync():
                loss, sums = self._losses(experience, part, real, warming)
                # Gradients are averaged over processes; the sum over them is wanted.
                self.accelerator.backward(loss / tokens * self.accelerator.num_processes)
                totals += sums
        self.accelerator.sync_gradients = True
        norm = self.accelerator.clip_grad_norm_(self.policy.parameters(), self.recipe.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        totals = self.accelerator.reduce(totals.to(self.accelerator.device), reduction="sum").cpu()
        numbers = {name: float(total) / tokens for name, total in zip(_SUMS, totals, strict=True)}
        if not all(map(math.isfinite, numbers.values())):
            raise TrainingError(f"Iteration {self.iteration}: the loss is not finite: {numbers}.")
        return numbers | {"grad_norm": float(norm) if norm is not None else float("nan")}

    def _losses(self, experience: Experience, rows: Sequence[int], real: bool, warming: bool) -> tuple[Tensor, Tensor]:
        """Sums over the sampled tokens of these rows: the loss, and what is reported (`_SUMS`)."""
        recipe, device = self.recipe, self.accelerator.device
        batch = self._rows([experience.rows[row] for row in rows])
        scored: Scored = self.policy(batch, temperature=recipe.rollout.temperature)
        chosen = experience.mask[list(rows)]

        def flat(tensor: Tensor) -> Tensor:
            return tensor[list(rows)][chosen].to(device)

        on = torch.full((int(chosen.sum()),), real, device=device)
        old, advantages = flat(experience.logprobs), flat(experience.advantages)
        weight = flat(experience.weight) if experience.weight is not None else None
        policy, clipped = pm.policy_loss(scored.logprobs, old, advantages, on, recipe.clip, weight)
        value, value_clipped = pm.value_loss(
            scored.values, flat(experience.values), flat(experience.returns), on, recipe.critic.clip
        )
        off = torch.zeros_like(scored.logprobs)
        entropy = torch.where(on, scored.entropy, off).sum()
        loss = policy - recipe.entropy * entropy
        if recipe.kl.where == "loss":
            loss = (
                loss
                + self.kl.coefficient
                * torch.where(on, pm.kl_k3(scored.logprobs, flat(experience.reference)), off).sum()
            )
        # In warm-up the policy's loss stays in the graph, at zero: every parameter must get a gradient under DDP.
        loss = loss * (0.0 if warming else 1.0) + recipe.critic.coefficient * value
        moved = torch.where(on, pm.kl_k3(old, scored.logprobs), off).sum()
        sums = torch.stack([part.detach().double().cpu() for part in (policy, value, clipped, value_clipped, moved)])
        return loss, sums

    def _score_all(
        self, module: Any, rows: Sequence[Example], mask: Tensor, reference: bool = False
    ) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """(log-probabilities, entropy, values) as [rows, width], and the values after the last token of each row."""
        results: list[tuple[list[int], Scored]] = []
        with torch.no_grad():
            for part, real in self._shares(range(len(rows)), rows):
                batch = self._rows([rows[row] for row in part])
                scored = module(batch, temperature=self.recipe.rollout.temperature, reference=reference)
                if real:
                    results.append((part, Scored(*(tensor.detach().float().cpu() for tensor in scored))))
        if self.accelerator.num_processes > 1:
            results = gather_object(results)
        grids = tuple(torch.zeros(mask.shape) for _ in range(3))
        final = torch.zeros(len(rows))
        for part, scored in results:
            place = torch.zeros_like(mask)
            place[part] = mask[part]
            for grid, tensor in zip(grids, scored[:3], strict=True):
                grid[place] = tensor
            final[part] = scored.final
        return (grids[0], grids[1], grids[2]), final

    def _shares(self, chosen: Sequence[int], rows: Sequence[Example]) -> list[tuple[list[int], bool]]:
        """This process's micro-batches of the chosen rows, each in ascending order; rows of like length go together.
        All processes get as many; where rows run out, one is repeated and not real."""
        shares, share, size = self.accelerator.num_processes, self.accelerator.process_index, self.recipe.micro_batch
        mine = sorted(chosen, key=lambda row: len(rows[row].ids))[share::shares]
        count = math.ceil(math.ceil(len(chosen) / shares) / size)
        parts = [(sorted(mine[number * size : (number + 1) * size]), True) for number in range(count)]
        return [part if part[0] else ([chosen[0]], False) for part in parts]

    def _rows(self, rows: Sequence[Example]) -> Any:
        padded = pad_rows([row.ids for row in rows], [row.mask for row in rows], self.pad)
        return type(padded)(*(tensor.to(self.accelerator.device) for tensor in padded))

    def _maybe_no_sync(self) -> Any:
        return nullcontext() if self.accelerator.sync_gradients else self.accelerator.no_sync(self.policy)

    def _set_rates(self, warming: bool) -> None:
        recipe = self.recipe
        ramp = min(1.0, (self.iteration + 1) / (recipe.warmup_iterations + 1))
        policy, critic = self.optimizer.param_groups
        policy["lr"] = 0.0 if warming else recipe.learning_rate * ramp
        critic["lr"] = recipe.critic.learning_rate * ramp

    def _seed(self) -> None:
        """All generators from (seed, iteration, process), so that no state of theirs needs to be kept."""
        text = f"{self.recipe.seed} {self.iteration} {self.accelerator.process_index}"
        set_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big"))

    # Checkpoints

    def save(self) -> Path:
        """Write <output>/checkpoint-<iterations done>; whole or not at all. Older ones than `keep` are removed."""
        target = self.recipe.output / f"checkpoint-{self.iteration:06d}"
        partial = target.with_name(f"{target.name}.partial")
        if self.accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        # Tied weights would be written once only by safetensors, and not be found again under the other name.
        self.accelerator.save_state(str(partial), safe_serialization=False)
        # Each process writes its part into the folder that the first one renames.
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            state = {
                "iteration": self.iteration,
                "kl": self.kl.state_dict(),
                "tokenizer": fingerprint(self.tokenizer),
                "model": self.recipe.model.model_dump(mode="json"),
            }
            (partial / "state.json").write_text(json.dumps(state, indent=1))
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
            for old in checkpoints(self.recipe.output)[: -self.recipe.keep]:
                shutil.rmtree(old)
        self.accelerator.wait_for_everyone()
        return target

    def resume(self, folder: Path | None = None) -> bool:
        """Go on from a checkpoint: that folder, or the newest of the output; False where there is none.

        Raises CheckpointError where it is cut, or was made with another tokenizer or model.
        """
        found = checkpoints(self.recipe.output)
        source = folder or (found[-1] if found else None)
        if source is None:
            return False
        try:
            state = json.loads((source / "state.json").read_text())
            iteration, kl = int(state["iteration"]), state["kl"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{source} is not a whole checkpoint ({type(error).__name__}: {error}).") from None
        if state.get("tokenizer") != fingerprint(self.tokenizer):
            raise CheckpointError(f"{source} was made with another tokenizer: its token ids mean other texts.")
        if state.get("model") != self.recipe.model.model_dump(mode="json"):
            raise CheckpointError(f"{source} was made from another model: {state.get('model')}.")
        try:
            self.accelerator.load_state(str(source))
        except Exception as error:
            raise CheckpointError(f"{source} cannot be read: {str(error).splitlines()[0][:300]}") from error
        self.kl.load_state_dict(kl)
        self.iteration = iteration
        return True

    def export(self) -> Path:
        """Write the trained model and the tokenizer to <output>/model; its adapters alone where it has some, unless it
        began from adapters."""
        folder = self.recipe.output / "model"
        actor, main = self.actor, self.accelerator.is_main_process
        with exported(self.recipe.model, folder, main=main) as place:
            if main:
                actor.save_pretrained(place)
                if self.tokenizer is not None:
                    self.tokenizer.save_pretrained(place)
        self.accelerator.wait_for_everyone()
        return folder


_SUMS = ("policy_loss", "value_loss", "clip_share", "value_clip_share", "kl_step")
"""What `_losses` sums over tokens, in this order; divided by the tokens of the minibatch they are the metrics."""


def train_ppo(recipe: PpoRecipe, *, fresh: bool = False) -> dict[str, float]:
    """Train by a recipe, going on from the newest checkpoint of its output unless `fresh`; the last metrics, or
    none where it was finished before. Raises TrainingError, and what a server or a sandbox raises."""
    from training.collect import McpCollector

    open_output(recipe.output, recipe.method)
    set_seed(recipe.seed)
    tokenizer = load_tokenizer(recipe.model.name, recipe.model.template)
    policy, reference = make_policy(recipe.model, recipe.critic, len(tokenizer))
    collector = McpCollector(recipe, tokenizer)
    trainer = PpoTrainer(recipe, policy, reference, collector, tokenizer=tokenizer)
    if not fresh:
        trainer.resume()
    # A run that is finished needs no server.
    with collector if trainer.iteration < recipe.iterations else nullcontext():
        metrics = trainer.train()
    trainer.export()
    return metrics


def _scatter(steps: Tensor, index: Tensor, valid: Tensor, mask: Tensor) -> Tensor:
    """[episodes, steps] back to [rows, width]."""
    flat = torch.zeros(mask.numel(), dtype=steps.dtype)
    flat[index[valid]] = steps[valid]
    return flat.view(mask.shape)


def _sampler_logprobs(rows: Sequence[Example], mask: Tensor) -> Tensor | None:
    """What the sampler said, [rows, width]; None where a row does not say it."""
    grid = torch.zeros(mask.shape)
    for number, row in enumerate(rows):
        if row.logprobs is None:
            return None
        grid[number, : len(row.ids)] = torch.tensor(row.logprobs)
    return grid


def _facts(rollouts: Sequence[Rollout], rows: Sequence[Example]) -> dict[str, float]:
    """Means over episodes of what is known of them."""
    count = len(rollouts)
    metrics = {
        "episodes": float(count),
        "reward": sum(one.reward for one in rollouts) / count,
        "truncated": sum(one.truncated for one in rollouts) / count,
        "tokens": sum(row.written for row in rows) / count,
        "context": sum(len(row.ids) for row in rows) / count,
    }
    for name in sorted({name for one in rollouts for name in one.facts}):
        metrics[name] = sum(one.facts.get(name, 0.0) for one in rollouts) / count
    return metrics


def _speeds(experience: Experience, sampling: float, learning: float) -> dict[str, float]:
    written = sum(row.written for row in experience.rows)
    seen = sum(len(row.ids) for row in experience.rows)
    return {
        "seconds": sampling + learning,
        "sampling_seconds": sampling,
        "learning_seconds": learning,
        "sampled_tokens_per_second": written / max(sampling, 1e-9),
        "learned_tokens_per_second": seen / max(learning, 1e-9),
    }


def _mean(values: Tensor, mask: Tensor) -> float:
    return float(values[mask].mean()) if bool(mask.any()) else float("nan")
