"""Episodes for PPO: our agent plays tasks of the train split over MCP with the model that is being trained.

The server runs in this process (in memory, with its sandboxes) or elsewhere; either way the agent knows it as any
client does. Sampling happens on the policy's own weights, in one batch for all episodes that are under way. Each
iteration goes on where the last one stopped in a seeded order of the tasks. Episodes end in their own time, so two runs
with the same seed see the same tasks but not, bit for bit, the same samples.
"""

import random
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from agent.client import Environment, connect
from agent.errors import EnvironmentLost, ToolFailed
from agent.local import LocalModel
from agent.loop import Agent
from agent.models import Model
from agent.trajectory import AgentLimits
from tasks.attempt import UNSCORED, AttemptRecord
from tasks.data import DataRoot
from tasks.record import RecordWriter
from training.config import PpoRecipe, RolloutSection
from training.data import examples_of, truncated
from training.errors import ExampleError
from training.ppo import Rollout
from training.render import Renderer
from training.rewards import executed, form, reward_of, tool_errors

LOSSES = 5
"""How often the server may be lost in one iteration."""

PATIENCE = 60.0
"""Seconds in which a server that is not there is looked for: on a busy machine one needs some twenty to start."""

Played = list[AttemptRecord | None]


class McpCollector:
    """A `Collector` over MCP. A context manager: it keeps the server and its sandboxes from iteration to iteration."""

    def __init__(self, recipe: PpoRecipe, tokenizer: Any) -> None:
        self.recipe, self.tokenizer = recipe, tokenizer
        self.renderer = Renderer(tokenizer)
        self.tasks: list[str] = []
        self._stack = ExitStack()
        self._connection = ExitStack()
        self._portal: BlockingPortal | None = None
        self._environment: Environment | None = None
        self._writer: RecordWriter | None = None

    def __enter__(self) -> "McpCollector":
        """Raises ExampleError where no task of the train split is served, EnvironmentLost."""
        try:
            self._portal = self._stack.enter_context(start_blocking_portal())
            self._stack.callback(self._disconnect)
            self._connect()
            assert self._environment is not None
            self.tasks = self._portal.call(train_tasks, self._environment, self.recipe.rollout)
            self._writer = RecordWriter(self.recipe.output / "rollouts")
            self._stack.callback(self._writer.close)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def collect(self, iteration: int, actor: Any, share: int, shares: int) -> tuple[list[Rollout], dict[str, float]]:
        """Play this process's share of the iteration's episodes. Raises ExampleError where the server tells no verdict,
        EnvironmentLost."""
        chosen = self.choose(iteration)[share::shares]
        seed = random.Random(f"{self.recipe.seed} {iteration} {share}").getrandbits(31)
        model = self.sampler(actor, seed)
        try:
            records = self._until_played(model, chosen, iteration)
        finally:
            model.close()
        return self._rollouts(records)

    def sampler(self, actor: Any, seed: int) -> LocalModel:
        """What acts in the episodes of an iteration."""
        rollout = self.recipe.rollout
        return LocalModel(
            actor, self.tokenizer, name="policy", batch=rollout.concurrency, context=rollout.max_tokens, seed=seed
        )

    def _until_played(self, model: Model, chosen: Sequence[tuple[str, int]], iteration: int) -> list[AttemptRecord]:
        """Play; where the server was lost, connect again and play what it took with it. Raises EnvironmentLost."""
        assert self._portal is not None
        records: list[AttemptRecord] = []
        for _ in range(LOSSES):
            played = self._portal.call(self._play, model, chosen, iteration)
            records += [record for record in played if record is not None]
            chosen = [one for one, record in zip(chosen, played, strict=True) if record is None]
            if not chosen:
                return records
            self._disconnect()
            self._connect()
        raise EnvironmentLost(f"The server was lost {LOSSES} times in iteration {iteration}.")

    def _connect(self) -> None:
        """Tries for a while: a server that is started again needs some seconds. Raises EnvironmentLost."""
        assert self._portal is not None
        until = time.monotonic() + PATIENCE
        while True:
            served = serve_environment(self.recipe.rollout, self.recipe.output / "server")
            try:
                self._environment = self._connection.enter_context(self._portal.wrap_async_context_manager(served))
                return
            except EnvironmentLost:
                if time.monotonic() > until:
                    raise
                time.sleep(1)

    def _disconnect(self) -> None:
        # A connection that is gone says so again when it is closed, in whatever words its transport has.
        with suppress(Exception):
            self._connection.close()

    def choose(self, iteration: int) -> list[tuple[str, int]]:
        """The tasks of an iteration with the numbers of their attempts: all in a seeded order, then in another. Numbers
        go on from order to order."""
        attempts = self.recipe.rollout.attempts
        count = max(1, self.recipe.batch // attempts)
        chosen = []
        for place in range(iteration * count, (iteration + 1) * count):
            epoch, position = divmod(place, len(self.tasks))
            order = list(self.tasks)
            random.Random(f"{self.recipe.seed} {epoch}").shuffle(order)
            chosen += [(order[position], epoch * attempts + number + 1) for number in range(attempts)]
        return chosen

    async def _play(self, model: Model, chosen: Sequence[tuple[str, int]], iteration: int) -> Played:
        assert self._environment is not None
        assert self._writer is not None
        records = await play(
            self._environment,
            model,
            chosen,
            self.recipe.rollout,
            temperature=self.recipe.rollout.temperature,
            run_id=f"iteration-{iteration:06d}",
        )
        for record in records:
            if record is not None:
                self._writer.write(record)
        return records

    def _rollouts(self, records: Sequence[AttemptRecord]) -> tuple[list[Rollout], dict[str, float]]:
        rollouts, unscored = [], 0
        for record in records:
            if record.outcome == "graded" and record.reward is None:
                # Left out, they would leave the failures alone to learn from.
                raise ExampleError(
                    "The server tells no verdict, so that answers have no reward: start it with --feedback verdict."
                )
            reward = reward_of(record, self.recipe.reward)
            if reward is None or record.outcome in UNSCORED:
                unscored += 1
                continue
            rows = tuple(row for row in examples_of(record, self.renderer) if row.written)
            if rows:
                rollouts.append(Rollout(rows, reward, truncated(record), _facts(record)))
        tools = sum(record.timing.tool_s for record in records)
        both = tools + sum(record.timing.model_s or 0.0 for record in records)
        return rollouts, {"unscored": float(unscored), "tool_share": tools / both if both else 0.0}


def serve_environment(rollout: RolloutSection, logs: Path) -> AbstractAsyncContextManager[Environment]:
    """A connection to the recipe's server; without one, to a server in this process over the recipe's data."""
    if rollout.server is not None:
        return connect(rollout.server)
    from mcp_server.config import AppConfig, EpisodeLimits
    from mcp_server.server import create_server

    config = AppConfig(
        data_root=DataRoot(rollout.data or DataRoot.default_path()),
        log_folder=logs,
        limits=EpisodeLimits(turns=rollout.turns, call_seconds=rollout.call_seconds),
        pool=min(rollout.concurrency, 8),
    )
    return connect(create_server(config))


async def train_tasks(environment: Environment, rollout: RolloutSection, split: str = "train") -> list[str]:
    """The ids of the tasks that the recipe names, all of `split`, in the server's order.

    Raises ToolFailed, in the server's words, for an unknown family and for a category that none of the families has;
    ExampleError where a task is not served, or none is.
    """
    found: list[str] = []
    had: set[str] = set()
    refused: dict[str, ToolFailed] = {}
    for family in rollout.families or ("",):
        # Beside a category, an unknown family would read like a family without that category.
        await environment.call("list_tasks", split=split, family=family, limit=1)
        for category in rollout.categories or ("",):
            try:
                found += await _served(environment, split, family, category)
                had.add(category)
            except ToolFailed as error:
                refused.setdefault(category, error)
    for category, refusal in refused.items():
        if category not in had:
            raise refusal
    if rollout.tasks:
        unknown = sorted(set(rollout.tasks) - set(found))
        if unknown:
            raise ExampleError(f"Not among the served tasks of the {split} split: {', '.join(unknown[:5])}.")
        found = [task for task in found if task in set(rollout.tasks)]
    if not found:
        raise ExampleError(f"No task of the {split} split is served: `med-copilot tasks generate` makes some.")
    return found


async def _served(environment: Environment, split: str, family: str, category: str) -> list[str]:
    found: list[str] = []
    cursor = ""
    while True:
        page = await environment.call(
            "list_tasks", split=split, family=family, category=category, cursor=cursor, limit=200
        )
        found += [task["id"] for task in page["tasks"] if not task.get("missing")]
        cursor = page.get("next_cursor") or ""
        if not cursor:
            return found


async def play(
    environment: Environment,
    model: Model,
    chosen: Sequence[tuple[str, int]],
    rollout: RolloutSection,
    *,
    temperature: float,
    run_id: str | None = None,
) -> Played:
    """Play these (task, number of the attempt), as many at once as the recipe says; the records in their order, None
    for each that was lost with the server."""
    limits = AgentLimits(
        turns=rollout.turns,
        tokens=rollout.max_tokens,
        call_tokens=rollout.max_new_tokens,
        context_tokens=rollout.max_tokens,
    )
    agent = Agent(environment, model, limits)
    records: list[AttemptRecord | None] = [None] * len(chosen)
    room = anyio.CapacityLimiter(rollout.concurrency)

    async def one(place: int, task: str, number: int) -> None:
        async with room:
            with suppress(EnvironmentLost):
                record = await agent.attempt(task, number=number, temperature=temperature, run_id=run_id)
                records[place] = None if _lost(record) else record

    async with anyio.create_task_group() as group:
        for place, (task, number) in enumerate(chosen):
            group.start_soon(one, place, task, number)
    return records


def _lost(record: AttemptRecord) -> bool:
    return record.error is not None and record.error.kind == "environment_lost"


def _facts(record: AttemptRecord) -> dict[str, float]:
    return {
        "success": float((record.reward or 0.0) >= 1),
        "form": form(record),
        "executed": executed(record),
        "tool_errors": float(tool_errors(record)),
        "turns": float(sum(message.role == "assistant" for message in record.messages)),
    }
