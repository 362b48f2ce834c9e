"""Parts of the services that need no session: that a hostile stream ends alone, is bounded, and holds nobody up."""

import asyncio
import socket
import struct
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import services
from sandbox.base import Limits, SandboxConfig
from sandbox.docker_engine import container
from sandbox.docker_engine.mux import CHUNK, CREDIT, DATA, END, OPEN, READY, RESET, WINDOW, Mux, MuxError
from sandbox.docker_engine.options import DockerOptions
from sandbox.docker_engine.services import Services
from sandbox.embedded.inside.ports import listen

pytestmark = pytest.mark.anyio
FRAMES = st.tuples(st.integers(0, 7), st.integers(0, 5), st.integers(0, 60), st.binary(max_size=60))


def frame(kind: int, number: int = 0, value: int = 0, data: bytes = b"") -> bytes:
    return struct.pack(">BII", kind, number, value) + data


def from_engine(data: bytes) -> bytes:
    return bytes([1, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


async def nowhere(_: bytes) -> None:
    await asyncio.sleep(3600)


async def never(_: int) -> socket.socket:
    await asyncio.sleep(3600)
    raise OSError


@settings(max_examples=200, deadline=None)
@given(st.lists(FRAMES, max_size=40), st.binary(max_size=40), st.lists(st.integers(1, 30)))
def test_frames_of_any_kind_are_bounded(
    frames: list[tuple[int, int, int, bytes]], garbage: bytes, cuts: list[int]
) -> None:
    whole = (
        b"".join(frame(k, n, len(d) if k == DATA else v, d if k == DATA else b"") for k, n, v, d in frames) + garbage
    )

    async def feed() -> None:
        mux, rest = Mux(nowhere, never, 3), whole
        with suppress(MuxError):
            for cut in [*cuts, len(whole)]:
                mux.feed(rest[:cut])
                rest = rest[cut:]
                await asyncio.sleep(0)
                assert len(mux._connections) <= 3
        await mux.close()
        await asyncio.sleep(0)
        assert mux._connections == {}
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(feed())


def full(number: int) -> Iterable[bytes]:
    return [frame(DATA, number, CHUNK, bytes(CHUNK))] * (WINDOW // CHUNK)


@pytest.mark.parametrize(
    ("before", "last"),
    [
        ([frame(OPEN, 1), frame(OPEN, 2)], frame(OPEN, 3)),
        ([frame(OPEN, 1)], frame(OPEN, 1)),
        ([frame(OPEN, 1), *full(1)], frame(DATA, 1, 1, b"x")),
        ([frame(OPEN, 1), frame(END, 1)], frame(DATA, 1, 1, b"x")),
        ([frame(OPEN, 1)], frame(CREDIT, 1, 1)),
        ([], frame(DATA, 1, CHUNK + 1)),
        ([], frame(6)),
    ],
    ids=["connections", "number", "window", "after its end", "credit", "length", "kind"],
)
async def test_what_an_honest_relay_does_not_send(before: list[bytes], last: bytes) -> None:
    mux = Mux(nowhere, never, 2)
    for one in before:
        mux.feed(one)
    with pytest.raises(MuxError):
        mux.feed(last)
    await mux.close()


async def test_a_relay_is_not_opened_to() -> None:
    mux = Mux(nowhere)
    with pytest.raises(MuxError):
        mux.feed(frame(OPEN, 1))
    await mux.close()


async def test_what_has_ended_is_forgotten() -> None:
    """Also a connection that ends in the same moment as it is opened, again and again."""
    mux = Mux(nowhere, never, 2)
    for number in range(100):
        mux.feed(frame(OPEN, number) + frame(RESET, number) + frame(DATA, number, 1, b"x"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert mux._connections == {}
    await mux.close()


@pytest.fixture
def stream() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    "bad",
    [b"\x07" * 100, from_engine(b"\x07" * 100), from_engine(frame(DATA, 1, 1 << 30)), b""],
    ids=["engine", "kind", "length", "end"],
)
async def test_a_stream_that_breaks_ends_its_connections_alone(
    stream: tuple[socket.socket, socket.socket], tmp_path: Path, bad: bytes
) -> None:
    came = list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]()
    server = await asyncio.start_unix_server(lambda *both: came.append(both), tmp_path / "s")
    loop, (ours, theirs) = asyncio.get_running_loop(), stream
    offered = Services(ours)
    await loop.sock_sendall(theirs, from_engine(frame(READY)))
    await offered.start({})
    offered.serve([tmp_path / "s"])
    # The second port is not there.
    await loop.sock_sendall(theirs, from_engine(frame(OPEN, 1, 0) + frame(DATA, 1, 2, b"hi") + frame(OPEN, 2, 1)))
    answer = b""
    while frame(RESET, 2) not in answer or frame(CREDIT, 1, 2) not in answer:
        answer += await asyncio.wait_for(loop.sock_recv(theirs, 1000), 60)
    [(reader, writer)] = came
    assert await reader.readexactly(2) == b"hi"
    if bad:
        await loop.sock_sendall(theirs, bad)
    else:
        theirs.shutdown(socket.SHUT_WR)
    assert await asyncio.wait_for(reader.read(), 60) == b""
    assert await asyncio.wait_for(loop.sock_recv(theirs, 1000), 60) == b""
    assert len(came) == 1
    await offered.close()
    writer.close()
    server.close()


def test_the_kernel_holds_little_of_a_connection() -> None:
    """Its buffers would grow with what is passed on, to megabytes each."""
    with listen(0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                assert connection.getsockopt(socket.SOL_SOCKET, option) <= 1 << 18


def test_a_container_has_a_network_of_its_own_only_for_services() -> None:
    """And then none but its loopback: the engine would write no name for that without one."""
    for ports in ((), (8080,)):
        kind = container.Kind.of(None, Limits(), ports)
        made = container.request(kind, "image", SandboxConfig(), DockerOptions(), "owner")
        assert (made["NetworkDisabled"], made["HostConfig"]["NetworkMode"]) == (not ports, "none")


class Endless(socket.socket):
    """Gives and takes without end, at once."""

    text = b""

    def recv(self, size: int, flags: int = 0) -> bytes:
        return (self.text * (size // len(self.text)))[:size] if self.text else bytes(size)

    def send(self, data: Any, flags: int = 0) -> int:
        return len(data)


async def goes_on_beside(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(work)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.timeout(20)
async def test_a_flood_of_bytes_lets_others_have_their_turn() -> None:
    with Endless() as source, Endless() as sink:
        for one in (source, sink):
            one.setblocking(False)
        await goes_on_beside(services._pump(source, sink))


@pytest.mark.timeout(20)
async def test_a_flood_of_frames_lets_others_have_their_turn() -> None:
    with Endless() as source:
        source.setblocking(False)
        source.text = from_engine(frame(READY))
        offered = Services(source)
        await goes_on_beside(offered._read())
        await offered.close()
