"""Records: made from events alone, free of the grade's words, and recovered exactly once after a kill."""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import DataError
from tasks.event_log import seal_path
from tasks.record import (
    AttemptRecord,
    EventLog,
    ModelCall,
    RecordWriter,
    Usage,
    digest,
    merged,
    read_events,
    read_records,
    record_from_events,
    recover,
    verify_log,
)
from tasks.task import DataFile, Grade, IntegerSpec, Task

TASK = Task(
    id="demo/1",
    family="mimic_iii",
    dataset="demo",
    split="train",
    category="counts",
    cluster="template 4",
    problem="How many patients are there?",
    answer=IntegerSpec(),
    data=(DataFile(path="/data/demo.sqlite", kind="sqlite", description="Hospital.", open_with="db = ..."),),
    database="demo.sqlite",
)
TOOLS = [{"type": "function", "function": {"name": "execute_code", "parameters": {"type": "object"}}}]
GRADE = Grade(grader="rows", version="1", correct=True, score=1.0, detail="the truth is 31337")


def start(log: EventLog, episode: str, run: str | None = None) -> None:
    result = {
        "task": TASK.model_dump(mode="json"),
        "problem": "How many patients are there? Answer with an integer.",
        "system_prompt": "You are an analyst.",
        "tools": TOOLS,
        "limits": {"turns": 15},
        "agent": {"name": "test-client", "version": "2"},
        "attempt": 2,
        "seed": 7,
        "data_digest": "d" * 64,
    }
    log.append("start", episode=episode, run=run, tool="start_task", arguments={"task_id": TASK.id}, result=result)


def work(log: EventLog, episode: str, answer: int = 31336) -> None:
    log.append("call", episode=episode, tool="execute_code", arguments={"code": "print(1)", "language": "python"})
    log.append("result", episode=episode, tool="execute_code", result='{"stdout":"1"}', seconds=0.5)
    log.append("call", episode=episode, tool="submit_answer", arguments={"answer": answer})
    log.append("submit", episode=episode, arguments={"answer": answer}, result={"kind": "value", "value": answer})


def finish(log: EventLog, episode: str) -> None:
    log.append("grade", episode=episode, result=GRADE)
    log.append("result", episode=episode, tool="submit_answer", result={"accepted": True}, seconds=0.25)
    log.append("end", episode=episode, result={"outcome": "graded", "error": None})


def test_the_record_of_a_graded_episode(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        start(log, "e1", run="r1")
        work(log, "e1")
        finish(log, "e1")
        record = record_from_events(log.events("e1"))
    assert (record.id, record.run_id, record.attempt, record.seed) == ("e1", "r1", 2, 7)
    assert (record.outcome, record.reward, record.error, record.source) == ("graded", 1.0, None, "server")
    assert record.task.digest == TASK.digest()
    assert (record.task.cluster, record.task.data_digest) == ("template 4", "d" * 64)
    assert record.agent is not None
    assert record.agent.name == "test-client"
    assert record.grade == GRADE
    assert record.submission is not None
    assert (record.submission.value, record.submission.digest) == (31336, digest(31336))
    assert record.tools == tuple(TOOLS)
    assert record.timing.tool_s == 0.75
    assert record.timing.started < record.timing.ended
    assert record.model_dump(mode="json")["messages"] == [
        {"role": "system", "content": "You are an analyst."},
        {"role": "user", "content": "How many patients are there? Answer with an integer."},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "execute_code", "arguments": {"code": "print(1)", "language": "python"}},
                }
            ],
        },
        {"role": "tool", "content": '{"stdout":"1"}', "tool_call_id": "call_1", "name": "execute_code"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_2",
                    "type": "function",
                    "function": {"name": "submit_answer", "arguments": {"answer": 31336}},
                }
            ],
        },
        {"role": "tool", "content": '{"accepted":true}', "tool_call_id": "call_2", "name": "submit_answer"},
    ]


def test_messages_never_hold_the_grade(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        start(log, "e1")
        work(log, "e1")
        finish(log, "e1")
        record = record_from_events(log.events("e1"))
    assert "31337" in record.model_dump_json()
    assert "31337" not in json.dumps(record.model_dump(mode="json")["messages"])


@pytest.mark.parametrize(
    ("closing", "outcome", "reward"),
    [
        ({"outcome": "abandoned"}, "abandoned", 0.0),
        ({"outcome": "limit"}, "limit", 0.0),
        ({"outcome": "infra_error", "error": {"kind": "sandbox", "message": "gone"}}, "infra_error", None),
        ({"outcome": "data_missing"}, "data_missing", None),
    ],
)
def test_outcomes_without_a_grade(tmp_path: Path, closing: dict[str, Any], outcome: str, reward: float | None) -> None:
    with EventLog(tmp_path) as log:
        start(log, "e1")
        log.append("end", episode="e1", result=closing)
        record = record_from_events(log.events("e1"))
    assert (record.outcome, record.reward) == (outcome, reward)
    assert (record.error is not None) == ("error" in closing)


def test_an_amendment_replaces_the_verdict(tmp_path: Path) -> None:
    error = {"kind": "canary", "message": "A canary was seen."}
    with EventLog(tmp_path) as log:
        start(log, "e1")
        work(log, "e1")
        finish(log, "e1")
        log.append("amend", episode="e1", result={"outcome": "abandoned", "grade": None, "error": error})
        record = record_from_events(log.events("e1"))
    assert (record.outcome, record.reward, record.grade) == ("abandoned", 0.0, None)
    assert record.error is not None
    assert record.error.kind == "canary"


def test_no_start_no_record() -> None:
    with pytest.raises(DataError, match="no start"):
        record_from_events([])


def test_writer_and_reader_agree_and_a_torn_last_line_is_passed_over(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        start(log, "e1")
        log.append("call", episode="e1", tool="execute_code", arguments={"code": "a\ud800b"})
        log.append("result", episode="e1", tool="execute_code", result="c\udfffd\u2028e")
        log.append("end", episode="e1", result={"outcome": "limit"})
        record = record_from_events(log.events("e1"))
    writer = RecordWriter(tmp_path)
    for _ in range(3):
        writer.write(record)
    writer.close()
    assert stat.S_IMODE(writer.path.stat().st_mode) == 0o600
    raw = writer.path.read_bytes()
    assert raw.count(b"\n") == 3
    first = json.loads(raw.splitlines()[0])
    assert (first["schema"], first["reward"], first["error"]) == ("med-copilot.attempt/1", 0.0, None)
    assert first["messages"][2]["tool_calls"][0]["function"]["arguments"] == {"code": "a\ufffdb"}
    assert list(read_records([writer.path])) == [record] * 3
    assert list(read_records([tmp_path])) == [record] * 3
    for cut in (1, 100, len(raw) // 3 - 2):
        writer.path.write_bytes(raw[:-cut])
        assert list(read_records([writer.path])) in ([record] * 2, [record] * 3)
    writer.path.write_bytes(raw.replace(b'"outcome":"limit"', b'"outcome":"won"', 1))
    with pytest.raises(DataError, match="line 1: is not a record of an attempt: outcome"):
        list(read_records([writer.path]))


def test_a_live_log_and_a_closed_one_are_left_alone(tmp_path: Path) -> None:
    assert recover(tmp_path / "absent") == []
    with EventLog(tmp_path) as log:
        start(log, "e1")
        assert recover(tmp_path) == []
        log.append("end", episode="e1", result={"outcome": "abandoned"})
        log.forget("e1")
    assert seal_path(log.path).exists()
    assert recover(tmp_path) == []
    assert list(tmp_path.glob("attempts-*")) == []


def test_a_log_closed_with_a_record_not_written_is_recovered(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        start(log, "open")
        start(log, "unwritten")
        work(log, "unwritten")
        finish(log, "unwritten")
        start(log, "written")
        log.append("end", episode="written", result={"outcome": "limit"})
        writer = RecordWriter(tmp_path)
        writer.write(record_from_events(log.events("written")))
        writer.close()
        log.forget("written")
    assert outcomes(recover(tmp_path)) == {"open": ("infra_error", None), "unwritten": ("graded", 1.0)}
    assert verify_log(log.path) == []


def test_a_recovered_log_cannot_lose_lines_from_its_end(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        start(log, "e1")
        work(log, "e1")
    recover(tmp_path)
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(lines[:-1]))
    assert "sealed" in verify_log(log.path)[0]


CHILD = """
import sys, time
from pathlib import Path
from tests.tasks.test_record import finish, start, work
from tasks.record import EventLog, RecordWriter, record_from_events
folder = Path(sys.argv[1])
log, writer = EventLog(folder), RecordWriter(folder)
log.append("open", result={"server": "test"})
for episode in ("recorded", "unrecorded"):
    start(log, episode)
    work(log, episode)
    finish(log, episode)
    if episode == "recorded":
        writer.write(record_from_events(log.events(episode)))
start(log, "graded")
work(log, "graded")
log.append("grade", episode="graded", result={"grader": "rows", "version": "1", "correct": True, "score": 1.0})
start(log, "submitted", run="r9")
work(log, "submitted")
start(log, "idle")
log.append("call", episode="idle", tool="execute_code", arguments={"code": "while True: pass"})
print("ready", flush=True)
time.sleep(600)
"""


def killed_server(folder: Path) -> Path:
    """The folder of a server that was killed in the middle of five episodes and of a line; its log."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    assert recover(folder) == []
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    (log,) = folder.glob("events-*.jsonl")
    with log.open("ab") as file:
        file.write(b'{"arguments":{"code":"prin')
    return log


def outcomes(records: list[AttemptRecord]) -> dict[str, tuple[str, float | None]]:
    return {record.id: (record.outcome, record.reward) for record in records}


def test_kill_9_then_recovery_exactly_once(tmp_path: Path) -> None:
    log = killed_server(tmp_path)
    found = recover(tmp_path)
    assert outcomes(found) == {
        "unrecorded": ("graded", 1.0),
        "graded": ("graded", 1.0),
        "submitted": ("infra_error", None),
        "idle": ("infra_error", None),
    }
    by_id = {record.id: record for record in found}
    assert by_id["submitted"].error is not None
    assert by_id["submitted"].error.kind == "server_died"
    assert by_id["submitted"].submission is not None
    assert by_id["submitted"].run_id == "r9"
    assert by_id["idle"].messages[-1].tool_calls is not None
    assert recover(tmp_path) == []
    (file,) = tmp_path.glob("attempts-recovered-*.jsonl")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    everything = list(read_records([tmp_path]))
    assert len(everything) == 5
    assert len(outcomes(everything)) == 5
    assert len(verify_log(log)) == 1
    assert "cut in the middle" in verify_log(log)[0]
    # A record made again from the log is the same to the byte.
    again = [event for event in read_events(log) if event["episode"] == "submitted"]
    assert record_from_events(again) == by_id["submitted"]


def test_a_recovery_that_is_killed_is_finished_by_the_next(tmp_path: Path) -> None:
    log = killed_server(tmp_path)
    recover(tmp_path)
    (file,) = tmp_path.glob("attempts-recovered-*.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    # As if killed in the middle of the third record, before the seal.
    file.write_bytes(b"".join(lines[:2]) + lines[2][:50])
    seal_path(log).unlink()
    assert len(recover(tmp_path)) == 2
    assert len(outcomes(list(read_records([tmp_path])))) == len(list(read_records([tmp_path]))) == 5


def test_two_recoveries_at_once_write_each_record_once(tmp_path: Path) -> None:
    killed_server(tmp_path)
    script = "import sys; from pathlib import Path; from tasks.record import recover; recover(Path(sys.argv[1]))"
    children = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    assert len(list(read_records([tmp_path]))) == 5


def test_a_damaged_log_does_not_stop_recovery(tmp_path: Path) -> None:
    log = killed_server(tmp_path)
    lines = log.read_bytes().splitlines(keepends=True)
    lines[1] = os.urandom(30).replace(b"\n", b"") + b"\n"
    broken = next(n for n, line in enumerate(lines) if b'"kind":"start"' in line and b'"episode":"idle"' in line)
    lines[broken] = lines[broken].replace(b'"category"', b'"kategorie"')
    log.write_bytes(b"".join(lines))
    assert set(outcomes(recover(tmp_path))) == {"unrecorded", "graded", "submitted"}
    assert verify_log(log) != []


@pytest.mark.parametrize("called", [True, False])
@pytest.mark.parametrize(
    ("told", "seen", "outcome"),
    [
        # A model failed, and the agent closed the episode.
        (
            {"outcome": "infra_error", "reward": None, "grade": None},
            {"outcome": "abandoned", "reward": 0.0},
            "infra_error",
        ),
        # The connection was lost, or the verdict hidden, behind a submission.
        ({"outcome": "infra_error", "reward": None, "grade": None}, {"grade": GRADE}, "graded"),
        ({"outcome": "graded", "reward": None, "grade": None}, {"grade": GRADE}, "graded"),
        # What the agent was told stands.
        ({"outcome": "limit", "reward": 0.0, "grade": None}, {"outcome": "abandoned", "reward": 0.0}, "limit"),
    ],
)
def test_two_records_of_an_episode_are_one_in_either_order(
    tmp_path: Path, called: bool, told: dict[str, Any], seen: dict[str, Any], outcome: str
) -> None:
    with EventLog(tmp_path) as log:
        start(log, "e1")
        work(log, "e1")
        finish(log, "e1")
        graded = record_from_events(log.events("e1"))
    calls = (ModelCall(message=2, usage=Usage(prompt_tokens=1, completion_tokens=1)),) if called else ()
    agents = graded.model_copy(update={"source": "agent", "calls": calls, **told})
    servers = graded.model_copy(update={"grade": None, **seen})
    one = merged(agents, servers)
    assert one == merged(servers, agents) == merged(one, agents) == merged(servers, one)
    assert (one.outcome, one.calls) == (outcome, calls)
    assert one.reward == (1.0 if outcome == "graded" else told["reward"])
    assert one.source == ("merged" if outcome == "graded" else "agent")
