"""The attempt record: what one line of the records says (the formats of exports are made from it)."""

from typing import Any, Literal

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from tasks.task import Frozen, Grade, Outcome

SCHEMA: Literal["med-copilot.attempt/1"] = "med-copilot.attempt/1"
UNSCORED: tuple[Outcome, ...] = ("infra_error", "data_missing")
"""Outcomes whose reward is null: they say nothing about the agent."""


class TaskRef(Frozen):
    """Which task, and which exact data: `digest` is of the public task, `data_digest` of the dataset's files."""

    id: str
    family: str
    split: str
    category: str
    version: str
    digest: str
    data_digest: str | None = None
    cluster: str


class AgentRef(Frozen):
    """Who acted, as far as it said so."""

    name: str
    version: str | None = None
    model: str | None = None
    config_digest: str | None = None


class FunctionCall(Frozen):
    """`arguments` is an object, not a text: what trainers and ATIF want."""

    name: str
    arguments: dict[str, Any]


class ToolCall(Frozen):
    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(Frozen):
    """One turn. Fields that do not apply are left out of the JSON."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None
    reasoning_content: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    tool_call_id: str | None = None
    name: str | None = None

    @model_serializer(mode="wrap")
    def _dump(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        full: dict[str, Any] = handler(self)
        return {name: value for name, value in full.items() if value is not None or name in ("role", "content")}


class Usage(Frozen):
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None


class ModelCall(Frozen):
    """One call of the model, known only to the agent that made it; `message` is the index of what it produced."""

    message: int
    usage: Usage
    cost_usd: float | None = None
    finish_reason: str | None = None
    seconds: float | None = None
    prompt_token_ids: tuple[int, ...] | None = None
    completion_token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None


class SubmissionRef(Frozen):
    """What was handed in; `digest` is the sha256 of the canonical JSON of `value`."""

    kind: Literal["value", "variable", "file"]
    value: Any
    digest: str


class Timing(Frozen):
    """`started` and `ended` are UTC; `tool_s` is the time inside tools, `model_s` inside the model if known."""

    started: str
    ended: str
    tool_s: float
    model_s: float | None = None


class ErrorRef(Frozen):
    kind: str
    message: str


class AttemptRecord(Frozen):
    """One attempt at one task. `reward` is the grade's score, null for outcomes that say nothing about the agent."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True)

    schema_: Literal["med-copilot.attempt/1"] = Field(default=SCHEMA, alias="schema")
    id: str
    run_id: str | None = None
    attempt: int = 1
    seed: int | None = None
    task: TaskRef
    agent: AgentRef | None = None
    tools: tuple[dict[str, Any], ...] = ()
    messages: tuple[Message, ...]
    calls: tuple[ModelCall, ...] = ()
    outcome: Outcome
    reward: float | None
    grade: Grade | None = None
    submission: SubmissionRef | None = None
    limits: dict[str, Any] = Field(default_factory=dict)
    sandbox: str | None = None
    """The level of isolation that the code ran at (`sandbox.choose`), where it is known."""
    timing: Timing
    error: ErrorRef | None = None
    source: Literal["server", "agent", "merged"] = "server"
