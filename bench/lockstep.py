"""Rollouts in lock-step, as TRL's GRPO does them: one turn for the whole batch, then its tools one after another, then
the next turn. The same agent plays, held back at two gates. Sampling is ours, or padded as TRL's (`bench.padded`)."""

from collections.abc import Sequence
from typing import Any

import anyio

from agent.client import Environment
from agent.loop import Agent
from agent.models import Completion, Model, ToolSchema
from agent.trajectory import AgentLimits
from bench.padded import Padded
from bench.pupil import Pupil
from tasks.attempt import AttemptRecord, Message
from tasks.task import Task


class Batch:
    """Episodes that wait for one another: nobody samples before all have come, nobody acts before all have sampled."""

    def __init__(self, size: int) -> None:
        self.live, self._here = size, 0
        self._gate = anyio.Event()

    async def wait(self) -> None:
        """Until all that still play are here."""
        gate = self._gate
        self._here += 1
        self._open()
        await gate.wait()

    def leave(self) -> None:
        self.live -= 1
        self._open()

    def _open(self) -> None:
        if self._here >= self.live:
            self._gate.set()
            self._gate, self._here = anyio.Event(), 0


class _Together:
    """`inner`, asked by the whole batch at once."""

    def __init__(self, inner: Model, batch: Batch) -> None:
        self._inner, self._batch = inner, batch

    @property
    def name(self) -> str:
        return self._inner.name

    async def complete(
        self, messages: Sequence[Message], tools: Sequence[ToolSchema], *, temperature: float, max_tokens: int
    ) -> Completion:
        await self._batch.wait()
        done = await self._inner.complete(messages, tools, temperature=temperature, max_tokens=max_tokens)
        await self._batch.wait()
        return done


class _Around(Environment):
    """The environment of `inner`, whose calls may be held up."""

    def __init__(self, inner: Environment) -> None:
        super().__init__(inner.client)
        self._inner = inner

    async def tools(self) -> dict[str, dict[str, Any]]:
        return await self._inner.tools()

    async def task(self, task_id: str) -> Task:
        return await self._inner.task(task_id)


class Slow(_Around):
    """Each execution takes `seconds` longer, without work."""

    def __init__(self, inner: Environment, seconds: float) -> None:
        super().__init__(inner)
        self._seconds = seconds

    async def call(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        if tool == "execute_code" and self._seconds:
            await anyio.sleep(self._seconds)
        return await self._inner.call(tool, **arguments)


class _OneByOne(_Around):
    """One call at a time."""

    def __init__(self, inner: Environment) -> None:
        super().__init__(inner)
        self._turn = anyio.Lock()

    async def call(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        async with self._turn:
            return await self._inner.call(tool, **arguments)


async def play(
    environment: Environment,
    model: Pupil,
    tasks: Sequence[str],
    limits: AgentLimits,
    size: int,
    *,
    padded: bool = False,
) -> list[AttemptRecord]:
    """One attempt at each task, `size` at a time."""
    records: list[AttemptRecord] = []
    alone = _OneByOne(environment)
    for start in range(0, len(tasks), size):
        part = tasks[start : start + size]
        batch = Batch(len(part))
        if padded:
            model.decoder = Padded(model, batch)
        agent = Agent(alone, _Together(model, batch), limits)

        async def one(task: str, agent: Agent = agent, batch: Batch = batch) -> None:
            try:
                records.append(await agent.attempt(task, temperature=1.0))
            finally:
                batch.leave()

        async with anyio.create_task_group() as group:
            for task in part:
                group.start_soon(one, task)
    return records
