"""What the tools return: wire models, and their one spelling on the wire.

Several hosts show a model only the text or only the structured content, so both carry the same data.
"""

import json
from typing import Any, Literal

from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel, Field

from mcp_server.feedback import Diagnosis
from sandbox.base import Chunk, CodeError, Execution, Output
from tasks.catalog import ColumnInfo, Hit, TableInfo, ValuePage
from tasks.task import DataFile, Frozen, Outcome

_MESSAGE = 2_000
_TRACEBACK = 6_000


def dump(model: BaseModel) -> dict[str, Any]:
    """The JSON of a result."""
    return model.model_dump(mode="json")


def compact(content: Any) -> str:
    """The text of a result."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    # A session's text may hold a lone surrogate, which UTF-8 cannot carry.
    return text.encode("utf-8", "replace").decode()


def reply(text: str) -> CallToolResult:
    """The answer of a tool, from the compact text of its result."""
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=json.loads(text))


class LimitsInfo(Frozen):
    """Limits of an episode: `turns` calls, seconds of one call, from start to end, and without any call."""

    turns: int
    call_seconds: float
    wall_seconds: float
    idle_seconds: float
    output_characters: int


class Started(Frozen):
    """An episode that has begun. `instructions` tell how tasks of this family are worked on."""

    episode_id: str
    task_id: str
    family: str
    category: str
    problem: str
    answer_form: str
    data: tuple[DataFile, ...]
    tools: tuple[str, ...]
    limits: LimitsInfo
    instructions: str
    next: str


class OutputText(Frozen):
    """One stream: head and tail of at most `limits.output_characters`; `total_chars` is its full length."""

    text: str = ""
    truncated: bool = False
    total_chars: int = 0


class ErrorInfo(Frozen):
    """An exception of the agent's code; `line` counts from 1 in the code that was sent."""

    type: str
    message: str
    line: int | None = None
    source: str | None = None
    traceback: str = ""


class Turn(Frozen):
    """What every result of a turn says: how many are left, and a remark where there is one."""

    turns_left: int
    note: str | None = None


class ExecutionResult(Turn):
    """What a call of execute_code or run_terminal did. `solved` is told only where the feedback policy is oracle."""

    status: Literal["ok", "error", "timeout", "memory", "killed", "running"]
    stdout: OutputText
    stderr: OutputText
    value: str | None = None
    value_truncated: bool = False
    error: ErrorInfo | None = None
    exit_code: int | None = None
    seconds: float
    solved: bool | None = None


class InfoResult(Turn):
    """What request_info found; only the field that belongs to `kind` is given."""

    kind: Literal["tables", "columns", "values", "search"]
    tables: tuple[TableInfo, ...] | None = None
    columns: tuple[ColumnInfo, ...] | None = None
    values: ValuePage | None = None
    hits: tuple[Hit, ...] | None = None


class DebugResult(Turn):
    """An explained error; `execution` is what the code did when debug_code ran it."""

    diagnosis: Diagnosis | None = None
    execution: ExecutionResult | None = None


class OutputResult(Turn):
    """A slice of an output. `next_offset` continues it; `done`: nothing more will come."""

    stream: Literal["stdout", "stderr"]
    text: str
    offset: int
    next_offset: int
    total_chars: int
    done: bool


class SubmissionResult(Frozen):
    """The end of an episode. `correct` and `score` are null where the feedback policy does not show the verdict."""

    episode_id: str
    accepted: bool = True
    correct: bool | None = None
    score: float | None = None
    note: str | None = None


class EpisodeState(Frozen):
    """Where an episode stands. Times are UTC; `ends_by` is when it ends at the latest. `kind`: which limit or failure
    ended it, if one did."""

    episode_id: str
    task_id: str
    state: Literal["open", "ended"]
    outcome: Outcome | None = None
    kind: str | None = None
    busy: bool = False
    turns_used: int
    turns_left: int
    started: str
    ends_by: str | None = None


class EpisodeList(Frozen):
    """Your episodes: those that are open, then those that ended last."""

    episodes: tuple[EpisodeState, ...] = Field(default=())


class Closed(Frozen):
    """An episode that was given up."""

    episode_id: str
    outcome: Outcome
    note: str


def error_info(error: CodeError) -> ErrorInfo:
    return ErrorInfo(
        type=error.type[:200],
        message=error.message[:_MESSAGE],
        line=error.line,
        source=None if error.source is None else error.source[:400],
        traceback=error.traceback[-_TRACEBACK:],
    )


def execution_result(
    done: Execution, *, turns_left: int, note: str | None = None, solved: bool | None = None
) -> ExecutionResult:
    return ExecutionResult(
        status=done.status,
        stdout=_stream(done.stdout),
        stderr=_stream(done.stderr),
        value=done.value,
        value_truncated=done.value_truncated,
        error=error_info(done.error) if done.error else None,
        exit_code=done.exit_code,
        seconds=round(done.seconds, 4),
        solved=solved,
        turns_left=turns_left,
        note=note,
    )


def output_result(stream: Literal["stdout", "stderr"], chunk: Chunk, turns_left: int) -> OutputResult:
    return OutputResult(
        stream=stream,
        text=chunk.text,
        offset=chunk.offset,
        next_offset=chunk.next_offset,
        total_chars=chunk.total_chars,
        done=chunk.done,
        turns_left=turns_left,
    )


def _stream(output: Output) -> OutputText:
    return OutputText(text=output.text, truncated=output.truncated, total_chars=output.total_chars)
