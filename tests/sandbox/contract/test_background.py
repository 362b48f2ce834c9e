"""Work that goes on after its call has returned."""

import pytest

from sandbox.base import Session, Stream
from tests.sandbox.contract.conftest import good

pytestmark = pytest.mark.anyio


async def all_of(session: Session, stream: Stream = "stdout") -> str:
    text, offset, done = "", 0, False
    while not done:
        chunk = await session.read_output(stream, offset, wait=1.0)
        assert chunk.offset == offset
        text, offset, done = text + chunk.text, chunk.next_offset, chunk.done and chunk.next_offset >= chunk.total_chars
    return text


async def test_background_output_can_be_followed(session: Session) -> None:
    code = "import time\nfor i in range(5):\n    print(i, flush=True)\n    time.sleep(0.1)"
    assert (await session.execute(code, background=True)).status == "running"
    assert await all_of(session) == "0\n1\n2\n3\n4\n"


async def test_background_shell(session: Session) -> None:
    code = "for i in 1 2 3; do echo $i; sleep 0.1; done; echo no >&2"
    assert (await session.execute(code, language="shell", background=True)).status == "running"
    assert await all_of(session) == "1\n2\n3\n"
    assert "no" in await all_of(session, "stderr")


async def test_one_at_a_time_and_the_slot_is_freed(session: Session) -> None:
    code = "import os, time\nwhile not os.path.exists('go'):\n    time.sleep(0.01)\nb = 5"
    assert (await session.execute(code, background=True)).status == "running"
    assert (await session.execute("1", background=True)).status == "error"
    await session.write_file("go", b"")
    await all_of(session)
    assert good(await session.execute("b")).value == "5"


async def test_an_error_in_the_background_is_seen(session: Session) -> None:
    assert (await session.execute("1 / 0", background=True)).status == "running"
    await all_of(session)
    assert "ZeroDivisionError" in await all_of(session, "stderr")


async def test_pages_of_a_long_output(session: Session) -> None:
    good(await session.execute("print('a' * 50_000 + 'b' * 50_000)"))
    first = await session.read_output("stdout", 0, limit=30_000)
    assert (first.text, first.next_offset, first.total_chars) == ("a" * 30_000, 30_000, 100_001)
    last = await session.read_output("stdout", 99_999, limit=30_000)
    assert (last.text, last.done) == ("b\n", True)
    assert (await session.read_output("stdout", 500_000)).text == ""
