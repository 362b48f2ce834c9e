"""Building a catalogue (see tasks.catalog) from the public databases of a dataset."""

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

from tasks.errors import DataError

MAX_VALUES = 500_000
"""Distinct values that are kept of one column."""
MAX_TEXT = 20_000
"""Characters of one value in which words are found."""
SHOWN = 400
"""Longest value that is kept and shown, in characters."""

Value = str | int | float
Progress = Callable[[str, int, int], None]

_SCHEMA = """
CREATE TABLE tables (id INTEGER PRIMARY KEY, name TEXT NOT NULL, database TEXT NOT NULL, rows INTEGER NOT NULL);
CREATE TABLE columns (
    id INTEGER PRIMARY KEY, table_id INTEGER NOT NULL, name TEXT NOT NULL, type TEXT NOT NULL, key INTEGER NOT NULL,
    refers TEXT, first INTEGER NOT NULL, last INTEGER NOT NULL, nulls INTEGER NOT NULL, complete INTEGER NOT NULL,
    worded INTEGER NOT NULL);
CREATE TABLE vals (id INTEGER PRIMARY KEY, value NOT NULL, count INTEGER NOT NULL, norm TEXT);
CREATE VIRTUAL TABLE words USING fts5(text, content='', detail=none, columnsize=0,
    tokenize='unicode61 remove_diacritics 2');
"""
_FINISH = """
INSERT INTO words (words) VALUES ('optimize');
CREATE INDEX vals_norm ON vals (norm) WHERE norm IS NOT NULL;
CREATE INDEX vals_number ON vals (value) WHERE norm IS NULL;
CREATE VIRTUAL TABLE temp.terms USING fts5vocab(main, words, row);
CREATE VIRTUAL TABLE vocabulary USING fts5(word, tokenize='trigram');
INSERT INTO vocabulary (word) SELECT term FROM temp.terms WHERE length(term) BETWEEN 3 AND 60 AND term GLOB '*[^0-9]*';
DROP TABLE temp.terms;
ANALYZE;
"""


def build(databases: Iterable[Path], out: Path, progress: Progress | None = None) -> None:
    """Write the catalogue of `databases` to the new file `out`. Raises DataError for what is no SQLite database."""
    sources = list(databases)
    with closing(sqlite3.connect(out)) as db:
        db.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -65536;")
        db.executescript(_SCHEMA)
        db.execute("BEGIN")
        for path in sources:
            try:
                with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as source:
                    source.text_factory = lambda raw: raw.decode("utf-8", "replace")
                    _add_database(db, source, path, progress)
            except sqlite3.DatabaseError as error:
                raise DataError(f"{path.name} cannot be read as a SQLite database: {error}") from None
        _name_apart(db)
        db.commit()
        db.executescript(_FINISH)
        db.commit()


def _add_database(db: sqlite3.Connection, source: sqlite3.Connection, path: Path, progress: Progress | None) -> None:
    names = [
        name
        for kind, name in source.execute("SELECT type, name FROM pragma_table_list WHERE schema = 'main' ORDER BY name")
        if kind in ("table", "view", "virtual") and not name.startswith("sqlite_")
    ]
    for done, name in enumerate(names):
        if progress:
            progress(f"catalogue of {path.name}: {name}", done, len(names))
        rows = source.execute(f"SELECT count(*) FROM {_quoted(name)}").fetchone()[0]
        table = db.execute(
            "INSERT INTO tables (name, database, rows) VALUES (?, ?, ?)", (name, path.name, rows)
        ).lastrowid
        refers = {
            column: f"{other}.{target or column}"
            for _, _, other, column, target, *_ in source.execute(f"PRAGMA foreign_key_list({_quoted(name)})")
        }
        for _, column, declared, _, _, key in source.execute(f"PRAGMA table_info({_quoted(name)})").fetchall():
            first, last, nulls, complete, worded = _add_values(db, source, name, column, rows)
            db.execute(
                "INSERT INTO columns (table_id, name, type, key, refers, first, last, nulls, complete, worded)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (table, column, declared, bool(key), refers.get(column), first, last, nulls, complete, worded),
            )


def _add_values(
    db: sqlite3.Connection, source: sqlite3.Connection, table: str, column: str, rows: int
) -> tuple[int, int, int, bool, bool]:
    """Add a column's values; returns its first and last row number, its nulls, whether it is all, has it words."""
    name = _quoted(column)
    first = db.execute("SELECT coalesce(max(id), 0) + 1 FROM vals").fetchone()[0]
    nulls = rows - source.execute(f"SELECT count({name}) FROM {_quoted(table)}").fetchone()[0]
    groups = source.execute(
        f"SELECT {name}, count(*) AS n FROM {_quoted(table)} WHERE {name} IS NOT NULL AND typeof({name}) <> 'blob'"
        f" GROUP BY {name} ORDER BY n DESC, {name} LIMIT ?",
        (MAX_VALUES + 1,),
    )
    number, worded = first - 1, False
    while batch := groups.fetchmany(10_000):
        values: list[tuple[int, Value, int, str | None]] = []
        texts: list[tuple[int, str]] = []
        for value, count in batch:
            if number - first + 1 == MAX_VALUES:
                break
            number += 1
            if isinstance(value, str):
                text = value[:MAX_TEXT]
                values.append((number, value if len(value) <= SHOWN else f"{value[: SHOWN - 1]}…", count, normal(text)))
                if any(map(str.isalpha, text)):
                    texts.append((number, text))
            else:
                values.append((number, value, count, None))
        db.executemany("INSERT INTO vals VALUES (?, ?, ?, ?)", values)
        db.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", texts)
        worded = worded or bool(texts)
        if len(values) < len(batch):
            return first, number, nulls, False, worded
    return first, number, nulls, True, worded


def _name_apart(db: sqlite3.Connection) -> None:
    """Tables of the same name in several databases get the file's stem in front."""
    sql = "SELECT id, name, database FROM tables WHERE lower(name) IN"
    sql += " (SELECT lower(name) FROM tables GROUP BY lower(name) HAVING count(*) > 1)"
    for number, name, database in db.execute(sql).fetchall():
        db.execute("UPDATE tables SET name = ? WHERE id = ?", (f"{Path(database).stem}.{name}", number))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def normal(text: str) -> str:
    return " ".join(text[:SHOWN].casefold().split())
