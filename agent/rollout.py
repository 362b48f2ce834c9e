"""Many attempts at many tasks: concurrent, with live progress, resumable after a kill.

The records are the checkpoint. An attempt whose record is on the disk is finished and is never made again; one whose
record says nothing about the agent (the server or the model failed, or the run was stopped) is made again, up to
`retries` times. Records of such failures stay in the files: readers take the last record of an attempt.

A server that dies takes the attempts under way with it, and nothing more: the rollout connects again and goes on.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from agent.client import Environment, connect
from agent.errors import EnvironmentLost, ModelRefused, RolloutError, ToolFailed
from agent.loop import Agent
from agent.models import Model
from agent.trajectory import AgentLimits
from tasks.attempt import UNSCORED, AttemptRecord
from tasks.errors import TaskError
from tasks.record import RecordWriter, merged, read_records

Players = Callable[[str, int], Model]
"""The model for an attempt, from the task's id and the number of the attempt (from 1)."""

Connect = Callable[[], AbstractAsyncContextManager[Environment]]

GREEDY, SAMPLED = 0.0, 0.6
"""The paper's temperatures: single attempts are greedy, rollouts sampled at 0.6."""

_LOST_IN_A_ROW = 3
_REFUSED_IN_A_ROW = 5
"""With no other outcome between; one more for each attempt that is under way beside it."""
_REFUSALS = {
    "ModelRefused": "The model cannot be asked",
    "ModelFailed": "The model cannot be asked",
    "start_task": "No episode can be started",
}
"""Kinds of failure that the next attempt will share."""
_SETTINGS = "rollout.json"


@dataclass(frozen=True)
class Settings:
    """What a rollout is; a folder of records holds one. Attempts and tasks may be added to it later, no more.

    `temperature` None is the schedule: the first attempt at a task is greedy, further ones are sampled at 0.6.
    `base_url` is of an endpoint, without anything that may be a key: it is written to the folder.
    """

    model: str
    seed: int = 0
    temperature: float | None = None
    scaffold: bool = False
    limits: AgentLimits = field(default_factory=AgentLimits)
    base_url: str | None = None

    def heat(self, attempt: int) -> float:
        """The temperature of an attempt, numbered from 1."""
        if self.temperature is not None:
            return self.temperature
        return GREEDY if attempt == 1 else SAMPLED

    def seed_of(self, task_id: str, attempt: int) -> int:
        """The seed of an attempt: of all random choices that the agent makes."""
        import zlib

        return zlib.crc32(f"{self.seed} {task_id} {attempt}".encode())


@dataclass
class Tally:
    """How a rollout stands. `score` is the mean reward of what was scored so far, None before."""

    total: int
    done: int = 0
    resumed: int = 0
    scored: int = 0
    reward: float = 0.0
    unscored: int = 0
    abandoned: int = 0
    limit: int = 0
    lost: int = 0
    """Attempts that failed through no fault of the agent, and were or will be made again."""

    @property
    def score(self) -> float | None:
        return self.reward / self.scored if self.scored else None

    def add(self, record: AttemptRecord) -> None:
        self.done += 1
        if record.reward is None:
            self.unscored += 1
        else:
            self.scored += 1
            self.reward += record.reward
        self.abandoned += record.outcome == "abandoned"
        self.limit += record.outcome == "limit"


Watch = Callable[[Tally], None]


class Rollout:
    """`attempts` attempts at each of `tasks` into the folder `out`. `run` may be called again after any failure."""

    def __init__(
        self,
        tasks: Sequence[str],
        attempts: int,
        players: Players,
        settings: Settings,
        out: Path,
        *,
        concurrency: int = 8,
        retries: int = 3,
        watch: Watch | None = None,
    ) -> None:
        self.settings, self.players, self.out = settings, players, out
        self.concurrency, self.retries = max(1, concurrency), retries
        self._watch = watch or (lambda tally: None)
        # All first attempts come before any second: a rollout that is stopped has seen as many tasks as it could.
        self._wanted = [(task, number) for number in range(1, attempts + 1) for task in dict.fromkeys(tasks)]
        self._begin()

    async def run(self, connect: Connect) -> Tally:
        """Make the attempts that are missing. Raises RolloutError when the folder holds another rollout, one that is
        under way or attempts at other data than the server's, when it cannot be written, when there is no such task,
        when the server cannot be reached, and when the model refuses."""
        self._begin()
        with _alone(self.out):
            _same_settings(self.out, self.settings)
            known = finished_attempts(self.out)
            finished = [known[key] for key in self._wanted if key in known]
            pending = [key for key in self._wanted if key not in known]
            self._watch(self.tally)
            with _writing(self.out):
                writer = RecordWriter(self.out) if pending else None
            try:
                await self._connected(connect, finished, pending, writer)
            finally:
                if writer is not None:
                    writer.close()
        return self.tally

    def records(self) -> list[AttemptRecord]:
        """The record of each attempt that was asked for, in that order. The folder may hold more."""
        found = {(record.task.id, record.attempt): record for record in last_records([self.out])}
        return [found[key] for key in self._wanted if key in found]

    def _begin(self) -> None:
        self.tally = Tally(len(self._wanted))
        self._tries: dict[tuple[str, int], int] = {}
        self._refused = 0

    async def _connected(
        self,
        connect: Connect,
        finished: list[AttemptRecord],
        pending: list[tuple[str, int]],
        writer: RecordWriter | None,
    ) -> None:
        lost = 0
        while finished or pending:
            before = self.tally.done
            try:
                async with connect() as environment:
                    await self._resume(environment, finished)
                    await self._work(environment, pending, writer)
            except* EnvironmentLost as group:
                lost = 1 if self.tally.done > before else lost + 1
                if lost >= _LOST_IN_A_ROW:
                    raise RolloutError(f"{_first(group)} ({lost} times in a row)") from group
                await anyio.sleep(0.2 * lost)
            except* (ToolFailed, RolloutError, TaskError) as group:
                raise RolloutError(_first(group)) from group

    async def _resume(self, environment: Environment, finished: list[AttemptRecord]) -> None:
        """Count what is finished, taking it out. Raises RolloutError where the server has another task by that id."""
        while finished:
            record = finished[-1]
            # Ids of generated tasks are the same for every seed of the data.
            if (await environment.task(record.task.id)).digest() != record.task.digest:
                raise RolloutError(
                    f"{self.out} holds attempts at other data: its {record.task.id} is another task than the server's. "
                    "Give another --out, or the same data."
                )
            self.tally.add(finished.pop())
            self.tally.resumed += 1
            self._watch(self.tally)

    async def _work(
        self, environment: Environment, pending: list[tuple[str, int]], writer: RecordWriter | None
    ) -> None:
        """Work on `pending`, taking out what is finished, until nothing is left or the environment is lost."""
        queue = iter(list(pending))

        async def worker() -> None:
            for key in queue:
                record = await self._attempt(environment, *key, writer)
                if self._finished(key, record):
                    pending.remove(key)
                    self.tally.add(record)
                else:
                    self.tally.lost += 1
                self._watch(self.tally)
                if record.error is not None and record.error.kind == "environment_lost":
                    raise EnvironmentLost(record.error.message)

        async with anyio.create_task_group() as group:
            for _ in range(min(self.concurrency, len(pending))):
                group.start_soon(worker)

    async def _attempt(
        self, environment: Environment, task_id: str, number: int, writer: RecordWriter | None
    ) -> AttemptRecord:
        def save(record: AttemptRecord) -> None:
            if writer is not None:
                with _writing(self.out):
                    writer.write(record)

        agent = Agent(environment, self.players(task_id, number), self.settings.limits)
        return await agent.attempt(
            task_id,
            number=number,
            temperature=self.settings.heat(number),
            seed=self.settings.seed_of(task_id, number),
            save=save,
        )

    def _finished(self, key: tuple[str, int], record: AttemptRecord) -> bool:
        """Whether an attempt needs no further try. Raises RolloutError where all others would fail likewise."""
        if record.outcome != "infra_error":
            self._refused = 0
            return True
        kind = record.error.kind if record.error else ""
        self._refused = self._refused + 1 if kind in _REFUSALS else 0
        if record.error and (
            kind == ModelRefused.__name__ or self._refused >= _REFUSED_IN_A_ROW + self.concurrency - 1
        ):
            raise RolloutError(f"{_REFUSALS[kind]}: {record.error.message}")
        self._tries[key] = self._tries.get(key, 0) + 1
        return self._tries[key] > self.retries


def finished_attempts(out: Path) -> dict[tuple[str, int], AttemptRecord]:
    """The attempts in a folder that say something about the agent, by task and number; the last record of each."""
    records = read_records([out]) if out.is_dir() else ()
    return {(record.task.id, record.attempt): record for record in records if record.outcome != "infra_error"}


def last_records(paths: Iterable[Path]) -> list[AttemptRecord]:
    """One record for each attempt: the last that says something about the agent, else the last.

    What the agent and the server recorded of one episode is one record (`tasks.record.merged`). Without the agent's,
    an episode that was given up for a failure of its model is an abandoned one: the server was not told why, for an
    agent that could say so would escape its failures.
    """
    episodes: dict[str, tuple[Path, AttemptRecord]] = {}
    for path in paths:
        # A rollout is a folder: not all that sets it apart from another is in its records (a scaffold, new weights).
        folder = (path if path.is_dir() else path.parent).resolve()
        for record in read_records([path]):
            known_folder, known = episodes.get(record.id, (folder, record))
            of_agent = known_folder if known.source != "server" else folder
            episodes[record.id] = of_agent, merged(known, record)
    found: dict[tuple[object, ...], AttemptRecord] = {}
    for folder, record in sorted(episodes.values(), key=lambda episode: episode[1].timing.started):
        key = _attempt_key(folder, record)
        known = found.get(key, record)
        if known.outcome in UNSCORED or record.outcome not in UNSCORED:
            found[key] = record
    return list(found.values())


def _attempt_key(folder: Path, record: AttemptRecord) -> tuple[object, ...]:
    """What the tries of one attempt have in common, and no other attempt has."""
    # The server numbers attempts for itself only in a run: without one, each of its records is an attempt.
    if record.source == "server" and record.run_id is None:
        return (record.id,)
    agent = record.agent
    who = (agent.model, agent.config_digest) if agent else None
    return (folder, record.run_id, who, record.seed, record.task.id, record.attempt)


def server(command: str | Sequence[str] | Any) -> Connect:
    """How to connect to a server: a URL, or a command line that is started anew for every connection."""
    return lambda: connect(command)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """One rollout at a time in a folder. Raises RolloutError."""
    with _writing(out):
        out.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(out / ".rollout.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RolloutError(f"Another rollout is writing to {out}.") from None
        yield
    finally:
        os.close(fd)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """What the operating system refuses is a RolloutError. Nothing else can mend it, so no try may follow."""
    try:
        yield
    except OSError as error:
        raise RolloutError(f"Records cannot be written to {out}: {error.strerror or error}.") from error


def _same_settings(out: Path, settings: Settings) -> None:
    """Refuse a folder that holds records of other settings. Raises RolloutError."""
    from dataclasses import asdict

    path, given = out / _SETTINGS, asdict(settings)
    if path.exists():
        try:
            known = json.loads(path.read_text())
        except ValueError:
            known = {}
        differing = sorted(name for name in {*given, *known} if given.get(name) != known.get(name))
        if differing:
            raise RolloutError(
                f"{out} holds a rollout with another {', '.join(differing)}. Give another --out, or the same settings."
            )
        return
    if any(out.glob("attempts-*.jsonl")):
        raise RolloutError(
            f"{out} holds records but no {_SETTINGS}, which says how they came. Give another --out, or put it back."
        )
    scratch = out / f".{_SETTINGS}"
    with _writing(out):
        scratch.write_text(json.dumps(given, indent=2) + "\n")
        scratch.replace(path)


def _first(group: BaseExceptionGroup[Any]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)
