"""The hash chain: whatever was changed, removed, added or moved is found, and a crash is told apart from it."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.event_log import EventKind, EventLog, canonical, digest, plain, read_events, seal_path, verify_log

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT | st.integers(), inner, max_size=4),
    max_leaves=12,
)


def write_log(folder: Path, count: int = 6) -> Path:
    with EventLog(folder) as log:
        for number in range(count):
            log.append("call", episode="e1", tool="execute_code", arguments={"code": f"x = {number}"}, seconds=0.25)
    return log.path


def test_a_log_of_every_kind_verifies(tmp_path: Path) -> None:
    kinds: tuple[EventKind, ...] = ("open", "start", "call", "result", "submit", "grade", "end", "amend")
    with EventLog(tmp_path) as log:
        hashes = [log.append(kind, episode="e1", run="r1", tool="t", result={"n": 1}) for kind in kinds]
        log.sync()
        assert verify_log(log.path) == []
    assert verify_log(log.path) == []
    events = list(read_events(log.path))
    assert [event["hash"] for event in events] == hashes
    assert [event["kind"] for event in events] == list(kinds)
    assert [event["seq"] for event in events] == list(range(1, 9))
    assert events[0]["digests"] == {"result": digest({"n": 1})}
    assert events[1]["prev"] == events[0]["hash"]


def test_files_are_private_and_named_after_the_process(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    with EventLog(folder) as log:
        log.append("open")
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(seal_path(log.path).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert f"-{os.getpid()}-" in log.path.name
    assert sorted(folder.iterdir()) == sorted([log.path, seal_path(log.path)])


@settings(max_examples=80, deadline=None)
@given(st.lists(ANYTHING, min_size=1, max_size=5), ANY_TEXT)
def test_whatever_is_appended_stays_one_readable_line(values: list[Any], text: str) -> None:
    with TemporaryDirectory() as folder:
        with EventLog(Path(folder)) as log:
            for value in values:
                log.append("result", episode=text, tool=text, arguments=value, result={"text": text, "value": value})
        assert verify_log(log.path) == []
        raw = log.path.read_bytes()
        assert raw.count(b"\n") == len(values)
        assert raw.isascii()
        for line, value in zip(raw.splitlines(), values, strict=True):
            entry = json.loads(line)
            assert entry["arguments"] == plain(value)
            # Strict readers refuse a lone surrogate: none may be left.
            canonical_text = json.dumps(entry, ensure_ascii=False)
            assert canonical_text.encode("utf-8").decode("utf-8") == canonical_text


def test_what_is_not_json_becomes_text() -> None:
    assert plain({"a": float("nan"), 1: b"\xff", "s": "x\ud800y", "t": (1, {2})}) == {
        "a": "nan",
        "1": "\ufffd",
        "s": "x\ufffdy",
        "t": [1, [2]],
    }
    assert plain("\ud83d\ude00") == "\U0001f600"
    assert plain(1 << 5000).startswith("0x")
    deep: Any = 1
    for _ in range(3000):
        deep = [deep]
    assert b"nested too deeply" in canonical(plain(deep))


def _swap(lines: list[bytes], first: int, second: int) -> list[bytes]:
    lines = list(lines)
    lines[first], lines[second] = lines[second], lines[first]
    return lines


def _flip(lines: list[bytes], number: int, at: int, bit: int) -> list[bytes]:
    line = bytearray(lines[number])
    line[at % (len(line) - 1)] ^= 1 << bit
    return [*lines[:number], bytes(line), *lines[number + 1 :]]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_changed_removed_added_or_moved_line_is_found(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 6), "lines")
    some = st.integers(0, count - 1)
    with TemporaryDirectory() as folder:
        path = write_log(Path(folder), count)
        lines = path.read_bytes().splitlines(keepends=True)
        number = data.draw(some, "line")
        change = data.draw(st.sampled_from(["flip", "remove", "repeat", "swap", "cut the end", "blank", "forge"]))
        changed: Callable[[], list[bytes]] = {
            "flip": lambda: _flip(lines, number, data.draw(st.integers(0, 2000)), data.draw(st.integers(0, 7))),
            "remove": lambda: lines[:number] + lines[number + 1 :],
            "repeat": lambda: lines[: number + 1] + lines[number:],
            "swap": lambda: _swap(lines, number, data.draw(some.filter(lambda other: other != number))),
            "cut the end": lambda: lines[:number],
            "blank": lambda: [*lines[:number], b"\n", *lines[number:]],
            "forge": lambda: _forge(lines, number),
        }[change]
        path.write_bytes(b"".join(changed()))
        assert verify_log(path) != []


def _forge(lines: list[bytes], number: int) -> list[bytes]:
    """A line changed with its own hash made right again, the later lines left as they were."""
    entry = json.loads(lines[number])
    entry.pop("hash")
    entry["arguments"] = {"code": "forged"}
    entry["hash"] = digest(entry)
    return [*lines[:number], canonical(entry) + b"\n", *lines[number + 1 :]]


def test_problems_name_the_line(tmp_path: Path) -> None:
    path = write_log(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[2].replace(b"x = 2", b"x = 9"), *lines[3:]]))
    assert verify_log(path) == ["line 3: was changed"]
    path.write_bytes(b"".join(lines[:3] + lines[4:]))
    assert [problem.split(":")[0] for problem in verify_log(path)] == ["line 4", "line 4"]
    assert "was due" in verify_log(path)[1]
    path.write_bytes(b"".join(lines[:4]))
    assert verify_log(path) == [
        "the end is not the one that was sealed: 6 lines were sealed, the last here has number 4"
    ]


def test_a_torn_last_line_is_a_crash_not_tampering(tmp_path: Path) -> None:
    path = write_log(tmp_path)
    seal_path(path).unlink()
    raw = path.read_bytes()
    last = raw.rindex(b"\n", 0, len(raw) - 1) + 1
    for cut in (last + 1, last + 40, len(raw) - 1):
        path.write_bytes(raw[:cut])
        problems = verify_log(path)
        assert len(problems) == 1
        assert "line 6: the log was cut in the middle of its last line" in problems[0]
    assert len(list(read_events(path))) == 6
    path.write_bytes(raw[: last + 40])
    assert len(list(read_events(path))) == 5


def test_threads_share_one_chain(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        threads = [
            threading.Thread(target=lambda n=n: [log.append("call", episode=f"e{n}", tool="t") for _ in range(50)])
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert verify_log(log.path) == []
    assert len(list(read_events(log.path))) == 400


def test_the_events_of_an_episode_can_be_read_back_until_forgotten(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        log.append("open")
        log.append("start", episode="a", result={})
        log.append("start", episode="b", result={})
        log.append("call", episode="a", tool="execute_code", arguments={"code": "ü\ud800"})
        log.append("end", episode="a")
        assert [event["kind"] for event in log.events("a")] == ["start", "call", "end"]
        assert log.events("a") == [event for event in read_events(log.path) if event["episode"] == "a"]
        log.forget("a")
        assert log.events("a") == []
        assert [event["kind"] for event in log.events("b")] == ["start"]


def test_a_closed_log_takes_nothing_more(tmp_path: Path) -> None:
    path = write_log(tmp_path)
    log = EventLog(tmp_path)
    log.close()
    log.close()
    with pytest.raises(ValueError, match="is closed"):
        log.append("open")
    assert verify_log(path) == verify_log(log.path) == []


def test_a_line_that_does_not_fit_on_the_disk_is_taken_back(tmp_path: Path) -> None:
    script = """
import resource, signal, sys
from pathlib import Path
from tasks.event_log import EventLog, verify_log
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = EventLog(Path(sys.argv[1]))
log.append("open")
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
try:
    log.append("call", arguments="x" * 5000)
except OSError:
    print("refused")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.append("call", arguments="short")
log.close()
print(verify_log(log.path), len(log.path.read_bytes().splitlines()))
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["refused", "[] 2"]


def test_kill_9_loses_nothing_that_was_appended(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from tasks.event_log import EventLog
log = EventLog(Path(sys.argv[1]))
number = 0
while True:
    number += 1
    log.append("call", episode="e", tool="execute_code", arguments={"code": "x" * (number % 977)})
    print(number, flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    told = 0
    for line in child.stdout:
        told = int(line)
        if told >= 200:
            break
    child.send_signal(signal.SIGKILL)
    # What was told between the last look and the kill is in the pipe: each of these was appended before.
    told = max([told, *(int(line) for line in child.stdout if line.endswith("\n"))])
    child.wait()
    child.stdout.close()
    (path,) = tmp_path.glob("events-*.jsonl")
    assert len(list(read_events(path))) >= told
    assert all("cut in the middle" in problem for problem in verify_log(path))
