"""The tasks of a data root: list, filter, search, page, fetch.

Everything but `truth` gives only what an agent may see. Reads go to the index (tasks.index) through one connection
under a lock, so that any thread may call; a replaced index is noticed at the next call.
"""

import base64
import json
import re
import sqlite3
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from tasks.data import DataRoot
from tasks.errors import DataError, DataMissing, TaskError, UnknownTask
from tasks.index import read_only
from tasks.task import Frozen, Split, Task, Truth

MAX_LIMIT = 200
_WORD = re.compile(r"[^\W_]+")
_SUMMARY = "seq, id, family, split, category, title, missing"
_CHUNK = 500

Range = tuple[int, int]
_Row = tuple[int, str, str, Split, str, str, int]


class TaskSummary(Frozen):
    """One line of a list. `title` is the beginning of the problem; `missing`: the task cannot be started here."""

    id: str
    family: str
    split: Split
    category: str
    title: str
    missing: bool


class TaskPage(Frozen):
    """A page of a list of `total` tasks; `next_cursor` is None on the last page."""

    tasks: tuple[TaskSummary, ...]
    next_cursor: str | None
    total: int


class FamilySummary(Frozen):
    """A family with its registered datasets; `categories` counts tasks."""

    name: str
    title: str
    datasets: tuple[str, ...]
    tasks: int
    train: int
    test: int
    categories: dict[str, int]


# `Registry.list` hides the builtin from the annotations in its class.
Ids = list[str]
Families = list[FamilySummary]


@dataclass(frozen=True)
class _Facet:
    first: int
    last: int
    dataset: str
    family: str
    split: str
    category: str

    @property
    def count(self) -> int:
        return self.last - self.first + 1


class Registry:
    """All tasks of `root`. Raises DataError when the index cannot be brought up to date."""

    def __init__(self, root: DataRoot) -> None:
        self.root = root
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._stamp: tuple[int, int, int] | None = None
        self._facets: list[_Facet] = []
        self._totals: dict[tuple[str, tuple[Range, ...]], int] = {}
        root.refresh_index()

    def close(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()
            self._db = self._stamp = None

    def list(
        self,
        *,
        family: str | None = None,
        split: str | None = None,
        category: str | None = None,
        query: str | None = None,
        dataset: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> TaskPage:
        """A page of the tasks that pass every filter, in a fixed order; `query` asks for all of its words.

        A word that occurs nowhere is taken as the beginning of one. Raises TaskError for a filter value that does
        not exist (naming those that do), a cursor that is not of this list, and a limit outside 1 to 200.
        """
        if not 1 <= limit <= MAX_LIMIT:
            raise TaskError(f"limit must be from 1 to {MAX_LIMIT}, not {limit}.")
        filters = {"dataset": dataset, "family": family, "split": split, "category": category}
        with self._lock:
            db = self._connect()
            ranges = self._ranges(filters)
            key = _key(query, filters)
            after = self._position(db, cursor, key) if cursor is not None else -1
            if query is None or not query.strip():
                total = sum(last - first + 1 for first, last in ranges)
                rows = self._page(db, ranges, after, limit + 1)
            else:
                match, total = self._match(db, query, ranges)
                rows = self._page_of_matches(db, match, ranges, after, limit + 1) if total else []
        more = len(rows) > limit
        summaries = tuple(_summary(row) for row in rows[:limit])
        return TaskPage(tasks=summaries, next_cursor=_encode(key, summaries[-1].id) if more else None, total=total)

    def get(self, task_id: str) -> Task:
        """Raises UnknownTask with the closest ids."""
        with self._lock:
            db = self._connect()
            sql = "SELECT body FROM bodies WHERE seq = (SELECT seq FROM tasks WHERE id = ?)"
            # Ids are ASCII; a lone surrogate could not be bound.
            found = db.execute(sql, (task_id,)).fetchone() if task_id.isascii() else None
            if found is None:
                raise UnknownTask(self._unknown(db, task_id))
        return Task.model_validate_json(found[0])

    def truth(self, task_id: str) -> Truth:
        """What only the server knows. Nothing that an agent calls may hand this on. Raises UnknownTask, DataMissing."""
        dataset = self.get(task_id).dataset
        try:
            path = self.root.truth_path(dataset)
            with closing(read_only(path)) as db:
                found = db.execute("SELECT body FROM truths WHERE task_id = ?", (task_id,)).fetchone()
        except (sqlite3.DatabaseError, DataError) as error:
            raise DataMissing(f"The truth store of task {task_id!r} cannot be read: {error}") from None
        if found is None:
            raise DataMissing(f"The truth store has nothing about task {task_id!r}; add its dataset again.")
        return Truth.model_validate_json(found[0])

    def ids(self, *, family: str | None = None, split: str | None = None, dataset: str | None = None) -> Ids:
        """All ids that pass the filters, in the order of `list`. Raises TaskError as `list` does."""
        with self._lock:
            db = self._connect()
            ranges = self._ranges({"dataset": dataset, "family": family, "split": split, "category": None})
            found: list[str] = []
            for block in ranges:
                found += [
                    i for (i,) in db.execute("SELECT id FROM tasks WHERE seq BETWEEN ? AND ? ORDER BY seq", block)
                ]
        return found

    def families(self) -> Families:
        """The families that have tasks here, by name."""
        from tasks.families import FAMILIES, get_family

        with self._lock:
            self._connect()
            facets = self._facets
        result = []
        for name in sorted({facet.family for facet in facets}):
            mine = [facet for facet in facets if facet.family == name]
            splits: Counter[str] = Counter()
            categories: Counter[str] = Counter()
            for facet in mine:
                splits[facet.split] += facet.count
                categories[facet.category] += facet.count
            result.append(
                FamilySummary(
                    name=name,
                    title=get_family(name).title if name in FAMILIES else name,
                    datasets=tuple(sorted({facet.dataset for facet in mine})),
                    tasks=splits.total(),
                    train=splits["train"],
                    test=splits["test"],
                    categories=dict(sorted(categories.items())),
                )
            )
        return result

    def complete(self, prefix: str, limit: int = 50) -> Ids:
        """The first ids that begin with `prefix`, in the order of ASCII."""
        if not prefix.isascii():
            return []
        with self._lock:
            db = self._connect()
            sql = "SELECT id FROM tasks WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
            return [found for (found,) in db.execute(sql, (prefix, prefix + "\U0010ffff", limit))]

    def _connect(self) -> sqlite3.Connection:
        """The connection to the current index; an empty one where no dataset is registered."""
        try:
            status = self.root.index_path.stat()
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        except FileNotFoundError:
            stamp = (0, 0, 0)
        if self._db is None or stamp != self._stamp:
            self.close()
            self._totals.clear()
            if stamp[0]:
                self._db = read_only(self.root.index_path)
                rows = self._db.execute(
                    "SELECT first, last, dataset, family, split, category FROM facets ORDER BY first"
                )
                self._facets = [_Facet(*row) for row in rows]
            else:
                self._db = sqlite3.connect(":memory:", check_same_thread=False)
                self._db.executescript(
                    "CREATE TABLE tasks (seq, id, family, split, category, title, missing);"
                    "CREATE TABLE bodies (seq, body); CREATE VIRTUAL TABLE words USING fts5(text);"
                )
                self._facets = []
            self._stamp = stamp
        return self._db

    def _ranges(self, filters: dict[str, str | None]) -> tuple[Range, ...]:
        """The rows that pass, as few ranges in order. Each value must exist beside the filters before it."""
        facets = self._facets
        for name, wanted in filters.items():
            if wanted is None:
                continue
            known = sorted({getattr(facet, name) for facet in facets})
            facets = [facet for facet in facets if getattr(facet, name) == wanted]
            if not facets and not (name == "split" and wanted in ("train", "test")):
                raise TaskError(_unknown_value(name, wanted, known))
        ranges: list[Range] = []
        for facet in facets:
            if ranges and ranges[-1][1] + 1 == facet.first:
                ranges[-1] = (ranges[-1][0], facet.last)
            else:
                ranges.append((facet.first, facet.last))
        return tuple(ranges)

    def _page(self, db: sqlite3.Connection, ranges: Sequence[Range], after: int, count: int) -> Sequence[_Row]:
        rows: list[_Row] = []
        for first, last in ranges:
            if last > after and len(rows) < count:
                sql = f"SELECT {_SUMMARY} FROM tasks WHERE seq BETWEEN ? AND ? ORDER BY seq LIMIT ?"
                rows += db.execute(sql, (max(first, after + 1), last, count - len(rows)))
        return rows

    def _page_of_matches(
        self, db: sqlite3.Connection, match: str, ranges: Sequence[Range], after: int, count: int
    ) -> Sequence[_Row]:
        found: list[int] = []
        for first, last in ranges:
            if last > after and len(found) < count:
                sql = "SELECT rowid FROM words WHERE words MATCH ? AND rowid BETWEEN ? AND ? ORDER BY rowid LIMIT ?"
                arguments = (match, max(first, after + 1), last, count - len(found))
                found += [seq for (seq,) in db.execute(sql, arguments)]
        marks = ",".join("?" * len(found))
        return list(db.execute(f"SELECT {_SUMMARY} FROM tasks WHERE seq IN ({marks}) ORDER BY seq", found))

    def _match(self, db: sqlite3.Connection, query: str, ranges: tuple[Range, ...]) -> tuple[str, int]:
        """The query in FTS5's words and how many tasks match it: all words, else all as beginnings of words."""
        words = _WORD.findall(query[:1000])
        if not words:
            return "", 0
        for suffix in ("", "*"):
            match = " AND ".join(f'"{word}"{suffix}' for word in words)
            if (match, ranges) not in self._totals:
                sql = "SELECT count(*) FROM words WHERE words MATCH ? AND rowid BETWEEN ? AND ?"
                try:
                    total = sum(db.execute(sql, (match, *block)).fetchone()[0] for block in ranges)
                except sqlite3.OperationalError:
                    # What Python takes for one word, the tokenizer may split; the index keeps no phrases.
                    total = 0
                if len(self._totals) > 10_000:
                    self._totals.clear()
                self._totals[match, ranges] = total
            if total := self._totals[match, ranges]:
                return match, total
        return "", 0

    def _position(self, db: sqlite3.Connection, cursor: str, key: str) -> int:
        try:
            given, task_id = json.loads(base64.urlsafe_b64decode(cursor.encode()))
            found = db.execute("SELECT seq FROM tasks WHERE id = ?", (str(task_id),)).fetchone()
        except (ValueError, TypeError, RecursionError):
            found = given = None
        if found is None or given != key:
            raise TaskError(
                "This cursor is not of this list. Pass next_cursor with the same filters, or start without."
            )
        return int(found[0])

    def _unknown(self, db: sqlite3.Connection, task_id: str) -> str:
        from rapidfuzz import process

        ids = [found for (found,) in db.execute("SELECT id FROM tasks")]
        if not ids:
            return f"There is no task {task_id[:200]!r}: no dataset is registered. Run `med-copilot tasks generate`."
        close = [match[0] for match in process.extract(task_id[:200], ids, limit=3, score_cutoff=60)]
        hint = f" Close: {', '.join(close)}." if close else " list_tasks gives the ids."
        return f"There is no task {task_id[:200]!r}.{hint}"


def _unknown_value(name: str, wanted: str, known: Sequence[str]) -> str:
    from rapidfuzz import process

    shown = list(known)
    if len(shown) > 60:
        shown = [match[0] for match in process.extract(wanted, known, limit=20)] + ["..."]
    plural = {"family": "families", "category": "categories"}.get(name, f"{name}s")
    return f"No task here has {name} {wanted[:100]!r}. {plural.capitalize()}: {', '.join(shown) or 'none yet'}."


def _summary(row: _Row) -> TaskSummary:
    _, task_id, family, split, category, title, missing = row
    return TaskSummary(id=task_id, family=family, split=split, category=category, title=title, missing=bool(missing))


def _key(query: str | None, filters: dict[str, str | None]) -> str:
    """What a cursor must agree with, short."""
    import hashlib

    return hashlib.sha256(json.dumps([query, filters]).encode()).hexdigest()[:8]


def _encode(key: str, task_id: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([key, task_id]).encode()).decode()
