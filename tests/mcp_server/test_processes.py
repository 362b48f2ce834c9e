"""A server in a process of its own: stdio, HTTP, signals, kill -9, and a start in a hostile folder."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters

from tasks.data import DataRoot
from tasks.record import read_records, recover, verify_log
from tests.mcp_server.calls import Calls
from tests.mcp_server.clinic import NUMBER, ROWS

PROJECT = Path(__file__).resolve().parents[2]
ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])
PATIENCE = 60.0


def command(root: DataRoot, logs: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "tests.mcp_server.served", str(root.path), str(logs), *more]


def wait_until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def descendants(pid: int) -> set[int]:
    """All processes below `pid`, as the host sees them."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parents[int(entry.name)] = int(fields[1])
    found: set[int] = set()
    rest = [pid]
    while rest:
        children = [child for child, parent in parents.items() if parent == rest[-1]]
        rest.pop()
        found.update(children)
        rest.extend(children)
    return found


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def alive(pids: set[int]) -> set[int]:
    left = set()
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                left.add(pid)
        except OSError:
            continue
    return left


class Raw:
    """A stdio server spoken to in raw lines, as no well-behaved client would."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process, self.number = process, 0

    def send(self, line: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self.process.stdout
        while True:
            message: dict[str, Any] = json.loads(self.process.stdout.readline())
            if "method" not in message:
                return message

    def ask(self, method: str, params: str) -> dict[str, Any]:
        """`params` is the text of the JSON, which may be no JSON that Python would write."""
        self.number += 1
        head = f'{{"jsonrpc":"2.0","id":{self.number},"method":"{method}","params":'
        self.send(head.encode() + params.encode("utf-8", "surrogatepass") + b"}")
        return self.receive()

    def call(self, tool: str, arguments: str) -> dict[str, Any]:
        answer = self.ask("tools/call", f'{{"name":"{tool}","arguments":{arguments}}}')
        result: dict[str, Any] = answer["result"]
        return result

    def start(self, task: str) -> str:
        return str(self.call("start_task", json.dumps({"task_id": task}))["structuredContent"]["episode_id"])


@contextmanager
def raw(root: DataRoot, logs: Path) -> Iterator[Raw]:
    process = subprocess.Popen(
        command(root, logs), cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    with process:
        try:
            speaker = Raw(process)
            speaker.ask(
                "initialize",
                '{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"raw","version":"1"}}',
            )
            speaker.send(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
            yield speaker
        finally:
            process.kill()


@pytest.mark.anyio
@ERAS
async def test_stdio(root: DataRoot, tmp_path: Path, mode: str) -> None:
    arguments = command(root, tmp_path)
    server = StdioServerParameters(command=arguments[0], args=arguments[1:], cwd=PROJECT)
    async with Client(server, mode=mode) as client:
        calls = Calls(client, tmp_path)
        episode = await calls.start(NUMBER)
        await calls.ok("execute_code", episode_id=episode, code="import sys\nprint('to stdout')\nanswer = 38.02")
        assert (await calls.ok("submit_answer", episode_id=episode, variable="answer"))["correct"]
        left = await calls.start(NUMBER)
        (process,) = [pid for pid in descendants(os.getpid()) if str(tmp_path) in command_line(pid)]
        children = {process, *descendants(process)}
    wait_until(lambda: not alive(children))
    assert {id: record.outcome for id, record in calls.records().items()} == {episode: "graded", left: "abandoned"}
    assert [verify_log(log) for log in tmp_path.glob("events-*.jsonl")] == [[]]


@contextmanager
def http(root: DataRoot, logs: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(command(root, logs, "http", str(port)), cwd=PROJECT) as process:

        def answers() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        try:
            wait_until(answers)
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.kill()


@pytest.mark.anyio
async def test_http_in_both_eras_and_across_connections(root: DataRoot, tmp_path: Path) -> None:
    with http(root, tmp_path) as (url, process):

        def health() -> Any:
            with urllib.request.urlopen(f"{url}/health", timeout=PATIENCE) as answer:
                return json.load(answer)

        assert (await anyio.to_thread.run_sync(health))["status"] == "ok"
        async with Client(f"{url}/mcp", mode="legacy") as client:
            episode = await Calls(client, tmp_path).start(NUMBER)
        async with Client(f"{url}/mcp", mode="auto") as client:
            calls = Calls(client, tmp_path)
            with anyio.move_on_after(0.5) as scope:
                await calls.ok("execute_code", episode_id=episode, code="import time; time.sleep(1.5); answer = 38.02")
            assert scope.cancelled_caught
        async with Client(f"{url}/mcp", mode="auto") as client:
            calls = Calls(client, tmp_path)
            assert (await calls.ok("submit_answer", episode_id=episode, variable="answer"))["correct"]
            left = await calls.start(ROWS)
            children = await anyio.to_thread.run_sync(descendants, process.pid)
            process.send_signal(signal.SIGTERM)
            await anyio.to_thread.run_sync(process.wait, PATIENCE)
        await anyio.to_thread.run_sync(wait_until, lambda: not alive(children))
    assert {one.id: one.outcome for one in read_records([tmp_path])} == {episode: "graded", left: "abandoned"}


@pytest.mark.anyio
async def test_a_start_in_a_folder_with_modules_of_our_names(root: DataRoot, tmp_path: Path) -> None:
    for name in ("tasks", "sandbox", "mcp_server", "mcp", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a module of the folder was imported')")
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "__init__.py").write_text("raise SystemExit('a module of the folder was imported')")
    server = StdioServerParameters(
        command=sys.executable,
        args=[str(PROJECT / "med_copilot.py"), "serve", "--data", str(root.path), "--logs", str(tmp_path / "logs")],
        env={"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]},
        cwd=tmp_path,
    )
    async with Client(server) as client:
        calls = Calls(client, tmp_path / "logs")
        assert (await calls.ok("list_tasks"))["total"] == 8


def test_only_loopback_is_served(root: DataRoot, tmp_path: Path) -> None:
    refused = subprocess.run(
        command(root, tmp_path, "http", "0", "0.0.0.0"), cwd=PROJECT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert refused.returncode == 2
    assert "not a loopback address" in refused.stderr


@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_where_the_sandbox_cannot_start_the_server_refuses(root: DataRoot, tmp_path: Path, transport: str) -> None:
    refused = subprocess.Popen(
        command(root, tmp_path, transport, "0", "cannot"),
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    with refused:
        assert refused.wait(PATIENCE) == 2
        assert refused.stderr
        assert b"no user namespaces here; allow them" in refused.stderr.read()


def test_raw_json_that_no_client_would_send(root: DataRoot, tmp_path: Path) -> None:
    with raw(root, tmp_path) as speaker:
        episode = speaker.start(ROWS)
        for answer, told in (
            ("NaN", "NaN"),
            ("[[Infinity, 1]]", "NaN"),
            ("1e999", "NaN"),
            ("[" * 60 + "]" * 60, "nested deeper"),
        ):
            refused = speaker.call("submit_answer", f'{{"episode_id":"{episode}","answer":{answer}}}')
            assert refused["isError"]
            assert told in refused["content"][0]["text"]
        speaker.send(b"\xff\xfe\x00 not json")
        speaker.send(b"[" * 100_000)
        speaker.send(b'{"jsonrpc":"2.0","id":1000,"method":"tools/call","params":{"name":"list_tasks",'
                     b'"arguments":{"query":"\xff\xfe"}}}')  # fmt: skip
        while speaker.receive().get("id") != 1000:
            pass
        done = speaker.call("execute_code", f'{{"episode_id":"{episode}","code":"1 + 1"}}')
        assert done["structuredContent"]["value"] == "2"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_is_killed_during_a_call(root: DataRoot, tmp_path: Path, number: signal.Signals) -> None:
    with raw(root, tmp_path) as speaker:
        finished, cut = speaker.start(NUMBER), speaker.start(ROWS)
        speaker.call("submit_answer", f'{{"episode_id":"{finished}","answer":38.02}}')
        speaker.call("execute_code", f'{{"episode_id":"{cut}","code":"before = 1"}}')
        slow = {"episode_id": cut, "code": "import time; time.sleep(30)"}
        params = json.dumps({"name": "execute_code", "arguments": slow})
        speaker.send(f'{{"jsonrpc":"2.0","id":99,"method":"tools/call","params":{params}}}'.encode())
        wait_until(lambda: "time.sleep(30)" in "".join(log.read_text() for log in tmp_path.glob("events-*.jsonl")))
        children = descendants(speaker.process.pid)
        assert children
        speaker.process.send_signal(number)
        speaker.process.wait(PATIENCE)
        wait_until(lambda: not alive(children))
    recover(tmp_path)
    records = {record.id: record for record in read_records([tmp_path])}
    assert records[finished].reward == 1.0
    expected = "abandoned" if number == signal.SIGTERM else "infra_error"
    assert (records[cut].outcome, len(records)) == (expected, 2)
    assert "before = 1" in records[cut].model_dump_json()
    assert [verify_log(log) for log in tmp_path.glob("events-*.jsonl")] == [[]]


def test_the_next_server_recovers_the_records_of_a_killed_one(root: DataRoot, tmp_path: Path) -> None:
    with raw(root, tmp_path) as speaker:
        episode = speaker.start(ROWS)
        speaker.process.kill()
        speaker.process.wait(PATIENCE)
    with raw(root, tmp_path):
        wait_until(lambda: [record for record in read_records([tmp_path]) if record.id == episode])
