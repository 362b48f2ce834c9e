"""Thousands of malformed frames, cut anywhere, against a real session whose interpreter has been replaced.

The hostile code takes over the protocol's socket and answers each request with bytes that the test chose. Whatever they
are, a call ends with a result of the documented form or with a documented error, within bounds, and the server goes on.
"""

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox import reply
from sandbox.base import Chunk, Execution, Limits, SandboxConfig, SessionSpec
from sandbox.embedded.backend import EmbeddedSandbox
from sandbox.embedded.handle import EmbeddedSession
from sandbox.errors import SandboxFailure, SandboxUnavailable, SessionClosed, TransferError
from sandbox.session import _GRACE
from sandbox.wire import MAX_FRAME, Decoder, WireError, pack

LIMITS = Limits(call_seconds=20, output=500)
ID = "@ID@"
"""Stands for the number of the request, which the hostile code puts in."""
TAKE_OVER = r"""
import base64, os, re
def protocol():
    for fd in sorted(map(int, os.listdir("/proc/self/fd")), reverse=True):
        try:
            if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"): return fd
        except OSError: pass
channel = protocol()
def request():
    body, size = b"", int.from_bytes(os.read(channel, 4), "big")
    while len(body) < size: body += os.read(channel, size - len(body))
    return body
def put(data):
    while data: data = data[os.write(channel, data):]
import sys
at, number = sys._getframe(), None
while at and number is None:
    for value in list(at.f_locals.values()):
        if isinstance(value, dict) and "op" in value and "id" in value: number = value["id"]
    at = at.f_back
empty = '{"text": "", "truncated": false, "total_chars": 0}'
first = '{"id": %d, "status": "ok", "stdout": %s, "stderr": %s}' % (number, empty, empty)
put(len(first).to_bytes(4, "big") + first.encode())
while True:
    body = request()
    number = re.search(rb'"id":(\d+)', body)[1]
    plan = re.search(rb"<([A-Za-z0-9+/=,]*)>", body)[1]
    for part in plan.split(b","):
        whole = base64.b64decode(part)
        if whole[:1] == b"F":
            inner = whole[1:].replace(b'"@ID@"', number)
            whole = b"." + len(inner).to_bytes(4, "big") + inner
        put(whole[1:])
"""

texts = st.text(max_size=40)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.just(ID),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
streams = st.fixed_dictionaries(
    {"text": texts | st.just("x" * 3000), "truncated": st.booleans(), "total_chars": st.integers(-1, 1 << 54)}
)
likely = st.fixed_dictionaries(
    {"id": st.just(ID)},
    optional={
        "status": st.sampled_from(["ok", "error", "running", "timeout", "killed", "memory", 1, None]),
        "stdout": streams | values,
        "stderr": streams | values,
        "value": texts | values,
        "value_truncated": st.booleans() | values,
        "error": st.fixed_dictionaries(
            {"type": texts, "message": texts}, optional={"line": st.integers(), "names": values, "candidates": values}
        )
        | values,
        "exit_code": st.integers() | values,
        "json": st.sampled_from(["1", "[", "NaN", "1e999", '{"a":1,"a":2}', '"\\ud800"', "[" * 99]) | texts,
        "transfer_error": texts | values,
        "text": texts | st.just("x" * 3000),
        "offset": st.integers(-2, 5000),
        "next_offset": st.integers(-2, 5000),
        "total_chars": st.integers(-2, 5000),
        "done": st.booleans() | values,
    },
)
bodies = st.binary(max_size=60) | (values | likely).map(lambda value: json.dumps(value).encode())
framed = bodies.map(lambda body: b"F" + body)
lengths = st.integers(0, (1 << 32) - 1) | st.sampled_from([0, 1, 2, MAX_FRAME, MAX_FRAME + 1])
odd = st.tuples(lengths, bodies).map(lambda pair: b"R" + pair[0].to_bytes(4, "big") + pair[1])
raw = st.binary(max_size=40).map(lambda data: b"R" + data)
plans = st.lists(framed | framed | odd | raw, min_size=1, max_size=5)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


class Victim:
    """The server's side: a session that is opened anew whenever an answer has ended it."""

    def __init__(self, sandbox: EmbeddedSandbox) -> None:
        self.sandbox = sandbox
        self.session: EmbeddedSession | None = None

    async def call(self, kind: str, plan: list[bytes]) -> object:

        if self.session is None or self.session.closed:
            if self.session is not None:
                await self.session.close()
            self.session = await self.sandbox.open(SessionSpec(limits=LIMITS))
            assert (await self.session.execute(TAKE_OVER)).status == "ok"
        coded = f"<{','.join(base64.b64encode(part).decode() for part in plan)}>"
        if kind == "execute":
            return await self.session.execute(coded, timeout=0.15)
        if kind == "output":
            return await self.session.read_output(coded, 0, limit=100, wait=0.15 - _GRACE)  # type: ignore[arg-type]
        return await self.session.read_variable(coded, max_bytes=1000)


@pytest.fixture(scope="module")
def victim(loop: asyncio.AbstractEventLoop) -> Iterator[Victim]:
    sandbox = EmbeddedSandbox(SandboxConfig(packages=(), preload=(), pool=2))
    try:
        loop.run_until_complete(sandbox.start())
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    yield Victim(sandbox)
    loop.run_until_complete(sandbox.close())


def check(kind: str, answer: object) -> None:
    if kind == "execute":
        assert isinstance(answer, Execution)
        for output in (answer.stdout, answer.stderr):
            assert len(output.text) <= LIMITS.output
            assert output.total_chars >= len(output.text)
        assert len(answer.value or "") <= LIMITS.output
        if answer.error is not None:
            assert len(answer.error.traceback) <= LIMITS.output
        json.dumps([answer.stdout.text, answer.value, answer.error and answer.error.message]).encode()
    elif kind == "output":
        assert isinstance(answer, Chunk)
        assert len(answer.text) <= 100
        assert 0 <= answer.offset <= answer.next_offset <= answer.total_chars
    else:
        assert len(json.dumps(answer, allow_nan=False, ensure_ascii=False)) <= 4000


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(kind=st.sampled_from(["execute", "execute", "output", "output", "variable"]), plan=plans)
def test_hostile_answers(victim: Victim, loop: asyncio.AbstractEventLoop, kind: str, plan: list[bytes]) -> None:
    try:
        answer = loop.run_until_complete(asyncio.wait_for(victim.call(kind, plan), 30))
    except (TransferError, SessionClosed):
        return
    check(kind, answer)


def test_the_server_goes_on(victim: Victim, loop: asyncio.AbstractEventLoop) -> None:

    async def honest() -> str | None:
        session = await victim.sandbox.open(SessionSpec())
        value = (await session.execute("6 * 7")).value
        await session.close()
        return value

    assert loop.run_until_complete(honest()) == "42"
    assert victim.sandbox._process is not None
    assert victim.sandbox._process.poll() is None


@settings(max_examples=1200, deadline=None, derandomize=True, database=None)
@given(parts=st.lists(framed | odd | raw, max_size=6), cuts=st.lists(st.integers(1, 9), max_size=40))
def test_decoder_takes_any_bytes(parts: list[bytes], cuts: list[int]) -> None:
    """It gives messages or one kind of error, and the same ones however the stream is cut."""
    data = b"".join((len(part) - 1).to_bytes(4, "big") + part[1:] if part[:1] == b"F" else part[1:] for part in parts)

    def decode(pieces: list[bytes]) -> tuple[list[dict[str, Any]], bool]:
        decoder, found = Decoder(), list[dict[str, Any]]()
        for piece in pieces:
            try:
                found += decoder.feed(piece)
            except WireError:
                return found, True
        return found, False

    pieces, rest = [], data
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    ones = [data[place : place + 1] for place in range(len(data))]
    in_pieces, in_ones = decode([*pieces, rest]), decode(ones)
    assert in_pieces[1] == in_ones[1] == decode([data])[1]
    assert repr(in_pieces[0]) == repr(in_ones[0][: len(in_pieces[0])])


@settings(max_examples=600, deadline=None, derandomize=True, database=None)
@given(message=likely | st.dictionaries(texts, values, max_size=5), limit=st.integers(0, 500))
def test_replies_take_any_message(message: dict[str, Any], limit: int) -> None:
    for kind, read in (
        ("execute", lambda: reply.execution(message, 0.1, LIMITS)),
        ("output", lambda: reply.chunk(message, min(limit, 100))),
        ("variable", lambda: reply.variable(message, 1000)),
    ):
        try:
            answer = read()
        except (SandboxFailure, TransferError):
            continue
        check(kind, answer)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(messages=st.lists(st.dictionaries(texts, st.none() | st.booleans() | st.integers(-99, 99) | texts), max_size=5))
def test_what_is_packed_is_decoded(messages: list[dict[str, Any]]) -> None:
    assert Decoder().feed(b"".join(map(pack, messages))) == messages
