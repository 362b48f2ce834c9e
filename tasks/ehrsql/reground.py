"""Re-grounding: the same question about values of the database at hand.

An anchor is drawn first, one row of the table that the question is about; its patient, its value and its time fill
the slots, so that most draws have an answer. Further slots come from rows of the same admission, or else of the same
patient. What is drawn depends on the seed, the template and the database alone.
"""

import random
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from tasks.ehrsql.questions import Question
from tasks.ehrsql.schema import CURRENT_TIME
from tasks.ehrsql.skeleton import GENDERS, Skeleton, TimeMark, base_name, quoted
from tasks.ehrsql.slots import Source
from tasks.ehrsql.sql import Runner, Unusable, tables_of

MAX_POOL = 50_000
"""Rows that an anchor is drawn from; of larger tables every n-th."""
_NOW = datetime.fromisoformat(CURRENT_TIME)
_DAYS = {"day": 1.0, "month": 30.44, "year": 365.25}
_SAME_PERIOD = re.compile(
    r"datetime\((\w+)\.(\w+),'start of (?:day|month|year)'\) = "
    rf"datetime\('{CURRENT_TIME}','start of (?:day|month|year)','-\d+ (?:day|month|year)'\)"
)
_Row = tuple[Any, ...]


class _NoLuck(Exception):
    """This draw gives no question; the next may."""


class Drawer:
    """Draws values for skeletons from one database. `times` are the event tables with their time, in order."""

    def __init__(self, runner: Runner, sources: Mapping[str, tuple[Source, ...]], times: Mapping[str, str]) -> None:
        self._runner, self._sources, self._times = runner, sources, times
        self._pools: dict[tuple[str, str], list[int]] = {}

    def draws(self, question: Question, skeleton: Skeleton, rng: random.Random, limit: int) -> Iterator["Drawn | None"]:
        """`limit` attempts: a drawn question, or None where an attempt came to nothing."""
        for _ in range(limit):
            try:
                yield self._draw(question, skeleton, rng)
            except (_NoLuck, Unusable):
                yield None

    def _draw(self, question: Question, skeleton: Skeleton, rng: random.Random) -> "Drawn":
        names = [name for name in skeleton.slots if base_name(name) in self._sources]
        chosen = {name: rng.choice(self._sources[base_name(name)]) for name in names}
        table = chosen[names[0]].table if names else self._main_table(question, skeleton)
        anchor = self._anchor(table, skeleton, rng)
        values: dict[str, Any] = {}
        if "patient_id" in skeleton.slots:
            values["patient_id"] = anchor["subject"]
        if "gender" in skeleton.slots:
            values["gender"] = rng.choice(sorted(GENDERS))
        for name in names:
            source = chosen[name]
            shared = source.table == table and not any(
                base_name(other) == base_name(name) for other in values if other != name
            )
            row = anchor["row"] if shared else self._related(source.table, anchor, rng)
            values[name] = self._value(source, row)
        if "abbreviation" in values:
            # Its other slots hold the same text.
            values = dict.fromkeys(values, values["abbreviation"]) | (
                {"patient_id": anchor["subject"]} if "patient_id" in values else {}
            )
        text = {token: _shown(name, values[name]) for name, token in skeleton.slots.items()}
        sql = {token: _literal(values[name]) for name, token in skeleton.slots.items()}
        for mark in skeleton.times:
            text[mark.token], sql[mark.token] = _time(mark, self._moment(mark, anchor, table, rng))
        patient = int(values["patient_id"]) if "patient_id" in values else None
        return Drawn(*skeleton.fill(text, sql), patient)

    def _main_table(self, question: Question, skeleton: Skeleton) -> str:
        used = tables_of(question.sql)
        for mark in skeleton.times:
            if mark.table.upper() in self._times and mark.table.upper() in used:
                return mark.table.upper()
        for table in self._times:
            if table in used:
                return table
        return "ADMISSIONS"

    def _anchor(self, table: str, skeleton: Skeleton, rng: random.Random) -> dict[str, Any]:
        where = [f"e.{self._times[table]} IS NOT NULL"]
        for column, stay in (("dischtime", "ADMISSIONS"), ("outtime", "ICUSTAYS")):
            for state in ("null", "not null"):
                if re.search(rf"\.{column} is {state}", skeleton.sql):
                    where.append(f"e.HADM_ID IN (SELECT HADM_ID FROM {stay} WHERE {column} IS {state})")
                    break
        for match in _SAME_PERIOD.finditer(skeleton.sql):
            if match[1].upper() == table:
                where.append(match[0].replace(f"{match[1]}.", "e."))
                break
        pool = self._pool(table, " AND ".join(where))
        if not pool:
            raise _NoLuck
        row = rng.choice(pool)
        [(subject, stay, moment)] = self._runner.rows(
            f"SELECT SUBJECT_ID, HADM_ID, {self._times[table]} FROM {table} WHERE ROW_ID = ?", (row,)
        )
        return {"row": row, "subject": subject, "stay": stay, "moment": moment}

    def _pool(self, table: str, where: str) -> list[int]:
        key = (table, where)
        if key not in self._pools:
            [(most,)] = self._runner.rows(f"SELECT max(ROW_ID) FROM {table}")
            step = 1 + (most or 0) // MAX_POOL
            found = self._runner.rows(f"SELECT e.ROW_ID FROM {table} e WHERE e.ROW_ID % {step} = 0 AND {where}")
            self._pools[key] = [row[0] for row in found]
        return self._pools[key]

    def _related(self, table: str, anchor: Mapping[str, Any], rng: random.Random) -> int:
        for column, value in (("HADM_ID", anchor["stay"]), ("SUBJECT_ID", anchor["subject"])):
            rows = self._runner.rows(f"SELECT ROW_ID FROM {table} WHERE {column} = ? ORDER BY ROW_ID", (value,))
            if rows:
                return int(rng.choice(rows)[0])
        raise _NoLuck

    def _value(self, source: Source, row: int) -> Any:
        found = self._runner.rows(
            f"SELECT {source.value} FROM {source.table} e {source.join} WHERE e.ROW_ID = ?", (row,)
        )  # fmt: skip
        if not found or found[0][0] is None or found[0][0] == "":
            raise _NoLuck
        return found[0][0]

    def _moment(self, mark: TimeMark, anchor: Mapping[str, Any], table: str, rng: random.Random) -> datetime:
        named, moment = mark.table.upper(), anchor["moment"]
        if mark.kind == "stamp" and named in self._times:
            item = "AND ITEMID = (SELECT ITEMID FROM {0} WHERE ROW_ID = ?)" if named == table else ""
            rows = self._runner.rows(
                f"SELECT DISTINCT {mark.column} FROM {named} WHERE HADM_ID = ? {item.format(named)} ORDER BY 1",
                (anchor["stay"], anchor["row"]) if item else (anchor["stay"],),
            )
            moment = rng.choice(rows)[0] if rows else None
        elif named in self._times and named != table:
            row = self._related(named, anchor, rng)
            [(moment,)] = self._runner.rows(f"SELECT {mark.column} FROM {named} WHERE ROW_ID = ?", (row,))
        if moment is None:
            raise _NoLuck
        return datetime.fromisoformat(moment)


class Drawn:
    """A question about values of the database; `patient` is the one it names."""

    def __init__(self, text: str, sql: str, patient: int | None) -> None:
        self.text, self.sql, self.patient = text, sql, patient


def _literal(value: Any) -> str:
    return quoted(value) if isinstance(value, str) else str(value)


def _shown(slot: str, value: Any) -> str:
    return GENDERS[value] if base_name(slot) == "gender" else str(value)


def _time(mark: TimeMark, moment: datetime) -> tuple[str, str]:
    """A time in the form that the text and the SQL want."""
    match mark.kind:
        case "stamp":
            shown = moment.isoformat(" ")
            return shown, quoted(shown)
        case "day":
            return f"{moment:%m/%d/%Y}", quoted(f"{moment:%Y-%m-%d}")
        case "month":
            return f"{moment:%m/%Y}", quoted(f"{moment:%Y-%m}")
        case "year":
            return f"{moment:%Y}", quoted(f"{moment:%Y}")
        case "month_day":
            return f"{moment:%m/%d}", quoted(f"{moment:%m-%d}")
        case "month_only":
            return f"{moment:%m}", quoted(f"{moment:%m}")
        case "day_only":
            return f"{moment:%d}", quoted(f"{moment:%d}")
        case _:
            count = int((_NOW - moment).total_seconds() / 86_400 / _DAYS[mark.unit])
            count += mark.operator.startswith(">")
            if count < 1:
                raise _NoLuck
            return str(count), f"'-{count} {mark.unit}'"
