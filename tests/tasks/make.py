"""Small datasets for the tests of this folder."""

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from tasks.data import DataRoot, DatasetWriter
from tasks.task import DataFile, IntegerSpec, Task, Truth

DATABASE = DataFile(
    path="/data/ward.sqlite", kind="sqlite", description="A ward.", open_with="sqlite3.connect('/data/ward.sqlite')"
)


def task(dataset: str, local: str, /, **changes: Any) -> Task:
    """A task of family "ward"; any field can be given."""
    fields: dict[str, Any] = {
        "id": f"{dataset}/{local}",
        "family": "ward",
        "dataset": dataset,
        "split": "train",
        "category": "count",
        "cluster": local,
        "problem": f"How many beds are there in ward {local}?",
        "answer": IntegerSpec(),
    }
    return Task(**(fields | changes))


def truth(writer: DatasetWriter, task: Task, value: Any = 1, /, **changes: Any) -> Truth:
    fields = {"task_id": task.id, "value": value, "oracle": f"answer = {value!r}", "canary": writer.new_canary()}
    return Truth(**(fields | changes))


def writer(root: DataRoot, name: str, /, **changes: Any) -> DatasetWriter:
    fields: dict[str, Any] = {
        "family": "ward",
        "title": "Ward",
        "source": "made here",
        "version": "1",
        "licence": "Apache-2.0",
        "restricted": False,
    }
    return root.writer(name, **(fields | changes))


def dataset(
    root: DataRoot,
    name: str = "d",
    tasks: Iterable[Task] | None = None,
    beds: int = 1,
    put: Callable[[Path, str], object] | None = None,
) -> list[Task]:
    """Register a dataset of these tasks (default: two) with one public text file; `beds` is every truth's value.

    `put` is called at the end with the folder of the public files and a canary of one truth.
    """
    chosen = [task(name, "a"), task(name, "b")] if tasks is None else list(tasks)
    with writer(root, name) as made:
        (made.public / "beds.txt").write_text(str(beds))
        secret = None
        for one in chosen:
            made.add(one, secret := truth(made, one, beds))
        if put and secret:
            put(made.public, secret.canary)
    return chosen


def database(path: Path, tables: Mapping[str, tuple[str, Iterable[tuple[Any, ...]]]]) -> Path:
    """A SQLite file: table name -> (its column definitions, rows)."""
    with closing(sqlite3.connect(path)) as db:
        for name, (columns, rows) in tables.items():
            quoted = '"' + name.replace('"', '""') + '"'
            db.execute(f"CREATE TABLE {quoted} ({columns})")
            for row in rows:
                db.execute(f"INSERT INTO {quoted} VALUES ({','.join('?' * len(row))})", row)
        db.commit()
    return path
