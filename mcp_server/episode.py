"""One episode: its state, its sandbox session, and what its start says. The manager holds its lock during a call."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import anyio

from mcp_server.config import CODE_CHARACTERS, EpisodeLimits
from mcp_server.environment import Environment
from mcp_server.errors import Refused
from mcp_server.results import EpisodeState, LimitsInfo, Started
from sandbox.base import CodeError, Execution, Language, Session, SessionSpec
from sandbox.errors import SessionClosed
from tasks.answers import check_json, describe_form
from tasks.errors import AnswerError
from tasks.family import Family
from tasks.task import ALL_TOOLS, Outcome, Task, Truth

ENDING_TOOLS = ("submit_answer", "close_episode")
FREE_TOOLS = ("read_output", "close_episode")
"""Calls that use up no turn."""

_FRESH = "The sandbox session had ended; this is a fresh one: names, and files in /work, of earlier calls are gone."


@dataclass(frozen=True)
class End:
    """How an episode ends. `kind` and `message` say what went wrong, if anything did; they hold no truth."""

    outcome: Outcome
    kind: str | None = None
    message: str = ""

    def event(self) -> dict[str, Any]:
        error = {"kind": self.kind, "message": self.message} if self.kind else None
        return {"outcome": self.outcome, "error": error}


@dataclass(frozen=True)
class LastError:
    """The latest error of the agent's code, for debug_code."""

    error: CodeError
    language: Language
    code: str


@dataclass(eq=False)
class Episode:
    """One attempt at a task by one agent. `truth` is for grading alone."""

    id: str
    task: Task
    truth: Truth = field(repr=False)
    family: Family
    limits: EpisodeLimits
    environment: Environment = field(repr=False)
    caller: str | None = None
    session: Session | None = None
    turns: int = 0
    free: int = 0
    end: End | None = None
    last_error: LastError | None = None
    output_of: Literal["none", "latest", "lost"] = "none"
    lock: anyio.Lock = field(default_factory=anyio.Lock, repr=False)
    began: float = field(default_factory=time.monotonic)
    touched: float = field(default_factory=time.monotonic)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    note: str | None = None
    finishing: bool = False
    over: bool = False
    """Whether the record of its end is on the disk."""

    @property
    def turns_left(self) -> int:
        return max(0, self.limits.turns - self.turns)

    @property
    def wall_left(self) -> float:
        return self.began + self.limits.wall_seconds - time.monotonic()

    @property
    def idle(self) -> float:
        return time.monotonic() - self.touched

    def allow(self, tool: str) -> None:
        """Raises Refused for a tool that the task does not offer."""
        if tool in ALL_TOOLS and tool not in self.task.tools:
            offered = ", ".join((*self.task.tools, *ENDING_TOOLS))
            raise Refused(f"This task does not offer {tool}. It offers: {offered}.")

    async def open_session(self) -> Session:
        """The session; a fresh one (and `note` says so) when the last was ended by a limit."""
        if self.session is None or self.session.closed:
            if self.session is not None:
                self.note = _FRESH
                await self.session.close()
            source = self.task.dataset if self.task.data else None
            self.session = await self.environment.open(
                SessionSpec(source=source, database=self.task.database, limits=self.limits.session())
            )
        return self.session

    async def execute(
        self, code: str, language: Language, timeout: float | None = None, background: bool = False
    ) -> Execution:
        """Run code in the session and remember its error. Raises SandboxFailure, Refused."""
        session = await self.open_session()
        seconds = self.limits.call_seconds if timeout is None else min(timeout, self.limits.call_seconds)
        try:
            done = await session.execute(code, language=language, timeout=seconds, background=background)
        except SessionClosed:
            await session.close()
            raise Refused(
                "The sandbox session ended during this call. The next call gets a fresh one: variables, and files "
                "in /work, are gone."
            ) from None
        self.output_of = "latest" if done.status in ("ok", "error", "running") else "lost"
        if error := _error_of(done, language, seconds):
            self.last_error = LastError(error, language, code)
        if session.closed:
            self.say("The session was ended. The next call gets a fresh one: variables, and files in /work, are gone.")
        return done

    def say(self, text: str) -> None:
        """Add a remark to the result of the current call."""
        self.note = f"{self.note} {text}" if self.note else text

    def take_note(self) -> str | None:
        note, self.note = self.note, None
        return note

    def started_result(self) -> Started:
        """What start_task answers."""
        task, limits = self.task, self.limits
        return Started(
            episode_id=self.id,
            task_id=task.id,
            family=task.family,
            category=task.category,
            problem=task.problem,
            answer_form=describe_form(task.answer),
            data=task.data,
            tools=(*task.tools, *ENDING_TOOLS),
            limits=LimitsInfo(
                turns=limits.turns,
                call_seconds=limits.call_seconds,
                wall_seconds=limits.wall_seconds,
                idle_seconds=limits.ttl_seconds,
                output_characters=limits.output_characters,
            ),
            instructions=self.family.system_prompt,
            next=_next(task),
        )

    def state(self, busy: bool | None = None) -> EpisodeState:
        ends_by = self.started + timedelta(seconds=self.limits.wall_seconds)
        return EpisodeState(
            episode_id=self.id,
            task_id=self.task.id,
            state="ended" if self.over else "open",
            outcome=self.end.outcome if self.over and self.end else None,
            kind=self.end.kind if self.over and self.end else None,
            busy=self.lock.locked() if busy is None else busy,
            turns_used=self.turns,
            turns_left=self.turns_left,
            started=self.started.isoformat(timespec="seconds"),
            ends_by=None if self.over else ends_by.isoformat(timespec="seconds"),
        )


def _next(task: Task) -> str:
    look = [tool for tool in ("request_info", "execute_code", "run_terminal") if tool in task.tools]
    begin = f"Work with {', '.join(look)} (pass episode_id). " if look else ""
    return (
        f"{begin}Then call submit_answer once, with the answer as JSON, or with the name of a Python variable or of a "
        "file in /work that holds it. Only what is submitted is graded, never what is printed."
    )


def _error_of(done: Execution, language: Language, seconds: float) -> CodeError | None:
    """The error of a call, also where the session did not live to tell of it."""
    if done.error is not None and (language != "shell" or not done.stderr.text.strip()):
        return done.error
    match done.status:
        case "timeout":
            return CodeError("TimeoutError", f"the call was stopped after {seconds:g} s, the time limit of one call")
        case "memory":
            return CodeError("MemoryError", "the session was ended because it used more memory than it may")
        case "killed":
            return CodeError("ProcessKilled", "the session was ended from outside the code")
        case "error" if language == "shell":
            return CodeError("ShellError", done.stderr.text[-4_000:] or f"exit status {done.exit_code}")
    return None


def loggable(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments as they were sent, but for what is too large to keep."""
    kept: dict[str, Any] = {}
    for name, value in list(arguments.items())[:50]:
        if isinstance(value, str):
            cut = len(value) - CODE_CHARACTERS
            kept[name] = value if cut <= 0 else f"{value[:2_000]}... ({len(value):,} characters in all)"
            continue
        try:
            check_json(value)
        except AnswerError as error:
            kept[name] = f"(left out: {error})"
        else:
            kept[name] = value
    return kept
