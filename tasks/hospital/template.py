"""A question template: sentences with slots, the SQL that answers them, and what makes an answer unambiguous."""

from dataclasses import dataclass
from typing import Any, Literal

from tasks.task import Split

Category = Literal[
    "demographics",
    "diagnosis",
    "procedure",
    "laboratory",
    "prescription",
    "vital_signs",
    "intake_output",
    "microbiology",
    "cost",
]
CATEGORIES: tuple[Category, ...] = (
    "demographics",
    "diagnosis",
    "procedure",
    "laboratory",
    "prescription",
    "vital_signs",
    "intake_output",
    "microbiology",
    "cost",
)
Slots = dict[str, Any]


@dataclass(frozen=True)
class Rank:
    """The first `n` rows of the template's SQL by `key`; `n` may be a slot.

    A tie among these rows and the next one voids the question.
    """

    key: str
    n: int | str = 1
    descending: bool = True


@dataclass(frozen=True)
class Template:
    """`level`: 1 look-up, 2 one aggregate or condition, 3 joins or groups, 4 several steps.

    `pool` names where the slots come from (`pools.py`); `extra` are further slots, each a choice of several.
    Sentences hold slots as {slot}; SQL holds them as {slot} too, where they become literals.
    """

    name: str
    category: Category
    level: Literal[1, 2, 3, 4]
    split: Split
    phrases: tuple[str, ...]
    pool: str
    sql: str
    columns: tuple[str, ...]
    rank: Rank | None = None
    ordered: bool = False
    extra: tuple[tuple[Slots, ...], ...] = ()

    def question(self, slots: Slots, phrase: int) -> str:
        text = self.phrases[phrase % len(self.phrases)].format_map(slots)
        return text[0].upper() + text[1:]

    def query(self, slots: Slots) -> str:
        """The SQL of the answer."""
        inner = self._inner(slots)
        if self.rank is None:
            return inner
        n = slots[self.rank.n] if isinstance(self.rank.n, str) else self.rank.n
        return f"{self._ranked(self.columns, inner)} LIMIT {n}"

    def tie_query(self, slots: Slots) -> str | None:
        """All rows in ranked order, the key after the answer's columns; None where nothing is ranked."""
        return self._ranked((*self.columns, self.rank.key), self._inner(slots)) if self.rank else None

    def limit(self, slots: Slots) -> int:
        assert self.rank is not None
        return int(slots[self.rank.n] if isinstance(self.rank.n, str) else self.rank.n)

    def _inner(self, slots: Slots) -> str:
        return " ".join(self.sql.format_map({name: literal(value) for name, value in slots.items()}).split())

    def _ranked(self, columns: tuple[str, ...], inner: str) -> str:
        assert self.rank is not None
        direction = " DESC" if self.rank.descending else ""
        return f"SELECT {', '.join(columns)} FROM ({inner}) ORDER BY {self.rank.key}{direction}"


def literal(value: Any) -> str:
    return str(value) if isinstance(value, int | float) else "'" + str(value).replace("'", "''") + "'"


def _period(words: str, start: str, stop: str) -> Slots:
    return {"period": words, "start": f"{start}-01-01 00:00:00", "stop": f"{stop}-01-01 00:00:00"}


PERIODS: tuple[Slots, ...] = (
    _period("in 2102", "2102", "2103"),
    _period("in 2103", "2103", "2104"),
    _period("in 2104", "2104", "2105"),
    _period("in 2105", "2105", "2106"),
    _period("since the start of 2103", "2103", "2106"),
    _period("since the start of 2104", "2104", "2106"),
    _period("before 2104", "2100", "2104"),
    _period("before 2105", "2100", "2105"),
    _period("from 2102 to 2104 (both years included)", "2102", "2105"),
)
TOP: tuple[Slots, ...] = ({"n": 2}, {"n": 3}, {"n": 4}, {"n": 5})
AGES: tuple[Slots, ...] = tuple({"age": age} for age in (50, 55, 60, 65, 70, 75))

# Parts of SQL that many templates share. A patient has no two admissions, and no two ICU stays, that begin together.
FIRST_ADMISSION = "(SELECT hadm_id FROM admissions WHERE subject_id = {patient} ORDER BY admittime LIMIT 1)"
LAST_ADMISSION = "(SELECT hadm_id FROM admissions WHERE subject_id = {patient} ORDER BY admittime DESC LIMIT 1)"
FIRST_STAY = "(SELECT icustay_id FROM icustays WHERE subject_id = {patient} ORDER BY intime LIMIT 1)"
LAST_STAY = "(SELECT icustay_id FROM icustays WHERE subject_id = {patient} ORDER BY intime DESC LIMIT 1)"
DIAGNOSED = (
    "(SELECT hadm_id FROM diagnoses_icd WHERE icd9_code = "
    "(SELECT icd9_code FROM d_icd_diagnoses WHERE long_title = {diagnosis}))"
)
"""The admissions with a diagnosis."""
OPERATED = (
    "(SELECT hadm_id FROM procedures_icd WHERE icd9_code = "
    "(SELECT icd9_code FROM d_icd_procedures WHERE long_title = {procedure}))"
)
"""The admissions with a procedure."""
LAB_ITEM = "(SELECT itemid FROM d_labitems WHERE label = {lab})"
VITAL_ITEM = "(SELECT itemid FROM d_items WHERE label = {vital} AND linksto = 'chartevents')"
INTAKE_ITEM = "(SELECT itemid FROM d_items WHERE label = {intake} AND linksto = 'inputevents_cv')"
OUTPUT_ITEM = "(SELECT itemid FROM d_items WHERE label = {output} AND linksto = 'outputevents')"
