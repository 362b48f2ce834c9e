"""Services of a session: what reaches them, what does not, and what is left of them, at the levels that have them."""

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer

import pytest

from sandbox.base import MOST_CONNECTIONS, Limits, Sandbox, SandboxConfig, Service, Session, SessionSpec
from sandbox.errors import SandboxFailure
from tests.sandbox.contract.conftest import BACKENDS, good, serving

pytestmark = pytest.mark.anyio
PORT = 8080
MIB = 1 << 20
LIMITS = Limits(call_seconds=60, memory=512 * MIB, open_files=1024)
PRELUDE = """
import os, socket, time, urllib.request
from concurrent.futures import ThreadPoolExecutor
URL = "http://localhost:8080/"
def get(data=None, timeout=20): return urllib.request.urlopen(URL, data, timeout=timeout).read()
def tries(work):
    try: return work()
    except OSError as error: return f"refused: {error}"
def opened(port, family=socket.AF_INET, host="127.0.0.1"):
    one = socket.socket(family); one.settimeout(1); one.connect((host, port)); return one.recv(100)
"""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Host"

    def do_GET(self) -> None:
        self._answer(self.server.word.encode())

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        self.server.requests += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Host(ThreadingMixIn, UnixStreamServer):
    """A service of the operator's: GET gives its word, POST gives back what came."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, path: Path, word: str) -> None:
        super().__init__(str(path), _Handler)
        self.word, self.path, self.requests, self.connections, self.most = word, path, 0, 0, 0
        self._lock = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def process_request_thread(self, request: object, client_address: object) -> None:
        with self._lock:
            self.connections += 1
            self.most = max(self.most, self.connections)
        super().process_request_thread(request, client_address)  # type: ignore[arg-type]

    def shutdown_request(self, request: object) -> None:
        # Counted before it is closed: that end is when the next one may come.
        with self._lock:
            self.connections -= 1
        super().shutdown_request(request)  # type: ignore[arg-type]

    def handle_error(self, request: object, client_address: object) -> None:
        pass

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        self.path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=["embedded", "docker"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
async def sandbox(backend: str) -> AsyncIterator[Sandbox]:
    async with serving(backend, SandboxConfig(packages=(), preload=(), pool=1)) as one:
        yield one


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    started = Host(tmp_path / "fhir", "from the first")
    yield started
    started.end()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Host]:
    started = Host(tmp_path / "other", "from the other")
    yield started
    started.end()


def spec(*sockets: Path, limits: Limits = LIMITS) -> SessionSpec:
    services = [Service(f"service {place}", PORT + place, path) for place, path in enumerate(sockets)]
    return SessionSpec(limits=limits, services=tuple(services))


@pytest.fixture
async def session(sandbox: Sandbox, host: Host) -> AsyncIterator[Session]:
    opened = await sandbox.open(spec(host.path))
    yield opened
    await opened.close()


async def run(session: Session, code: str) -> str:
    return good(await session.execute(PRELUDE + code)).stdout.text


def descriptors() -> int:
    """Of this process."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


async def until(there: Callable[[], bool]) -> None:
    """Wait for it, for a minute at most."""
    for _ in range(1200):
        if there():
            return
        await asyncio.sleep(0.05)
    raise AssertionError


async def filled(sandbox: Sandbox) -> None:
    """Wait until the pools are full, so that nothing is under way."""
    await until(lambda: all(sandbox._pool.values()))  # type: ignore[attr-defined]


async def quiet(host: Host) -> None:
    await until(lambda: host.connections == 0)


# ---- what works


async def test_large_requests_and_answers(session: Session) -> None:
    code = "print(get().decode())\ndata = os.urandom(5_000_000)\nprint(get(data) == data)"
    assert await run(session, code) == "from the first\nTrue\n"


async def test_many_connections_at_once(session: Session) -> None:
    code = """
def one(number):
    data = bytes([number]) * 1_000_000
    return get(data) == data
with ThreadPoolExecutor(8) as pool: print(list(pool.map(one, range(32))) == [True] * 32)
"""
    assert await run(session, code) == "True\n"


async def test_an_answer_that_is_not_read_holds_no_other_up(session: Session) -> None:
    code = """
slow = [urllib.request.urlopen(URL, b"x" * 20_000_000) for _ in range(3)]
print(get().decode())
print([len(one.read()) for one in slow])
"""
    assert await run(session, code) == "from the first\n[20000000, 20000000, 20000000]\n"


async def test_connections_outlive_calls(session: Session) -> None:
    """Between calls the session is held still, where that can be done; what is said meanwhile waits."""
    code = "import http.client\nkept = http.client.HTTPConnection('localhost', 8080)\nkept.request('GET', '/')"
    await run(session, code)
    await asyncio.sleep(0.3)
    again = "print(kept.getresponse().read().decode()); kept.request('GET', '/')\nprint(kept.getresponse().status)"
    assert await run(session, again) == "from the first\n200\n"


async def test_background_work_reaches_them(session: Session) -> None:
    code = f"{PRELUDE}\ntime.sleep(0.5)\nprint(get().decode())"
    assert (await session.execute(code, background=True)).status == "running"
    text, done = "", False
    while not done:
        chunk = await session.read_output("stdout", len(text), wait=2)
        text, done = text + chunk.text, chunk.done
    assert text == "from the first\n"


async def test_each_session_has_its_own(sandbox: Sandbox, host: Host, other: Host) -> None:
    """Also when both were made before it was known what they are for."""
    first, second = await sandbox.open(spec(host.path)), await sandbox.open(spec(other.path))
    both = await sandbox.open(spec(other.path, host.path))
    try:
        assert await run(first, "print(get().decode())") == "from the first\n"
        assert await run(second, "print(get().decode())") == "from the other\n"
        code = "print(get().decode(), urllib.request.urlopen('http://localhost:8081/').read().decode())"
        assert await run(both, code) == "from the other from the first\n"
    finally:
        for session in (first, second, both):
            await session.close()
    assert (host.requests, other.requests) == (2, 2)


async def test_a_pool_serves_sessions_whose_services_are_elsewhere(
    backend: str, sandbox: Sandbox, host: Host, other: Host
) -> None:
    pools = sandbox._pool  # type: ignore[attr-defined]
    await (await sandbox.open(spec(host.path))).close()
    await until(lambda: any(kind.ports == (PORT,) and pool for kind, pool in pools.items()))
    waiting = next(pool for kind, pool in pools.items() if kind.ports == (PORT,))[-1]
    session = await sandbox.open(spec(other.path))
    try:
        assert waiting in (session, session._channel)  # type: ignore[attr-defined]
        assert await run(session, "print(get().decode())") == "from the other\n"
    finally:
        await session.close()


async def test_a_service_that_is_down_is_not_a_failure(sandbox: Sandbox, host: Host, tmp_path: Path) -> None:
    session = await sandbox.open(spec(tmp_path / "absent", host.path))
    try:
        assert "Connection reset by peer" in await run(session, "print(tries(get))")
        late = Host(tmp_path / "absent", "late")
        assert await run(session, "print(get().decode())") == "late\n"
        late.end()
        assert "Connection reset by peer" in await run(session, "print(tries(get))")
        assert not session.closed
    finally:
        await session.close()


async def test_one_way_of_a_connection_can_end_before_the_other(sandbox: Sandbox, tmp_path: Path) -> None:
    came = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1) == b"s":  # say all, then listen
            writer.write(b"said")
            writer.write_eof()
            came.append(await reader.read())
        else:
            came.append(await reader.read())
            writer.write(came[-1])
        writer.close()

    server = await asyncio.start_unix_server(answer, tmp_path / "s")
    session = await sandbox.open(spec(tmp_path / "s"))
    try:
        code = """
def all_of(one):
    one.settimeout(10); text = b""
    while part := one.recv(1000): text += part
    return text
first, second = (socket.create_connection(("localhost", 8080)) for _ in range(2))
first.sendall(b"l" + bytes(500_000)); first.shutdown(socket.SHUT_WR); print(len(all_of(first)))
second.sendall(b"s"); print(all_of(second)); second.sendall(b"later"); second.shutdown(socket.SHUT_WR)
"""
        assert await run(session, code) == "500000\nb'said'\n"
        for _ in range(50):
            if len(came) == 2:
                break
            await run(session, "time.sleep(0.2)")  # a container is held still as a whole between calls
        assert came[1] == b"later"
    finally:
        await session.close()
        server.close()


@pytest.mark.parametrize("level", ["landlock", "unsafe-subprocess"])
async def test_other_levels_refuse(level: str, host: Host) -> None:
    async with serving(level, SandboxConfig(packages=(), preload=(), pool=0)) as weaker:
        with pytest.raises(SandboxFailure, match=r"service 0.*use --sandbox embedded or docker"):
            await weaker.open(spec(host.path))
        await (await weaker.open(SessionSpec())).close()
    assert level in BACKENDS


def test_services_that_cannot_be() -> None:
    for port in (0, 80, 65536):
        with pytest.raises(ValueError, match="port"):
            Service("x", port, Path("/x"))
    with pytest.raises(ValueError, match="too long"):
        Service("x", PORT, Path("/" + "x" * 107))
    with pytest.raises(ValueError, match="same port"):
        SessionSpec(services=(Service("a", PORT, Path("/a")), Service("b", PORT, Path("/b"))))
    with pytest.raises(ValueError, match="at most 8"):
        SessionSpec(services=tuple(Service("a", PORT + place, Path("/a")) for place in range(9)))


# ---- attacks


async def test_a_session_without_services_reaches_none(sandbox: Sandbox, session: Session, host: Host) -> None:
    plain = await sandbox.open(SessionSpec(limits=LIMITS))
    try:
        for port in (PORT, 80):
            assert "Connection refused" in await run(plain, f"print(tries(lambda: opened({port})))")
    finally:
        await plain.close()
    assert host.requests == 0


class _Listening:
    """Sockets of this machine that no session is to reach."""

    def __init__(self, folder: Path) -> None:
        self.hits: list[str] = []
        self.path, self.abstract = folder / "near", f"med-copilot-{os.urandom(6).hex()}"
        self._sockets = [socket.create_server(("127.0.0.1", 0))]
        self.port = self._sockets[0].getsockname()[1]
        for name in (str(self.path), f"\0{self.abstract}"):
            self._sockets.append(socket.socket(socket.AF_UNIX))
            self._sockets[-1].bind(name)
            self._sockets[-1].listen()
        self.path.chmod(0o777)
        for one in self._sockets:
            threading.Thread(target=self._accept, args=(one,), daemon=True).start()

    def _accept(self, one: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = one.accept()
                self.hits.append(str(one.getsockname()))
                connection.close()

    def close(self) -> None:
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


async def test_nothing_else_is_reached(session: Session, host: Host, tmp_path: Path) -> None:
    near = _Listening(tmp_path)
    try:
        code = f"""
def unix(path):
    one = socket.socket(socket.AF_UNIX); one.connect(path); return one
for port in ({near.port}, 22, 53, 80, 443, 2375, 8081): print(tries(lambda: opened(port)))
for host in ("192.168.0.1", "10.0.0.1", "169.254.169.254", "8.8.8.8"): print(tries(lambda: opened(8080, host=host)))
for path in ({str(host.path)!r}, {str(near.path)!r}, "\\0{near.abstract}"): print(tries(lambda: unix(path)))
print(tries(lambda: socket.getaddrinfo("example.org", 80)))
print(os.path.exists({str(host.path)!r}))
with open("/proc/self/mountinfo") as mounts: print({str(tmp_path)!r} in mounts.read())
"""
        lines = (await run(session, code)).splitlines()
        assert [line for line in lines[:-2] if not line.startswith("refused: ")] == []
        assert lines[-2:] == ["False", "False"]
        assert len(lines) == 17
        assert near.hits == []
    finally:
        near.close()


async def test_a_port_cannot_be_taken_over(session: Session) -> None:
    code = """
def take(option, address):
    one = socket.socket()
    if option: one.setsockopt(socket.SOL_SOCKET, option, 1)
    one.bind((address, 8080)); one.listen(); return "taken"
for option in (None, socket.SO_REUSEADDR, socket.SO_REUSEPORT):
    for address in ("127.0.0.1", "0.0.0.0"): print(tries(lambda: take(option, address)))
print(get().decode())
"""
    lines = (await run(session, code)).splitlines()
    assert [line for line in lines[:-1] if "Address already in use" not in line] == []
    assert lines[-1] == "from the first"


async def test_a_flood_of_connections_is_bounded(sandbox: Sandbox, host: Host) -> None:
    witness = await sandbox.open(spec(host.path))
    before = descriptors()
    session = await sandbox.open(spec(host.path))
    stopped, most = asyncio.Event(), 0

    async def look() -> None:
        nonlocal most
        while not stopped.is_set():
            most = max(most, descriptors())
            await asyncio.sleep(0.01)

    looking = asyncio.ensure_future(look())
    try:
        code = """
held, count = [], 0
for number in range(10_000):
    one = socket.socket(); one.setblocking(False); one.connect_ex(("127.0.0.1", 8080)); count += 1
    held.append(one)
    if len(held) > 300: held.pop(0).close()
print(count)
"""
        flood = asyncio.ensure_future(session.execute(PRELUDE + code))
        served = 0
        while not flood.done():
            assert await run(witness, "print(get().decode())") == "from the first\n"
            served += 1
        assert (await flood).stdout.text == "10000\n"
        assert served > 0
    finally:
        stopped.set()
        await looking
        await session.close()
        await witness.close()
    # Two or three for each connection, one of them of the service, which is in this process too. A look now and then
    # may miss the highest.
    assert MOST_CONNECTIONS <= most - before <= 3 * MOST_CONNECTIONS + 30
    await quiet(host)


async def test_connections_that_stay_open_wait_for_one_another(sandbox: Sandbox, host: Host) -> None:
    """To whichever service: what they cost the server is bounded by session."""
    session = await sandbox.open(spec(host.path, host.path))
    try:
        # Answers are read to their end: else the kernel resets what is closed, and nobody waits for the service.
        code = f"""
from http.client import HTTPResponse
held = [socket.create_connection(("127.0.0.1", 8080 + number % 2)) for number in range({MOST_CONNECTIONS})]
for one in held:
    one.sendall(b"GET / HTTP/1.1\\r\\n\\r\\n")
    answer = HTTPResponse(one); answer.begin(); answer.read()
print(tries(lambda: get(timeout=1)))
held.pop().close()
print(get().decode())
"""
        assert await run(session, code) == "refused: timed out\nfrom the first\n"
        assert 0 < host.most <= MOST_CONNECTIONS
    finally:
        await session.close()
    await quiet(host)


async def test_what_nobody_reads_is_not_held(sandbox: Sandbox, tmp_path: Path) -> None:
    """A service that takes connections and reads nothing: the session soon cannot send either."""
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        deaf.listen()
        session = await sandbox.open(spec(tmp_path / "deaf"))
        try:
            code = """
one = socket.socket(); one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
one.settimeout(1); one.connect(("127.0.0.1", 8080)); sent = 0
try:
    while sent < 100_000_000: sent += one.send(bytes(65536))
except TimeoutError: pass
print(sent)
"""
            assert 100_000 < int(await run(session, code)) < 2 * MIB
        finally:
            await session.close()


async def test_nothing_is_left_of_them(backend: str, sandbox: Sandbox, host: Host) -> None:
    """Also of half a request, of an answer that is not read, and of a session that ends in the middle of both."""
    warm = await sandbox.open(spec(host.path))
    await run(warm, "print(get().decode())")
    await filled(sandbox)
    tasks, open_before, ends = len(asyncio.all_tasks()), descriptors(), []
    for end in ("", "os._exit(0)", "os.kill(os.getpid(), 9)"):
        session = await sandbox.open(spec(host.path))
        code = f"""
half = socket.create_connection(("127.0.0.1", 8080)); half.sendall(b"GET / HT")
full = socket.create_connection(("127.0.0.1", 8080))
full.sendall(b"POST / HTTP/1.0\\r\\nContent-Length: 50000000\\r\\n\\r\\n"); full.setblocking(False)
tries(lambda: [full.send(b"x" * 65536) for _ in range(1000)])
{end}
"""
        ends.append((await session.execute(PRELUDE + code)).status)
        await session.close()
    assert ends == ["ok", "killed", "killed"]
    await warm.close()
    await quiet(host)
    await filled(sandbox)
    # There is a session less; the client of an engine keeps a few connections more or fewer to it. Each of the three
    # sessions had five descriptors or more.
    slack = 8 if backend == "docker" else 0
    await until(lambda: descriptors() < open_before + slack and len(asyncio.all_tasks()) < tasks)


async def test_frames_of_the_agent_reach_nothing(backend: str, sandbox: Sandbox, host: Host, other: Host) -> None:
    """At the level docker a process inside passes frames on: it can be ended, not written to, read or followed."""
    neighbour = await sandbox.open(spec(other.path))
    session = await sandbox.open(spec(host.path))
    try:
        code = """
import ctypes, struct
frame = struct.pack(">BII", 1, 7, 0) + struct.pack(">BII", 2, 7, 18) + b"GET / HTTP/1.0\\r\\n\\r\\n"
libc, got = ctypes.CDLL(None, use_errno=True), []
for pid in [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]:
    for number in range(64):
        for path in (f"/proc/{pid}/fd/{number}", f"/proc/{pid}/mem"):
            try:
                with open(path, "r+b", buffering=0) as file: file.write(frame); got.append(path)
            except OSError: pass
    if libc.ptrace(16, pid, 0, 0) == 0: got.append(f"ptrace {pid}")
print(got, get().decode())
"""
        assert await run(session, code) == "[] from the first\n"
        if backend == "docker":
            ended = """
for pid in [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in (1, os.getpid())]:
    if tries(lambda: os.kill(pid, 9)) is None: print("ended one")
time.sleep(0.5)
print(tries(get))
"""
            assert "ended one\nrefused" in await run(session, ended)
        assert await run(neighbour, "print(get().decode())") == "from the other\n"
        assert (await session.execute("1 + 1")).value == "2"
    finally:
        await session.close()
        await neighbour.close()
    assert other.requests == 1
