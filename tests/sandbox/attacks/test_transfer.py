"""Leading file transfer astray: links, special files, races, locks. Nothing outside /work is read or written."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import pytest

from sandbox.base import Session
from sandbox.errors import SessionClosed, TransferError
from tests.sandbox.attacks.conftest import LIMITS, MIB, attack
from tests.sandbox.attacks.world import World

pytestmark = pytest.mark.anyio

STAND_INS = {
    "link to a host file": "os.symlink(SECRET, 'r')",
    "link to the root": "os.symlink('/', 'd'); PATH = 'd' + SECRET",
    "link through process 1": "os.symlink('/proc/1/root' + SECRET, 'r')",
    "magic link": "os.symlink('/proc/self/exe', 'r')",
    "link to itself": "os.symlink('r', 'r')",
    "relative link upwards": "os.symlink('../' * 30 + SECRET.lstrip('/'), 'r')",
    "pipe": "os.mkfifo('r')",
    "pipe with a writer": "os.mkfifo('r'); keep = os.open('r', os.O_RDWR); os.write(keep, b'x' * 4096)",
    "socket": "s = socket.socket(socket.AF_UNIX); s.bind('r')",
    "folder": "os.mkdir('r')",
    "file without rights": "open('r', 'w').write('mine'); os.chmod('r', 0)",
}


@pytest.mark.parametrize("name", STAND_INS)
async def test_stand_in_for_a_result(session: Session, world: World, name: str) -> None:
    await attack(session, "os.system('rm -rf /work/* /work/.[a-z]*')")
    made = await attack(session, f"SECRET = {str(world.secret)!r}\n{STAND_INS[name]}")
    path = f"d{world.secret}" if name == "link to the root" else "r"
    try:
        content = await asyncio.wait_for(session.read_file(path), 10)
    except TransferError:
        content = b""
    assert content in (b"", b"mine")
    try:
        await asyncio.wait_for(session.write_file(path, b"written"), 10)
    except TransferError:
        return
    assert name == "file without rights" or made.status == "error", "it was written through"


@pytest.mark.parametrize(
    "path",
    [
        "../a.txt",
        "/data/a.txt",
        "x/../../data/a.txt",
        "/work/../data/a.txt",
        "//etc/passwd",
        "/work/./../x",
        "..",
        "name-\ud800",
        "a" * 5000,
        "a/" * 5000,
        "/proc/self/environ",
    ],
)
async def test_names_that_lead_out(session: Session, path: str) -> None:
    with pytest.raises(TransferError):
        await session.read_file(path)
    with pytest.raises(TransferError):
        await session.write_file(path, b"x")


async def test_hard_link_to_given_data(session: Session) -> None:
    """The file must be unchanged, which the world checks after each test."""
    await attack(session, "try: os.link('/data/a.txt', '/work/linked')\nexcept OSError: pass")
    try:
        await session.write_file("linked", b"changed")
    except TransferError:
        return
    assert await session.read_file("linked") == b"changed"


async def test_hard_link_inside(session: Session) -> None:
    await attack(session, "open('one', 'w').write('1'); os.path.exists('two') or os.link('one', 'two')")
    with pytest.raises(TransferError):
        await session.write_file("two", b"x")


CHANGES = {
    "write": "open('/data/a.txt', 'r+').write('x')",
    "new file": "open('/data/new', 'w')",
    "remove": "os.remove('/data/a.txt')",
    "rename": "os.rename('/data/a.txt', '/data/b.txt')",
    "rename over": "open('x', 'w'); os.rename('x', '/data/a.txt')",
    "truncate": "os.truncate('/data/a.txt', 0)",
    "rights": "os.chmod('/data/a.txt', 0o777)",
    "times": "os.utime('/data/a.txt', (0, 0))",
    "shared mapping": "import mmap\nf = os.open('/data/a.txt', os.O_RDWR); mmap.mmap(f, 4)[0:1] = b'X'",
    "through the descriptor": "f = os.open('/data/a.txt', os.O_RDONLY); open(f'/proc/self/fd/{f}', 'r+').write('x')",
    "remount": "call(165, b'none', b'/data', 0, 32 | 4096)\nopen('/data/a.txt', 'r+').write('x')",
    "link beside": "os.symlink('x', '/data/link')",
    "splice": "r, w = os.pipe(); os.write(w, b'x'); os.splice(r, os.open('/data/a.txt', os.O_WRONLY), 1)",
    "program in /usr/bin": "open('/usr/bin/env', 'r+b').write(b'x')",
    "package": "import numpy\nopen(numpy.__file__, 'a').write('raise SystemExit')",
    "our own interpreter": "import glob\nopen(glob.glob('/run/sandbox/*/main.py')[0], 'a').write('raise SystemExit')",
    "sitecustomize": "open(os.path.dirname(os.__file__) + '/sitecustomize.py', 'w')",
    "device": "os.chmod('/dev/null', 0)",
}


QUIET = ("rights", "times", "device")
"""What the level landlock lets report success without doing anything."""


async def test_no_other_folder_can_be_written(session: Session) -> None:
    code = """
own = ('/work', '/tmp', '/dev/shm', os.environ.get('SESSION_ROOT', '/work'))
written, left = [], 6000
for top in ('/', '/usr', '/etc', '/var', '/run', '/opt', '/dev', '/sys', '/home', '/root', '/srv', '/mnt', '/data'):
    for folder, names, _ in os.walk(top):
        names[:] = [n for n in names if not os.path.join(folder, n).startswith((*own, '/proc'))]
        left -= 1
        if left < 0: break
        try:
            os.close(os.open(folder + '/left-by-an-attack', os.O_WRONLY | os.O_CREAT))
            written.append(folder)
        except OSError: pass
print(written)
"""
    assert (await attack(session, code)).stdout.text == "[]\n"


@pytest.mark.parametrize("name", CHANGES)
async def test_change_of_what_is_given(session: Session, name: str) -> None:
    null = Path(os.devnull).stat().st_mode
    result = await attack(session, CHANGES[name])
    assert Path(os.devnull).stat().st_mode == null
    if name in QUIET and result.status == "ok":
        return  # that the file is what it was is looked at after every attack
    assert result.error is not None, result
    assert result.error.type in ("OSError", "PermissionError", "FileNotFoundError", "IndexError")


async def test_race_on_reading(fresh: Session, world: World) -> None:
    code = f"""
def swap():
    os.symlink({str(world.secret)!r}, 'l'); open('f', 'w').write('mine')
    while True:
        for a in ('l', 'f'):
            try: os.link(a, 't', follow_symlinks=False); os.rename('t', 'r')
            except OSError: pass
swap()
"""
    running = asyncio.ensure_future(attack(fresh, code, timeout=1.5))
    seen = set()
    while not running.done():
        for _ in range(20):
            try:
                seen.add(await fresh.read_file("r"))
            except Exception:
                await asyncio.sleep(0)
    await running
    assert seen <= {b"mine", b""}


async def test_race_on_writing(fresh: Session, world: World) -> None:
    """A folder on the way is swapped for a link; the neighbour of the secret must be unchanged."""
    code = f"""
os.mkdir('real'); os.symlink({str(world.folder)!r}, 'link')
while True:
    for a in ('real', 'link'):
        try: os.rename(a, 'd'); os.rename('d', a)
        except OSError: pass
"""
    running = asyncio.ensure_future(attack(fresh, code, timeout=1.5))
    tries = 0
    while not running.done():
        tries += 1
        try:
            await fresh.write_file("d/secret.txt", b"overwritten")
        except Exception:
            await asyncio.sleep(0)
    await running
    assert tries


@pytest.mark.parametrize("kind", ["lease", "lock"])
async def test_a_held_file_does_not_hold_the_server(fresh: Session, kind: str) -> None:
    code = "import fcntl\nopen('h', 'w').write('1'); f = os.open('h', os.O_RDWR)\n"
    code += (
        "fcntl.fcntl(f, 1024, 1)" if kind == "lease" else "fcntl.flock(f, fcntl.LOCK_EX); fcntl.lockf(f, fcntl.LOCK_EX)"
    )
    await attack(fresh, code)
    for transfer in (lambda: fresh.read_file("h"), lambda: fresh.write_file("h", b"2")):
        # SessionClosed: whoever holds a lease is sent a signal by the kernel, of which it dies.
        with suppress(TransferError, SessionClosed):
            await asyncio.wait_for(transfer(), 10)


async def test_large_and_growing_files(fresh: Session) -> None:
    assert (await fresh.execute(f"open('hole', 'wb').truncate({LIMITS.disk // 2})")).status == "ok"
    with pytest.raises(TransferError):
        await fresh.read_file("hole", max_bytes=MIB)
    growing = asyncio.ensure_future(
        fresh.execute(
            "f = open('g', 'ab', 0)\nwhile True:\n    f.write(b'x' * 4096)\n    f.tell() > 8 << 20 and f.truncate(0)",
            timeout=1.5,
        )
    )
    while not growing.done():
        try:
            assert len(await fresh.read_file("g", max_bytes=MIB)) <= MIB
        except Exception as error:
            assert type(error).__name__ in ("TransferError", "SessionClosed")  # noqa: PT017
        await asyncio.sleep(0.01)
    await growing


async def test_write_beyond_the_disk(fresh: Session) -> None:
    with pytest.raises(TransferError):
        await fresh.write_file("big", b"x" * (2 * LIMITS.disk))
    assert (await fresh.execute("du -sm /work | cut -f1", language="shell")).stdout.text.strip().isdigit()
