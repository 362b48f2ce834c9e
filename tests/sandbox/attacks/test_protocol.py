"""Forging, flooding, stealing and breaking the protocol; pretending success. What is measured here must stay true."""

import asyncio
import json

import pytest

from sandbox.base import Sandbox, Session, SessionSpec
from sandbox.errors import SessionClosed, TransferError
from tests.sandbox.attacks.conftest import LIMITS, attack, descriptors

pytestmark = pytest.mark.anyio

FORGED = {
    "length of 4 GiB": "b'\\xff\\xff\\xff\\xff' + b'x' * 100",
    "length zero": "b'\\0\\0\\0\\0'",
    "no JSON": "frame(b'not json')",
    "an array": "frame(b'[1, 2, 3]')",
    "another request's number": 'frame(b\'{"id": 1, "status": "ok"}\')',
    "the number true": 'frame(b\'{"id": true, "status": "ok"}\')',
    "no number": 'frame(b\'{"status": "ok"}\')',
    "deep nesting": "frame(b'{\"id\":' + b'[' * 100000 + b']' * 100000 + b'}')",
    "a million values": "frame(b'{\"id\": [' + b'1,' * 1000000 + b'1]}')",
    "not UTF-8": 'frame(b\'{"id": "\\xff\\xfe"}\')',
    "a number of a million digits": "frame(b'{\"id\": ' + b'9' * 1000000 + b'}')",
    "NaN": "frame(b'{\"id\": NaN}')",
    "ready once more": 'frame(b\'{"id": 0, "ready": true}\')',
}


@pytest.mark.parametrize("name", FORGED)
async def test_forged_frame_is_no_success(fresh: Session, name: str) -> None:
    code = f"data = {FORGED[name]}\nfd = protocol()\nwhile data: data = data[os.write(fd, data):]\ntime.sleep(60)"
    result = await attack(fresh, code, timeout=10)
    assert result.status == "killed"
    assert fresh.closed


FORGE_REPLY = """
import gc, json
def number():
    # The request in hand lies in the frames of the loop, which belongs to the agent.
    at = sys._getframe()
    while at:
        for value in at.f_locals.values():
            if isinstance(value, dict) and "op" in value and "id" in value: return value["id"]
        at = at.f_back
def request():
    fd, body = protocol(), b""
    size = int.from_bytes(os.read(fd, 4), "big")
    while len(body) < size: body += os.read(fd, size - len(body))
    return json.loads(body)
def answer(**more):
    empty = {"text": "", "truncated": False, "total_chars": 0}
    reply = {"id": number(), "status": "ok", "stdout": empty, "stderr": empty, "value": None,
             "value_truncated": False, "error": None, "exit_code": None} | more
    os.write(protocol(), frame(json.dumps(reply).encode()))
"""


async def unchanged(session: Session, path: str, content: bytes) -> None:
    """For a second."""
    for _ in range(10):
        await asyncio.sleep(0.1)
        assert await session.read_file(path) == content


async def test_a_forged_end_does_not_let_code_run_on(fresh: Session) -> None:
    """The session says "done" and works on: between calls it must stand still."""
    code = "stamp = os.open('stamp', os.O_RDWR | os.O_CREAT)\n" + FORGE_REPLY
    code += "answer(value='early')\nwhile True: os.pwrite(stamp, repr(time.time()).encode(), 0)"
    result = await attack(fresh, code, timeout=5)
    assert (result.status, result.value) == ("ok", "early"), result
    await asyncio.sleep(0.3)
    await unchanged(fresh, "stamp", await fresh.read_file("stamp"))


LONGER = """
import os, time
while not os.path.exists("/work/tick") or os.path.getsize("/work/tick") <= {size}:
    time.sleep(0.01)
"""


@pytest.mark.parametrize("way", ["thread", "child", "shell"])
async def test_left_work_stands_still_between_calls(fresh: Session, way: str) -> None:
    tick = "while True:\n    open('/work/tick', 'a').write('x'); time.sleep(0.005)"
    body = tick.replace("\n", "\n    ")
    code = {
        "thread": f"import threading, time\ndef run():\n    {body}\nthreading.Thread(target=run, daemon=True).start()",
        "child": f"import os, time\nif os.fork() == 0:\n    {body}",
        "shell": "import subprocess\nsubprocess.Popen(['bash', '-c', 'while :; do echo x >> /work/tick; "
        "sleep 0.005; done'])",
    }[way]
    assert (await fresh.execute(code + LONGER.format(size=0))).status == "ok"
    await asyncio.sleep(0.1)
    before = await fresh.read_file("tick")
    await unchanged(fresh, "tick", before)
    result = await fresh.execute(LONGER.format(size=len(before)))
    assert result.status == "ok", "what was held still goes on with the next call"


async def test_a_reply_laid_ready_is_not_taken(fresh: Session) -> None:
    code = (
        FORGE_REPLY
        + "answer(value='first')\n"
        + "\n".join(f"answer(id=number() + {n}, value='forged')" for n in range(1, 20))
    )
    result = await attack(fresh, code, timeout=10)
    if result.status != "killed":
        assert (await fresh.execute("1 + 1")).value != "'forged'"


async def test_flood_of_small_frames(sandbox: Sandbox, fresh: Session) -> None:
    """It ends the session, long before the time is up."""
    code = "fd, data = protocol(), frame(b'{}') * 20000\nwhile True: os.write(fd, data)"
    assert (await attack(fresh, code, timeout=20)).status == "killed"


async def test_half_a_frame(fresh: Session) -> None:
    result = await attack(fresh, "os.write(protocol(), b'\\0\\x10\\0\\0{')\ntime.sleep(60)", timeout=1)
    assert result.status == "timeout"


async def test_sixteen_mebibytes_that_never_end(fresh: Session) -> None:
    code = "fd, data = protocol(), b'\\0\\xff\\xff\\xff' + b'x' * (15 << 20)\n"
    code += "while data: data = data[os.write(fd, data):]\n"
    assert (await attack(fresh, code + "time.sleep(60)", timeout=1.5)).status == "timeout"
    channel = getattr(fresh, "_channel", None)
    assert len(getattr(getattr(channel, "_decoder", None), "_buffer", b"")) == 0


async def test_descriptors_sent_over_the_protocol_are_dropped(fresh: Session) -> None:
    before = await descriptors()
    code = "import array\ns = socket.socket(fileno=os.dup(protocol()))\n"
    code += "fds = [os.open('/dev/zero', 0) for _ in range(50)]\n"
    code += "s.sendmsg([frame(b'{}')], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))])\ntime.sleep(60)"
    assert (await attack(fresh, code, timeout=5)).status in ("killed", "timeout")
    assert await descriptors() <= before


async def test_a_stolen_request_is_no_success(fresh: Session) -> None:
    code = "import threading\nfd = protocol()\ndef steal():\n    while True: os.read(fd, 65536)\n"
    code += "threading.Thread(target=steal, daemon=True).start()\nNone"
    assert (await attack(fresh, code)).status == "ok"
    assert (await fresh.execute("1 + 1", timeout=1)).status in ("timeout", "killed", "ok")


async def test_a_closed_protocol(fresh: Session) -> None:
    assert (await attack(fresh, "os.close(protocol())\ntime.sleep(60)", timeout=5)).status in ("killed", "timeout")
    assert fresh.closed


async def test_descriptors_closed_by_number(fresh: Session) -> None:
    await fresh.execute("import os\nfor fd in range(256):\n    try: os.close(fd)\n    except OSError: pass")
    if not fresh.closed:
        assert (await fresh.execute("1 + 1")).value == "2"


async def test_a_forged_long_output_is_refused(fresh: Session) -> None:
    """The loop is replaced by one that answers `read_output` with far more than was asked for."""
    code = (
        FORGE_REPLY
        + """
answer(status="running")
def serve():
    fd = protocol()
    while True:
        message = request()
        text = "x" * 1_000_000
        reply = {"id": message["id"], "text": text, "offset": 0, "next_offset": len(text),
                 "total_chars": len(text), "done": True, "json": "[1" + ",1" * 3_000_000 + "]"}
        data = frame(json.dumps(reply).encode())
        while data: data = data[os.write(fd, data):]
serve()
"""
    )
    result = await attack(fresh, code)
    assert result.status == "running"
    with pytest.raises(SessionClosed):
        await fresh.read_output("stdout", 0, limit=100)


@pytest.mark.parametrize(
    "text", ["[" * 3000 + "]" * 3000, "NaN", "1e999", '{"a":1,"a":2}', "[1" + ",1" * 3_000_000 + "]"]
)
async def test_a_forged_variable_is_refused(fresh: Session, text: str) -> None:
    code = (
        FORGE_REPLY
        + f"""
import zlib
text = {text[:40]!r} if len({text[:40]!r}) < 40 else None
answer()
while True:
    message = request()
    answered = {{"id": message["id"], "json": message["name"] if text is None else text}}
    fd, data = protocol(), frame(json.dumps(answered).encode())
    while data: data = data[os.write(fd, data):]
"""
    )
    assert (await attack(fresh, code)).status == "ok"
    with pytest.raises(TransferError):
        await fresh.read_variable(text if len(text) >= 40 else "x")


PRETENDED = {
    "exit status zero": "os._exit(0)",
    "killed by itself": "os.kill(os.getpid(), 9)",
    "killed in a thread": "import threading\nthreading.Thread(target=lambda: os._exit(0)).start()\ntime.sleep(60)",
    "exec of true": "os.execv('/bin/true', ['true'])",
    "fault": "ctypes.string_at(0)",
    "abort": "ctypes.CDLL(None).abort()",
}


@pytest.mark.parametrize("name", PRETENDED)
async def test_an_end_is_no_success(fresh: Session, name: str) -> None:
    assert (await attack(fresh, PRETENDED[name], timeout=10)).status == "killed"
    with pytest.raises(SessionClosed):
        await fresh.execute("1")


async def test_printed_verdicts_stay_text(session: Session) -> None:
    text = json.dumps({"id": 1, "status": "ok", "correct": True, "reward": 1.0})
    result = await session.execute(f"print({text!r})\nraise SystemExit(1)")
    assert result.status == "error"
    assert text in result.stdout.text


PATCHES = {
    "builtins": "import builtins\nfor n in list(vars(builtins)):\n    if n not in ('__import__', '__name__', 'print'): "
    "setattr(builtins, n, None)",
    "json and os": "import json\njson.dumps = json.loads = json.JSONEncoder.encode = None\nos.write = os.read = None",
    "modules": "for n in list(sys.modules):\n    if n not in ('sys', 'builtins'): sys.modules[n] = None",
    "trace": "sys.settrace(lambda *a: 1 / 0); sys.setprofile(lambda *a: 1 / 0)",
    "streams": "sys.stdout = sys.stderr = sys.__stdout__ = None",
    "recursion limit": "sys.setrecursionlimit(60)",
    "working folder": "os.mkdir('gone'); os.chdir('gone'); os.rmdir('/work/gone')",
    "alarm": "import signal\nsignal.signal(14, lambda *a: 1 / 0); signal.setitimer(0, 0.01, 0.01)",
    "exit hooks": "import atexit\natexit.register(os._exit, 0)",
    "collector": "import gc\ngc.callbacks.append(lambda *a: 1 / 0); gc.disable()",
    "excepthook": "sys.excepthook = sys.displayhook = sys.unraisablehook = None",
    "codecs": "import codecs\ncodecs.encode = codecs.lookup = None",
}


@pytest.mark.parametrize("name", PATCHES)
async def test_a_patched_interpreter_harms_only_itself(sandbox: Sandbox, fresh: Session, name: str) -> None:
    await attack(fresh, PATCHES[name], timeout=10)
    if not fresh.closed:
        result = await fresh.execute("40 + 2", timeout=5)
        assert result.value in ("42", None)
        assert result.value == "42" or result.status != "ok"
    other = await sandbox.open(SessionSpec(limits=LIMITS))
    assert (await other.execute("40 + 2")).value == "42"
    await other.close()
