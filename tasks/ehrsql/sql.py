"""Running EHRSQL's SQL on SQLite: the substitutions it needs, and answers that do not hang on chance."""

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.ehrsql.schema import CURRENT_TIME

Rows = list[tuple[Any, ...]]

NORMAL_RANGES: dict[str, tuple[str, str]] = {
    "temperature": ("35.5", "38.1"),
    "sao2": ("95.0", "100.0"),
    "heart_rate": ("60.0", "100.0"),
    "respiration": ("12.0", "18.0"),
    "systolic_bp": ("90.0", "120.0"),
    "diastolic_bp": ("60.0", "90.0"),
    "mean_bp": ("60.0", "110.0"),
}
"""What EHRSQL calls normal: `NAME_lower` and `NAME_upper` in its SQL."""

MAX_STEPS = 400
"""Bound of one query, in units of a million steps of SQLite's machine: fixed work, so equal on every machine."""

_LITERAL = re.compile(r"('(?:[^']|'')*')")
_RANGE = re.compile(rf"\b({'|'.join(NORMAL_RANGES)})_(lower|upper)\b", re.I)
_DOUBLED = re.compile(r"(?<![\w'])''([^']+)''(?!['\w])")
_TABLE = re.compile(r"\b(?:from|join)\s+([a-z_]\w*)", re.I)
_RANKED = re.compile(r"\border by \w+\.\w+ (?:asc|desc)(?= limit \d)", re.I)


def executable(sql: str) -> str:
    """The SQL as SQLite runs it: current time, normal ranges, doubled quotes, split operators, upper-case formats.

    What stands in texts is left alone, but for the time formats and 'now'.
    """
    sql = _DOUBLED.sub(r"'\1'", sql)
    parts = _LITERAL.split(sql)
    for index, part in enumerate(parts):
        if index % 2 == 0:
            part = re.sub(r"\bcurrent_time\b", f"'{CURRENT_TIME}'", part, flags=re.I)
            part = _RANGE.sub(lambda m: NORMAL_RANGES[m[1].lower()][m[2].lower() == "upper"], part)
            parts[index] = re.sub(r"([<>!])\s+=", r"\1=", part)
        elif part == "'now'":
            parts[index] = f"'{CURRENT_TIME}'"
        elif re.search(r"\b(?:strftime)\s*\(\s*$", parts[index - 1], re.I):
            parts[index] = part.replace("%y", "%Y").replace("%j", "%J")
    return "".join(parts)


def tables_of(sql: str) -> set[str]:
    """The names that follow FROM and JOIN, and the event types of COST, in upper case."""
    names = {name.upper() for name in _TABLE.findall(_LITERAL.sub("''", sql))}
    events = re.findall(r"\bevent_type\s*=\s*'(\w+)'", sql, re.I)
    return names | {event.upper() for event in events}


@dataclass(frozen=True)
class Result:
    rows: Rows
    width: int


class Unusable(Exception):
    """The query has no answer that a task could have. The text is the reason."""


class Runner:
    """Runs queries read-only, with a bound on the work of each. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        self._steps = 0
        self._database.set_progress_handler(self._count, 1_000_000)

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def _count(self) -> int:
        self._steps += 1
        return self._steps > MAX_STEPS

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        return self.run(sql, parameters).rows

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> Result:
        """Raises Unusable when SQLite refuses the SQL or the work exceeds the bound."""
        self._steps = 0
        try:
            with closing(self._database.execute(sql, parameters)) as cursor:
                rows = cursor.fetchall()
                return Result(rows, len(cursor.description or ()))
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise Unusable("too much work" if self._steps > MAX_STEPS else f"SQLite: {error}") from None

    def is_ambiguous(self, sql: str, rows: Rows) -> bool:
        """Whether another order of equals would change the answer: ties before a LIMIT, or a single value taken from
        several. Found by running the SQL again with ties broken by the first column, lowest or highest first, and with
        unordered reads reversed."""
        lowest, highest = (_RANKED.sub(rf"\g<0>, 1 {direction}", sql) for direction in ("asc", "desc"))
        if not same_rows(self.rows(lowest), rows):
            return True
        self._database.execute("PRAGMA reverse_unordered_selects = ON")
        try:
            return not same_rows(self.rows(highest), rows)
        finally:
            self._database.execute("PRAGMA reverse_unordered_selects = OFF")


def same_rows(left: Rows, right: Rows) -> bool:
    """Equal as multisets; sums may differ in their last digits."""
    return sorted(map(_comparable, left)) == sorted(map(_comparable, right))


def _comparable(row: tuple[Any, ...]) -> tuple[tuple[int, float, str], ...]:
    cells = []
    for cell in row:
        if isinstance(cell, int | float):
            cells.append((1, round(float(cell), 6) + 0.0, ""))
        else:
            cells.append((0, 0.0, "") if cell is None else (2, 0.0, str(cell)))
    return tuple(cells)


def has_answer(rows: Rows) -> bool:
    """Some cell is neither null nor zero."""
    return any(cell is not None and cell != 0 for row in rows for cell in row)


def is_trivial(rows: Rows) -> bool:
    """An answer that a guess would hit: a lone 0, 1 or null."""
    return len(rows) == 1 and len(rows[0]) == 1 and (rows[0][0] is None or rows[0][0] in (0, 1))
