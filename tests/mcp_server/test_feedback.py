"""Error grounding: real errors from a real interpreter, a real catalogue, and texts as agents paste them."""

import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server.feedback import Diagnosis, explain, explain_text
from mcp_server.feedback_base import nearest
from sandbox.base import CodeError, Language, Limits
from sandbox.reply import execution
from sandbox.wire import Decoder, pack
from tasks.catalog import Catalog, build

CHILD = "import sys, json; from sandbox.interpreter.main import run; run(int(sys.argv[1]), json.loads(sys.argv[2]))"


class Interpreter:
    """The session's interpreter in a plain child process, over a socket."""

    def __init__(self, data: Path, work: Path) -> None:
        ours, theirs = socket.socketpair()
        options = f'{{"database": "{data / "hospital.sqlite"}", "seed": 0, "output": 20000, "work": "{work}"}}'
        self._child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(theirs.fileno()), options],
            pass_fds=[theirs.fileno()],
            cwd=Path(__file__).parents[2],
        )
        theirs.close()
        self._socket = ours
        self._decoder = Decoder()
        self._receive()

    def _receive(self) -> dict[str, Any]:
        while True:
            data = self._socket.recv(1 << 16)
            assert data, "the interpreter ended"
            if messages := self._decoder.feed(data):
                return messages[0]

    def error(self, code: str, language: Language = "python") -> CodeError:
        """The facts of the error that `code` ends with."""
        self._socket.sendall(pack({"id": 1, "op": "execute", "code": code, "language": language, "background": False}))
        error = execution(self._receive(), 0.0, Limits()).error
        assert error is not None, f"no error came from {code!r}"
        return error

    def close(self) -> None:
        self._socket.close()
        self._child.wait(30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("a_folder_whose_name_is_so_long_that_its_paths_may_be_cut")
    with closing(sqlite3.connect(data / "hospital.sqlite")) as database:
        database.executescript(
            """
            CREATE TABLE PATIENTS (SUBJECT_ID INTEGER, GENDER TEXT, DOB TEXT);
            CREATE TABLE ADMISSIONS (HADM_ID INTEGER, SUBJECT_ID INTEGER, ADMITTIME TEXT, DISCHTIME TEXT);
            CREATE TABLE PRESCRIPTIONS (HADM_ID INTEGER, DRUG TEXT, DOSE_VAL_RX TEXT);
            INSERT INTO PATIENTS VALUES (1, 'F', '2050-01-01'), (2, 'M', '2060-01-01');
            INSERT INTO ADMISSIONS VALUES (10, 1, '2100-01-01 10:00:00', '2100-01-04 09:00:00');
            INSERT INTO PRESCRIPTIONS VALUES (10, 'lidocaine 5% ointment', '1');
            """
        )
    (data / "labs.csv").write_text("SUBJECT_ID,VALUE\n1,3.5\n2,\n")
    return data


@pytest.fixture(scope="module")
def catalog(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    path = tmp_path_factory.mktemp("catalog") / "catalog.sqlite"
    build([folder / "hospital.sqlite"], path)
    opened = Catalog(path)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def interpreter(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interpreter]:
    session = Interpreter(folder, tmp_path_factory.mktemp("work"))
    yield session
    session.close()


LOAD = """import pandas as pd, sqlite3
con = sqlite3.connect("file:DATABASE?mode=ro", uri=True)
df = pd.read_sql_query("SELECT * FROM PATIENTS", con)
"""


@pytest.fixture
def diagnose(interpreter: Interpreter, catalog: Catalog, folder: Path) -> Any:
    def run(code: str, language: Language = "python") -> Diagnosis:
        code = code.replace("DATABASE", str(folder / "hospital.sqlite")).replace("DATA", str(folder))
        error = interpreter.error(code, language)
        return explain(error, language=language, code=code, catalog=catalog)

    return run


def test_a_wrong_column_of_a_data_frame(diagnose: Any) -> None:
    found = diagnose(LOAD + "x = 1\nprint(df['subject id'].mean())\n")
    assert found.cause == "There is no column 'subject id'."
    assert found.missing == "subject id"
    assert found.line == 5
    assert found.source == "print(df['subject id'].mean())"
    assert found.fixes[0] == "Use 'SUBJECT_ID' instead of 'subject id'."
    assert "Columns: SUBJECT_ID, GENDER, DOB." in found.fixes
    assert found.values["df"].startswith("DataFrame 2x3, columns: SUBJECT_ID")
    assert found.snippet.splitlines()[-1] == "> 5 | print(df['subject id'].mean())"
    assert found.snippet.splitlines()[0].startswith("  3 | df = pd.read_sql_query")


def test_a_column_of_another_table_is_named_with_its_table(diagnose: Any) -> None:
    found = diagnose(LOAD + "df['ADMITTIME']")
    assert any("ADMISSIONS" in fix for fix in found.fixes)


def test_several_wrong_columns(diagnose: Any) -> None:
    found = diagnose(LOAD + "df[['SUBJECTID', 'GENDR']]")
    assert found.cause == "There are no columns SUBJECTID, GENDR."
    assert found.fixes[:2] == ("Use 'SUBJECT_ID' instead of 'SUBJECTID'.", "Use 'GENDER' instead of 'GENDR'.")


@pytest.mark.parametrize(
    ("code", "cause", "fix"),
    [
        ("patient_count = 3\nprint(patient_cuont)", "The name 'patient_cuont' is not known.", "Use 'patient_count'"),
        ("np.mean([1])", "The name 'np' is not known.", "import numpy as np"),
        ("x = true", "The name 'true' is not known.", "Write True"),
        ("d = {'alpha': 1}\nd['Alpha']", "There is no key 'Alpha'.", "Use 'alpha'"),
        ("d = {'1': 'a'}\nd[1]", "There is no key '1'.", "use '1'"),
        ("def f():\n    print(n)\n    n = 1\nf()", "The local variable 'n' is read before it is set.", "global"),
        ("'abc'.uper()", "The str object has no attribute 'uper'.", "Use 'upper'"),
        ("import re\nre.match('a', 'b').group()", "The value is None, so it has no 'group'.", "Test for None"),
        ("import math\nmath.sqroot(2)", "The module 'math' has no attribute 'sqroot'.", "Use 'sqrt'"),
        (LOAD + "df.iteritems()", "The DataFrame object has no attribute 'iteritems'.", "items()"),
        (LOAD + "df.GENDER.lower()", "The Series object has no attribute 'lower'.", ".str.lower"),
        (LOAD + "df.DOB.dt.year", ".dt does not work on a column of this type.", "pd.to_datetime"),
        ("[1, 2][5]", "A position past the end was asked for.", "positions start at 0"),
        ("rows = []\nrows[0]", "A position past the end was asked for.", "rows is empty"),
        ("n = 0\n1 / n", "Something was divided by zero.", "n is 0."),
        ("a = None\na[0]", "The value is None where something else was expected.", "a is None."),
        ("'2100-01-04' - '2100-01-01'", "- does not work between str and str.", "dates"),
        ("'5' > 3", "str and int cannot be compared with >.", "numbers"),
        ("'a' + 1", "A text can only be joined with a text.", "str(value)"),
        ("len()", "The number of arguments is 0 where exactly one fit.", "Name the arguments"),
        ("def g(a, b): pass\ng(1)", "The call leaves out 'b'.", "every argument"),
        ("def g(a): pass\ng(1, 2)", "The number of arguments is 2 where 1 fit.", "Name the arguments"),
        ("def g(alpha): pass\ng(alpa=1)", "g() takes no argument named 'alpa'.", "help(g)"),
        ("sum2 = 3\nsum2(1)", "A int is called like a function.", "Remove the brackets"),
        ("for i in 5: pass", "A int is not iterable.", "type(...)"),
        ("[(1, 2)]['a']", "A list or a text was asked for a name instead of a position.", "fetchall()"),
        ("{[1]: 2}", "A list cannot be a key or a member of a set.", "tuple"),
        ("import json\njson.dumps({1, 2})", "A set is not JSON.", "tolist"),
        ("float('12 mg')", "The text '12 mg' is not a number.", "to_numeric"),
        ("int('3.5')", "The text '3.5' is not a number.", "int(float(text))"),
        ("a, b, c = 1, 2", "3 names are set from 2 values.", "Print the value"),
        ("a, b = 1, 2, 3", "More values came than names are set.", "by position"),
        (LOAD + "if df.GENDER == 'F': pass", "A whole column was used as one true or false.", "brackets"),
        (LOAD + "df[df.GENDER == 'F' and df.DOB > '2']", "A whole column was used as one true or false.", "& | ~"),
        (
            "from datetime import datetime\ndatetime.strptime('2100-01-04 09:00', '%Y-%m-%d')",
            "A text is not a date of the expected form.",
            "pd.to_datetime",
        ),
        ("int(float('nan'))", "A missing value cannot become an integer.", "dropna"),
        (
            "import pandas as pd\npd.DataFrame({'k': [1]}).merge(pd.DataFrame({'k': ['1']}), on='k')",
            "The key columns of the merge have different types: int64 and",
            "same type",
        ),
        (
            "import pandas as pd\npd.DataFrame({'a': [1, 2], 'b': [1]})",
            "Two things that belong together have different lengths.",
            "lengths",
        ),
        ("max([])", "Something empty was asked for its largest", "filter or query"),
        ("import math\nmath.log(0)", "A root or logarithm was taken of a value that has none.", "<= 0"),
        ("import json\njson.loads('{a: 1}')", "The text is not JSON.", "double quotes"),
        ("def f(): f()\nf()", "A function calls itself without end.", "loop"),
        ("assert 1 == 2", "An assert of the code does not hold.", "Print"),
        ("next(iter([]))", "There is no next element.", "None"),
        ("b'\\xff'.decode()", "The file is not in the encoding that was assumed.", "latin-1"),
        ("raise TimeoutError('x')", "The call took longer than its limit.", "background=true"),
        ("raise MemoryError", "The session ran out of memory.", "chunksize"),
        ("from math import squareroot", "The module 'math' has no 'squareroot'.", "dir(math)"),
        (
            "import urllib.request as u\nu.urlopen('http://127.0.0.1:9/')",
            "There is no network in the sandbox.",
            "/data",
        ),
        ("raise RuntimeError('odd')", "The code stopped with RuntimeError: odd.", "smaller steps"),
    ],
)
def test_causes_and_fixes(diagnose: Any, code: str, cause: str, fix: str) -> None:
    found = diagnose(code)
    assert found.cause.startswith(cause)
    assert any(fix in one for one in found.fixes), found.fixes


def test_a_module_that_is_not_installed(diagnose: Any) -> None:
    found = diagnose("import scikit_learn")
    assert found.cause == "The module 'scikit_learn' is not installed here."
    assert found.fixes[0].startswith("import sklearn")
    assert any(fix.startswith("Installed: ") for fix in found.fixes)
    found = diagnose("import duckdb_x_y")
    assert "no network" in found.fixes[-1]


def test_a_file_that_is_not_there(diagnose: Any, folder: Path) -> None:
    found = diagnose("open('DATA/LABS.CSV')")
    assert found.cause.startswith("There is no file")
    assert found.fixes[0].startswith(f"Use '{folder}/labs.csv'")
    assert any(fix.startswith("Files here: ") and "hospital.sqlite" in fix for fix in found.fixes)


@pytest.mark.parametrize(
    ("code", "line", "caret", "fix"),
    [
        ("x = 1\nif x == 1\n    print(x)\n", 2, 9, "colon"),
        ("total = (1 + 2\nprint(total)\n", 1, 8, "Close the bracket"),
        ("for i in [1]:\nprint(i)\n", 2, 0, "Indent the lines"),
        ("print 'a'\n", 1, 0, "print is a function"),
        ("x = 'abc\n", 1, 4, "Close the quote"),
        ("SELECT COUNT(*) FROM PATIENTS\n", 1, None, "language sql"),
        ("```python\nx = 1\n```\n", 1, None, "fences"),
        ("ls /data\n", 1, None, "run_terminal"),
        ("x = 007\n", 1, None, "leading zeros"),
    ],
)
def test_syntax_errors_have_a_place(diagnose: Any, code: str, line: int, caret: int | None, fix: str) -> None:
    found = diagnose(code)
    assert found.line == line
    assert found.source == code.splitlines()[line - 1]
    assert any(fix in one for one in found.fixes), found.fixes
    marks = [row for row in found.snippet.splitlines() if set(row) <= set(" |^")]
    if caret is not None:
        assert marks[0].index("^") - len("  1 | ") == caret


def sql_caret(found: Diagnosis) -> str:
    """What the caret stands under."""
    rows = found.snippet.splitlines()
    at = next(number for number, row in enumerate(rows) if set(row) <= set(" |^") and "^" in row)
    first, last = rows[at].index("^"), rows[at].rindex("^") + 1
    return rows[at - 1][first:last]


def test_no_such_table(diagnose: Any) -> None:
    found = diagnose("SELECT *\nFROM patient", "sql")
    assert found.cause == "The database has no table 'patient'."
    assert found.missing == "patient"
    assert found.fixes[0] == "Use 'PATIENTS' instead of 'patient'."
    assert "Tables: ADMISSIONS, PATIENTS, PRESCRIPTIONS." in found.fixes
    assert found.line == 2


def test_no_such_table_through_pandas(diagnose: Any) -> None:
    found = diagnose(LOAD + "pd.read_sql_query('SELECT * FROM Admision', con)")
    assert found.cause == "The database has no table 'Admision'."
    assert found.fixes[0] == "Use 'ADMISSIONS' instead of 'Admision'."
    assert found.line == 4


def test_an_empty_database_was_opened(diagnose: Any) -> None:
    found = diagnose("import sqlite3\nsqlite3.connect(':memory:').execute('SELECT * FROM PATIENTS')")
    assert any("/data" in fix for fix in found.fixes)


def test_a_schema_before_the_table(diagnose: Any) -> None:
    found = diagnose("SELECT * FROM mimiciii.patients", "sql")
    assert any("no schemas" in fix for fix in found.fixes)


def test_no_such_column_in_the_tables_of_the_query(diagnose: Any) -> None:
    found = diagnose("SELECT p.SUBJECTID FROM PATIENTS p", "sql")
    assert found.cause == "There is no column 'p.SUBJECTID' in PATIENTS."
    assert found.fixes[0] == "Use 'SUBJECT_ID' instead of 'SUBJECTID'."
    assert "Columns of PATIENTS: SUBJECT_ID, GENDER, DOB." in found.fixes
    assert sql_caret(found) == "SUBJECTID"
    found = diagnose("SELECT DRUG FROM PATIENTS", "sql")
    assert found.fixes[0] == "The column 'DRUG' is in PRESCRIPTIONS: join that table."
    found = diagnose("SELECT COUNT(*) FROM PATIENTS WHERE GENDER = Female", "sql")
    assert "single quotes: 'Female'" in found.fixes[0]


def test_ambiguous_column(diagnose: Any) -> None:
    found = diagnose("SELECT SUBJECT_ID FROM PATIENTS JOIN ADMISSIONS USING (GENDER)", "sql")
    assert "GENDER" in found.cause
    found = diagnose("SELECT SUBJECT_ID\nFROM PATIENTS p JOIN ADMISSIONS a ON p.SUBJECT_ID = a.SUBJECT_ID", "sql")
    assert found.cause == "Several tables of the query have a column 'SUBJECT_ID': ADMISSIONS, PATIENTS."
    assert found.fixes[0] == "Write which one is meant: ADMISSIONS.SUBJECT_ID (or the table's alias)."


@pytest.mark.parametrize(
    ("sql", "token", "line", "fix"),
    [
        ("SELECT TOP 5 * FROM PATIENTS", "5", 1, "just before it"),
        ("SELECT SUBJECT_ID,\nFROM PATIENTS", "FROM", 2, "a comma too many"),
        (
            "SELECT (SELECT 1 FROM PATIENTS),\n  GENDER,\nFROM PATIENTS WHERE DOB IN (SELECT DOB FROM PATIENTS)",
            "FROM",
            3,
            "a comma too many",
        ),
        ("SELECT * FROM PATIENTS WHERE GENDER ILIKE 'f'", "ILIKE", 1, "LIKE ignores"),
        ("SELECT * FROM PATIENTS WHERE GENDER = 'F' WHERE DOB > 1", "WHERE", 1, "AND"),
        ("SELECT COUNT(* FROM PATIENTS", "FROM", 1, "Look before FROM"),
        ("DESCRIBE PATIENTS", "DESCRIBE", 1, "request_info"),
    ],
)
def test_sql_syntax_errors_mark_the_token(diagnose: Any, sql: str, token: str, line: int, fix: str) -> None:
    found = diagnose(sql, "sql")
    assert found.cause.startswith("The SQL cannot be read at")
    assert found.line == line
    assert sql_caret(found)[: len(token)] == token
    assert any(fix in one for one in found.fixes), found.fixes


@pytest.mark.parametrize(
    ("sql", "cause", "fix"),
    [
        ("SELECT YEAR(DOB) FROM PATIENTS", "SQLite has no function 'YEAR'.", "strftime('%Y', column)"),
        ("SELECT COUNT(*) FROM PATIENTS WHERE COUNT(*) > 1", "An aggregate such as", "HAVING"),
        ("SELECT (1", "The SQL statement ends too early.", "1 are opened, 0 closed"),
        ("SELECT 'abc", "SQLite does not know the token", "Close the quote"),
        ("DELETE FROM PATIENTS", "The task's database can only be read.", "/work"),
        ("SELECT DOB::date FROM PATIENTS", "SQLite does not know the token ':'.", "CAST"),
        ("SELECT 1; SELECT 2", "Several statements were sent at once.", "one statement"),
        ("SELECT 1 UNION SELECT 1, 2", "The SELECTs of a UNION", "as many columns"),
        ("SELECT substr() FROM PATIENTS", "The function substr was given a wrong number", "substr"),
    ],
)
def test_other_messages_of_the_database(diagnose: Any, sql: str, cause: str, fix: str) -> None:
    found = diagnose(sql, "sql")
    assert found.cause.startswith(cause)
    assert any(fix in one for one in found.fixes), found.fixes


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        ("sqlcmd -h", "The command sqlcmd is not there."),
        ("cat /data/nothing.csv", "There is no file /data/nothing.csv."),
        ("echo 'a", "The shell cannot read the command."),
        ("grep zzz /etc/hostname", "A command ended with exit status 1."),
    ],
)
def test_shell_errors(diagnose: Any, command: str, cause: str) -> None:
    assert diagnose(command, "shell").cause == cause


def test_a_pasted_traceback(catalog: Catalog) -> None:
    text = """Traceback (most recent call last):
  File "<call 4>", line 3, in <module>
    rows = con.execute("SELECT * FROM PATIENT").fetchall()
  File "/usr/lib/python3.11/site-packages/x.py", line 900, in execute
    raise
sqlite3.OperationalError: no such table: PATIENT
"""
    code = "import sqlite3\ncon = sqlite3.connect('x')\nrows = con.execute('SELECT * FROM PATIENT').fetchall()\n"
    found = explain_text(text, code=code, catalog=catalog)
    assert found.cause == "The database has no table 'PATIENT'."
    assert found.fixes[0] == "Use 'PATIENTS' instead of 'PATIENT'."
    assert found.line == 3
    assert found.source == code.splitlines()[2]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("KeyError: 'HADM'", "There is no key 'HADM'."),
        ("NameError: name 'df' is not defined", "The name 'df' is not known."),
        ("no such column: SUBJECT", "There is no column 'SUBJECT'"),
        ("ZeroDivisionError: division by zero", "Something was divided by zero."),
        ("MemoryError", "The session ran out of memory."),
        ("json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)", "The text is not JSON."),
        ("the call timed out after 30 s", "The call took longer than its limit."),
        (
            "pandas.errors.DatabaseError: Execution failed on sql 'SELECT\n* FROM T': no such table: T",
            "The database has no table 'T'.",
        ),
        ("", "No error text was given."),
        ("it does not work", "The code stopped with it does not work."),
    ],
)
def test_pasted_texts(catalog: Catalog, text: str, cause: str) -> None:
    assert explain_text(text, catalog=catalog).cause.startswith(cause)


def test_without_code_or_catalogue(catalog: Catalog) -> None:
    error = CodeError(type="OperationalError", message="no such table: patient", candidates=("PATIENTS",))
    found = explain(error, language="sql", code=None, catalog=None)
    assert found.fixes[0] == "Use 'PATIENTS' instead of 'patient'."
    assert found.snippet == ""


def test_nearest_names_come_first() -> None:
    columns = ["ROW_ID", "SUBJECT_ID", "HADM_ID", "ADMITTIME", "DISCHTIME", "ICD9_CODE", "SHORT_TITLE"]
    assert nearest("subject id", columns)[0] == "SUBJECT_ID"
    assert nearest("hadmid", columns)[0] == "HADM_ID"
    assert nearest("admit_time", columns)[0] == "ADMITTIME"
    assert nearest("icd_code", columns)[0] == "ICD9_CODE"
    assert nearest("title", columns)[0] == "SHORT_TITLE"
    assert nearest("qqqqqq", columns) == []
    assert nearest("", columns) == []


TEXTS = st.text(st.characters(codec=None, exclude_categories=()), max_size=60)
MESSAGES = st.one_of(
    TEXTS,
    st.builds(
        lambda pattern, text: pattern.replace("X", text),
        st.sampled_from(
            [
                "no such table: X",
                "no such column: X",
                'no such column: "X" - should this be a string literal in single-quotes?',
                'near "X": syntax error',
                "ambiguous column name: X",
                "no such function: X",
                'unrecognized token: "X"',
                "name 'X' is not defined",
                "'X' object has no attribute 'X'",
                "\"['X'] not in index\"",
                "[Errno 2] No such file or directory: 'X'",
                "No module named 'X'",
                "X got an unexpected keyword argument 'X'",
                "could not convert string to float: 'X'",
                "invalid syntax (X, line 3)",
                "Execution failed on sql 'X': near \"X\": syntax error",
            ]
        ),
        TEXTS,
    ),
)
KINDS = st.sampled_from(
    [
        "NameError",
        "KeyError",
        "AttributeError",
        "OperationalError",
        "DatabaseError",
        "SyntaxError",
        "FileNotFoundError",
        "TypeError",
        "ValueError",
        "ModuleNotFoundError",
        "ImportError",
        "ShellError",
        "UnboundLocalError",
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    kind=KINDS | TEXTS,
    message=MESSAGES,
    code=st.none() | TEXTS,
    line=st.none() | st.integers(-5, 10**9),
    names=st.dictionaries(TEXTS, TEXTS, max_size=3),
    candidates=st.lists(TEXTS, max_size=5),
    missing=st.none() | TEXTS,
    language=st.sampled_from(["python", "sql", "shell"]),
)
def test_no_facts_break_it(
    catalog: Catalog,
    kind: str,
    message: str,
    code: str | None,
    line: int | None,
    names: dict[str, str],
    candidates: list[str],
    missing: str | None,
    language: Language,
) -> None:
    error = CodeError(kind, message, "", line, code, names, missing, tuple(candidates))
    found = explain(error, language=language, code=code, catalog=catalog)
    assert found.cause
    assert len(found.model_dump_json()) < 10_000
    assert explain_text(message, language=language, code=code, catalog=catalog).cause


def test_everything_is_bounded(catalog: Catalog) -> None:
    long = "x" * 200_000
    error = CodeError(
        "KeyError", f"'{long}'", long, 1, long, {f"{n}{long}": long for n in range(50)}, long, (long,) * 300
    )
    assert len(explain(error, language="python", code=long, catalog=catalog).model_dump_json()) < 15_000
    assert len(explain_text(long * 3, code=long, catalog=catalog).model_dump_json()) < 15_000
