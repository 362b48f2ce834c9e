"""The trajectory of an attempt while it is made, and the record that becomes of it."""

import math
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from uuid import uuid4

from agent.errors import EpisodeOver
from agent.models import Completion, ToolSchema
from tasks.attempt import (
    UNSCORED,
    AgentRef,
    AttemptRecord,
    ErrorRef,
    Message,
    ModelCall,
    SubmissionRef,
    TaskRef,
    Timing,
    ToolCall,
)
from tasks.record import digest, now
from tasks.task import Task

_CHARACTERS_PER_TOKEN = 3
"""Few, so that an estimated length is rather too long."""


@dataclass(frozen=True)
class AgentLimits:
    """Limits that the agent keeps by itself, beside the server's own.

    `turns`: calls of the model. `tokens`: sampled in the whole episode. `seconds`: from when the server has started the
    episode (a sandbox that is slow to start costs the agent nothing); no turn begins after that. `call_tokens` and
    `context_tokens`: of one call, sampled and read (the paper's 8,192 and 32,768; what is read is estimated).
    `call_seconds`: a model that does not answer in that time has failed. `repeats`: so many calls in a row that are the
    same end the episode, the last without being made. `malformed`: turns in a row without a tool call that can be
    understood.
    """

    turns: int = 15
    tokens: int = 100_000
    seconds: float = 1800.0
    call_tokens: int = 8_192
    context_tokens: int = 32_768
    call_seconds: float = 900.0
    repeats: int = 3
    malformed: int = 3


@dataclass
class Trajectory:
    """What has happened so far. `messages` only grow."""

    task: Task
    model: str
    limits: AgentLimits
    temperature: float
    attempt: int = 1
    seed: int | None = None
    run_id: str | None = None
    tools: tuple[ToolSchema, ...] = ()
    messages: list[Message] = field(default_factory=list)
    calls: list[ModelCall] = field(default_factory=list)
    episode_id: str | None = None
    over: EpisodeOver | None = None
    level: int = 0
    """How much of the history the model is no longer shown (`prompts.trimmed`); it only rises."""
    counted: tuple[int, int] = (0, 0)
    """Characters of the prompt that a model counted last, and how many tokens they were to it, tools included."""
    submission: SubmissionRef | None = None
    tool_seconds: float = 0.0
    model_seconds: float = 0.0
    started: str = field(default_factory=now)
    began: float = math.inf
    """When the server had started the episode, on the monotonic clock; not yet: inf."""

    @property
    def sampled(self) -> int:
        """Tokens sampled so far."""
        return sum(one.usage.completion_tokens for one in self.calls)

    @property
    def seconds_left(self) -> float:
        return self.began + self.limits.seconds - time.monotonic()

    def estimate(self, characters: int) -> float:
        """How many tokens a prompt of so many characters will be."""
        before, tokens = self.counted
        return tokens + (characters - before) / _CHARACTERS_PER_TOKEN

    def add(self, completion: Completion) -> None:
        """Append a turn of the model."""
        self.model_seconds += completion.seconds
        self.calls.append(
            ModelCall(
                message=len(self.messages),
                usage=completion.usage,
                cost_usd=completion.cost_usd,
                finish_reason=completion.finish_reason,
                seconds=round(completion.seconds, 6),
                prompt_token_ids=completion.prompt_token_ids,
                completion_token_ids=completion.completion_token_ids,
                logprobs=completion.logprobs,
            )
        )
        self.messages.append(completion.message)

    def submitted(self, call: ToolCall) -> None:
        """Note what is handed in; what a variable or a file holds, only the server knows."""
        arguments = call.function.arguments
        if "answer" in arguments and not arguments.get("variable") and not arguments.get("file"):
            value = arguments["answer"]
            self.submission = SubmissionRef(kind="value", value=value, digest=digest(value))

    def repeats(self, call: ToolCall) -> int:
        """How many times in a row, up to and with the last message, this very call has been made."""
        same = digest(call.function.model_dump())
        calls = [one for message in self.messages for one in message.tool_calls or ()]
        count = 0
        for one in reversed(calls[: 1 + next(place for place, each in enumerate(calls) if each is call)]):
            if digest(one.function.model_dump()) != same:
                break
            count += 1
        return count

    def record(self) -> AttemptRecord:
        """The record, whatever state the attempt is in."""
        over = self.over or EpisodeOver("infra_error", "interrupted", "The attempt did not come to an end.")
        outcome, grade = over.outcome, over.grade
        scored = grade.score if grade else None
        reward = None if outcome in UNSCORED else scored if outcome == "graded" else 0.0
        task = self.task
        return AttemptRecord(
            id=self.episode_id or str(uuid4()),
            run_id=self.run_id,
            attempt=self.attempt,
            seed=self.seed,
            task=TaskRef(
                id=task.id,
                family=task.family,
                split=task.split,
                category=task.category,
                version=task.version,
                digest=task.digest(),
                cluster=task.cluster,
            ),
            agent=AgentRef(name="med-copilot", version=_version(), model=self.model, config_digest=self.config_digest),
            tools=self.tools,
            # A model may hang state of its own on its messages, which no record should keep alive.
            messages=tuple(one if type(one) is Message else Message(**one.model_dump()) for one in self.messages),
            calls=tuple(self.calls),
            outcome=outcome,
            reward=reward,
            grade=grade,
            submission=self.submission if outcome == "graded" else None,
            limits=self.config,
            timing=Timing(
                started=self.started,
                ended=now(),
                tool_s=round(self.tool_seconds, 6),
                model_s=round(self.model_seconds, 6),
            ),
            error=None if outcome == "graded" else ErrorRef(kind=over.kind or outcome, message=over.text[:2_000]),
            source="agent",
        )

    @property
    def config(self) -> dict[str, Any]:
        return {**asdict(self.limits), "temperature": self.temperature}

    @property
    def config_digest(self) -> str:
        return digest({"model": self.model, **self.config})


def _version() -> str:
    try:
        return version("med-copilot")
    except PackageNotFoundError:
        return "0+source"
