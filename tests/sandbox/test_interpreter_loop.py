"""The loop outlives what the agent's code does to its own interpreter, and ends when it cannot answer any more."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.interpreter_child import Child


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    with Child(tmp_path) as child:
        yield child


def works(child: Child) -> None:
    assert child.run("print('still', flush=True)\n6 * 7").value == "42"
    assert child.output("stdout").text == "still\n"
    assert child.run("echo shell", "shell").stdout.text == "shell\n"


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos.closerange(0, 256)",
        "import os\nfor fd in range(256):\n    try:\n        os.close(fd)\n    except OSError:\n        pass",
        "import sys\nsys.stdout.close(); sys.stderr.close(); sys.stdin.close()",
        "import sys\nsys.stdout = sys.stderr = None",
        "import sys\nsys.settrace(lambda *a: 1 / 0)",
        "import sys\nsys.setrecursionlimit(60)",
        "import signal\nsignal.signal(signal.SIGALRM, lambda *a: 1 / 0)\nsignal.setitimer(signal.ITIMER_REAL, 0.01)",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(300,)).start()",
        "import sys\nsys.modules.clear()",
        "import sys\ndel sys.modules['__main__'], __builtins__",
        "globals().clear()",
        "import os\nos.mkdir('x'); os.chdir('x'); os.rmdir('../x')",
        "import os\nos.environ.clear()",
        "import linecache, traceback, ast\nlinecache.cache.clear(); traceback.format_tb = None",
        "import gc\ngc.disable()",
        "import warnings\nwarnings.simplefilter('error')",
        "import sys\nsys.exit()",
        "import signal, os\nsignal.signal(signal.SIGINT, signal.SIG_IGN)",
    ],
)
def test_the_next_call_works(child: Child, code: str) -> None:
    child.run(code)
    works(child)


@pytest.mark.parametrize(
    "name", ["len", "isinstance", "print", "open", "repr", "int", "dict", "Exception", "__import__"]
)
def test_changed_builtins_do_not_reach_the_loop(child: Child, name: str) -> None:
    child.run(f"import builtins\nbuiltins.{name} = lambda *a, **k: 5")
    result = child.run("len = 3\n1 / 0")
    assert result.error is not None
    assert result.error.type == "ZeroDivisionError"
    assert child.run(f"{name}('x') if {name!r} != 'len' else 5").value in ("5", None)
    child.run(f"builtins.{name} = None\ndel builtins.{name}")
    assert child.run("2").value == "2"


def test_additions_to_builtins_persist(child: Child) -> None:
    child.run("import builtins\nbuiltins.extra = 5\nbuiltins.max = min")
    assert child.run("extra, max(1, 2)").value == "(5, 1)"
    child.run("del builtins.max")
    error = child.run("max(1, 2)").error
    assert error is not None
    assert error.type == "NameError"
    child.run("import time\ntime.sleep(0.1)\nprint(max(1, 2))", background=True)
    assert child.whole("stdout") == "2\n"
    assert child.run("max(1, 2)").status == "error"


def test_changed_modules_do_not_reach_the_loop(child: Child) -> None:
    child.run(
        "import json, os, time\nfor name in dir(os):\n    setattr(os, name, None)\njson.dumps = time.sleep = None"
    )
    assert child.run("print('still')\n6 * 7").value == "42"
    assert child.output("stdout").text == "still\n"
    assert child.variable("name") == "writev"


def test_a_fork_does_not_answer(child: Child) -> None:
    code = "import os\npid = os.fork()\nif pid:\n    os.waitpid(pid, 0)\nprint('parent' if pid else 'child')"
    result = child.run(code)
    assert result.stdout.text == "child\nparent\n"
    works(child)
    result = child.run("pid = os.fork()\nif not pid:\n    raise ValueError\nos.waitpid(pid, 0)[1]")
    assert (result.status, result.value) == ("ok", "0")
    child.run("pid = os.fork()\nif pid:\n    os.waitpid(pid, 0)", background=True)
    child.whole("stdout")
    works(child)


def test_workers_of_multiprocessing(child: Child) -> None:
    code = "import multiprocessing\ndef square(x):\n    return x * x\n"
    code += "with multiprocessing.get_context('fork').Pool(2) as pool:\n    print(pool.map(square, [1, 2, 3]))"
    assert child.run(code).stdout.text == "[1, 4, 9]\n"


def test_the_end_of_the_interpreter(tmp_path: Path) -> None:
    for number, code in enumerate(("os._exit(0)", "os.closerange(3, 4096)", "os.kill(os.getpid(), 9)")):
        folder = tmp_path / str(number)
        folder.mkdir()
        with Child(folder) as child, pytest.raises(EOFError):
            child.run(f"import os\n{code}")


def test_the_end_of_the_supervisor(child: Child) -> None:
    child.run("import time\ntime.sleep(300)", background=True)
    assert child.close_socket() == 0


def test_requests_that_are_not_known(child: Child) -> None:
    assert child.ask(op="fly")["error"]["type"] == "RequestError"
    assert child.ask(op="execute", code="1", language="perl")["error"]["type"] == "RequestError"
    works(child)
