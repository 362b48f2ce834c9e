"""Reading a submission and grading it, in the server's own process.

A submission comes as JSON, from a variable or from a file of the session; all are strict JSON, capped in size and
depth. Grading has its own time budget. An `AnswerError` is the agent's to mend; any other failure is ours.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal

import anyio

from mcp_server.config import ANSWER_BYTES
from mcp_server.episode import Episode
from mcp_server.errors import Refused
from sandbox.errors import SessionClosed, TransferError
from tasks.answers import check_json, loads_strict, parse_answer
from tasks.errors import AnswerError
from tasks.family import GradingContext
from tasks.task import (
    BooleanSpec,
    CodeSpec,
    DateSpec,
    DurationSpec,
    FhirSpec,
    Grade,
    IntegerSpec,
    NumberSpec,
    PredictionsSpec,
    RowsSpec,
    SetSpec,
    Submission,
    TextSpec,
)

_TYPED = (NumberSpec, IntegerSpec, DateSpec, DurationSpec, TextSpec, BooleanSpec, RowsSpec, SetSpec)
_STRUCTURED = (RowsSpec, SetSpec, DurationSpec, PredictionsSpec, FhirSpec)


class GradingFailed(Exception):
    """The grader did not come to a verdict: an infrastructure error, never a score."""


class CanarySeen(Exception):
    """The truth's canary was in something that came from the session or from the agent."""


@dataclass(frozen=True)
class Given:
    """An answer that was given; `Given(None)` is null, which differs from no answer."""

    value: Any


async def read_submission(episode: Episode, answer: Given | None, variable: str, file: str) -> Submission:
    """The submission, its form checked where the spec is typed.

    Raises Refused (not exactly one source, nothing there), AnswerError (not of the form), CanarySeen.
    """
    given = [name for name, has in (("answer", answer is not None), ("variable", variable), ("file", file)) if has]
    if len(given) != 1:
        raise Refused(
            f"submit_answer takes exactly one of answer, variable and file; {' and '.join(given) or 'none'} was given. "
            "answer is the JSON itself (null to abstain), variable the name of a Python variable, file a path in /work."
        )
    kind: Literal["value", "variable", "file"] = "value"
    if answer is not None:
        value = _as_sent(episode, answer.value)
    else:
        session = episode.session
        if session is None or session.closed:
            raise Refused("The sandbox session has ended, and with it its variables and files: make the answer again.")
        kind = "variable" if variable else "file"
        try:
            if variable:
                value = await session.read_variable(variable, max_bytes=ANSWER_BYTES)
            else:
                value = loads_strict(await session.read_file(file, max_bytes=ANSWER_BYTES))
        except SessionClosed:
            raise Refused("The sandbox session has ended: make the answer again.") from None
        except TransferError as error:
            raise Refused(f"{error} Submit the JSON itself as answer, or mend the {kind}.") from None
    check_json(value, max_bytes=ANSWER_BYTES)
    refuse_canary(value, episode)
    if isinstance(episode.task.answer, _TYPED):
        parse_answer(episode.task.answer, value)
    return Submission(kind=kind, value=value)


def _as_sent(episode: Episode, value: Any) -> Any:
    """Some clients send every argument as text: "[1, 2]" where a list is asked for is that list, and so is "null"."""
    spec = episode.task.answer
    if isinstance(value, str) and not isinstance(spec, TextSpec | CodeSpec):
        text = value.strip()
        if text == "null" and spec.abstain:
            return None
        if isinstance(spec, _STRUCTURED) and text[:1] in ("[", "{"):
            try:
                return loads_strict(text, max_bytes=ANSWER_BYTES)
            except AnswerError:
                return value
        if isinstance(spec, BooleanSpec) and text in ("true", "false"):
            return text == "true"
    return value


async def grade(episode: Episode, submission: Submission) -> Grade:
    """The verdict of the family. Raises AnswerError, and GradingFailed for whatever else went wrong."""
    context = GradingContext(open_session=episode.environment.open, session=episode.session)
    try:
        with anyio.fail_after(episode.limits.grade_seconds):
            return await episode.family.grade(episode.task, episode.truth, submission, context)
    except AnswerError:
        raise
    except Exception as error:
        raise GradingFailed(f"{type(error).__name__} in the grader of {episode.task.family}") from error


async def solves(episode: Episode) -> tuple[Any, Grade] | None:
    """The session's variable `answer` and its grade where there is one, it has the form, and it is right; else None."""
    if episode.session is None or episode.session.closed:
        return None
    try:
        value = await episode.session.read_variable("answer", max_bytes=ANSWER_BYTES)
        refuse_canary(value, episode)
        found = await grade(episode, Submission(kind="variable", value=value))
    except (AnswerError, TransferError, SessionClosed):
        return None
    return (value, found) if found.correct else None


def refuse_canary(value: Any, episode: Episode) -> None:
    """Raises CanarySeen when a text, or any text within a JSON value, holds the canary of the episode's truth."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if episode.truth.canary and episode.truth.canary in text:
        raise CanarySeen
