"""Python, SQL and shell: values, output, errors with their facts."""

import pytest

from sandbox.base import Session
from tests.sandbox.contract.conftest import data_of, good, need

pytestmark = pytest.mark.anyio


async def test_python_value_and_output(session: Session) -> None:
    result = good(await session.execute("import sys\nprint('out')\nprint('err', file=sys.stderr)\n{'a': 1}"))
    assert (result.stdout.text, result.stderr.text, result.value) == ("out\n", "err\n", "{'a': 1}")
    assert result.seconds > 0


async def test_output_of_children_is_captured(session: Session) -> None:
    result = good(await session.execute("import subprocess\nsubprocess.run(['echo', 'child'])\nNone"))
    assert result.stdout.text == "child\n"


async def test_output_of_one_call_is_not_in_the_next(session: Session) -> None:
    good(await session.execute("print('first')"))
    assert good(await session.execute("print('second')")).stdout.text == "second\n"


async def test_python_error_has_its_facts(session: Session) -> None:
    result = await session.execute("rows = [1]\nvalue = rowz")
    assert result.status == "error"
    assert result.error is not None
    assert (result.error.type, result.error.line, result.error.missing) == ("NameError", 2, "rowz")
    assert "rows" in result.error.candidates
    assert "rowz" in result.error.traceback


async def test_syntax_error(session: Session) -> None:
    result = await session.execute("x = 1\nif x\n")
    assert result.error is not None
    assert (result.error.type, result.error.line) == ("SyntaxError", 2)


async def test_unicode(session: Session) -> None:
    text = "Größe µg/dl 体重 🩺"
    assert good(await session.execute(f"print({text!r})")).stdout.text == f"{text}\n"


async def test_scientific_packages(session: Session) -> None:
    code = "import numpy as np, pandas as pd\nint(pd.DataFrame({'a': np.arange(4)})['a'].sum())"
    assert good(await session.execute(code)).value == "6"


async def test_sql_reads(session: Session) -> None:
    result = good(await session.execute("SELECT id, name FROM patients ORDER BY id", language="sql"))
    assert "Ada" in (result.value or "")
    assert "NULL" in (result.value or "")


async def test_sql_error_names_the_column(session: Session) -> None:
    result = await session.execute("SELECT nam FROM patients", language="sql")
    assert result.error is not None
    assert result.error.missing == "nam"
    assert "name" in result.error.candidates


@pytest.mark.parametrize("statement", ["DELETE FROM patients", "CREATE TABLE t (x)", "ATTACH 'x.db' AS y"])
async def test_sql_cannot_write(session: Session, statement: str) -> None:
    assert (await session.execute(statement, language="sql")).status == "error"
    assert "Ada" in (good(await session.execute("SELECT * FROM patients", language="sql")).value or "")


async def test_shell_status_and_output(session: Session) -> None:
    result = await session.execute("echo out; echo err >&2; exit 3", language="shell")
    assert (result.status, result.exit_code) == ("error", 3)
    assert (result.stdout.text, result.stderr.text) == ("out\n", "err\n")
    assert good(await session.execute("true", language="shell")).exit_code == 0


async def test_the_source_is_readable(session: Session) -> None:
    assert good(await session.execute(f"open({data_of(session)!r} + '/name.txt').read()")).value == "'one'"


async def test_the_source_cannot_be_written(session: Session, backend: str) -> None:
    need(backend, "read-only data")
    for code in ("open({0!r} + '/new', 'w')", "import os\nos.remove({0!r} + '/name.txt')"):
        assert (await session.execute(code.format(data_of(session)))).status == "error"


async def test_no_network(session: Session, backend: str) -> None:
    need(backend, "network")
    code = "import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=5)"
    result = await session.execute(code)
    assert result.error is not None
    assert result.error.type != "TimeoutError", "the address was tried"


async def test_standard_input_is_empty(session: Session) -> None:
    result = await session.execute("input()")
    assert result.error is not None
    assert result.error.type == "EOFError"
