"""The Docker sandbox on a real engine: what it promises beyond the contract, and that it leaves nothing behind."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.base import Limits, SandboxConfig, SessionSpec
from sandbox.docker_engine.backend import DockerSandbox, DockerSession
from sandbox.docker_engine.engine import OWNER, SANDBOX, Engine
from sandbox.docker_engine.owner import owner_lives
from sandbox.errors import SandboxFailure, SandboxUnavailable, SessionClosed, TransferError
from tests.sandbox.engine import NoEngine, hollow_options, hollow_sandbox

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
TIGHT = Limits(call_seconds=60, memory=256 * MIB, disk=16 * MIB, inodes=200, processes=24)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> SandboxConfig:
    root = tmp_path_factory.mktemp("docker")
    root.chmod(0o755)
    source = root / "one"
    source.mkdir(mode=0o755)
    (source / "name.txt").write_text("one")
    with sqlite3.connect(source / "x.sqlite") as connection:
        connection.execute("CREATE TABLE patients (id INTEGER, name TEXT)")
        connection.execute("INSERT INTO patients VALUES (7, 'Ada')")
    connection.close()
    return SandboxConfig(sources={"one": source}, packages=("numpy", "pandas"), pool=1)


@pytest.fixture(scope="module")
async def sandbox(config: SandboxConfig) -> AsyncIterator[DockerSandbox]:
    backend = hollow_sandbox(config)
    await backend.start()
    yield backend
    await backend.close()


@pytest.fixture
async def session(sandbox: DockerSandbox) -> AsyncIterator[DockerSession]:
    opened = await sandbox.open(SessionSpec(source="one", database="x.sqlite"))
    yield opened
    await opened.close()


@pytest.fixture(scope="module")
def api() -> Iterator[Any]:
    """The engine, past our own code."""
    import docker

    try:
        client = docker.APIClient(base_url=hollow_options().engine, version="auto")
    except NoEngine as error:
        pytest.skip(str(error))
    yield client
    client.close()


def containers(api: Any, label: str = SANDBOX) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.containers(all=True, filters={"label": label})
    return found


async def test_three_languages_share_one_state(session: DockerSession) -> None:
    assert (await session.execute("import pandas\nx = 20")).status == "ok"
    result = await session.execute("x + 1")
    assert (result.status, result.value) == ("ok", "21")
    assert "Ada" in ((await session.execute("SELECT name FROM patients", language="sql")).value or "")
    shell = await session.execute("pwd; cat /data/name.txt > f; exit 3", language="shell")
    assert (shell.status, shell.exit_code, shell.stdout.text) == ("error", 3, "/work\n")
    assert (await session.execute("open('f').read()")).value == "'one'"
    error = (await session.execute("y = 1\ny / 0")).error
    assert error is not None
    assert (error.type, error.line) == ("ZeroDivisionError", 2)


async def test_what_the_engine_was_asked_for(sandbox: DockerSandbox, api: Any) -> None:
    session = await sandbox.open(SessionSpec(limits=TIGHT))
    found = api.inspect_container(session._channel._container)
    host = found["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (TIGHT.memory, TIGHT.memory, TIGHT.processes)
    assert (host["NetworkMode"], host["ReadonlyRootfs"], host["LogConfig"]["Type"]) == ("none", True, "none")
    assert (host["CapDrop"], host["SecurityOpt"]) == (["ALL"], ["no-new-privileges:true"])
    assert not host["Privileged"]
    assert found["Config"]["User"].split(":")[0] not in ("", "0")
    await session.close()


async def test_what_the_session_is(session: DockerSession) -> None:
    status = (await session.execute("print(open('/proc/self/status').read())")).stdout.text
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    assert "0" not in fields["Uid"].split()


async def test_no_network(session: DockerSession) -> None:
    code = "[line.split(':')[0].strip() for line in open('/proc/self/net/dev') if ':' in line]"
    assert (await session.execute(code)).value == "['lo']"
    code = "import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=5)"
    assert (await session.execute(code)).status == "error"
    code = "import socket\nsocket.getaddrinfo('example.org', 80)"
    assert (await session.execute(code)).status == "error"


@pytest.mark.parametrize("path", ["/x", "/data/x", "/data/name.txt", "/usr/bin/x", "/etc/passwd", "/run/x", "/dev/x"])
async def test_everything_but_the_work_folders_is_read_only(session: DockerSession, path: str) -> None:
    error = (await session.execute(f"open({path!r}, 'a').write('x')")).error
    assert error is not None
    assert error.type in ("OSError", "PermissionError")


async def test_the_keeper_is_out_of_reach(session: DockerSession) -> None:
    for what in ("open('/proc/1/environ').read()", "open('/proc/1/mem', 'rb')", "os.listdir('/proc/1/fd')"):
        assert (await session.execute(f"import os\n{what}")).error is not None
    await session.execute("import os, signal\nfor n in (15, 2, 9):\n    os.kill(1, n)")
    assert (await session.execute("1 + 1")).value == "2"


async def test_memory(sandbox: DockerSandbox) -> None:
    session = await sandbox.open(SessionSpec(limits=TIGHT))
    assert (await session.execute("x = bytearray(b'x') * (1 << 30)")).status == "memory"
    assert session.closed
    with pytest.raises(SessionClosed, match="memory"):
        await session.execute("1")


async def test_memory_of_the_whole_tree(sandbox: DockerSandbox) -> None:
    session = await sandbox.open(SessionSpec(limits=TIGHT))
    code = """
import subprocess, sys
code = "x = bytearray(b'x') * (100 << 20); input()"
children = [subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) for _ in range(8)]
[child.wait(30) for child in children[:4]]
"""
    result = await session.execute(code)
    # The kernel chooses whom it kills: children, and perhaps the interpreter.
    assert result.status in ("ok", "memory", "error")
    if result.status == "ok":
        assert "-9" in (result.value or "")
    await session.close()


async def test_fork_bomb_and_disk_fill_stay_inside(sandbox: DockerSandbox, session: DockerSession) -> None:
    tight = await sandbox.open(SessionSpec(limits=TIGHT))
    result = await tight.execute("for i in $(seq 200); do sleep 60 & done; wait", language="shell", timeout=2)
    assert result.status in ("error", "timeout")
    full = await sandbox.open(SessionSpec(limits=TIGHT))
    for folder in ("/work", "/tmp", "/dev/shm"):
        code = f"for n in range(9):\n    open(f'{folder}/{{n}}', 'wb').write(bytes(4 << 20))"
        error = (await full.execute(code)).error
        assert error is not None
        assert error.type == "OSError"
    assert (await session.execute("1")).value == "1"
    await tight.close()
    await full.close()


async def test_timeout_ends_the_container(sandbox: DockerSandbox, api: Any) -> None:
    session = await sandbox.open(SessionSpec())
    name = session._channel._container
    assert (await session.execute("while True: pass", timeout=0.5)).status == "timeout"
    with pytest.raises(SessionClosed, match="time limit"):
        await session.execute("1")
    assert name not in [entry["Id"] for entry in containers(api)]


async def test_cancelled_call_ends_the_session(session: DockerSession) -> None:
    call = asyncio.ensure_future(session.execute("import time\ntime.sleep(60)"))
    await asyncio.sleep(0.2)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert session.closed


@pytest.mark.parametrize("code", ["import os\nos._exit(0)", "import os, signal\nos.kill(os.getpid(), 9)"])
async def test_an_interpreter_that_ends_is_no_success(session: DockerSession, code: str) -> None:
    assert (await session.execute(code)).status == "killed"
    assert session.closed


async def test_a_killed_container_is_noticed(session: DockerSession, api: Any) -> None:
    api.kill(session._channel._container)
    for _ in range(1200):
        if session.closed:
            break
        await asyncio.sleep(0.05)
    with pytest.raises(SessionClosed):
        await session.execute("1")


async def test_between_calls_nothing_runs(session: DockerSession) -> None:
    code = "(while true; do echo x >> /work/ticks; sleep 0.02; done) > /dev/null 2>&1 &"
    code += " until [ -s /work/ticks ]; do sleep 0.02; done"
    assert (await session.execute(code, language="shell")).status == "ok"
    before = await session.read_file("ticks")
    assert before
    await asyncio.sleep(0.5)
    assert await session.read_file("ticks") == before
    longer = f"import os, time\nwhile os.path.getsize('/work/ticks') <= {len(before)}: time.sleep(0.02)"
    assert (await session.execute(longer)).status == "ok"


async def test_background_runs_between_calls_until_it_is_done(session: DockerSession) -> None:
    code = "import os, time\nfor i in range(6):\n    print(i, flush=True)\n    time.sleep(0.1)\n"
    code += "while not os.path.exists('go'):\n    time.sleep(0.01)\nopen('end', 'w').close()"
    assert (await session.execute(code, background=True)).status == "running"
    assert (await session.execute("1")).status == "error"
    await session.write_file("go", b"")
    for _ in range(100):
        await asyncio.sleep(0.1)
        try:
            await session.read_file("end")
            break
        except TransferError:
            continue
    text, offset, done = "", 0, False
    while not done:
        chunk = await session.read_output("stdout", offset, wait=1.0)
        text, offset, done = text + chunk.text, chunk.next_offset, chunk.done
    assert text == "0\n1\n2\n3\n4\n5\n"
    assert (await session.execute("i")).value == "5"


async def test_output_is_cut(sandbox: DockerSandbox) -> None:
    session = await sandbox.open(SessionSpec(limits=Limits(output=1000)))
    result = await session.execute("import sys\nprint('x' * 1_000_000)\nsys.stderr.write('e' * 5000)")
    assert (result.stdout.truncated, result.stdout.total_chars) == (True, 1_000_001)
    assert len(result.stdout.text) <= 1000
    assert result.stderr.total_chars == 5000
    await session.close()


async def test_files_larger_than_a_frame(session: DockerSession) -> None:
    content = os.urandom(MIB) * 20
    await session.write_file("/work/deep/er/big", content)
    code = "p = '/work/deep/er/big'\nd = open(p, 'rb').read()\nopen(p, 'ab').write(b'!')\nlen(d)"
    assert (await session.execute(code)).value == str(len(content))
    assert await session.read_file("deep/er/big", max_bytes=30 * MIB) == content + b"!"
    with pytest.raises(TransferError):
        await session.read_file("deep/er/big")
    with pytest.raises(TransferError):
        await session.write_file("huge", bytes(257 * MIB))
    await session.write_file("deep/er/big", b"")
    assert await session.read_file("deep/er/big") == b""


async def test_files_that_are_none(session: DockerSession) -> None:
    code = "ln -s /etc/passwd link; ln -s / root; mkdir d; mkfifo fifo; ln /work/d/../link hard; ln -s /proc/1/root up"
    await session.execute(code, language="shell")
    for path in (
        "link",
        "root/etc/passwd",
        "d",
        "fifo",
        "up/etc/passwd",
        "/etc/passwd",
        "../etc/passwd",
        "absent/../x",
    ):
        with pytest.raises(TransferError):
            await session.read_file(path)
        with pytest.raises(TransferError):
            await session.write_file(path, b"x")
    assert (await session.execute("1")).value == "1"


async def test_forged_frames_end_or_are_ignored(sandbox: DockerSandbox) -> None:
    forged = '{"id": %d, "status": "ok", "value": "forged", "stdout": {}, "stderr": {}}'
    for code in (
        "os.write(700, b'\\xff' * 64)",
        f"d = b'{forged % 999}'\nos.write(700, len(d).to_bytes(4, 'big') + d)",
        "os.write(700, b'\\0\\0\\0\\x02{}' * 1000)",
    ):
        session = await sandbox.open(SessionSpec())
        result = await session.execute(f"import os\n{code}\n'honest'")
        assert (result.status, result.value) in (("killed", None), ("ok", "'honest'"))
        await session.close()
    session = await sandbox.open(SessionSpec())
    assert (await session.execute("1")).value == "1"
    await session.close()


async def test_unknown_source(sandbox: DockerSandbox) -> None:
    with pytest.raises(KeyError):
        await sandbox.open(SessionSpec(source="three"))


async def test_images_by_data_set(config: SandboxConfig, api: Any) -> None:
    own = hollow_options(config.packages)
    other = str(api.inspect_image(own.image)["Id"])
    backend = hollow_sandbox(config, images={"on*": other}, image=own.image)
    await backend.start()
    session = await backend.open(SessionSpec(source="one"))
    assert api.inspect_container(session._channel._container)["Image"] == other
    await backend.close()


async def test_absent_image_and_absent_engine_name_the_remedy(config: SandboxConfig) -> None:
    with pytest.raises(SandboxUnavailable, match="docker build"):
        await hollow_sandbox(config, image="absent@sha256:" + "0" * 64).start()
    with pytest.raises(SandboxUnavailable, match="DOCKER_HOST"):
        await hollow_sandbox(config, engine="unix:///nowhere/socket").start()


async def test_an_image_without_python_is_told_at_start(config: SandboxConfig, api: Any) -> None:
    with pytest.raises(SandboxUnavailable, match="absent-python"):
        await hollow_sandbox(config, python="absent-python").start()
    assert not [entry for entry in containers(api) if entry["State"] == "created"]


async def test_close_leaves_nothing(config: SandboxConfig, api: Any) -> None:
    before = {entry["Id"] for entry in containers(api)}
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    backend = hollow_sandbox(config)
    await backend.start()
    session = await backend.open(SessionSpec(source="one"))
    opening = asyncio.ensure_future(backend.open(SessionSpec(limits=TIGHT)))
    await asyncio.sleep(0.3)
    opening.cancel()
    await asyncio.wait([opening])
    await backend.close()
    await backend.close()
    assert session.closed
    assert {entry["Id"] for entry in containers(api)} <= before
    assert len(os.listdir("/proc/self/fd")) <= descriptors  # noqa: PTH208
    with pytest.raises(SandboxFailure):
        await backend.open(SessionSpec())


async def test_orphans_of_a_killed_server_end_and_are_reaped(config: SandboxConfig, api: Any) -> None:
    options = hollow_options(config.packages)
    program = f"""
import asyncio, sys
sys.path.insert(0, {str(ROOT)!r})
from sandbox.base import SandboxConfig, SessionSpec
from sandbox.docker_engine.backend import DockerSandbox
from sandbox.docker_engine.options import DockerOptions
async def main():
    backend = DockerSandbox(SandboxConfig(packages=(), preload=(), pool=0), {options!r})
    await backend.start()
    session = await backend.open(SessionSpec())
    print(session._channel._container, flush=True)
    await session.execute("while True: pass")
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        name = (await asyncio.to_thread(server.stdout.readline)).strip()
        assert name
        server.send_signal(signal.SIGKILL)
    for _ in range(200):
        if api.inspect_container(name)["State"]["Status"] == "exited":
            break
        await asyncio.sleep(0.1)
    assert api.inspect_container(name)["State"]["Status"] == "exited"
    backend = hollow_sandbox(config)
    await backend.start()
    assert name not in [entry["Id"] for entry in containers(api)]
    await backend.close()


async def test_a_container_whose_owner_is_dead_is_reaped(config: SandboxConfig, api: Any) -> None:
    options = hollow_options(config.packages)
    made = {
        "Image": options.image,
        "Entrypoint": [options.python, "-c", "input()"],
        "OpenStdin": True,
        "Labels": {SANDBOX: "1", OWNER: "elsewhere/pid:[1]/1/1/x"},
        "HostConfig": {"Binds": [f"{source}:{target}:ro" for source, target in options.binds], "NetworkMode": "none"},
    }
    name = api.create_container_from_config(made)["Id"]
    api.start(name)
    engine = Engine(options, "other")
    try:
        await asyncio.to_thread(engine.reap, 3600.0, owner_lives)
        assert name in [entry["Id"] for entry in containers(api)]
        await asyncio.to_thread(engine.reap, 3600.0, lambda owner: False if owner.startswith("elsewhere") else None)
        assert name not in [entry["Id"] for entry in containers(api)]
    finally:
        engine.close()
