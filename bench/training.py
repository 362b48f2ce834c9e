"""What learning costs here, on a model of about a million weights: sampling, updating, what the environment takes of
a PPO step, and our concurrent rollout against one in lock-step.

The expert plays first; a tokenizer and a model of random weights are made from that, whose turns are then dictated
(`bench.pupil`). One thread of torch: two would compete with the sandboxes for two cores, and be slower.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from agent.client import Environment
from agent.expert import Expert
from agent.local import LocalModel
from agent.models import Model
from agent.rollout import Rollout, Settings
from agent.trajectory import AgentLimits
from bench import lockstep
from bench.measure import Measurement, median, tree_memory
from bench.pupil import Pupil
from tasks.attempt import AttemptRecord, Message
from tasks.data import DataRoot
from tasks.datasets import generate_dataset
from tasks.family import GenerateOptions
from tasks.registry import Registry
from training.collect import McpCollector, play, serve_environment
from training.config import PpoRecipe, RolloutSection, load_recipe

FAMILY = "medcalcbench"
TASKS = 64
LONGEST = 1_000
"""Characters of a solution. A few calculators have ten times as many, and would be most of the time."""

AT_ONCE = 16
ROUNDS = 3
SLOW = 1.0
"""Seconds that each execution takes in the published environment (`bench.reference`)."""

ITERATIONS = 3
EPISODES = 16


class Classroom:
    """Generated tasks, the expert's attempts at them, and a tokenizer and a model made from these."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = DataRoot(folder / "data")
        generate_dataset(self.root, FAMILY, GenerateOptions(patients=60, per_category=2), progress=lambda *_: None)
        self._registry = Registry(self.root)
        train = self._registry.ids(split="train")
        self.tasks = [task for task in train if len(self._registry.truth(task).oracle) < LONGEST][:TASKS]
        self._by_problem = {self._registry.get(task).problem.strip(): task for task in self.tasks}
        self.rollout = RolloutSection(
            data=self.root.path, tasks=tuple(self.tasks), concurrency=AT_ONCE, temperature=1.0, turns=15,
            max_tokens=4_096, max_new_tokens=2_048,
        )  # fmt: skip

    def serve(self) -> Any:
        return serve_environment(self.rollout, self.folder / "logs")

    def expert(self, task: str) -> Model:
        return Expert(self._registry.get(task), self._registry.truth(task).oracle, mistakes=0.3)

    def teacher(self, text: str) -> Model:
        """The expert for the task that this text describes."""
        return self.expert(next(task for problem, task in self._by_problem.items() if text.startswith(problem)))

    async def demonstrate(self) -> None:
        """Let the expert play, and make the model."""
        from transformers.utils.chat_template_utils import render_jinja_template

        from training.data import as_seen, load
        from training.render import COMPACT, plain_message
        from training.scratch import make_model, make_tokenizer, parameters

        self.records = self.folder / "expert"
        rollout = Rollout(self.tasks, 1, lambda task, _: self.expert(task), Settings("expert"), self.records)
        await rollout.run(self.serve)
        talks = [[plain_message(one) for one in as_seen(record).messages] for record in load([self.records])]
        texts = render_jinja_template(conversations=talks, chat_template=COMPACT)[0]
        self.model = self.folder / "model"
        self.tokenizer = make_tokenizer(texts, self.model, size=2_000, lines=200)
        self.actor = make_model(len(self.tokenizer), hidden=128, layers=4, heads=4, context=4_096).eval()
        self.actor.save_pretrained(self.model)
        self.size = f"{parameters(self.actor) / 1e6:.1f} M weights"

    def pupil(self, actor: Any) -> Pupil:
        return Pupil(actor, self.tokenizer, self.teacher, name="pupil", batch=AT_ONCE, context=self.rollout.max_tokens)


async def run(folder: Path) -> list[Measurement]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        room = await anyio.to_thread.run_sync(Classroom, folder / "training")
        await room.demonstrate()
        lines = [await _sampling(room), await _rollouts(room, ROUNDS), await _rollouts(room, ROUNDS, padded=True)]
        lines += [await _rollouts(room, 1, SLOW)]
        lines += await anyio.to_thread.run_sync(_updating, room)
        return lines
    finally:
        torch.set_num_threads(threads)


async def _sampling(room: Classroom) -> Measurement:
    """Tokens per second of sampling alone: one conversation, and many in a batch."""
    ask = [Message(role="user", content="A note of a visit. " * 40)]
    rates: dict[int, list[float]] = {1: [], AT_ONCE: []}
    async with LocalModel(room.actor, room.tokenizer, batch=AT_ONCE) as model:
        # Nothing ends a turn: all conversations are equally long.
        model.decoder.stop = frozenset()
        for _ in range(ROUNDS):
            for count, found in rates.items():
                before, began = model.decoder.sampled, time.perf_counter()
                async with anyio.create_task_group() as group:
                    for _ in range(count):
                        group.start_soon(partial(model.complete, ask, (), temperature=1.0, max_tokens=100))
                found.append((model.decoder.sampled - before) / (time.perf_counter() - began))
    one, many = median(rates[1]), median(rates[AT_ONCE])
    return Measurement(
        f"sampling in process, {room.size}",
        "told",
        f"{many:,.0f} tokens/s {AT_ONCE} at once, {one:,.0f} alone",
        True,
    )


async def _rollouts(room: Classroom, rounds: int, seconds: float = 0.0, *, padded: bool = False) -> Measurement:
    """The same tasks and turns, by our rollout and in lock-step, in turn. `seconds`: that each execution takes more.
    `padded`: in lock-step it is sampled as TRL does, too."""
    limits = AgentLimits(turns=15, call_tokens=2_048, context_tokens=4_096)
    chosen = [(task, 1) for task in room.tasks]
    ours: list[float] = []
    theirs: list[float] = []
    async with room.serve() as served:
        environment = lockstep.Slow(served, seconds)

        async def concurrent(model: Pupil) -> list[AttemptRecord]:
            played = await play(environment, model, chosen, room.rollout, temperature=1.0)
            return [record for record in played if record is not None]

        async def locked(model: Pupil) -> list[AttemptRecord]:
            return await lockstep.play(environment, model, room.tasks, limits, AT_ONCE, padded=padded)

        await _warm(environment, room)
        for _ in range(rounds):
            for way, found in ((concurrent, ours), (locked, theirs)):
                async with room.pupil(room.actor) as model:
                    began = time.perf_counter()
                    records = await way(model)
                    found.append(time.perf_counter() - began)
                failed = [(one.task.id, one.error) for one in records if one.reward != 1]
                if failed or len(records) != len(chosen):
                    raise RuntimeError(f"{len(records)} episodes; they did not come out as the expert's: {failed}")
    ratio = median(theirs) / median(ours)
    sampled = "that samples as TRL" if padded else "with our sampler"
    longer = f", executions {seconds:g} s longer" if seconds else ""
    return Measurement(
        f"rollout of {len(chosen)} tasks, {AT_ONCE} at once, against lock-step {sampled}{longer}",
        ">= 2x",
        f"{ratio:.1f}x: {median(ours):.1f} s against {median(theirs):.1f} s",
        ratio >= 2,
        "processor time: sampling takes all of it in both ways, and a token of a fuller batch costs half as much",
    )


async def _warm(environment: Environment, room: Classroom) -> None:
    async with room.pupil(room.actor) as model:
        await play(environment, model, [(room.tasks[0], 1)], room.rollout, temperature=1.0)


def _updating(room: Classroom) -> list[Measurement]:
    """PPO steps over MCP and SFT steps, in turn."""
    from training.metrics import read_metrics
    from training.policy import make_policy
    from training.ppo import PpoTrainer

    class Collector(McpCollector):
        def sampler(self, actor: Any, seed: int) -> LocalModel:
            return room.pupil(actor)

    changes: dict[str, Any] = {
        "model.name": str(room.model),
        "output": str(room.folder / "ppo"),
        "rollout": room.rollout.model_dump(mode="json"),
        "iterations": ITERATIONS,
        "batch": EPISODES,
        "save_every": ITERATIONS,
        "critic.warmup": 0,
        "stop_kl": None,
    }
    recipe = load_recipe("ppo-small", changes)
    assert isinstance(recipe, PpoRecipe)
    with _peak() as peak, Collector(recipe, room.tokenizer) as collector:
        policy, reference = make_policy(recipe.model, recipe.critic, len(room.tokenizer))
        PpoTrainer(recipe, policy, reference, collector, tokenizer=room.tokenizer).train()
    # The first iteration warms pools and caches.
    steps = read_metrics(recipe.output / "metrics.jsonl")[1:]
    shares = [one["tool_share"] * one["sampling_seconds"] / one["seconds"] for one in steps]
    share = median(shares)
    return [
        Measurement(
            "update by SFT (TRL), batches of 16",
            "told",
            f"{_sft(room):,.0f} tokens/s",
            True,
        ),
        Measurement(
            f"update by PPO, {recipe.epochs} epochs and two scorings of {EPISODES} episodes",
            "told",
            f"{median([one['learned_tokens_per_second'] for one in steps]):,.0f} tokens/s;"
            f" {median([one['sampled_tokens_per_second'] for one in steps]):,.0f} sampled/s with tools",
            True,
        ),
        Measurement(
            "share of a PPO step in sandbox and MCP",
            "< 10%",
            f"{100 * share:.1f}% of {median([one['seconds'] for one in steps]):.1f} s",
            share < 0.1,
            "the model is tiny and the sandboxes share its two cores",
        ),
        Measurement(
            "peak memory of PPO (trainer, server and sandboxes)",
            "told",
            f"{peak[0] / 2**30:.2f} GB (proportional set size of the whole tree)",
            True,
        ),
    ]


def _sft(room: Classroom) -> float:
    """Tokens per second of a pass of TRL's trainer over the expert's trajectories."""
    from training.config import SftRecipe
    from training.data import build
    from training.policy import load_model
    from training.sft import make_trainer

    changes: dict[str, Any] = {
        "model.name": str(room.model),
        "data.records": [str(room.records)],
        "data.filters.max_tokens": None,
        "output": str(room.folder / "sft"),
        "epochs": 1,
        "batch": 16,
        "micro_batch": 16,
        "max_tokens": 4_096,
        "save_every": 10_000,
    }
    recipe = load_recipe("sft-small", changes)
    assert isinstance(recipe, SftRecipe)
    examples, _ = build(recipe.data.records, room.tokenizer, recipe.data.filters)
    tokens = sum(len(one.ids) for one in examples)
    rates = []
    for _ in range(ROUNDS):
        model = load_model(recipe.model, len(room.tokenizer))
        trainer = make_trainer(recipe, model, room.tokenizer, examples)
        rates.append(tokens / trainer.train().metrics["train_runtime"])
    return median(rates)


@contextmanager
def _peak() -> Iterator[list[int]]:
    """The most memory, in bytes, that this process and its children held inside the block."""
    most, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            most[0] = max(most[0], tree_memory(os.getpid()))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()
