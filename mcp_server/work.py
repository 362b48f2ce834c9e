"""What the tools do within an episode: each function is the work of one call, done while the episode's lock is held.

They return wire models and raise `Refused` for what the agent can mend. Truth is used in `submit` (and, where the
feedback policy is oracle, after an execution) for a verdict, and nothing of it but the verdict leaves.
"""

from functools import partial
from typing import Literal

import anyio.to_thread

from mcp_server.config import CODE_CHARACTERS, Feedback
from mcp_server.episode import End, Episode, LastError
from mcp_server.errors import Refused
from mcp_server.feedback import Diagnosis, explain, explain_text
from mcp_server.feedback_packages import lacks_package, remedy
from mcp_server.grading import Given, grade, read_submission, solves
from mcp_server.results import (
    DebugResult,
    ExecutionResult,
    InfoResult,
    OutputResult,
    SubmissionResult,
    execution_result,
    output_result,
)
from sandbox.base import Language, Stream
from sandbox.errors import SessionClosed
from tasks.catalog import Catalog
from tasks.errors import DataError
from tasks.record import EventLog
from tasks.task import Grade

InfoKind = Literal["tables", "columns", "values", "search"]

_NO_DATABASE = "This task has no database. Its files are listed by start_task; open them with execute_code."


class EpisodeWork:
    """The work of the calls of one server: its feedback policy and its log."""

    def __init__(self, feedback: Feedback, log: EventLog) -> None:
        self.feedback, self.log = feedback, log

    async def info(
        self, episode: Episode, kind: InfoKind, table: str, column: str, term: str, limit: int
    ) -> InfoResult:
        """Schema and values from the public catalogue. Raises TaskError naming the nearest table or column."""
        episode.allow("request_info")
        if episode.task.database is None:
            raise Refused(_NO_DATABASE)
        if kind in ("columns", "values") and not table:
            raise Refused(f"request_info of kind {kind} needs table; kind tables lists the tables.")
        if kind == "values" and not column:
            raise Refused("request_info of kind values needs column; kind columns lists the columns of a table.")
        if kind == "search" and not term:
            raise Refused("request_info of kind search needs term: the word or value to look for.")
        catalog = await episode.environment.catalog(episode.task.dataset)
        look = partial(_look, catalog, kind, table, column, term, limit)
        found = await anyio.to_thread.run_sync(look)
        return found.model_copy(update={"turns_left": episode.turns_left})

    async def execute(
        self, episode: Episode, code: str, language: Language, timeout: float | None, background: bool
    ) -> ExecutionResult:
        tool = "run_terminal" if language == "shell" else "execute_code"
        episode.allow(tool)
        return await self._run(episode, code, language, timeout, background)

    async def debug(self, episode: Episode, code: str, error: str, language: Language) -> DebugResult:
        """Explain the error of `code` (which is run), or the text `error`, or the latest error of the episode."""
        episode.allow("debug_code")
        execution: ExecutionResult | None = None
        if code and not error:
            episode.last_error = None
            execution = await self._run(episode, code, language, None, False)
            if episode.last_error is None:
                text = "The code ran without an error."
                execution = execution.model_copy(update={"note": None})
                return DebugResult(execution=execution, turns_left=episode.turns_left, note=text)
        if not error and episode.last_error is None:
            raise Refused(
                "There is no error to explain: no code of this episode has failed. Pass code to run it and explain "
                "what goes wrong, or error with the text of an error."
            )
        catalog = await _catalog(episode)
        offered = await episode.environment.offered()
        diagnose = partial(_diagnose, episode.last_error, code, error, language, catalog, offered)
        diagnosis = await anyio.to_thread.run_sync(diagnose)
        return DebugResult(
            diagnosis=diagnosis, execution=execution, turns_left=episode.turns_left, note=episode.take_note()
        )

    async def output(self, episode: Episode, stream: Stream, offset: int, limit: int, wait: float) -> OutputResult:
        episode.allow("read_output")
        if episode.output_of != "latest" or episode.session is None or episode.session.closed:
            raise Refused("There is no output to read: call execute_code or run_terminal first.")
        try:
            chunk = await episode.session.read_output(stream, offset, limit=limit, wait=wait)
        except SessionClosed:
            raise Refused("The sandbox session has ended, and its output with it: run the code again.") from None
        return output_result(stream, chunk, episode.turns_left)

    async def submit(self, episode: Episode, answer: Given | None, variable: str, file: str) -> SubmissionResult:
        """Grade and end the episode. Raises AnswerError, which does neither."""
        submission = await read_submission(episode, answer, variable, file)
        self.log.append("submit", episode=episode.id, tool="submit_answer", result=submission)
        self._graded(episode, verdict := await grade(episode, submission))
        shown = self.feedback != "none"
        return SubmissionResult(
            episode_id=episode.id,
            correct=verdict.correct if shown else None,
            score=verdict.score if shown else None,
            note="The episode has ended. list_tasks finds other tasks.",
        )

    async def _run(
        self, episode: Episode, code: str, language: Language, timeout: float | None, background: bool
    ) -> ExecutionResult:
        if len(code) > CODE_CHARACTERS:
            raise Refused(
                f"The {'command' if language == 'shell' else 'code'} has {len(code):,} characters; at most "
                f"{CODE_CHARACTERS:,} are accepted. Read data from /data instead of pasting them, or work in steps."
            )
        if not code.strip():
            raise Refused("There is nothing to run: the code is empty.")
        if language == "sql" and episode.task.database is None:
            raise Refused(_NO_DATABASE)
        if timeout is not None and timeout > episode.limits.call_seconds:
            episode.say(
                f"One call runs at most {episode.limits.call_seconds:g} s; use background=true for longer work."
            )
        done = await episode.execute(code, language, timeout, background)
        if lacks_package(done):
            episode.say(remedy(await episode.environment.offered()))
        solved = None
        if self.feedback == "oracle" and language == "python" and done.status == "ok":
            solved = await self._solved(episode)
        return execution_result(done, turns_left=episode.turns_left, note=episode.take_note(), solved=solved)

    async def _solved(self, episode: Episode) -> bool:
        verdict = await solves(episode)
        if verdict is None:
            return False
        submission = {"kind": "variable", "value": verdict[0]}
        self.log.append("submit", episode=episode.id, tool="execute_code", result=submission)
        self._graded(episode, verdict[1])
        episode.say("The variable answer is right: the episode has ended.")
        return True

    def _graded(self, episode: Episode, verdict: Grade) -> None:
        self.log.append("grade", episode=episode.id, result=verdict)
        episode.end = End("graded")


def _look(catalog: Catalog, kind: InfoKind, table: str, column: str, term: str, limit: int) -> InfoResult:
    match kind:
        case "tables":
            return InfoResult(kind=kind, tables=tuple(catalog.tables()), turns_left=0)
        case "columns":
            return InfoResult(kind=kind, columns=tuple(catalog.columns(table)), turns_left=0)
        case "values":
            return InfoResult(kind=kind, values=catalog.values(table, column, term or None, limit), turns_left=0)
        case "search":
            hits = tuple(catalog.search(term, limit))
            note = None if hits else "The term occurs in no value, and nothing is spelled like it. Try a part of it."
            return InfoResult(kind=kind, hits=hits, turns_left=0, note=note)


def _diagnose(
    last: LastError | None,
    code: str,
    error: str,
    language: Language,
    catalog: Catalog | None,
    offered: tuple[str, ...] | None,
) -> Diagnosis:
    if error:
        return explain_text(error, language=language, code=code or None, catalog=catalog, offered=offered)
    assert last is not None
    if last.language == "shell" and last.error.type == "ShellError":
        return explain_text(last.error.message, language="shell", code=last.code, catalog=catalog, offered=offered)
    return explain(last.error, language=last.language, code=last.code, catalog=catalog, offered=offered)


async def _catalog(episode: Episode) -> Catalog | None:
    if episode.task.database is None:
        return None
    try:
        return await episode.environment.catalog(episode.task.dataset)
    except DataError:
        return None
