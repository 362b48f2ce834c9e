"""The catalogue behind `request_info`: tables, columns, values with their counts, and where a term occurs.

Built once from the public databases. One SQLite file:
- every column's distinct values lie in one block of row numbers, most frequent first, so that a page is a seek and
  the word index can be asked about one column at a time (each column that has a term gets its share of the hits);
- `words` (FTS5) finds words inside values: "ointment" in "lidocaine 5% ointment". Numbers, codes and dates are found
  by value and by beginning, and are not in it;
- `vocabulary` holds the distinct words with their trigrams, for parts of words and for close matches.

Left out: binary values; what lies past the first `MAX_VALUES` distinct values of a column (`ColumnInfo.complete`
says so); words past `MAX_TEXT` characters of one value.
"""

import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from tasks.catalog_build import Value, build, normal
from tasks.errors import DataError, TaskError
from tasks.task import Frozen

_PER_COLUMN = 5
"""Hits of one column before the others have had theirs."""
_CLOSE = 72.0
"""Least likeness (rapidfuzz, 0 to 100) of a close match."""
_MOST_COMPARED = 50_000
"""Values of one column that are looked through for close matches."""

_WORD = re.compile(r"[^\W_]+")

__all__ = ["Catalog", "ColumnInfo", "Hit", "TableInfo", "ValueCount", "ValuePage", "build"]


class TableInfo(Frozen):
    """A table or view. `database` is its file in /data; `columns` is how many it has."""

    name: str
    database: str
    rows: int
    columns: int


class ColumnInfo(Frozen):
    """A column. `distinct` counts its distinct values that are not null; `complete` is false where there are more.

    `examples` are its most frequent values; `refers` is the "table.column" that a foreign key names.
    """

    name: str
    type: str
    primary_key: bool
    refers: str | None
    distinct: int
    complete: bool
    nulls: int
    examples: tuple[Value, ...]


class ValueCount(Frozen):
    """A value and the number of rows that hold it. A long text is cut."""

    value: Value
    count: int


class ValuePage(Frozen):
    """The most frequent values of a column, or those that match `term`; `total` counts all of them.

    `close` offers the nearest values when nothing matches.
    """

    table: str
    column: str
    values: tuple[ValueCount, ...]
    total: int
    complete: bool
    close: tuple[str, ...] = ()


class Hit(Frozen):
    """Where a term occurs: `count` rows of `table`.`column` hold `value`.

    `match`: exact (the whole value), word (all words of the term occur in it), part (as beginning or part of a word),
    close (nothing matches; this is the nearest spelling).
    """

    table: str
    column: str
    value: Value
    count: int
    match: Literal["exact", "word", "part", "close"]


class _Column:
    """A column as the catalogue keeps it."""

    def __init__(self, table: str, row: Sequence[Any]) -> None:
        self.table = table
        self.name, self.type, self.key, self.refers, self.first, self.last, self.nulls, self.complete, self.worded = row

    def holds(self, number: int) -> bool:
        return bool(self.first <= number <= self.last)


class Catalog:
    """A catalogue opened read-only; may be called from any thread. Raises DataError when it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
            self._db = sqlite3.connect(uri, uri=True, check_same_thread=False)
            self._load()
        except sqlite3.DatabaseError as error:
            raise DataError(f"The catalogue {path.name} cannot be read: {error}") from None

    def _load(self) -> None:
        self._tables: list[TableInfo] = []
        self._columns: dict[str, list[_Column]] = {}
        fields = "name, type, key, refers, first, last, nulls, complete, worded"
        for number, name, database, rows in self._db.execute("SELECT * FROM tables ORDER BY name").fetchall():
            found = self._db.execute(f"SELECT {fields} FROM columns WHERE table_id = ? ORDER BY id", (number,))
            self._columns[name] = [_Column(name, row) for row in found]
            columns = len(self._columns[name])
            self._tables.append(TableInfo(name=name, database=database, rows=rows, columns=columns))

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def tables(self) -> list[TableInfo]:
        return list(self._tables)

    def columns(self, table: str) -> list[ColumnInfo]:
        """The columns of a table in their order. Raises TaskError naming the nearest table."""
        with self._lock:
            return [self._info(column) for column in self._columns[self._table(table)]]

    def values(self, table: str, column: str, term: str | None = None, limit: int = 50) -> ValuePage:
        """The values of a column, most frequent first; with `term`, exact ones, then those that contain it.

        Raises TaskError naming the nearest table or column.
        """
        with self._lock:
            wanted = self._column(self._table(table), column)
            if term is None or not term.strip():
                sql = "SELECT value, count FROM vals WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"
                rows = self._db.execute(sql, (wanted.first, wanted.last, limit)).fetchall()
                return self._value_page(wanted, rows, wanted.last - wanted.first + 1)
            sql = """WITH found AS (
                SELECT id, value, count, CASE WHEN norm IS NULL THEN CAST(value AS TEXT) ELSE norm END AS text FROM vals
                WHERE id BETWEEN :first AND :last)
                SELECT value, count, count(*) OVER () FROM found WHERE instr(text, :term) OR value = :number
                ORDER BY text = :term OR value IS :number DESC, id LIMIT :limit"""
            term = _bindable(term)
            norm = normal(term)
            given = {"first": wanted.first, "last": wanted.last, "term": norm, "number": _number(norm), "limit": limit}
            found = self._db.execute(sql, given).fetchall()
            if not found and wanted.worded and (match := _match(term, "*")):
                sql = "SELECT rowid FROM words WHERE words MATCH ? AND rowid BETWEEN ? AND ? ORDER BY rowid"
                ids = [i for (i,) in self._db.execute(sql, (match, wanted.first, wanted.last))]
                found = [(*self._value(i), len(ids)) for i in ids[:limit]]
            if found:
                return self._value_page(wanted, [row[:2] for row in found], found[0][2])
            return self._value_page(wanted, [], 0, self._closest(wanted, norm))

    def _closest(self, column: _Column, norm: str) -> tuple[str, ...]:
        """The texts of a column, among the most frequent ones, that are spelled most like `norm`."""
        from rapidfuzz import fuzz, process

        sql = "SELECT norm, value FROM vals WHERE id BETWEEN ? AND ? AND norm IS NOT NULL"
        texts = dict(self._db.execute(sql, (column.first, min(column.last, column.first + _MOST_COMPARED))))
        best = process.extract(norm, list(texts), scorer=fuzz.ratio, limit=5, score_cutoff=_CLOSE)
        return tuple(texts[match[0]] for match in best)

    def search(self, term: str, limit: int = 20) -> list[Hit]:
        """Where `term` occurs, in all columns of all tables.

        First whole values, then values with all its words, then parts of words; close spellings only when there is
        none of these. No column takes more than a few of the hits while others still have some.
        """
        if not term.strip() or limit < 1:
            return []
        term = _bindable(term)
        with self._lock:
            hits = self._exact(term, limit)
            if len(hits) < limit and (match := _match(term, "")):
                hits += self._worded(match, "word", limit - len(hits), hits)
            if len(hits) < limit:
                hits += self._parts(term, limit - len(hits), hits)
            return hits or self._near(term, limit)

    def _exact(self, term: str, limit: int) -> list[Hit]:
        norm, most = normal(term), 4 * limit
        sql = "SELECT id, value, count FROM vals WHERE norm = ? ORDER BY count DESC LIMIT ?"
        rows = self._db.execute(sql, (norm, most)).fetchall()
        if (number := _number(norm)) is not None:
            sql = "SELECT id, value, count FROM vals WHERE norm IS NULL AND value = ? ORDER BY count DESC LIMIT ?"
            rows += self._db.execute(sql, (number, most)).fetchall()
        return self._hits(rows, "exact", limit)

    def _worded(self, match: str, kind: Literal["word", "part", "close"], limit: int, known: list[Hit]) -> list[Hit]:
        sql = "SELECT rowid FROM words WHERE words MATCH ? AND rowid BETWEEN ? AND ? ORDER BY rowid LIMIT ?"
        seen = {(hit.table, hit.column, hit.value) for hit in known}
        found: list[list[Hit]] = []
        try:
            for column in self._all_columns():
                if column.worded:
                    rows = self._db.execute(sql, (match, column.first, column.last, limit + len(known))).fetchall()
                    hits = self._hits([(i, *self._value(i)) for (i,) in rows], kind, len(rows))
                    if hits := [hit for hit in hits if (hit.table, hit.column, hit.value) not in seen]:
                        found.append(hits)
        except sqlite3.OperationalError:
            # What Python takes for one word, the tokenizer may split; the index keeps no phrases.
            return []
        return _shared_out(found, limit)

    def _parts(self, term: str, limit: int, known: list[Hit]) -> list[Hit]:
        """Beginnings of values (codes, dates), and words that contain the words of the term."""
        norm = normal(term)
        sql = "SELECT id, value, count FROM vals WHERE norm > ? AND norm < ? ORDER BY norm LIMIT ?"
        rows = self._db.execute(sql, (norm, norm + "\U0010ffff", 4 * limit)).fetchall() if len(norm) > 1 else []
        groups: dict[tuple[str, str], list[Hit]] = {}
        for hit in self._hits(rows, "part", len(rows)):
            if hit not in known and not any(
                (h.table, h.column, h.value) == (hit.table, hit.column, hit.value) for h in known
            ):
                groups.setdefault((hit.table, hit.column), []).append(hit)
        hits = _shared_out(list(groups.values()), limit)
        if len(hits) < limit and (match := self._containing(term)):
            hits += self._worded(match, "part", limit - len(hits), known + hits)
        return hits

    def _containing(self, term: str) -> str:
        """The term for FTS5, each word replaced by the words of the vocabulary that contain it; "" if one has none."""
        parts = []
        for word in _words(term):
            if len(word) < 3:
                parts.append(f'"{word}"')
                continue
            sql = "SELECT word FROM vocabulary WHERE vocabulary MATCH ? LIMIT 50"
            found = [f'"{w}"' for (w,) in self._db.execute(sql, (f'"{word}"',))]
            if not found and not word.isdigit():
                return ""
            parts.append(f"({' OR '.join(found)})" if found else f'"{word}"')
        return " AND ".join(parts)

    def _near(self, term: str, limit: int) -> list[Hit]:
        """Values with the words that are spelled most like those of the term."""
        from rapidfuzz import fuzz, process

        parts = []
        for word in _words(term):
            if (
                len(word) < 3
                or self._db.execute("SELECT 1 FROM words WHERE words MATCH ? LIMIT 1", (f'"{word}"',)).fetchone()
            ):
                parts.append(f'"{word}"')
                continue
            grams = sorted({word[i : i + 3] for i in range(len(word) - 2)})
            sql = "SELECT word FROM vocabulary WHERE vocabulary MATCH ? ORDER BY rank LIMIT 300"
            near = [w for (w,) in self._db.execute(sql, (" OR ".join(f'"{gram}"' for gram in grams),))]
            best = process.extract(word, near, scorer=fuzz.ratio, limit=5, score_cutoff=_CLOSE)
            if not best:
                return []
            parts.append("(" + " OR ".join(f'"{match[0]}"' for match in best) + ")")
        return self._worded(" AND ".join(parts), "close", limit, []) if parts else []

    def _hits(
        self, rows: Iterable[tuple[int, Value, int]], kind: Literal["exact", "word", "part", "close"], limit: int
    ) -> list[Hit]:
        hits = []
        for number, value, count in rows:
            column = next(column for column in self._all_columns() if column.holds(number))
            hits.append(Hit(table=column.table, column=column.name, value=value, count=count, match=kind))
        return hits[:limit]

    def _all_columns(self) -> Iterator[_Column]:
        for columns in self._columns.values():
            yield from columns

    def _value(self, number: int) -> tuple[Value, int]:
        value, count = self._db.execute("SELECT value, count FROM vals WHERE id = ?", (number,)).fetchone()
        return value, count

    def _info(self, column: _Column) -> ColumnInfo:
        sql = "SELECT value FROM vals WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 3"
        examples = tuple(
            value if not isinstance(value, str) or len(value) <= 80 else f"{value[:79]}…"
            for (value,) in self._db.execute(sql, (column.first, column.last))
        )
        return ColumnInfo(
            name=column.name,
            type=column.type,
            primary_key=bool(column.key),
            refers=column.refers,
            distinct=column.last - column.first + 1,
            complete=bool(column.complete),
            nulls=column.nulls,
            examples=examples,
        )

    def _value_page(
        self, column: _Column, rows: Iterable[Sequence[Any]], total: int, close: tuple[str, ...] = ()
    ) -> ValuePage:
        return ValuePage(
            table=column.table,
            column=column.name,
            values=tuple(ValueCount(value=value, count=count) for value, count in rows),
            total=total,
            complete=bool(column.complete),
            close=close,
        )

    def _table(self, name: str) -> str:
        return _find(name, list(self._columns), "table", "Tables")

    def _column(self, table: str, name: str) -> _Column:
        columns = {column.name: column for column in self._columns[table]}
        return columns[_find(name, list(columns), f"column of {table}", "Columns")]


def _find(name: str, known: Sequence[str], what: str, plural: str) -> str:
    """The known name that is `name` without regard to case. Raises TaskError naming the nearest."""
    folded = {other.casefold(): other for other in known}
    if found := folded.get(name.strip().casefold()):
        return found
    from rapidfuzz import fuzz, process

    best = process.extract(name.casefold(), list(folded), scorer=fuzz.WRatio, limit=3, score_cutoff=60)
    near = f" Nearest: {', '.join(folded[match[0]] for match in best)}." if best else ""
    raise TaskError(f"There is no {what} named {name[:100]!r}.{near} {plural}: {', '.join(known) or 'none'}.")


def _shared_out(groups: list[list[Hit]], limit: int) -> list[Hit]:
    """The most frequent hits of each column in turn: up to a few of each, then the rest while there is room."""
    groups = sorted(groups, key=lambda hits: -hits[0].count)
    first = [hit for hits in groups for hit in hits[: max(1, min(_PER_COLUMN, limit // len(groups)))]]
    rest = [hit for hits in groups for hit in hits]
    chosen = dict.fromkeys(first + rest)
    return list(chosen)[:limit]


def _bindable(term: str) -> str:
    """Without lone surrogates, which SQLite does not take."""
    return term.encode("utf-8", "replace").decode()


def _words(term: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(term[:1000])][:20]


def _match(term: str, suffix: str) -> str:
    return " AND ".join(f'"{word}"{suffix}' for word in _words(term))


def _number(text: str) -> int | float | None:
    if re.fullmatch(r"[+-]?\d{1,18}", text):
        return int(text)
    return float(text) if re.fullmatch(r"[+-]?\d{0,30}\.\d{1,30}", text) else None
