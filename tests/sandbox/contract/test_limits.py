"""Limits of one session, and that reaching one does not reach the next session."""

import asyncio

import pytest

from sandbox.base import Limits, Sandbox, Session, SessionSpec
from sandbox.errors import SessionClosed
from tests.sandbox.contract.conftest import TIGHT, good, need

pytestmark = pytest.mark.anyio


async def served(sandbox: Sandbox) -> None:
    other = await sandbox.open(SessionSpec())
    assert good(await other.execute("1 + 1")).value == "2"
    await other.close()


async def test_timeout_ends_the_session(sandbox: Sandbox, session: Session) -> None:
    assert (await session.execute("while True: pass", timeout=0.5)).status == "timeout"
    assert session.closed
    with pytest.raises(SessionClosed, match="time limit"):
        await session.execute("1")
    await served(sandbox)


async def test_the_limit_caps_the_asked_timeout(sandbox: Sandbox) -> None:
    session = await sandbox.open(SessionSpec(limits=Limits(call_seconds=0.5)))
    assert (await session.execute("import time\ntime.sleep(120)", timeout=100)).status == "timeout"


@pytest.mark.parametrize("language", ["python", "shell"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_output_is_cut_to_head_and_tail(tight: Session, language: str, stream: str) -> None:
    if language == "python":
        code = f"import sys\nsys.{stream}.write('HEAD' + 'x' * 100_000 + 'TAIL')\nNone"
        result = await tight.execute(code)
    else:
        number = 1 if stream == "stdout" else 2
        code = f"{{ printf HEAD; head -c 100000 /dev/zero | tr '\\0' x; printf TAIL; }} >&{number}"
        result = await tight.execute(code, language="shell")
    output = getattr(good(result), stream)
    assert output.truncated
    assert len(output.text) <= TIGHT.output
    assert output.total_chars == 100_008
    assert output.text.startswith("HEAD")
    assert output.text.endswith("TAIL")


async def test_value_is_cut(tight: Session) -> None:
    result = good(await tight.execute("'x' * 100_000"))
    assert result.value_truncated
    assert len(result.value or "") <= TIGHT.output


async def test_memory(sandbox: Sandbox, tight: Session, backend: str) -> None:
    need(backend, "memory")
    code = "import time\nblocks = [bytearray(b'x') * (8 << 20) for _ in range(128)]\ntime.sleep(15)"
    result = await tight.execute(code)
    assert result.status in ("memory", "error"), result
    await served(sandbox)


async def test_disk(tight: Session, backend: str) -> None:
    need(backend, "disk")
    result = await tight.execute("for n in range(8):\n    open(f'big{n}', 'wb').write(b'x' * (4 << 20))")
    assert result.status == "error"
    assert good(await tight.execute("rm -f big*; echo 1 > small; cat small", language="shell")).stdout.text == "1\n"


async def test_one_file(tight: Session) -> None:
    result = await tight.execute("open('big', 'wb').write(b'x' * (64 << 20))")
    assert result.status == "error"
    await asyncio.sleep(1)  # some backends look now and then at how much there is
    assert good(await tight.execute("6 * 7")).value == "42"


async def test_inodes(tight: Session, backend: str) -> None:
    need(backend, "inodes")
    assert (await tight.execute("for n in range(1000): open(f'f{n}', 'w').close()")).status == "error"
    assert good(await tight.execute("rm -f f*; echo 1", language="shell")).stdout.text == "1\n"


async def test_processes(sandbox: Sandbox, tight: Session, backend: str) -> None:
    need(backend, "processes")
    code = """
import subprocess
children = []
try:
    for _ in range(200):
        children.append(subprocess.Popen(["sleep", "60"]))
except OSError:
    pass
for child in children:
    child.kill()
    child.wait()
len(children)
"""
    result = await tight.execute(code)
    if result.status == "killed" and getattr(sandbox, "containment", "") == "none":
        assert tight.closed  # the level landlock ends a session above a number that no control group holds
    else:
        assert int(good(result).value or "") < TIGHT.processes
    await served(sandbox)


async def test_open_files(tight: Session) -> None:
    result = await tight.execute("files = [open('/dev/null') for _ in range(5000)]")
    assert result.error is not None
    assert result.error.type == "OSError"


async def test_processor_time(sandbox: Sandbox) -> None:
    limits = Limits(call_seconds=120, cpu_seconds=3)
    session = await sandbox.open(SessionSpec(limits=limits))
    assert (await session.execute("while True: pass")).status == "killed"
    await served(sandbox)
