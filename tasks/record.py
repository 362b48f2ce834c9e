"""The native record of an attempt: one JSON line with all that training and statistics need; the event log beside it.

`record_from_events` is the one way a record is made, for a live episode and for one whose server was killed. It reads
these fields of the events of one episode (others are passed over):

    start   result: task (public JSON), problem (the text that start_task gave; else the task's), system_prompt, tools,
            limits, sandbox, agent {name, version, model, config_digest} | null, attempt, seed, data_digest
    call    tool, arguments          result   tool, result (the text that the agent saw, or JSON), seconds
    submit  arguments (as sent), result {kind, value}
    grade   result: a Grade
    end     result {outcome, error {kind, message} | null}
    amend   result: whichever of outcome, grade, error it replaces (null takes one away)

Messages come from `start`, `call` and `result` alone, so a grade can never be in them; calls of `start_task` are the
first two messages already and are passed over. An episode without an end is an `infra_error` (`server_died`), unless
its grade was reached: then the verdict stands, or killing the server would buy a second attempt.

Recovery after a server was killed comes to the same set of records however often it is interrupted itself: records
are on the disk before a log is sealed, and a record that is there already is never written again.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tasks.attempt import (
    SCHEMA,
    UNSCORED,
    AgentRef,
    AttemptRecord,
    ErrorRef,
    FunctionCall,
    Message,
    ModelCall,
    SubmissionRef,
    TaskRef,
    Timing,
    ToolCall,
    Usage,
)
from tasks.errors import DataError
from tasks.event_log import (
    GENESIS,
    EventKind,
    EventLog,
    LineFile,
    canonical,
    digest,
    now,
    plain,
    read_events,
    read_lines,
    seal_path,
    verify_log,
    write_seal,
)
from tasks.task import Grade, Outcome, Task

__all__ = [
    "SCHEMA",
    "AgentRef",
    "AttemptRecord",
    "ErrorRef",
    "EventKind",
    "EventLog",
    "FunctionCall",
    "Message",
    "ModelCall",
    "Outcome",
    "RecordWriter",
    "SubmissionRef",
    "TaskRef",
    "Timing",
    "ToolCall",
    "Usage",
    "canonical",
    "digest",
    "merged",
    "now",
    "plain",
    "read_events",
    "read_records",
    "record_from_events",
    "recover",
    "verify_log",
]


_CLOSING = ("outcome", "grade", "error")
_TOLD = ("server", "agent", "merged")
"""Sources of a record, from what says least of an attempt to what says most."""


class RecordWriter:
    """Writes <folder>/attempts-<utc>-<pid>-<hex>.jsonl, mode 0600. Every record is on the disk when `write` returns."""

    def __init__(self, folder: Path, prefix: str = "attempts") -> None:
        self._file = LineFile(folder, prefix)
        self.path = self._file.path

    def write(self, record: AttemptRecord) -> None:
        """Append one record. Raises OSError."""
        self._file.write(canonical(plain(record.model_dump(mode="python"))))
        self._file.sync()

    def close(self) -> None:
        self._file.close()


def read_records(paths: Iterable[Path]) -> Iterator[AttemptRecord]:
    """The records in files, or in folders of them, in order of name. A torn last line is passed over.

    Raises DataError naming the file and line of anything else that is not a record.
    """
    for path in paths:
        for file in sorted(path.glob("attempts-*.jsonl")) if path.is_dir() else [path]:
            for number, line, ended in read_lines(file):
                try:
                    yield AttemptRecord.model_validate(json.loads(line))
                except (ValueError, RecursionError) as error:
                    if ended:
                        text = _short(error) if isinstance(error, ValidationError) else "not JSON"
                        raise DataError(f"{file.name}, line {number}: is not a record of an attempt: {text}") from None


def merged(one: AttemptRecord, other: AttemptRecord) -> AttemptRecord:
    """One record of an episode from two of the same id, in whatever order they are given.

    It is the agent's, with the server's verdict (reward, grade, outcome, error) where the agent was told none. That
    the agent's model or connection failed stands, unless the server had graded the episode: it saw the agent leave,
    not why.
    """
    told, seen = sorted((one, other), key=lambda record: (_TOLD.index(record.source), len(record.calls)), reverse=True)
    if told.reward is not None or told.source == "server" or seen.source != "server":
        return told
    if told.outcome in UNSCORED and seen.grade is None:
        return told
    verdict = {name: getattr(seen, name) for name in ("reward", "grade", "outcome", "error")}
    return told.model_copy(update={**verdict, "source": "merged"})


def record_from_events(events: Iterable[dict[str, Any]]) -> AttemptRecord:
    """The record of one episode from its events, in their order. Raises DataError when there is no start among them."""
    state = _Episode()
    for event in events:
        state.take(event)
    return state.record()


def recover(folder: Path) -> list[AttemptRecord]:
    """Write the records that servers which are gone could not write, exactly once, and return them.

    For each event log whose writer is gone (it holds no lock): every episode that has a start and no record in
    `folder`, to <folder>/attempts-recovered-*.jsonl. The log is then sealed. Logs of live servers are left alone.
    """
    if not folder.is_dir():
        return []
    done: list[AttemptRecord] = []
    with _alone(folder):
        known: set[str] | None = None
        for log in sorted(folder.glob("events-*.jsonl")):
            with _abandoned(log) as abandoned:
                if abandoned:
                    known = _recorded(folder) if known is None else known
                    records, events, last = _missing(log, known)
                    _write(folder, records)
                    write_seal(log, events, last, recovered=True)
                    done += records
    return done


def _missing(log: Path, known: set[str]) -> tuple[list[AttemptRecord], int, str]:
    """The records that are missing, the number of the last whole event, and its hash. Adds to `known`."""
    episodes: dict[str, list[dict[str, Any]]] = {}
    seq, last = 0, GENESIS
    for event in read_events(log):
        seq, last = event["seq"], event["hash"]
        episode = event["episode"]
        if isinstance(episode, str) and episode not in known and (event["kind"] == "start" or episode in episodes):
            episodes.setdefault(episode, []).append(event)
    records = []
    for events in episodes.values():
        # A line that was tampered with must not keep a server from starting: `log verify` tells of it.
        try:
            records.append(record_from_events(events))
        except (DataError, ValidationError, KeyError, TypeError):
            continue
    known.update(record.id for record in records)
    return records, seq, last


def _write(folder: Path, records: list[AttemptRecord]) -> None:
    if records:
        writer = RecordWriter(folder, "attempts-recovered")
        try:
            for record in records:
                writer.write(record)
        finally:
            writer.close()


def _recorded(folder: Path) -> set[str]:
    """The ids of all records in the folder."""
    found: set[str] = set()
    for file in folder.glob("attempts-*.jsonl"):
        for _, line, ended in read_lines(file):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if ended and isinstance(record, dict) and isinstance(record.get("id"), str):
                found.add(record["id"])
    return found


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One recovery at a time in a folder, whatever the process."""
    fd = os.open(folder / ".recover.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextmanager
def _abandoned(log: Path) -> Iterator[bool]:
    """Whether the log's writer is gone and nobody has sealed the log since."""
    if seal_path(log).exists():
        yield False
        return
    fd = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # The writer may have sealed and closed the log since the first look.
        yield _locked(fd) and not seal_path(log).exists()
    finally:
        os.close(fd)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _Episode:
    """The state of an episode while its events are read."""

    def __init__(self) -> None:
        self.start: dict[str, Any] | None = None
        self.last: dict[str, Any] = {}
        self.messages: list[Message] = []
        self.open: list[tuple[str, str]] = []
        """Calls without a result so far, as (tool, id)."""
        self.calls = 0
        self.tool_seconds = 0.0
        self.submission: SubmissionRef | None = None
        self.ended = False
        self.fields: dict[str, Any] = {}

    def take(self, event: dict[str, Any]) -> None:
        result = event.get("result")
        match event["kind"]:
            case "start" if self.start is None and isinstance(result, dict):
                self.start = event
                text = result.get("problem") or result["task"]["problem"]
                if prompt := result.get("system_prompt"):
                    self.messages.append(Message(role="system", content=prompt))
                self.messages.append(Message(role="user", content=_text(text)))
            case "call" if event.get("tool") != "start_task":
                self._call(event)
            case "result" if event.get("tool") != "start_task":
                self.tool_seconds += event.get("seconds") or 0.0
                self._result(event, result)
            case "submit" if isinstance(result, dict):
                kind, value = result.get("kind", "value"), plain(result.get("value"))
                self.submission = SubmissionRef(kind=kind, value=value, digest=digest(value))
            case "grade" if isinstance(result, dict):
                self.fields |= {"grade": result}
            case "end":
                self.ended = True
                self.fields |= _known(result)
            case "amend" if isinstance(result, dict):
                self.fields |= {name: result[name] for name in _CLOSING if name in result}
        self.last = event

    def _call(self, event: dict[str, Any]) -> None:
        self.calls += 1
        name, number = str(event.get("tool")), f"call_{self.calls}"
        arguments = event.get("arguments")
        if not isinstance(arguments, dict):
            arguments = {} if arguments is None else {"arguments": arguments}
        call = FunctionCall(name=name, arguments=arguments)
        self.messages.append(Message(role="assistant", content=None, tool_calls=(ToolCall(id=number, function=call),)))
        self.open.append((name, number))

    def _result(self, event: dict[str, Any], result: Any) -> None:
        name = str(event.get("tool"))
        found = next((call for call in self.open if call[0] == name), None)
        if found is not None:
            self.open.remove(found)
            self.messages.append(Message(role="tool", content=_text(result), tool_call_id=found[1], name=name))

    def record(self) -> AttemptRecord:
        if self.start is None:
            raise DataError("The events hold no start of an episode.")
        given: dict[str, Any] = self.start["result"]
        task = Task.model_validate(given["task"])
        grade, error = self.fields.get("grade"), self.fields.get("error")
        outcome: Any = self.fields.get("outcome")
        if outcome is None:
            outcome = "graded" if grade else "abandoned" if self.ended else "infra_error"
            if not self.ended and not grade:
                error = {"kind": "server_died", "message": "The server ended before the episode did."}
        scored = Grade.model_validate(grade) if grade else None
        reward = None if outcome in UNSCORED else scored.score if scored else 0.0
        return AttemptRecord(
            id=str(self.start["episode"]),
            run_id=self.start.get("run"),
            attempt=given.get("attempt") or 1,
            seed=given.get("seed"),
            task=TaskRef(
                id=task.id,
                family=task.family,
                split=task.split,
                category=task.category,
                version=task.version,
                digest=task.digest(),
                data_digest=given.get("data_digest"),
                cluster=task.cluster,
            ),
            agent=AgentRef.model_validate(given["agent"]) if given.get("agent") else None,
            tools=tuple(given.get("tools") or ()),
            messages=tuple(self.messages),
            outcome=outcome,
            reward=reward,
            grade=scored,
            submission=self.submission,
            limits=given.get("limits") or {},
            sandbox=given.get("sandbox"),
            timing=Timing(started=self.start["ts"], ended=self.last["ts"], tool_s=round(self.tool_seconds, 6)),
            error=ErrorRef.model_validate(error) if error else None,
        )


def _known(result: Any) -> dict[str, Any]:
    fields = result if isinstance(result, dict) else {}
    return {name: fields[name] for name in _CLOSING if fields.get(name) is not None}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _short(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}"[:300]
