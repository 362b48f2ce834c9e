"""The index of all public tasks: one SQLite file, replaced as a whole, so that readers never wait and never see half.

Each dataset owns a block of row numbers; in it the tasks lie sorted by split and category, in the order of their
import within one category. So every filter is a handful of ranges (`facets`), its total is a sum, and a page is a
seek. The index holds nothing that an agent may not see, and can be rebuilt from the datasets at any time.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from itertools import groupby
from pathlib import Path
from uuid import uuid4

from tasks.task import Task

BLOCK = 1 << 32
"""Row numbers per dataset."""

_SCHEMA_VERSION = 2
_SCHEMA = f"""
CREATE TABLE datasets (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, manifest TEXT NOT NULL);
CREATE TABLE facets (
    first INTEGER PRIMARY KEY, last INTEGER NOT NULL, dataset TEXT NOT NULL, family TEXT NOT NULL,
    split TEXT NOT NULL, category TEXT NOT NULL);
CREATE TABLE tasks (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL, family TEXT NOT NULL, split TEXT NOT NULL, category TEXT NOT NULL,
    title TEXT NOT NULL, missing INTEGER NOT NULL);
CREATE UNIQUE INDEX tasks_id ON tasks (id);
CREATE TABLE bodies (seq INTEGER PRIMARY KEY, body TEXT NOT NULL);
CREATE VIRTUAL TABLE words USING fts5(text, content='', detail=none, columnsize=0, prefix='2 3 4 5',
    tokenize='unicode61 remove_diacritics 2');
PRAGMA user_version = {_SCHEMA_VERSION};
"""


def read_only(path: Path) -> sqlite3.Connection:
    """Open a finished file that is only ever replaced, never changed. May be used from any thread, under a lock."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)


def title_of(problem: str, length: int = 120) -> str:
    """The beginning of a problem on one line, cut at a word."""
    text = " ".join(problem[: 8 * length].split())
    if len(text) <= length:
        return text
    cut = text[: length - 1]
    return (cut.rsplit(" ", 1)[0] if " " in cut[length // 2 :] else cut) + "…"


def indexed(path: Path) -> dict[str, str]:
    """The datasets in the index with the digest of the manifest each was indexed from; {} if there is no index."""
    if not path.is_file():
        return {}
    try:
        with closing(read_only(path)) as db:
            if db.execute("PRAGMA user_version").fetchone()[0] != _SCHEMA_VERSION:
                return {}
            return dict(db.execute("SELECT name, manifest FROM datasets"))
    except sqlite3.DatabaseError:
        return {}


def update(path: Path, changed: Mapping[str, tuple[str, Iterable[Task]]], removed: Iterable[str] = ()) -> None:
    """Replace the index by one in which the `changed` datasets (name -> manifest digest, tasks) are as given.

    The caller holds the lock of the data root.
    """
    keep = indexed(path)
    draft = path.with_name(f".{path.name}-{uuid4().hex}")
    try:
        if keep:
            shutil.copyfile(path, draft)
        with closing(sqlite3.connect(draft)) as db:
            # A draft that is lost is built again: durability comes from the fsync before the replacement.
            db.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
            if not keep:
                db.executescript(_SCHEMA)
            for name in (*removed, *changed):
                _remove(db, name)
            for name, (digest, tasks) in changed.items():
                _insert(db, name, digest, tasks)
            db.execute("INSERT INTO words (words) VALUES ('optimize')")
            db.execute("ANALYZE")
            db.commit()
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _remove(db: sqlite3.Connection, name: str) -> None:
    found = db.execute("SELECT number FROM datasets WHERE name = ?", (name,)).fetchone()
    if found is None:
        return
    block = (found[0] * BLOCK, (found[0] + 1) * BLOCK - 1)
    # A contentless table needs the old text to forget a row.
    for seq, body in db.execute("SELECT seq, body FROM bodies WHERE seq BETWEEN ? AND ?", block).fetchall():
        text = _words(Task.model_validate_json(body))
        db.execute("INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)", (seq, text))
    for table, key in (("tasks", "seq"), ("bodies", "seq"), ("facets", "first")):
        db.execute(f"DELETE FROM {table} WHERE {key} BETWEEN ? AND ?", block)
    db.execute("DELETE FROM datasets WHERE name = ?", (name,))


def _words(task: Task) -> str:
    return f"{task.id} {task.category} {task.problem}"


def _facet(task: Task) -> tuple[str, str, str]:
    return task.family, task.split, task.category


def _insert(db: sqlite3.Connection, name: str, digest: str, tasks: Iterable[Task]) -> None:
    taken = {number for (number,) in db.execute("SELECT number FROM datasets")}
    number = next(n for n in range(1, len(taken) + 2) if n not in taken)
    db.execute("INSERT INTO datasets VALUES (?, ?, ?)", (number, name, digest))
    seq = number * BLOCK
    for (family, split, category), group in groupby(sorted(tasks, key=_facet), key=_facet):
        first = seq
        for task in group:
            summary = (seq, task.id, family, split, category, title_of(task.problem), task.missing is not None)
            db.execute("INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?)", summary)
            db.execute("INSERT INTO bodies VALUES (?, ?)", (seq, task.model_dump_json()))
            db.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (seq, _words(task)))
            seq += 1
        db.execute("INSERT INTO facets VALUES (?, ?, ?, ?, ?, ?)", (first, seq - 1, name, family, split, category))
