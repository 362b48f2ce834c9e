"""SQL and shell in a session: read-only tables as text, and a shell whose folder and variables persist."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.interpreter_child import Child


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    data = tmp_path / "a ?#%folder"
    data.mkdir()
    database = sqlite3.connect(data / "x.sqlite")
    database.execute("CREATE TABLE labs (id INTEGER, label TEXT, value REAL, raw BLOB)")
    database.executemany(
        "INSERT INTO labs VALUES (?, ?, ?, ?)",
        [(1, "sodium", 140.5, None), (20, None, 7.0, b"\x01\xff"), (3, "two\nlines é", None, b"")],
    )
    database.execute("CREATE TABLE notes (text TEXT)")
    database.execute("INSERT INTO notes VALUES (?)", ("word " * 400,))
    database.execute("INSERT INTO notes VALUES (CAST(x'ff41' AS TEXT))")
    database.commit()
    database.close()
    with Child(tmp_path, database=data / "x.sqlite", output=6000) as child:
        yield child


def test_a_result_is_an_aligned_table(child: Child) -> None:
    result = child.run("-- all of them\nSELECT * FROM labs;", "sql")
    assert (result.status, result.value_truncated) == ("ok", False)
    assert result.value == (
        "id  label         value  raw\n"
        "--  ------------  -----  -------\n"
        " 1  sodium        140.5  NULL\n"
        "20  NULL            7.0  x'01ff'\n"
        " 3  two\\nlines é   NULL  x''\n"
        "(3 rows)"
    )
    assert child.run("SELECT id FROM labs WHERE id > 99", "sql").value == "id\n--\n(0 rows)"
    assert child.run("", "sql").value == "(no statement was given)"


def test_long_cells_and_many_rows_are_cut(child: Child) -> None:
    result = child.run("SELECT text FROM notes LIMIT 1", "sql")
    assert (result.value or "").count("word") >= 200
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT i, 'abc' FROM n"
    result = child.run(numbers, "sql")
    assert result.value_truncated
    assert result.value is not None
    assert len(result.value) <= 6000
    shown = len(result.value.splitlines()) - 3
    assert shown > 100
    assert result.value.endswith(f"\n(5000 rows; the first {shown} are shown, {5000 - shown} were left out)")
    wide = child.run("SELECT " + ", ".join(f"'{i}' AS column_{i}" for i in range(1000)), "sql")
    assert wide.value_truncated
    assert len(wide.value or "") <= 6000
    assert "\\xffA" in (child.run("SELECT text FROM notes WHERE length(text) < 10", "sql").value or "")


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE labs",
        "INSERT INTO labs VALUES (1, 2, 3, 4)",
        "CREATE TEMP TABLE t (a)",
        "ATTACH '/tmp/other.sqlite' AS other",
        "DETACH main",
        "VACUUM INTO '/tmp/copy.sqlite'",
        "PRAGMA query_only = OFF",
        "PRAGMA writable_schema = ON",
        "BEGIN",
        "SELECT load_extension('x')",
    ],
)
def test_only_reading_is_allowed(child: Child, statement: str) -> None:
    error = child.run(statement, "sql").error
    assert error is not None
    assert error.type == "ReadOnlyError"
    assert error.message.startswith("the database is read-only")
    assert (child.run("SELECT count(*) AS n FROM labs", "sql").value or "").splitlines()[2] == "3"


def test_pragmas_that_describe_tables(child: Child) -> None:
    assert "label" in (child.run("PRAGMA table_info(labs)", "sql").value or "")
    assert "labs" in (child.run("SELECT name FROM sqlite_master", "sql").value or "")


def test_errors_of_sql(child: Child) -> None:
    error = child.run("SELECT id,\n  l.lable\nFROM labs l", "sql").error
    assert error is not None
    assert (error.type, error.missing, error.line, error.source) == ("OperationalError", "lable", 2, "  l.lable")
    assert error.candidates[0] == "label"
    assert "text" not in error.candidates
    error = child.run("SELECT * FROM lab", "sql").error
    assert error is not None
    assert (error.missing, error.candidates) == ("lab", ("labs", "notes"))
    error = child.run("SELECT *\nFORM labs", "sql").error
    assert error is not None
    assert (error.message, error.line) == ('near "FORM": syntax error', 2)
    error = child.run("SELECT 1; SELECT 2", "sql").error
    assert error is not None
    assert "one statement" in error.message
    for statement in ("SELECT '\ud800'", "SELECT 1\0"):
        assert child.run(statement, "sql").status == "error"


def test_a_session_without_a_database(tmp_path: Path) -> None:
    with Child(tmp_path) as child:
        error = child.run("SELECT 1", "sql").error
        assert error is not None
        assert "no database" in error.message
    (tmp_path / "second").mkdir()
    with Child(tmp_path / "second", database=tmp_path / "absent.sqlite") as child:
        error = child.run("SELECT 1", "sql").error
        assert error is not None
        assert "is not there" in error.message


def test_shell_output_and_status(child: Child) -> None:
    result = child.run("echo out; echo err >&2; cat", "shell")
    assert (result.status, result.exit_code, result.error) == ("ok", 0, None)
    assert (result.stdout.text, result.stderr.text, result.value) == ("out\n", "err\n", None)
    result = child.run("echo a\nno-such-command\nexit 3", "shell")
    assert (result.status, result.exit_code, result.stdout.text) == ("error", 3, "a\n")
    assert result.error is not None
    assert result.error.type == "ShellError"
    assert result.error.message.startswith("the command ended with exit status 3: ")
    assert (result.error.line, result.error.source) == (2, "no-such-command")
    result = child.run("kill -9 $$", "shell")
    assert result.error is not None
    assert (result.exit_code, result.error.message) == (-9, "the command was ended by signal SIGKILL")
    assert child.run("if true", "shell").status == "error"
    assert child.run("exit 0", "shell").status == "ok"
    assert child.run("x" * 200_000, "shell").status == "error"
    assert child.run("echo \0", "shell").status == "error"
    assert child.run("echo '\ud800'", "shell").stdout.text == "?\n"


def test_a_missing_file_in_the_shell(child: Child) -> None:
    (child.work / "notes.txt").touch()
    error = child.run("cat note.txt", "shell").error
    assert error is not None
    assert error.missing == "note.txt"
    assert error.candidates[0] == str(child.work / "notes.txt")


def test_folder_and_exported_variables_persist(child: Child) -> None:
    child.run("mkdir -p 'a b'; cd 'a b'; export COLOUR='two\nlines=é'; LOCAL=1; unset LC_ALL", "shell")
    result = child.run('pwd; echo "$COLOUR$LOCAL${LC_ALL-none}"', "shell")
    assert result.stdout.text == f"{child.work}/a b\ntwo\nlines=énone\n"
    assert child.run("import os\nos.getcwd(), os.environ['COLOUR'], 'LC_ALL' in os.environ").value == repr(
        (f"{child.work}/a b", "two\nlines=é", False)
    )
    child.run("os.chdir('..')\nos.environ['SIZE'] = '3'")
    assert child.run("pwd; echo $SIZE; cd a*; exit 5", "shell").stdout.text == f"{child.work}\n3\n"
    assert child.run("pwd; cd ..; rmdir 'a b'", "shell").stdout.text == f"{child.work}/a b\n"
    child.run("mkdir gone; cd gone; rmdir ../gone", "shell")
    assert child.run("pwd", "shell").stdout.text == f"{child.work}\n"


def test_the_shell_works_without_room_for_files(child: Child) -> None:
    child.run("import os\nfolder = os.getcwd()\nos.chdir('/')\nos.rmdir(folder)")
    assert child.run("echo a; cd /; exit 2", "shell").stdout.text == "a\n"
    assert child.run("print(1)\n2").value == "2"


def test_a_leftover_child_does_not_hold_the_call(child: Child) -> None:
    assert child.run("sleep 300 & echo $!", "shell").status == "ok"
    child.run(f"kill {child.output('stdout').text}", "shell")
