"""SQL of the agent: one reading statement on the session's database, its result as a text table."""

import os
import re
import sqlite3
import time
from typing import Any
from urllib.parse import quote

from .candidates import missing_in_database
from .outcome import Outcome, Setting, plain_error
from .text import clean, shorten

MOST_ROWS = 1000  # shown
MOST_COUNTED = 1_000_000
_COUNT_SECONDS = 5.0
_PRAGMAS = {"table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list"}
_PRAGMAS |= {"database_list", "collation_list", "function_list", "compile_options", "user_version", "encoding"}
_READS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}
_READ_ONLY = (
    "the database is read-only: only statements that read are allowed (SELECT, WITH, EXPLAIN, PRAGMA table_info)"
)


def _authorize(action: int, first: str | None, second: str | None, *_: Any) -> int:
    if action in _READS:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION:
        return sqlite3.SQLITE_DENY if second in ("load_extension", "fts3_tokenizer") else sqlite3.SQLITE_OK
    if (
        action == sqlite3.SQLITE_PRAGMA
        and (first or "").lower() in _PRAGMAS
        and (second is None or first != "encoding")
    ):
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


class SqlCode:
    """The connection to the session's database, opened at the first statement."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._connection: sqlite3.Connection | None = None

    def run(self, code: str, number: int) -> Outcome:
        """Run one statement."""
        try:
            return self._run(code)
        except sqlite3.Error as error:
            return Outcome(error=self._facts(error, code))
        except (sqlite3.Warning, ValueError, UnicodeError) as error:  # two statements, NUL, lone surrogates
            return Outcome(error=plain_error("ProgrammingError", clean(str(error))))

    def _connect(self) -> sqlite3.Connection:
        path = self._setting.database
        if path is None:
            raise sqlite3.OperationalError("this session has no database: use Python to read the files in /data")
        if not os.path.isfile(path):  # noqa: PTH113
            raise sqlite3.OperationalError(f"the session's database {path} is not there")
        address = f"file:{quote(path)}?mode=ro&immutable=1"
        connection = sqlite3.connect(address, uri=True, check_same_thread=False, isolation_level=None)
        connection.execute("PRAGMA query_only = ON")
        connection.text_factory = _text
        connection.set_authorizer(_authorize)
        return connection

    def _run(self, code: str) -> Outcome:
        if self._connection is None:
            self._connection = self._connect()
        cursor = self._connection.cursor()
        try:
            cursor.execute(code)
            if cursor.description is None:
                return Outcome(value="(no statement was given)")
            names = [str(column[0]) for column in cursor.description]
            rows = cursor.fetchmany(MOST_ROWS)
            count, more = len(rows), False
            if count == MOST_ROWS:
                until = time.monotonic() + _COUNT_SECONDS
                while block := cursor.fetchmany(1000):
                    count += len(block)
                    if count >= MOST_COUNTED or time.monotonic() > until:
                        more = cursor.fetchone() is not None
                        break
            return Outcome(*_table(names, rows, count, more, self._setting.output))
        finally:
            cursor.close()

    def _facts(self, error: sqlite3.Error, code: str) -> dict[str, Any]:
        message = clean(str(error))
        if re.search("not authorized|authorization denied|prohibited|readonly", message):
            return plain_error("ReadOnlyError", _READ_ONLY)
        if "one statement at a time" in message:
            return plain_error("ProgrammingError", "only one statement can be run at a time")
        facts = plain_error(type(error).__name__, message)
        missing, candidates = missing_in_database(message, code, self._connection)
        facts["missing"], facts["candidates"] = missing, candidates
        token = missing or next(iter(re.findall(r'near "(.+?)": syntax error', message)), None)
        if token:
            lines = code.split("\n")
            found = [number for number, line in enumerate(lines, 1) if re.search(_word(token), line, re.IGNORECASE)]
            if found and (missing or len(found) == 1):
                facts["line"], facts["source"] = found[0], clean(lines[found[0] - 1][:500])
        return facts


def _word(token: str) -> str:
    return rf"(?<!\w){re.escape(token)}(?!\w)"


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _cell(value: Any, width: int) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return shorten(f"x'{value[: width // 2].hex()}'", width)
    return shorten(str(value), width)


def _table(names: list[str], rows: list[Any], count: int, more: bool, budget: int) -> tuple[str, bool]:
    """An aligned table within `budget` characters, and whether rows or parts of cells were left out."""
    budget = max(budget, 200)
    room = budget - 120
    width = max(40, min(4000, room * 3 // 4 // max(1, len(names) * (min(len(rows), 20) + 2))))
    heads = [shorten(name, 80) for name in names]
    cells = [[_cell(value, width) for value in row] for row in rows]
    numeric = [all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(names))]
    shown = len(cells)
    while True:
        widths = [max([len(head), *(len(row[i]) for row in cells[:shown])]) for i, head in enumerate(heads)]
        line = sum(widths) + 2 * len(widths)
        fits = max(0, room // max(line, 1) - 2)
        if shown <= fits or shown <= 1:
            break
        shown = max(1, min(fits, shown - 1))
    lines = [_line(heads, widths, numeric), "  ".join("-" * size for size in widths)]
    lines += [_line(row, widths, numeric) for row in cells[:shown]]
    text = "\n".join(lines)[:room]
    cut = any(cell.endswith("...") for row in cells[:shown] for cell in row) or len("\n".join(lines)) > room
    word = "row" if count == 1 else "rows"
    if more:
        tail = f"(more than {count} rows; the first {shown} are shown)"
    elif shown < count:
        tail = f"({count} {word}; the first {shown} are shown, {count - shown} were left out)"
    else:
        tail = f"({count} {word})"
    return f"{text}\n{tail}", cut or more or shown < count


def _line(cells: list[str], widths: list[int], numeric: list[bool]) -> str:
    parts = [
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(cells, widths, numeric, strict=True)
    ]
    return "  ".join(parts).rstrip()
