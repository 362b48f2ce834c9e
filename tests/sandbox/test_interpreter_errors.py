"""The facts of an error: where it was, what the names on the line were, and what there was instead."""

import sqlite3
from collections.abc import Iterator

import pytest

from sandbox.base import CodeError
from tests.sandbox.interpreter_child import Child

SETUP = """
import collections, json, math, os, sqlite3, sys
import numpy as np
import pandas as pd
frame = pd.DataFrame({"subject_id": [1, 2, 3], "gender": ["F", "M", "F"]})
patient = {"name": "A", "labs": {"glucose": 5.5, "sodium": 140}, 7: "seven"}
class Thing:
    def __init__(self):
        self.frame = frame
        self.table = patient
thing = Thing()
connection = sqlite3.connect(DATABASE)
"""

DEEP = """
sys.setrecursionlimit(100_000)
def f(n):
    if n == 0:
        raise ValueError('deep')
    f(n - 1)
caught = []
def g():
    try:
        f(50_000)
    except ValueError as e:
        caught.append(e)
import threading
threading.stack_size(512 << 20)
t = threading.Thread(target=g)
t.start()
t.join()
"""


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    folder = tmp_path_factory.mktemp("errors")
    data = folder / "data"
    data.mkdir()
    (data / "patients.csv").write_text("a\n")
    database = sqlite3.connect(data / "public.sqlite")
    database.execute("CREATE TABLE admissions (hadm_id INTEGER, admittime TEXT)")
    database.execute("CREATE TABLE patients (subject_id INTEGER, gender TEXT)")
    database.commit()
    database.close()
    with Child(folder, database=data / "public.sqlite", output=20_000) as child:
        assert child.run(f"DATABASE = {str(data / 'public.sqlite')!r}{SETUP}").error is None
        (child.work / "notes.txt").touch()
        yield child


def fail(child: Child, code: str) -> CodeError:
    result = child.run(code)
    assert result.status == "error"
    assert result.error is not None
    assert "sandbox/interpreter" not in result.error.traceback
    assert "/interpreter/" not in result.error.traceback
    return result.error


def test_place_names_and_traceback(child: Child) -> None:
    error = fail(child, "total = 10\ncounts = [1, 0]\ndef share(i):\n    return total / counts[i]\n\nshare(1)\n")
    assert (error.type, error.message) == ("ZeroDivisionError", "division by zero")
    assert (error.line, error.source) == (4, "    return total / counts[i]")
    assert error.names == {"total": "10", "counts": "list of 2: [1, 0]", "i": "1"}
    assert error.traceback.startswith('Traceback (most recent call last):\n  File "<call ')
    assert "    return total / counts[i]\n" in error.traceback
    assert error.traceback.count("\n  File ") == 2


def test_the_line_is_that_of_the_code_that_was_sent(child: Child) -> None:
    child.run("def inner(x):\n    return 1 / x")
    error = fail(child, "zero = 0\n\ninner(zero)")
    assert (error.line, error.source, error.names["zero"]) == (3, "inner(zero)", "0")
    assert "return 1 / x" in error.traceback


@pytest.mark.parametrize(
    ("code", "missing", "nearest"),
    [
        ("frme.head()", "frme", "frame"),
        ("def f(patients_seen):\n    return patient_seen\nf(1)", "patient_seen", "patients_seen"),
        ("[pateint for _ in range(2)]", "pateint", "patient"),
        ("sorte([1])", "sorte", "sorted"),
        ("frame['subjectid']", "subjectid", "subject_id"),
        ("frame[['gender', 'subjectid']]", "subjectid", "subject_id"),
        ("frame[['gendr']]", "gendr", "gender"),
        ("frame.loc[:, 'gendr']", "gendr", "gender"),
        ("(frame\n  .dropna()\n  .sort_values('gendr')\n)", "gendr", "gender"),
        ("frame.groupby('gendr').size()", "gendr", "gender"),
        ("frame.groupby('gender')['subject'].sum()", "subject", "subject_id"),
        ("thing.frame['gendr']", "gendr", "gender"),
        ("pd.DataFrame({'gender': [1]})['gendr']", "gendr", "gender"),
        ("frame.merge(frame, on='subjectid')", "subjectid", "subject_id"),
        ("patient['nam']", "nam", "name"),
        ("patient['labs']['glucos']", "glucos", "glucose"),
        ("thing.table['labs']['sodum']", "sodum", "sodium"),
        ("{'mass': 1, 'height': 2}['hight'] if 0 else dict(height=2)['hight']", "hight", None),
        ("patient[8]", "8", "name"),
        ("thing.frme", "frme", "frame"),
        ("frame.gruopby('gender')", "gruopby", "groupby"),
        ("frame.gendr", "gendr", "gender"),
        ("math.squareroot(2)", "squareroot", "sqrt"),
        ("np.aray([1])", "aray", "array"),
        ("'a'.uper()", "uper", "upper"),
        ("None.group(1)", "group", None),
        ("import nunpy", "nunpy", "numpy"),
        ("import pandas.plotings", "plotings", "plotting"),
        ("total = 2\ndef f():\n    if 0:\n        total = 1\n    return total\nf()", "total", "total"),
        ("from math import sqrroot", "sqrroot", "sqrt"),
        ("open('note.txt')", "note.txt", "notes.txt"),
        ("pd.read_csv('/data/patient.csv')", "/data/patient.csv", "patients.csv"),
        ("connection.execute('select * from patient')", "patient", "patients"),
        ("connection.execute('select p.gendr from patients p')", "gendr", "gender"),
        ("pd.read_sql('select admitime from admissions', connection)", "admitime", "admittime"),
        ("sqlite3.connect(DATABASE).execute('select * from admission')", "admission", "admissions"),
    ],
)
def test_what_was_missing_and_what_there_is(child: Child, code: str, missing: str, nearest: str | None) -> None:
    error = fail(child, f"import warnings; warnings.simplefilter('ignore', ResourceWarning)\n{code}")
    assert error.missing == missing
    if nearest is not None:
        assert error.candidates[0].endswith(nearest)
    assert len(error.candidates) <= 200


def test_columns_of_the_tables_in_the_query_only(child: Child) -> None:
    error = fail(child, "connection.execute('select x from admissions')")
    assert set(error.candidates) == {"hadm_id", "admittime"}


def test_descriptions_of_values(child: Child) -> None:
    code = "a, b, c = frame, frame['gender'], np.zeros((3, 4))\nd, e, f = 'x' * 5000, 2 ** 9999, np.float64(1.5)\n"
    code += "g, h, i = thing, math, math.sqrt\nj, k = list(range(10 ** 6)), b'a'\n"
    names = fail(child, code + "(a, b, c, d, e, f, g, h, i, j, k, 1 / 0)").names
    assert names["a"] == "DataFrame 3x2, columns: subject_id, gender"
    assert names["b"].startswith("Series of 3, name 'gender', dtype object: 'F', 'M'")
    assert names["c"] == "ndarray of shape (3, 4), dtype float64: 0.0, 0.0, 0.0, 0.0"
    assert names["d"].startswith("str of 5000 characters: 'xxx")
    assert names["e"] == "int of 10000 bits"
    assert names["f"] == "1.5 (float64)"
    assert names["g"] == "Thing object with attributes: frame, table"
    assert (names["h"], names["i"], names["k"]) == ("module math", "function sqrt", "b'a'")
    assert names["j"].startswith("list of 1000000: [0, 1")
    assert max(map(len, names.values())) <= 300


def test_at_most_twelve_names(child: Child) -> None:
    code = "; ".join(f"v{number} = {number}" for number in range(20)) + "\n"
    code += "[" + ", ".join(f"v{number}" for number in range(20)) + ", 1 / 0]"
    assert list(fail(child, code).names) == [f"v{number}" for number in range(12)]


def test_syntax_errors(child: Child) -> None:
    error = fail(child, "a = 1\nb = (2,\nc = 3")
    assert (error.type, error.line, error.source) == ("SyntaxError", 2, "b = (2,")
    assert error.message == "'(' was never closed (line 2, column 5)"
    assert error.traceback.startswith('  File "<call ')
    assert "    b = (2,\n        ^\n" in error.traceback
    error = fail(child, "if 1:\nx = 1")
    assert (error.type, error.line) == ("IndentationError", 2)
    assert "IndentationError: expected" in error.traceback
    inner = fail(child, "eval('1 +')")
    assert (inner.type, inner.line) == ("SyntaxError", 1)
    assert fail(child, "x = '\ud800'").type == "UnicodeEncodeError"
    assert fail(child, "x = 1\0").type in ("SyntaxError", "ValueError")
    assert fail(child, "(" * 5000).type in ("SyntaxError", "MemoryError", "RecursionError")


def test_sys_exit_and_interrupts_are_errors(child: Child) -> None:
    assert fail(child, "sys.exit(3)").message == "sys.exit() was called with 3; the session goes on"
    error = fail(child, "print(1)\nexit()")
    assert (error.type, error.line) == ("SystemExit", 2)
    assert fail(child, "raise KeyboardInterrupt").type == "KeyboardInterrupt"
    # Another thread of the process may take the signal, a moment later.
    late = "import signal, time\nos.kill(os.getpid(), signal.SIGINT)\nfor _ in range(500):\n    time.sleep(0.01)"
    assert fail(child, late).type == "KeyboardInterrupt"
    assert fail(child, "raise GeneratorExit").type == "GeneratorExit"
    assert child.run("1").value == "1"


def test_chains_notes_and_groups(child: Child) -> None:
    error = fail(child, "try:\n    {}['a']\nexcept KeyError as e:\n    raise ValueError('bad') from e")
    assert error.line == 4
    assert "direct cause" in error.traceback
    assert error.traceback.index("KeyError: 'a'") < error.traceback.index("ValueError: bad")
    assert "During handling" in fail(child, "try:\n    1 / 0\nexcept ZeroDivisionError:\n    nothing").traceback
    error = fail(child, "e = ValueError('x')\ne.add_note('look here')\nraise e")
    assert error.traceback.endswith("ValueError: x\nlook here\n")
    assert "| TypeError: b" in fail(child, "raise ExceptionGroup('all', [TypeError('b')])").traceback


@pytest.mark.parametrize(
    "code",
    [
        "class E(Exception):\n    def __str__(self):\n        raise SystemExit\n    __repr__ = __str__\nraise E",
        "class M(type):\n    @property\n    def __name__(self):\n        raise ValueError\n"
        "class E(Exception, metaclass=M):\n    __cause__ = property(lambda self: 1 / 0)\nraise E",
        "class E(Exception):\n    def __getattribute__(self, name):\n        raise TypeError\nraise E",
        "class E(KeyError):\n    args = property(lambda self: 1 / 0)\nraise E",
    ],
)
def test_exceptions_that_fight_back(child: Child, code: str) -> None:
    assert fail(child, code).type == "E"
    assert child.run("1").value == "1"


def test_a_repr_that_raises_is_an_error_of_the_code(child: Child) -> None:
    error = fail(child, "class R:\n    def __repr__(self):\n        return 1 / 0\nR()")
    assert (error.type, error.line) == ("ZeroDivisionError", 3)
    assert fail(child, "class R:\n    def __repr__(self):\n        return 1\nR()").type == "TypeError"
    names = fail(child, "r = R(); frame2 = type('F', (), {'__len__': None})()\n(r, frame2, 1 / 0)").names
    assert names == {"r": "R object", "frame2": "F object"}


def test_deep_recursion(child: Child) -> None:
    error = fail(child, "def f(n):\n    return f(n + 1)\nf(0)")
    assert (error.type, error.line) == ("RecursionError", 2)
    assert "frames left out" in error.traceback
    assert len(error.traceback) < 5000


def test_a_traceback_of_a_million_lines_is_cut(child: Child) -> None:
    error = fail(child, "raise ValueError('line\\n' * 1_000_000)")
    assert len(error.message) <= 4000
    assert "characters left out" in error.message
    assert len(error.traceback) <= 10_000
    error = fail(child, f"{DEEP}raise caught[0]")
    assert (error.type, error.message, error.line) == ("ValueError", "deep", 5)
    assert len(error.traceback) <= 10_000
    chain = "e = None\nfor i in range(100_000):\n    n = ValueError(i)\n    n.__cause__ = e\n    e = n\nraise e"
    error = fail(child, chain)
    assert error.message == "99999"
    assert error.traceback.count("direct cause") == 4


def test_memory_errors_are_reported(child: Child) -> None:
    error = fail(child, "x = 'a' * (1 << 60)")
    assert (error.type, error.line) == ("MemoryError", 1)
