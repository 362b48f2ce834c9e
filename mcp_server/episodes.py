"""The episodes of a server: opening, calls one at a time, limits, ends, and the record of it all.

Every call runs in a task of the manager, not of the request: a client that leaves in the middle takes nothing with
it, the call ends, is logged, and frees the episode's lock. Every call and its result are in the event log before the
client sees the result; at the end of an episode its record is on the disk before the client hears of it.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

import anyio
import anyio.to_thread
from mcp.types import CallToolResult
from pydantic import BaseModel

from mcp_server.background import CLOSING, Background, Waiter
from mcp_server.config import AppConfig
from mcp_server.environment import Environment, LazyRegistry, Prepared
from mcp_server.episode import FREE_TOOLS, End, Episode, loggable
from mcp_server.errors import EpisodeBusy, EpisodeEnded, Refused, ToolError, UnknownEpisode
from mcp_server.grading import CanarySeen, GradingFailed, refuse_canary
from mcp_server.results import Closed, EpisodeState, Started, Turn, compact, dump, reply
from sandbox.base import Session
from sandbox.errors import SandboxError
from tasks.errors import AnswerError, DataMissing, TaskError
from tasks.record import EventLog, RecordWriter, record_from_events

logger = logging.getLogger(__name__)

Work = Callable[[Episode], Awaitable[BaseModel]]
T = TypeVar("T")

_REMEMBERED = 2_000
"""Ended episodes whose state is still told."""
_HARD_SECONDS = 180.0
"""Over and above every limit of a call: past it, the infrastructure has failed."""

_FAILED = (
    "The environment failed, not your code: this episode has ended without a score (infra_error). "
    "Call start_task to try the task again."
)
_VOIDED = (
    "This episode is void: what it gave out held a token of the truth store. It has ended without a score; the "
    "operator is told."
)


class EpisodeManager:
    """An async context manager; leaving it ends every episode (outcome `abandoned`) and the sandbox."""

    def __init__(self, config: AppConfig, registry: LazyRegistry | None = None) -> None:
        self.config = config
        self.environment = Environment(config, registry or LazyRegistry(config))
        self.schemas: dict[str, dict[str, Any]] = {}
        """OpenAI function schemas of the tools by name, for the records. The server sets them."""
        self._live: dict[str, Episode] = {}
        self._opening = 0
        self._ended: OrderedDict[str, tuple[str | None, EpisodeState]] = OrderedDict()
        self._background = Background()
        self._closed = False

    async def __aenter__(self) -> "EpisodeManager":
        self.log = EventLog(self.config.log_folder)
        self.records = RecordWriter(self.config.log_folder)
        named = self.config.sandbox if isinstance(self.config.sandbox, str) else "given"
        opened = {"limits": dump(self.config.limits), "feedback": self.config.feedback, "sandbox": named}
        self.log.append("open", result=opened)
        await self._background.__aenter__()
        for work in (self.environment.start, self._reap, self._recover):
            self._background.spawn(work)
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            await self._background.__aexit__(*exc)
        finally:
            with anyio.CancelScope(shield=True):
                await self.shutdown()

    async def shutdown(self) -> None:
        """End every episode and the sandbox, and close the logs. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for episode in list(self._live.values()):
            await self._finish(episode, End("abandoned", "server_closed", "The server was closed."), wait=True)
        await self.environment.close()
        self.records.close()
        self.log.close()

    # Episodes

    async def start(
        self,
        task_id: str,
        *,
        arguments: dict[str, Any] | None = None,
        agent: dict[str, Any] | None = None,
        caller: str | None = None,
    ) -> Started:
        """Open an episode. Raises ToolError with what to do instead."""
        given = arguments or {"task_id": task_id}
        return await self._run(partial(self._start, task_id, given, agent, caller))

    async def call(
        self, episode_id: str, tool: str, arguments: dict[str, Any], work: Work, *, caller: str | None = None
    ) -> CallToolResult:
        """Run `work` as one call of an episode, alone, logged, within the limits. Raises ToolError."""
        episode = self._find(episode_id, caller)
        return await self._run(partial(self._call, episode, tool, arguments, work))

    async def reject(self, episode_id: object, tool: str, arguments: dict[str, Any], text: str) -> None:
        """Note a call whose arguments were not of the tool's schema: it uses up a turn like any other."""

        async def refuse(_: Episode) -> BaseModel:
            raise Refused(text)

        if isinstance(episode_id, str) and episode_id in self._live:
            await self.call(episode_id, tool, arguments, refuse)

    def states(self, caller: str | None = None) -> list[EpisodeState]:
        """The caller's episodes: the open ones, oldest first, then up to 20 that ended last."""
        states = [episode.state() for episode in self._live.values() if episode.caller == caller]
        return states + [state for owner, state in reversed(self._ended.values()) if owner == caller][:20]

    def state(self, episode_id: str, caller: str | None = None) -> tuple[EpisodeState, list[dict[str, Any]]]:
        """Where an episode stands, and its messages while it is open. Raises UnknownEpisode."""
        if (ended := self._ended.get(episode_id)) is not None and ended[0] == caller:
            return ended[1], []
        episode = self._find(episode_id, caller)
        record = record_from_events(self.log.events(episode.id))
        return episode.state(), [message.model_dump(mode="json") for message in record.messages]

    async def close_episode(self, episode: Episode) -> Closed:
        """The work of close_episode."""
        episode.end = End("abandoned")
        return Closed(
            episode_id=episode.id,
            outcome="abandoned",
            note="The episode has ended without a submission, which counts as a failed attempt.",
        )

    # Inside the manager's tasks

    async def _run(self, work: Callable[[Waiter[T]], Awaitable[T]]) -> T:
        if self._closed:
            raise Refused(CLOSING)
        return await self._background.run(work)

    async def _start(
        self,
        task_id: str,
        arguments: dict[str, Any],
        agent: dict[str, Any] | None,
        caller: str | None,
        waiter: Waiter[Started],
    ) -> Started:
        try:
            prepared = await self.environment.prepare(task_id)
        except TaskError as error:
            raise Refused(f"{_sentence(error)} list_tasks finds tasks.") from None
        if len(self._live) + self._opening >= self.config.limits.max_episodes:
            raise Refused(
                f"{self.config.limits.max_episodes} episodes are open, which is the limit of this server. End one "
                "with submit_answer or close_episode (list_episodes shows yours), then call start_task again."
            )
        self._opening += 1
        try:
            return await self._open(prepared, arguments, agent, caller, waiter)
        finally:
            self._opening -= 1

    async def _open(
        self,
        prepared: Prepared,
        arguments: dict[str, Any],
        agent: dict[str, Any] | None,
        caller: str | None,
        waiter: Waiter[Started],
    ) -> Started:
        task, missing = prepared.task, prepared.missing
        level = await self.environment.level()
        self.environment.refuse_restricted(level, prepared)
        episode = Episode(
            id=str(uuid4()),
            task=task,
            truth=prepared.truth,
            family=prepared.family,
            limits=self.config.limits,
            environment=self.environment,
            caller=caller,
        )
        started = episode.started_result()
        offered = [self.schemas[name] for name in started.tools if name in self.schemas]
        self.log.append(
            "start",
            episode=episode.id,
            tool="start_task",
            arguments=arguments,
            result={
                "task": dump(task),
                "problem": compact(started.model_dump(mode="json", exclude={"instructions"})),
                "system_prompt": episode.family.system_prompt,
                "tools": offered,
                "limits": dump(self.config.limits),
                "agent": agent,
                "feedback": self.config.feedback,
                "sandbox": level,
                "caller": caller,
                "data_digest": prepared.data_digest,
            },
        )
        self._live[episode.id] = episode
        async with episode.lock:
            try:
                if missing is not None:
                    raise DataMissing(missing)
                await episode.open_session()
            except DataMissing as error:
                await self._finish(episode, End("data_missing", "data_missing", str(error)))
                raise Refused(
                    f"The data of this task are not here: {_sentence(error)} list_tasks finds others."
                ) from None
            except Exception as error:
                await self._finish(episode, End("infra_error", type(error).__name__, str(error)))
                raise (error if isinstance(error, ToolError) else Refused(f"{_FAILED} ({error})")) from None
            if waiter.left:
                await self._finish(episode, End("abandoned", "client_left", "The client left during start_task."))
        episode.touched = time.monotonic()
        return started

    async def _call(
        self, episode: Episode, tool: str, arguments: dict[str, Any], work: Work, waiter: Waiter[CallToolResult]
    ) -> CallToolResult:
        acquired = False
        with anyio.move_on_after(self.config.limits.lock_seconds):
            await episode.lock.acquire()
            acquired = True
        if not acquired:
            raise EpisodeBusy
        try:
            if waiter.left:
                raise Refused("The client left before the call began.")
            text, is_error = await self._locked(episode, tool, arguments, work)
            if waiter.left:
                note = {"note": "The client left during this call, which went on to its end."}
                self.log.append("amend", episode=episode.id, tool=tool, result=note)
        finally:
            episode.lock.release()
            episode.touched = time.monotonic()
        if is_error:
            raise Refused(text)
        return reply(text)

    async def _locked(self, episode: Episode, tool: str, arguments: dict[str, Any], work: Work) -> tuple[str, bool]:
        """The text that the agent reads, and whether it is an error. Logs the call, and the end where there is one."""
        if episode.end is not None:
            raise EpisodeEnded(_how(episode.end))
        if episode.wall_left <= 0:
            await self._finish(episode, End("limit", "wall_seconds", "The time of the episode was up."))
            raise EpisodeEnded(_how(End("limit", "wall_seconds")))
        self._count(episode, tool)
        began = time.perf_counter()
        self.log.append("call", episode=episode.id, tool=tool, arguments=loggable(arguments))
        text, is_error = await self._work(episode, work)
        seconds = time.perf_counter() - began
        self.log.append("result", episode=episode.id, tool=tool, result=text, seconds=seconds)
        if episode.end is not None:
            await self._finish(episode, episode.end)
        return text, is_error

    def _count(self, episode: Episode, tool: str) -> None:
        if tool not in FREE_TOOLS:
            episode.turns += 1
        elif episode.free >= episode.limits.free_calls and tool != "close_episode":
            raise Refused(f"read_output was called {episode.free} times, the limit. Go on with another tool.")
        else:
            episode.free += 1

    async def _work(self, episode: Episode, work: Work) -> tuple[str, bool]:
        """Do the work; an error becomes text. Sets `episode.end` where the episode is to end."""
        is_error = True
        try:
            with anyio.fail_after(_HARD_SECONDS):
                model = await work(episode)
            note = self._last_turn(episode)
            if note and isinstance(model, Turn):
                model = model.model_copy(update={"note": f"{model.note} {note}" if model.note else note})
            text, is_error = compact(dump(model)), False
            refuse_canary(text, episode)
        except CanarySeen:
            logger.error("Episode %s of %s is void: a canary was seen", episode.id, episode.task.id)
            text, is_error = _VOIDED, True
            episode.end = End("infra_error", "canary", "A canary was seen in what the episode gave out.")
        except (ToolError, TaskError) as error:
            text = str(error)
            if isinstance(error, AnswerError):
                text += " The episode goes on: call submit_answer again with the right form."
            if note := self._last_turn(episode):
                text = f"{text} {note}"
        except Exception as error:
            logger.exception("Episode %s of %s failed", episode.id, episode.task.id)
            text = _FAILED
            # The text of a grader's error may hold the truth; that of the sandbox cannot.
            told = str(error) if isinstance(error, SandboxError | GradingFailed) else type(error).__name__
            episode.end = End("infra_error", type(error).__name__, told[:2_000])
        return text, is_error

    def _last_turn(self, episode: Episode) -> str | None:
        """Ends the episode when its turns are used up; what to tell the agent of that."""
        if episode.end is None and episode.turns >= episode.limits.turns:
            episode.end = End("limit", "turns", f"All {episode.limits.turns} turns were used without an answer.")
            return f"That was the last of {episode.limits.turns} turns: the episode has ended without an answer."
        if episode.end is None and episode.turns_left == 1:
            return "One turn is left: use it for submit_answer."
        return None

    async def _finish(self, episode: Episode, end: End, *, wait: bool = False) -> None:
        """End an episode once: log, record, then free its session (beside the answer, unless `wait`)."""
        if episode.finishing:
            return
        episode.finishing, episode.end = True, end
        with anyio.CancelScope(shield=True):
            try:
                self.log.append("end", episode=episode.id, result=end.event())
            except OSError:
                logger.exception("The end of episode %s could not be logged", episode.id)
            await anyio.to_thread.run_sync(self._write_record, episode.id)
            episode.over = True
            self._live.pop(episode.id, None)
            self._ended[episode.id] = (episode.caller, episode.state(busy=False))
            while len(self._ended) > _REMEMBERED:
                self._ended.popitem(last=False)
            if episode.session is not None:
                if wait:
                    await self._free(episode.session)
                else:
                    self._background.spawn(partial(self._free, episode.session))

    async def _free(self, session: Session) -> None:
        try:
            await session.close()
        except Exception:
            logger.exception("A session could not be closed")

    def _write_record(self, episode_id: str) -> None:
        try:
            self.log.sync()
            self.records.write(record_from_events(self.log.events(episode_id)))
            self.log.forget(episode_id)
        except Exception:
            # The events are in the log: `recover` makes the record when this server is gone.
            logger.exception("The record of episode %s could not be written", episode_id)

    def _find(self, episode_id: str, caller: str | None) -> Episode:
        if (episode := self._live.get(episode_id)) is not None and episode.caller == caller:
            return episode
        if (ended := self._ended.get(episode_id)) is not None and ended[0] == caller:
            raise EpisodeEnded(ended[1].outcome or "ended")
        raise UnknownEpisode

    # In the background

    async def _reap(self) -> None:
        """End what is past its time. A call in progress is never cut: it has limits of its own."""
        while True:
            await anyio.sleep(self.config.reap_seconds)
            for episode in list(self._live.values()):
                if not episode.lock.locked() and (end := self._overdue(episode)):
                    try:
                        async with episode.lock:
                            await self._finish(episode, end)
                    except Exception:
                        logger.exception("Episode %s could not be ended", episode.id)

    def _overdue(self, episode: Episode) -> End | None:
        limits = episode.limits
        if episode.wall_left <= 0:
            return End("limit", "wall_seconds", f"The episode was open for {limits.wall_seconds:g} s.")
        if episode.idle > limits.ttl_seconds:
            return End("abandoned", "ttl_seconds", f"No call was made for {limits.ttl_seconds:g} s.")
        return None

    async def _recover(self) -> None:
        """Write the records that a killed server could not."""
        from tasks.record import recover

        try:
            await anyio.to_thread.run_sync(recover, self.config.log_folder)
        except Exception:
            logger.exception("Records of an earlier server could not be recovered")


def _sentence(error: Exception) -> str:
    return f"{str(error).rstrip().rstrip('.')}."


def _how(end: End) -> str:
    return f"{end.outcome}: {end.kind}" if end.kind else end.outcome
