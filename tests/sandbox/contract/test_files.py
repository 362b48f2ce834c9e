"""Files and variables in and out of a session."""

import pytest

from sandbox.base import Session
from sandbox.errors import TransferError
from tests.sandbox.contract.conftest import good

pytestmark = pytest.mark.anyio


async def test_round_trip(session: Session) -> None:
    content = bytes(range(256)) * 1000
    await session.write_file("/work/deep/er/f.bin", content)
    code = "import pathlib\np = pathlib.Path('deep/er/f.bin')\np.write_bytes(p.read_bytes()[::-1])"
    assert good(await session.execute(code)).value == "256000"
    assert await session.read_file("deep/er/f.bin") == content[::-1]


async def test_write_replaces(session: Session) -> None:
    await session.write_file("f", b"long content")
    await session.write_file("f", b"short")
    assert await session.read_file("/work/f") == b"short"
    await session.write_file("f", b"")
    assert await session.read_file("f") == b""


async def test_the_session_owns_what_was_written(session: Session) -> None:
    await session.write_file("given/f", b"x")
    good(await session.execute("echo y >> given/f && rm -r given", language="shell"))


@pytest.mark.parametrize("path", ["", "/", ".", "/work", "..", "../f", "a/../../f", "/etc/passwd", "/data/x", "a\0b"])
async def test_paths_outside_are_refused(session: Session, path: str) -> None:
    with pytest.raises(TransferError):
        await session.read_file(path)
    with pytest.raises(TransferError):
        await session.write_file(path, b"x")


async def test_absent_and_large(session: Session) -> None:
    with pytest.raises(TransferError):
        await session.read_file("absent")
    await session.write_file("big", b"x" * 100)
    with pytest.raises(TransferError):
        await session.read_file("big", max_bytes=99)
    assert len(await session.read_file("big", max_bytes=100)) == 100


async def test_links_folders_and_pipes_are_refused(session: Session) -> None:
    good(await session.execute("ln -s /etc/passwd link; ln -s / root; mkdir d; mkfifo fifo", language="shell"))
    for path in ("link", "root/etc/passwd", "d", "fifo"):
        with pytest.raises(TransferError):
            await session.read_file(path)
        with pytest.raises(TransferError):
            await session.write_file(path, b"x")


async def test_variable_as_json(session: Session) -> None:
    code = "import numpy as np, pandas as pd\nd = {'a': [1, 2.5, None, True, 'é'], 'n': np.int64(3)}\n"
    good(await session.execute(code + "f = pd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})\nbad = float('nan')"))
    assert await session.read_variable("d") == {"a": [1, 2.5, None, True, "é"], "n": 3}
    assert await session.read_variable("f") == [[1, "x"], [2, "y"]]
    for name in ("bad", "absent"):
        with pytest.raises(TransferError):
            await session.read_variable(name)
    with pytest.raises(TransferError):
        await session.read_variable("d", max_bytes=5)
    assert good(await session.execute("1")).value == "1"
