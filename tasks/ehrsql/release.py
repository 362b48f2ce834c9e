"""Reading a release of CSV files: which there are, plain or compressed, and whether they are as they should be.

All columns are read as text; what a number or a time must be is checked where it is needed, and an error names the
file, the column and the line's content.
"""

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import DataError

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class CsvFile:
    path: Path
    columns: tuple[str, ...]
    """As in the header, in upper case."""


def find_csv(folder: Path) -> dict[str, CsvFile]:
    """Table name in upper case -> its file. A plain file is taken before a compressed one. Raises DataError."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder of CSV files.")
    found: dict[str, CsvFile] = {}
    for path in sorted(folder.iterdir(), key=lambda p: (p.name.lower().endswith(".gz"), p.name)):
        name = path.name.lower().removesuffix(".gz")
        if path.is_file() and name.endswith(".csv"):
            table = name.removesuffix(".csv").upper()
            if table not in found:
                found[table] = CsvFile(path, _header(path))
    return found


def _header(path: Path) -> tuple[str, ...]:
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            row = next(csv.reader([file.readline().decode("utf-8-sig")]), [])
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path.name} cannot be read: {error}. Download it again.") from None
    return tuple(name.strip().upper() for name in row)


def load(
    database: "duckdb.DuckDBPyConnection", file: CsvFile, name: str, columns: dict[str, str], where: str = "true"
) -> int:
    """Create the DuckDB table `name` from some columns ({name: DuckDB type}); `where` is over the typed columns.

    Empty texts are null. Returns the number of rows. Raises DataError naming file and column.
    """
    import duckdb

    missing = [column for column in columns if column not in file.columns]
    if missing:
        raise DataError(
            f"{file.path.name} has no column {', '.join(missing)}. It should come from the original release; "
            f"its header is: {', '.join(file.columns) or '(empty)'}."
        )
    listed = "{" + ", ".join(f"{_text(c)}: 'VARCHAR'" for c in file.columns) + "}"
    source = (
        f"read_csv({_text(str(file.path))}, columns = {listed}, header = true, delim = ',', quote = '\"', "
        "escape = '\"', nullstr = '', auto_detect = false, strict_mode = true, null_padding = false)"
    )
    # `nullif` for quoted empty texts, which nullstr does not catch.
    typed = ", ".join(
        f"nullif({c}, '') AS {c}" if kind == "VARCHAR" else f"CAST(nullif({c}, '') AS {kind}) AS {c}"
        for c, kind in columns.items()
    )
    query = f"CREATE TABLE {name} AS SELECT * FROM (SELECT {typed} FROM {source}) WHERE {where}"
    try:
        database.execute(query)
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.IOException as error:
        raise DataError(f"{file.path.name} cannot be read: {_first(error)}. Download it again.") from None
    except duckdb.Error as error:
        raise _explain(database, file, source, columns, error) from None
    counted = database.execute(f"SELECT count(*) FROM {name}").fetchone()
    return int(counted[0]) if counted else 0


def _explain(
    database: "duckdb.DuckDBPyConnection", file: CsvFile, source: str, columns: dict[str, str], error: Exception
) -> DataError:
    import duckdb

    for column, kind in columns.items():
        if kind == "VARCHAR":
            continue
        bad = f"nullif({column}, '') IS NOT NULL AND TRY_CAST({column} AS {kind}) IS NULL"
        try:
            row = database.execute(f"SELECT {column} FROM {source} WHERE {bad} LIMIT 1").fetchone()
        except duckdb.Error:
            break
        if row:
            return DataError(
                f"{file.path.name}, column {column}: {row[0]!r} is not a value of type {kind}. "
                "Replace the file by that of the original release."
            )
    return DataError(
        f"{file.path.name} is not a well-formed CSV file with the columns {', '.join(file.columns)}: {_first(error)}. "
        "Replace it by that of the original release."
    )


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")[:300]


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
