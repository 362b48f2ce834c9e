"""Filling the templates from a database: questions that have one clear, telling answer.

Left out are questions whose answer is empty, nothing but nulls, a lone 0 or 1 (a guess would do), longer than
`MAX_ROWS`, or hangs on a tie in a ranking; and whatever was asked before.

The split is by template and by patient. Every template belongs to train or to test; a question about one patient
is drawn from the patients of that side (`is_test_patient`). A question that names no patient is about the whole
hospital; it is apart from the other side by its template alone.
"""

import hashlib
import math
import sqlite3
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from tasks.family import ImportReport
from tasks.hospital.pools import Pools, names_patient
from tasks.hospital.questions_measures import INTAKE_OUTPUT, LABORATORY, MICROBIOLOGY, VITAL_SIGNS
from tasks.hospital.questions_orders import COST, PRESCRIPTION
from tasks.hospital.questions_stays import DEMOGRAPHICS, DIAGNOSIS, PROCEDURE
from tasks.hospital.template import CATEGORIES, Category, Slots, Template
from tasks.task import Split

TEMPLATES: tuple[Template, ...] = (
    *DEMOGRAPHICS,
    *DIAGNOSIS,
    *PROCEDURE,
    *LABORATORY,
    *PRESCRIPTION,
    *VITAL_SIGNS,
    *INTAKE_OUTPUT,
    *MICROBIOLOGY,
    *COST,
)
MAX_ROWS = 60
TEST_SHARE = 0.3
_PATIENCE = 80
"""So many draws in a row without a question, and a template counts as exhausted."""
Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Question:
    """A template filled in, with the rows that its SQL gave. `number` counts within the template from 1."""

    template: Template
    number: int
    slots: Slots
    text: str
    sql: str
    rows: Rows


def is_test_patient(seed: int, number: int) -> bool:
    """A third of the patients, by their number, so for any size of the population alike."""
    return hashlib.sha256(f"{seed}/{number}".encode()).digest()[0] < 86


def share_out(per_category: int) -> dict[Split, int]:
    """How many questions of a category are for train and for test."""
    test = 0 if per_category < 2 else max(1, round(per_category * TEST_SHARE))
    return {"train": per_category - test, "test": test}


def draw_questions(
    database: sqlite3.Connection, seed: int, category: Category, per_category: int, pools: Pools, report: ImportReport
) -> list[Question]:
    """Questions of one category, both splits, taking turns between the templates. Equal input gives equal output."""
    result: list[Question] = []
    for split, wanted in share_out(per_category).items():
        templates = [t for t in TEMPLATES if t.category == category and t.split == split]
        order = np.random.default_rng((seed, zlib.crc32(f"{category}/{split}".encode()))).permutation(len(templates))
        streams = [fill(database, seed, templates[int(i)], pools, report) for i in order]
        missing = wanted
        while streams and missing:
            for stream in list(streams):
                question = next(stream, None)
                if question is None:
                    streams.remove(stream)
                    continue
                result.append(question)
                missing -= 1
                if not missing:
                    break
        if missing:
            report.leave_out(f"{category}: no further {split} question in this population", missing)
    return result


def fill(
    database: sqlite3.Connection, seed: int, template: Template, pools: Pools, report: ImportReport
) -> Iterator[Question]:
    """The questions of one template in a random order that the seed fixes."""
    rng = np.random.default_rng((seed, zlib.crc32(template.name.encode())))
    candidates = pools.rows(template.pool)
    if names_patient(template.pool):
        test = template.split == "test"
        candidates = [slots for slots in candidates if is_test_patient(seed, slots["patient"]) == test]
    seen: set[str] = set()
    failures = number = 0
    for slots in _combinations(rng, candidates, template):
        if failures >= _PATIENCE:
            return
        text, sql = template.question(slots, int(rng.integers(0, len(template.phrases)))), template.query(slots)
        if sql in seen:
            report.leave_out("asked before")
            continue
        seen.add(sql)
        rows: Rows = database.execute(sql).fetchall()
        reason = _unusable(rows)
        if reason is None and template.rank and isinstance(template.rank.n, str) and len(rows) < template.limit(slots):
            reason = "fewer rows than asked for"
        if reason is None and _tied(database, template, slots):
            reason = "a tie in the ranking"
        if reason is not None:
            report.leave_out(reason)
            failures += 1
            continue
        failures = 0
        number += 1
        yield Question(template, number, slots, text, sql, rows)


def _combinations(rng: np.random.Generator, candidates: list[Slots], template: Template) -> Iterator[Slots]:
    """Every candidate with every choice of the extra slots, each once, in random order."""
    sizes = [len(candidates), *(len(choices) for choices in template.extra)]
    total = math.prod(sizes)
    for index in rng.permutation(total).tolist():
        index, which = divmod(index, sizes[0])
        slots = dict(candidates[which])
        for choices in template.extra:
            index, choice = divmod(index, len(choices))
            slots |= choices[choice]
        yield slots


def _unusable(rows: Rows) -> str | None:
    if not rows:
        return "no rows"
    if all(cell is None for row in rows for cell in row):
        return "nothing but nulls"
    if len(rows) == 1 and len(rows[0]) == 1 and rows[0][0] in (0, 1):
        return "trivial (0 or 1)"
    if len(rows) > MAX_ROWS:
        return "a long list"
    return None


def _tied(database: sqlite3.Connection, template: Template, slots: Slots) -> bool:
    """Whether two of the ranked rows, the first one left out included, share a rank."""
    query = template.tie_query(slots)
    if query is None:
        return False
    keys = [row[-1] for row in database.execute(f"{query} LIMIT {template.limit(slots) + 1}")]
    return any(_same(left, right) for left, right in pairwise(keys))


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, int | float):
        return math.isclose(left, right, rel_tol=1e-9)
    return bool(left == right)


__all__ = ["CATEGORIES", "MAX_ROWS", "TEMPLATES", "Question", "draw_questions", "fill", "is_test_patient", "share_out"]
