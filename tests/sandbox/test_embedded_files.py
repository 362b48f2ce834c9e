"""Files in and out of a session whose code would like to be followed out of it."""

import pytest

from sandbox.embedded.handle import EmbeddedSession
from sandbox.errors import TransferError

pytestmark = pytest.mark.anyio
MIB = 1 << 20


async def test_links_are_not_followed(session: EmbeddedSession) -> None:
    await session.execute(
        "ln -s /etc/passwd link; ln -s / root; mkdir d; ln -s ../d d/loop; ln -s /proc/self/environ e", language="shell"
    )
    for path in (
        "link",
        "root/etc/passwd",
        "d/loop/x",
        "e",
        "/proc/self/root/etc/passwd",
        "../etc/passwd",
        "/etc/passwd",
    ):
        with pytest.raises(TransferError):
            await session.read_file(path)
        with pytest.raises(TransferError):
            await session.write_file(path, b"x")
    for path in ("", "/work", ".", "a\0b", "d"):
        with pytest.raises(TransferError):
            await session.read_file(path)


async def test_special_files_are_refused(session: EmbeddedSession) -> None:
    await session.execute(
        "import os, socket\nos.mkfifo('fifo')\ns = socket.socket(socket.AF_UNIX)\ns.bind('/work/sock')\n"
        "keep = os.open('fifo', os.O_RDWR)"
    )
    for path in ("fifo", "sock"):
        with pytest.raises(TransferError):
            await session.read_file(path)
        with pytest.raises(TransferError):
            await session.write_file(path, b"x")


async def test_sparse_file_is_capped(session: EmbeddedSession) -> None:
    await session.execute("open('hole', 'wb').truncate(16 << 20)")
    with pytest.raises(TransferError):
        await session.read_file("hole", max_bytes=1 << 20)


async def test_write_beyond_the_disk_is_refused(session: EmbeddedSession) -> None:
    with pytest.raises(TransferError):
        await session.write_file("big", b"x" * (32 * MIB))


async def test_written_files_belong_to_the_session(session: EmbeddedSession) -> None:
    await session.write_file("given/f", b"x")
    result = await session.execute("stat -c %u given given/f; rm -r given", language="shell")
    assert (result.stdout.text, result.status) == ("1000\n1000\n", "ok")
