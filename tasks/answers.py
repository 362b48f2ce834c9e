"""Typed answers: strict JSON in, a canonical value out, and comparison with the truth.

Nothing here looks for a substring, evaluates text, or accepts several candidates where one is asked. What is not of
the declared form raises `AnswerError`, which names the form and never the truth.

Rules kept from the benchmarks: rows are multisets unless ordered, numbers in rows agree to the declared decimals,
null differs from 0 and from an empty table, text ignores case and surrounding blanks (EHRSQL); a number is right
within the inclusive limits of its truth (MedCalc-Bench: 5%).
"""

import json
import math
from datetime import date, datetime
from typing import Any, NoReturn

from tasks.comparison import Row, as_number, cell, same_rows, text, within
from tasks.errors import AnswerError
from tasks.task import (
    AnswerSpec,
    BooleanSpec,
    DateSpec,
    DurationSpec,
    Grade,
    IntegerSpec,
    NumberSpec,
    RowsSpec,
    SetSpec,
    Submission,
    TextSpec,
    Truth,
)

MAX_BYTES = 1_000_000
MAX_DEPTH = 32


def loads_strict(source: str | bytes, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> Any:
    """Decode strict JSON (RFC 8259): no NaN or Infinity, no duplicate keys, size in bytes and depth capped.

    Raises AnswerError.
    """
    raw = source.encode("utf-8", "surrogatepass") if isinstance(source, str) else source
    if len(raw) > max_bytes:
        raise AnswerError(f"The answer has {len(raw):,} bytes; at most {max_bytes:,} are accepted.")
    try:
        decoded = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise AnswerError(f"The answer is not valid UTF-8 (byte {error.start}).") from None
    try:
        value = json.loads(decoded, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except AnswerError:
        raise
    except RecursionError:
        raise AnswerError(f"The answer is nested deeper than {max_depth} levels.") from None
    except ValueError as error:
        raise AnswerError(f"The answer is not valid JSON: {error}.") from None
    check_json(value, max_bytes=max_bytes, max_depth=max_depth)
    return value


def check_json(value: object, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> None:
    """Refuse what strict JSON cannot carry (NaN, infinities, lone surrogates, other types) and what is too large.

    Raises AnswerError.
    """
    size = 0
    stack: list[tuple[object, int]] = [(value, 0)]
    while stack:
        item, depth = stack.pop()
        if depth > max_depth:
            raise AnswerError(f"The answer is nested deeper than {max_depth} levels.")
        size += 2
        if isinstance(item, str):
            try:
                size += len(item.encode())
            except UnicodeEncodeError:
                raise AnswerError("The answer holds text that is not valid Unicode.") from None
        elif isinstance(item, float) and not math.isfinite(item):
            raise AnswerError("The answer holds NaN or an infinity; use null for a missing value.")
        elif isinstance(item, list):
            stack.extend((child, depth + 1) for child in item)
        elif isinstance(item, dict):
            if not all(isinstance(key, str) for key in item):
                raise AnswerError("The keys of a JSON object must be texts.")
            stack.extend((key, depth + 1) for key in item)
            stack.extend((child, depth + 1) for child in item.values())
        elif item is not None and not isinstance(item, bool | int | float):
            raise AnswerError(f"The answer holds a {type(item).__name__}, which is not JSON.")
        if size > max_bytes:
            raise AnswerError(f"The answer is larger than {max_bytes:,} bytes.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise AnswerError("A key appears twice in one JSON object.")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise AnswerError(f"{name} is not valid JSON; use null for a missing value.")


def describe_form(spec: AnswerSpec) -> str:
    """One or two sentences, with an example, that tell an agent what to submit."""
    match spec:
        case NumberSpec():
            form = f"One number{_unit(spec.unit)}, for example 12.5."
        case IntegerSpec():
            form = f"One whole number{_unit(spec.unit)}, for example 3."
        case DateSpec():
            form = 'One date as text, "YYYY-MM-DD" or "MM/DD/YYYY".'
        case DurationSpec():
            form = f"A list of whole numbers [{', '.join(spec.units)}], for example {[3, 2, 1][: len(spec.units)]}."
        case TextSpec():
            form = "One text. Letter case does not matter."
        case BooleanSpec():
            form = "true or false."
        case RowsSpec(width=1):
            form = 'The result column as a list, one value per row, for example ["a", "b"] or [3].'
        case RowsSpec():
            form = (
                f"The result table as a list of rows, each a list of {spec.width} values. Use null for a missing value."
            )
        case SetSpec():
            form = 'A list of distinct values in any order, for example ["a", "b"].'
        case _:
            form = f"An answer of the kind {spec.kind}."
    if isinstance(spec, RowsSpec):
        form += " The order of rows counts." if spec.ordered else " The order of rows does not count."
    if spec.abstain:
        form += " Submit null if it cannot be answered from what is given."
    return form


def _unit(unit: str | None) -> str:
    return f" in {unit}" if unit else ""


def parse_answer(spec: AnswerSpec, value: object) -> Any:
    """The canonical value of a submission (or of a truth). Raises AnswerError when it has not the declared form."""
    check_json(value)
    if value is None:
        if spec.abstain:
            return None
        raise _wrong(spec)
    match spec:
        case NumberSpec():
            return _number(spec, value)
        case IntegerSpec():
            number = _number(spec, value)
            if number != int(number):
                raise _wrong(spec)
            return int(number)
        case DateSpec():
            return _date(spec, value)
        case DurationSpec():
            return _duration(spec, value)
        case TextSpec():
            if not isinstance(value, str):
                raise _wrong(spec)
            return text(value)
        case BooleanSpec():
            if not isinstance(value, bool):
                raise _wrong(spec)
            return value
        case RowsSpec():
            return _rows(spec, value)
        case SetSpec():
            if not isinstance(value, list) or any(isinstance(item, list | dict) for item in value):
                raise _wrong(spec)
            return list(dict.fromkeys((cell(item),) for item in value))
        case _:
            raise TypeError(f"answers of the kind {spec.kind} are graded by their family")


def grade_answer(spec: AnswerSpec, truth: Truth, submission: Submission, *, grader: str, version: str) -> Grade:
    """Compare a submission with the truth by type; score 1 or 0. Raises AnswerError for a wrong form."""
    given = parse_answer(spec, submission.value)
    wanted = parse_answer(spec, truth.value)
    if given is None or wanted is None:
        correct = given is None and wanted is None
    elif isinstance(spec, NumberSpec):
        correct = within(truth.limit, given, wanted)
    elif isinstance(spec, RowsSpec):
        correct = same_rows(given, wanted, spec.decimals, ordered=spec.ordered)
    elif isinstance(spec, SetSpec):
        correct = same_rows(given, wanted, 9, ordered=False)
    else:
        correct = bool(given == wanted)
    return Grade(grader=grader, version=version, correct=correct, score=1.0 if correct else 0.0)


def _wrong(spec: AnswerSpec) -> AnswerError:
    return AnswerError(f"The answer does not have the form that the task asks for. Wanted: {describe_form(spec)}")


def _number(spec: AnswerSpec, value: object) -> float | int:
    number = as_number(value)
    if number is None:
        raise _wrong(spec)
    return number


def _date(spec: AnswerSpec, value: object) -> date:
    if isinstance(value, str):
        for form in ("%Y-%m-%d", "%m/%d/%Y", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"):
            try:
                return datetime.strptime(value.strip(), form).date()
            except ValueError:
                continue
    raise _wrong(spec)


def _duration(spec: DurationSpec, value: object) -> tuple[int, ...]:
    if isinstance(value, dict) and set(value) == set(spec.units):
        value = [value[unit] for unit in spec.units]
    if not isinstance(value, list) or len(value) != len(spec.units):
        raise _wrong(spec)
    numbers = [_number(spec, part) for part in value]
    if any(number != int(number) for number in numbers):
        raise _wrong(spec)
    return tuple(int(number) for number in numbers)


def _rows(spec: RowsSpec, value: object) -> list[Row]:
    rows: list[object]
    if (
        not isinstance(value, list)
        or spec.width > 1
        and len(value) == spec.width
        and not any(isinstance(item, list | dict) for item in value)
    ):
        rows = [value]
    else:
        rows = value
    result: list[Row] = []
    for row in rows:
        cells = list(row.values()) if isinstance(row, dict) else row if isinstance(row, list) else [row]
        if len(cells) != spec.width or any(isinstance(part, list | dict) for part in cells):
            raise _wrong(spec)
        result.append(tuple(map(cell, cells)))
    return result
