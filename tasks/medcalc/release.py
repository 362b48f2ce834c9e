"""Reading the published files of MedCalc-Bench: its CSV, MedAgentGym's JSON lines, and corrected labels.

A file that is not what its format says raises `DataError`. A single row that cannot be used is left out with a
reason; no row disappears silently. Nothing here hard-codes how many rows there are.

Labels follow the benchmark's own rules of comparison: ids 13 and 68 are dates; 69 is (weeks, days); the ids in
INTEGERS are whole numbers to be met exactly; all others lie within inclusive limits, which the release gives swapped
where the label is negative. The corrected labels ask id 69 in whole days.
"""

import ast
import csv
import hashlib
import io
import json
import math
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tasks.errors import DataError
from tasks.family import ImportReport
from tasks.medcalc.calculators import CALCULATORS
from tasks.medcalc.catalogue import Calculator, Kind
from tasks.task import Limit, Split

DATES = frozenset({13, 68})
DURATION = 69
INTEGERS = frozenset({4, 15, 16, 17, 18, 20, 21, 25, 27, 28, 29, 32, 33, 36, 43, 45, 48, 51})
NEEDED = (
    "Row Number",
    "Calculator ID",
    "Patient Note",
    "Question",
    "Relevant Entities",
    "Ground Truth Answer",
    "Lower Limit",
    "Upper Limit",
)
CORRECTED = ("Unique ID", "Question", "Patient Note", "Ground Truth Answer", "Lower Limit", "Upper Limit")
_SUFFIXES = (".csv", ".jsonl", ".zip")
_SPLIT = re.compile(r"(^|[^a-z])(train|test)")
_MAX_LITERAL = 100_000


@dataclass(frozen=True)
class Label:
    """A right answer as JSON in the form of `kind`; None where it cannot be computed. `limit` only for numbers."""

    kind: Kind
    value: Any
    limit: Limit | None = None


@dataclass(frozen=True)
class Row:
    """One published row. `entities` is None where their text cannot be read; `explanation` is the released one."""

    split: Split
    number: int
    calculator: Calculator
    note: str
    question: str
    label: Label
    entities: dict[str, Any] | None
    released: str
    note_id: str = ""
    explanation: str = ""

    @property
    def local_id(self) -> str:
        return f"{self.split}-{self.number:05d}"

    @property
    def cluster(self) -> str:
        """Equal for rows on one note. The ids of notes made from templates are only numbers and not unique."""
        if re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{2,80}", self.note_id):
            return f"note-{self.note_id}"
        return f"note-{hashlib.sha256(self.note.encode()).hexdigest()[:16]}"


def rows(source: Path, overlay: Path | None, report: ImportReport) -> Iterator[Row]:
    """All usable rows of a file, or of the files of a folder whose names hold "train" or "test". With `overlay`,
    labels (and questions) are the corrected ones, and rows that it does not hold are left out. Raises DataError."""
    corrected = None if overlay is None else _read_overlay(overlay)
    used = set[str]()
    for path in _files(source):
        split: Split = "test" if (named := _SPLIT.search(path.name.lower())) and named[2] == "test" else "train"
        for fields in _records(path):
            if corrected is None:
                row = _row(fields, split, None, report)
            else:
                correction = corrected.get(_text(fields, "Row Number"))
                if correction is None:
                    report.leave_out("no corrected label")
                    continue
                if correction["Patient Note"] != _text(fields, "Patient Note"):
                    report.leave_out("the corrected label is of another note")
                    continue
                used.add(correction["Unique ID"])
                row = _row(fields, split, correction, report)
            if row is not None:
                yield row
    if corrected is not None and (rest := len(corrected.keys() - used)):
        report.leave_out("a corrected label without its row in the release", rest)


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise DataError(f"There is no file or folder {source}.")
    found = sorted(
        path
        for path in source.iterdir()
        if path.suffix in _SUFFIXES and _SPLIT.search(path.name.lower()) and path.is_file()
    )
    stems = {path.name.removesuffix(".zip") for path in found if path.suffix != ".zip"}
    found = [path for path in found if path.suffix != ".zip" or path.name.removesuffix(".zip") not in stems]
    if not found:
        raise DataError(f"The folder {source} holds no train or test file (.csv, .jsonl or .zip).")
    return found


def _records(path: Path) -> Iterator[Mapping[str, Any]]:
    name, text = path.name, ""
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                members = [m for m in archive.namelist() if m.endswith((".csv", ".jsonl")) and "__MACOSX" not in m]
                if len(members) != 1:
                    raise DataError(f"{path.name} holds {len(members)} CSV or JSON lines files, not one.")
                name, text = members[0], archive.read(members[0]).decode("utf-8-sig")
        else:
            text = path.read_bytes().decode("utf-8-sig")
    except (UnicodeDecodeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path.name} cannot be read: {error}") from None
    yield from _json_lines(name, text) if name.endswith(".jsonl") else read_csv(name, text, NEEDED)


def _json_lines(name: str, text: str) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise DataError(f"{name}, line {number} is not JSON: {error}") from None
        missing = [column for column in NEEDED if not isinstance(value, dict) or column not in value]
        if missing:
            raise DataError(f"{name}, line {number} lacks {', '.join(missing)}.")
        yield value


def read_csv(name: str, text: str, needed: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The rows of a CSV by column. Raises DataError: broken quoting, a column missing, a row of another length."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = next(reader, [])
        missing = [column for column in needed if column not in columns]
        if missing:
            raise DataError(f"{name} lacks the columns {', '.join(missing)}.")
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(columns):
                raise DataError(f"{name}, line {reader.line_num}: {len(cells)} cells, not {len(columns)}.")
            yield dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        raise DataError(f"{name}, line {reader.line_num} is not CSV: {error}") from None


def _read_overlay(path: Path) -> dict[str, dict[str, Any]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name} cannot be read: {error}") from None
    found: dict[str, dict[str, Any]] = {}
    for fields in read_csv(path.name, text, CORRECTED):
        key = str(fields["Unique ID"]).strip()
        if key in found:
            raise DataError(f"{path.name} holds the Unique ID {key} twice.")
        found[key] = {**fields, "Unique ID": key}
    return found


def _text(fields: Mapping[str, Any], column: str) -> str:
    value = fields.get(column)
    return "" if value is None else value if column == "Patient Note" else str(value).strip()


def _row(
    fields: Mapping[str, Any], split: Split, correction: Mapping[str, Any] | None, report: ImportReport
) -> Row | None:
    labels = fields if correction is None else correction
    note, question = str(fields["Patient Note"]), _text(labels, "Question")
    try:
        number, calculator_id = int(_text(fields, "Row Number")), int(_text(fields, "Calculator ID"))
    except ValueError:
        report.leave_out("the row or calculator number is not a number")
        return None
    if number < 0 or (calculator := CALCULATORS.get(calculator_id)) is None:
        report.leave_out(f"there is no calculator {calculator_id}")
        return None
    if not note.strip() or not question:
        report.leave_out("the note or the question is empty")
        return None
    released = _text(labels, "Ground Truth Answer")
    try:
        in_days = correction is not None and calculator_id == DURATION
        label = read_label(
            calculator_id,
            released,
            _text(labels, "Lower Limit"),
            _text(labels, "Upper Limit"),
            in_days=in_days,
            abstain=correction is not None,
        )
    except DataError as error:
        report.leave_out(str(error))
        return None
    try:
        entities = read_entities(_text(fields, "Relevant Entities"))
    except DataError:
        entities = None
    return Row(
        split,
        number,
        calculator,
        note,
        question,
        label,
        entities,
        released,
        _text(fields, "Note ID"),
        _text(fields, "Ground Truth Explanation"),
    )


def kind_of(calculator_id: int) -> Kind:
    """How the benchmark compares answers of a calculator."""
    if calculator_id in DATES:
        return "date"
    if calculator_id == DURATION:
        return "duration"
    return "integer" if calculator_id in INTEGERS else "number"


def read_label(
    calculator_id: int, answer: str, lower: str, upper: str, *, in_days: bool = False, abstain: bool = False
) -> Label:
    """The label of a row. `abstain` allows "N/A"; `in_days` makes a duration a whole number of days.

    Raises DataError, whose text is a reason without the row's own values.
    """
    kind: Kind = "integer" if in_days else kind_of(calculator_id)
    if abstain and answer == "N/A":
        return Label(kind, None)
    match kind:
        case "date":
            try:
                return Label(kind, datetime.strptime(answer, "%m/%d/%Y").date().isoformat())
            except ValueError:
                raise DataError("the label is not a date MM/DD/YYYY") from None
        case "duration":
            return Label(kind, read_duration(answer))
        case "integer":
            number = _finite(answer)
            if number != int(number):
                raise DataError("the label is not a whole number")
            return Label(kind, int(number))
        case "number":
            number, low, high = _finite(answer), *sorted((_finite(lower), _finite(upper)))
            slack = 1e-6 + 1e-3 * abs(number)  # the release rounds its limits
            if not low - slack <= number <= high + slack:
                raise DataError("the label lies outside its own limits")
            return Label(kind, number, Limit(lower=low, upper=high))


def _finite(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise DataError("the label or a limit is not a number") from None
    if not math.isfinite(number):
        raise DataError("the label or a limit is not a number")
    return number


def read_duration(text: str) -> list[int]:
    """[weeks, days] from a text such as "('3 weeks', '4 days')". Raises DataError."""
    match = re.fullmatch(r"""\(?\s*['"]?(\d{1,3}) weeks?['"]?\s*,\s*['"]?(\d{1,3}) days?['"]?\s*\)?""", text.strip())
    if match is None:
        raise DataError("the label is not (weeks, days)")
    return [int(match[1]), int(match[2])]


def read_entities(text: str) -> dict[str, Any]:
    """The dict that a Python literal states. Only literals are read, nothing is evaluated. Raises DataError."""
    if len(text) > _MAX_LITERAL:
        raise DataError("the entities are too long")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        raise DataError("the entities are not a Python literal") from None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise DataError("the entities are not a dict of texts")
    try:
        json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        raise DataError("the entities hold what JSON cannot") from None
    return value
