"""A question with its slots and times taken out of text and SQL alike, so that others can be put in.

The text is the template as its authors filled it in: a paraphrase may speak of the old values in other words. A
question of which some slot or time does not stand in both is not re-grounded.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tasks.ehrsql.questions import Question
from tasks.ehrsql.schema import CURRENT_TIME
from tasks.ehrsql.slots import NUMERIC

TimeKind = Literal["stamp", "day", "month", "year", "month_day", "month_only", "day_only", "ago"]
GENDERS = {"m": "male", "f": "female"}
_FORMATS: dict[str, TimeKind] = {
    "%Y-%m-%d": "day",
    "%Y-%m": "month",
    "%Y": "year",
    "%m-%d": "month_day",
    "%m": "month_only",
    "%d": "day_only",
}
_FORMATTED = re.compile(r"strftime\('(%[^']+)',(\w+)\.(\w+)\) (=|>=|<=|>|<) '([\d-]+)'")
_AGO = re.compile(
    rf"datetime\((\w+)\.(\w+)\) (>=|<=|>|<) datetime\('{CURRENT_TIME}','-(\d+) (day|month|year)'\)"
)  # fmt: skip
_STAMP = re.compile(r"(\w+)\.(\w+) (=) '(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)'")


@dataclass(frozen=True)
class TimeMark:
    """A time in the question; `table`.`column` is what it is compared with, by `operator`."""

    token: str
    kind: TimeKind
    table: str
    column: str
    operator: str
    unit: str = ""


@dataclass(frozen=True)
class Skeleton:
    """`slots` maps a slot's name to its token; slots of equal value share one."""

    text: str
    sql: str
    slots: dict[str, str]
    times: tuple[TimeMark, ...]

    def fill(self, text: Mapping[str, str], sql: Mapping[str, str]) -> tuple[str, str]:
        """Question and SQL, with the values (token -> text) put in."""
        filled, query = self.text, self.sql
        for token, value in text.items():
            filled = filled.replace(token, value)
        for token, value in sql.items():
            query = query.replace(token, value)
        return filled[0].upper() + filled[1:], query


def take_apart(question: Question) -> Skeleton | None:
    """The skeleton, or None when a slot or a time does not stand in both the text and the SQL."""
    text, sql = question.filled, question.sql
    slots: dict[str, str] = {}
    by_value: dict[str, str] = {}
    for name, value in sorted(question.slots.items(), key=lambda item: (-len(item[1]), item[0])):
        base = base_name(name)
        if value in by_value and base not in NUMERIC:
            slots[name] = by_value[value]
            continue
        token = f"\x01{len(slots)}\x02"
        new_sql = re.sub(_sql_pattern(base, value), token, sql)
        new_text = re.sub(_text_pattern(base, value), token, text)
        places = sum(question.template.count(f"{{{n}}}") for n, v in question.slots.items() if v == value)
        if new_sql == sql or new_text.count(token) != places:
            return None
        slots[name] = by_value[value] = token
        text, sql = new_text, new_sql
    marks: dict[tuple[str, str], TimeMark] = {}
    for mark, literal, wanted in sorted(_times(sql), key=lambda found: -len(found[1])):
        key = (mark.kind, literal)
        if key in marks:
            continue
        token = f"\x03{len(marks)}\x02"
        new_text = re.sub(wanted, token, text)
        if new_text == text:
            return None
        text = new_text
        marks[key] = TimeMark(token, mark.kind, mark.table, mark.column, mark.operator, mark.unit)
        sql = _put_token(sql, mark.kind, literal, token)
    if re.search(r"'\d{4}(-\d\d)*", sql.replace(CURRENT_TIME, "")):
        return None
    return Skeleton(text, sql, slots, tuple(marks.values()))


def base_name(slot: str) -> str:
    return slot.rstrip("0123456789")


def number(value: str) -> str:
    """A ward is 52.0 in the slots and 52 in text and SQL."""
    return str(int(float(value)))


def quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _sql_pattern(base: str, value: str) -> str:
    if base == "patient_id":
        return rf"(?<=subject_id = ){re.escape(number(value))}\b"
    if base == "ward_id":
        return rf"(?<=wardid = ){re.escape(number(value))}\b"
    if base in NUMERIC:
        return rf"(?<=[=<>] ){re.escape(value)}(?![\d.])"
    return re.escape(quoted(value))


def _text_pattern(base: str, value: str) -> str:
    if base in ("patient_id", "ward_id"):
        return rf"(?<!\w){number(value)}\b"
    shown = GENDERS.get(value, value) if base == "gender" else value
    return rf"(?<!\w){re.escape(shown)}(?!\w)"


def _times(sql: str) -> list[tuple[TimeMark, str, str]]:
    """(mark, the literal in the SQL, pattern of its form in the text)"""
    found = []
    for form, table, column, operator, literal in _FORMATTED.findall(sql):
        if form in _FORMATS:
            kind = _FORMATS[form]
            found.append((TimeMark("", kind, table, column, operator), literal, _shown(kind, literal)))
    for table, column, operator, count, unit in _AGO.findall(sql):
        mark = TimeMark("", "ago", table, column, operator, unit)
        found.append((mark, f"-{count} {unit}", rf"(?<![\w/]){count}(?= {unit} ago)"))
    for table, column, operator, literal in _STAMP.findall(sql):
        found.append((TimeMark("", "stamp", table, column, operator), literal, re.escape(literal)))
    return found


def _shown(kind: TimeKind, literal: str) -> str:
    parts = literal.split("-")
    match kind:
        case "day":
            return rf"{parts[1]}/{parts[2]}/{parts[0]}"
        case "month":
            return rf"(?<!/){parts[1]}/{parts[0]}"
        case "year":
            return rf"(?<![\w/-]){literal}(?![\w/-])"
        case "month_day":
            return rf"{parts[0]}/{parts[1]}(?=/(?:this|last) year)"
        case "month_only":
            return rf"(?<!/){literal}(?=/(?:this|last) year)"
        case _:
            return rf"(?<=month/){literal}(?!\d)"


def _put_token(sql: str, kind: TimeKind, literal: str, token: str) -> str:
    if kind == "ago":
        return sql.replace(f"'{CURRENT_TIME}','{literal}')", f"'{CURRENT_TIME}',{token})")
    if kind == "stamp":
        return re.sub(rf"(?<=\w = )'{re.escape(literal)}'", token, sql)
    wanted = next(form for form, named in _FORMATS.items() if named == kind)
    return re.sub(
        rf"(strftime\('{wanted}',\w+\.\w+\) (?:=|>=|<=|>|<) )'{literal}'", lambda m: m[1] + token, sql
    )  # fmt: skip
