"""A task and its truth from a question and its SQL: one form for imported, re-grounded and generated questions."""

import re
from collections.abc import Sequence
from typing import Any

from tasks.data import DatasetWriter
from tasks.task import DataFile, RowsSpec, Split, Task, Truth

MIMIC_DATABASE = "mimic_iii.db"
_ORDERS = re.compile(r"\b(order(ed)?|sort(ed)?|ascending|descending|chronological(ly)?|rank(ed)?)\b", re.I)


def sql_task(
    writer: DatasetWriter,
    local_id: str,
    *,
    question: str,
    sql: str,
    rows: Sequence[Sequence[Any]],
    width: int,
    category: str,
    cluster: str,
    split: Split,
    database: str = MIMIC_DATABASE,
    description: str = "A hospital database (SQLite).",
    ordered: bool | None = None,
    missing: str | None = None,
    extra: dict[str, Any] | None = None,
) -> tuple[Task, Truth]:
    """The pair; nothing is written. `sql` runs as it stands on `database`, a file in the writer's public folder.

    `width` is the number of columns. `ordered` None means: only if the question speaks of an order and the SQL ends
    in one. `extra` goes to the truth, beside the SQL.
    """
    path = f"/data/{database}"
    if ordered is None:
        ordered = len(rows) > 1 and bool(_ORDERS.search(question)) and orders(sql)
    task = Task(
        id=f"{writer.name}/{local_id}",
        family=writer.family,
        dataset=writer.name,
        split=split,
        category=category,
        cluster=cluster,
        problem=question,
        answer=RowsSpec(width=width, ordered=ordered),
        data=(DataFile(path=path, kind="sqlite", description=description, open_with=_open(path)),),
        database=path,
        missing=missing,
    )
    oracle = f"import sqlite3\n\ndb = {_open(path)}\nanswer = [list(row) for row in db.execute({sql!r})]\n"
    truth = Truth(
        task_id=task.id,
        value=[list(row) for row in rows],
        oracle=oracle,
        canary=writer.new_canary(),
        extra={"sql": sql, **(extra or {})},
    )
    return task, truth


def orders(sql: str) -> bool:
    """Whether the outermost SELECT ends in ORDER BY (texts and what stands in brackets set aside)."""
    bare = re.sub(r"'(?:[^']|'')*'", "''", sql)
    while (inner := re.sub(r"\([^()]*\)", "", bare)) != bare:
        bare = inner
    return bool(re.search(r"\border\s+by\b", bare, re.I))


def _open(path: str) -> str:
    return f'sqlite3.connect("file:{path}?mode=ro", uri=True)'
