"""Python in a session: one namespace, values as in a REPL, output of all kinds, background work."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.base import Output
from sandbox.errors import TransferError
from tests.sandbox.interpreter_child import Child


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    with Child(tmp_path) as child:
        yield child


def test_names_persist_and_the_last_expression_has_a_value(child: Child) -> None:
    first = child.run("import math\nx = 20\ndef f(y):\n    return x + y\nf(1)")
    assert (first.status, first.value, first.error) == ("ok", "21", None)
    assert child.run("x = 5; f(1)").value == "6"
    assert child.run("x = 6").value is None
    assert child.run("None").value is None
    assert child.run("").value is None
    assert child.run("'a\\n'").value == "'a\\n'"
    assert child.run("for i in range(3):\n    i").value is None
    assert child.run("__name__, [n for n in dir() if n.startswith('f')]").value == "('__main__', ['f'])"


def test_main_can_be_pickled_and_inspected(child: Child) -> None:
    code = "import inspect, pickle\ndef f():\n    pass\npickle.loads(pickle.dumps(f)) is f, inspect.getsource(f)"
    assert child.run(code).value == "(True, 'def f():\\n    pass\\n')"


def test_the_surroundings(child: Child) -> None:
    (child.work / "helper.py").write_text("answer = 42\n")
    assert child.run("import helper, os, sys\nhelper.answer, os.getcwd(), sys.argv").value == repr(
        (42, str(child.work), [""])
    )
    assert child.run("input()").error is not None
    assert child.run("import random\nrandom.random()").value == "0.32383276483316237"
    shown = child.run("import warnings\nwarnings.warn('odd')")
    assert "<call 4>:2: UserWarning: odd" in shown.stderr.text
    assert "UserWarning: odd" in child.run("import warnings\nwarnings.warn('odd')").stderr.text


def test_a_table_is_shown_wide(tmp_path: Path) -> None:
    with Child(tmp_path, before="import pandas") as child:
        frame = "import pandas as pd\ndf = pd.DataFrame({f'column_{i:02}': [i, None] for i in range(12)})\n"
        value = child.run(frame + "df").value
        assert value is not None
        assert "column_11" in value.splitlines()[0]
        assert child.run("df['column_03']").value == "0    3.0\n1    NaN\nName: column_03, dtype: float64"
        assert child.run("pd.set_option('display.max_columns', 2)").value is None
        assert "..." in (child.run("df").value or "")


def test_output_of_python_and_of_children_in_order(child: Child) -> None:
    code = "import os, subprocess, sys\nprint('a')\nos.system('echo b')\nprint('c', end='', flush=True)\n"
    code += "subprocess.run(['sh', '-c', 'echo d >&2'])\nprint('e', file=sys.stderr)\nos.write(1, b'f')\n"
    result = child.run(code + "sys.stderr.write('g') and None")
    assert result.stdout == Output("a\nb\ncf", False, 6)
    assert result.stderr == Output("d\ne\ng", False, 5)
    assert child.run("1").stdout == Output()


def test_bytes_and_surrogates(child: Child) -> None:
    result = child.run("import os\nprint('\\ud800')\nos.write(1, b'\\xff\\xe2\\x82') and None")
    assert result.stdout.text == "\\ud800\n\\xff\\xe2\\x82"
    assert child.run("class A:\n    def __repr__(self):\n        return '\\ud800'\nA()").value == "\\ud800"


def test_long_output_is_shown_by_its_ends_and_paged_in_full(child: Child) -> None:
    text = "".join(f"{number} é€𝄞\n" for number in range(60_000))
    result = child.run("for number in range(60_000):\n    print(number, 'é€𝄞')")
    assert result.stdout.truncated
    assert result.stdout.total_chars == len(text)
    assert 1900 < len(result.stdout.text) <= 2000
    assert result.stdout.text.startswith(text[:900])
    assert result.stdout.text.endswith(text[-900:])
    assert "characters left out" in result.stdout.text
    assert child.whole("stdout") == text
    for offset in (0, 1, 99_999, 262_143, 262_145, len(text) - 3, len(text), len(text) + 5):
        part = child.output("stdout", offset, 10)
        assert part.text == text[offset : offset + 10]
        assert (part.total_chars, part.done) == (len(text), True)
        assert part.next_offset == part.offset + len(part.text)


def test_a_large_output_of_a_child_does_not_block(child: Child) -> None:
    result = child.run("import subprocess\nsubprocess.run(['sh', '-c', 'yes | head -c 3000000']).returncode")
    assert (result.value, result.stdout.total_chars) == ("0", 3_000_000)


def test_a_huge_value_is_cut(child: Child) -> None:
    result = child.run("list(range(100_000))")
    assert result.value_truncated
    assert result.value is not None
    assert result.value.startswith("[0, 1, 2")
    assert result.value.endswith("99999]")
    assert len(result.value) <= 2000


def test_a_full_disk_is_an_error_of_the_code_and_the_next_call_works(tmp_path: Path) -> None:
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))"
    with Child(tmp_path, before=limit) as child:
        result = child.run("while True:\n    print('x' * 1000)")
        assert result.error is not None
        assert result.error.type == "OSError"
        assert result.error.line == 2
        assert result.stdout.total_chars == 500_000
        assert child.run("print('y')\n1").stdout.text == "y\n"
        assert child.run("import sys\nsys.stdout.write('z' * 600_000) and None").stdout.total_chars == 500_000
        assert child.run("print('y')\n1").stdout.text == "y\n"


def test_the_capture_survives_a_working_folder_without_room_for_files(child: Child) -> None:
    code = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (3, 4096))\nprint('a')"
    assert child.run(code).stdout.text == "a\n"
    assert child.run("print('b')").stdout.text == "b\n"
    assert child.output("stdout").text == "b\n"


def test_an_output_that_the_agent_cuts_or_blows_up(child: Child) -> None:
    assert child.run("import os\nprint('abc' * 100)\nos.ftruncate(1, 2)").stdout.text == "ab"
    result = child.run("os.ftruncate(1, 1 << 40)")
    assert result.stdout.total_chars <= 512 << 20
    assert child.run("print('c')").stdout.text == "c\n"


def test_one_background_call_at_a_time(child: Child) -> None:
    code = "import os, time\nprint('begin')\nwhile not os.path.exists('go'):\n    time.sleep(0.01)\nstate = 'done'"
    started = child.run(code, background=True)
    assert (started.status, started.value, started.error) == ("running", None, None)
    part = child.output("stdout", wait=60)
    assert (part.text, part.done) == ("begin\n", False)
    for background in (False, True):
        busy = child.run("1", background=background)
        assert busy.status == "error"
        assert busy.error is not None
        assert busy.error.type == "BackgroundBusy"
        assert "read_output" in busy.error.message
    assert child.output("stdout", part.next_offset).text == ""
    with pytest.raises(TransferError):
        child.variable("state")
    (child.work / "go").touch()
    assert child.whole("stdout") == "begin\n"
    assert child.variable("state") == "done"


def test_background_work_ends_with_its_value_or_its_traceback(child: Child) -> None:
    child.run("import os, time\ndef wait(name):\n    while not os.path.exists(name):\n        time.sleep(0.01)")
    child.run("print('begin')\nwait('go')\nprint('end')\n41 + 1", background=True)
    assert child.run("1").status == "error"
    (child.work / "go").touch()
    assert child.whole("stdout") == "begin\nend\n42\n"
    child.run("print('bad', flush=True)\n1 / 0", background=True)
    assert child.whole("stderr").endswith("ZeroDivisionError: division by zero\n")
    assert 'File "<call 3>", line 2' in child.whole("stderr")
    assert child.run("2").value == "2"
    child.run("raise SystemExit", background=True)
    assert "SystemExit" in child.whole("stderr")


def test_background_output_is_paged_while_it_grows(child: Child) -> None:
    child.run("import time\nfor i in range(20):\n    print('é' * 500)\n    time.sleep(0.002)", background=True)
    assert child.whole("stdout") == ("é" * 500 + "\n") * 20


def test_background_shell_and_sql(child: Child) -> None:
    waits = "while [ ! -e go ]; do sleep 0.01; done"
    child.run(f"echo one; {waits}; echo two >&2; exit 4", "shell", background=True)
    assert child.run("1").status == "error"
    (child.work / "go").touch()
    assert child.whole("stdout") == "one\n"
    assert child.whole("stderr") == "two\nShellError: the command ended with exit status 4: two\n"
    child.run("select 1", "sql", background=True)
    assert "no database" in child.whole("stderr")
