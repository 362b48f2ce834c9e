"""Typed answers: strict JSON in, a canonical value out, and comparison with the truth.

Nothing here looks for a substring, evaluates text, or accepts several candidates where one is asked. What is not of
the declared form raises `AnswerError`, which names the form and never the truth.

Rules kept from the benchmarks: rows are multisets unless ordered, numbers in rows agree to the declared decimals,
null differs from 0 and from an empty table, text ignores case and surrounding blanks (EHRSQL); a number is right
within the inclusive limits of its truth (MedCalc-Bench: 5%).
"""

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, NoReturn

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
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")
_DATETIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(\.0+)?")
_MIDNIGHT = " 00:00:00"

Cell = str | float | int | bool | None
Row = tuple[Cell, ...]


def loads_strict(text: str | bytes, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> Any:
    """Decode strict JSON (RFC 8259): no NaN or Infinity, no duplicate keys, size in bytes and depth capped.

    Raises AnswerError.
    """
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(raw) > max_bytes:
        raise AnswerError(f"The answer has {len(raw):,} bytes; at most {max_bytes:,} are accepted.")
    try:
        decoded = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise AnswerError(f"The answer is not valid UTF-8 (byte {error.start}).") from None
    _check_depth(decoded, max_depth)
    try:
        value = json.loads(decoded, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except AnswerError:
        raise
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


def _check_depth(text: str, max_depth: int) -> None:
    depth = 0
    for mark in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', text):
        token = mark.group()
        if token in "[{":
            depth += 1
            if depth > max_depth:
                raise AnswerError(f"The answer is nested deeper than {max_depth} levels.")
        elif token in "]}":
            depth -= 1


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
            return _text(value)
        case BooleanSpec():
            if not isinstance(value, bool):
                raise _wrong(spec)
            return value
        case RowsSpec():
            return _rows(spec, value)
        case SetSpec():
            if not isinstance(value, list) or any(isinstance(item, list | dict) for item in value):
                raise _wrong(spec)
            return [(_cell(item),) for item in value]
        case _:
            raise TypeError(f"answers of the kind {spec.kind} are graded by their family")


def grade_answer(spec: AnswerSpec, truth: Truth, submission: Submission, *, grader: str, version: str) -> Grade:
    """Compare a submission with the truth by type; score 1 or 0. Raises AnswerError for a wrong form."""
    given = parse_answer(spec, submission.value)
    wanted = parse_answer(spec, truth.value)
    if given is None or wanted is None:
        correct = given is None and wanted is None
    elif isinstance(spec, NumberSpec):
        correct = _within(truth, given, wanted)
    elif isinstance(spec, RowsSpec):
        correct = _same_rows(given, wanted, spec.decimals, spec.ordered)
    elif isinstance(spec, SetSpec):
        correct = _same_rows(given, wanted, 9, ordered=False)
    else:
        correct = bool(given == wanted)
    return Grade(grader=grader, version=version, correct=correct, score=1.0 if correct else 0.0)


def _wrong(spec: AnswerSpec) -> AnswerError:
    return AnswerError(f"The answer does not have the form that the task asks for. Wanted: {describe_form(spec)}")


def _as_number(value: object) -> float | int | None:
    """The number that a JSON value stands for; a text must hold nothing but one number."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        text = value.strip()
        number = float(text)
        if not math.isfinite(number):
            return None
        return int(text) if text.lstrip("+-").isdigit() and len(text) < 300 else number
    return None


def _number(spec: AnswerSpec, value: object) -> float | int:
    number = _as_number(value)
    if number is None or abs(number) > 1e300:
        raise _wrong(spec)
    return number


def _within(truth: Truth, given: float, wanted: float) -> bool:
    if truth.limit is None:
        return math.isclose(given, wanted, rel_tol=1e-9, abs_tol=1e-9)
    low, high = sorted((truth.limit.lower, truth.limit.upper))
    slack = 1e-9 * max(1.0, abs(low), abs(high))
    return low - slack <= given <= high + slack


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


def _text(value: str) -> str:
    text = " ".join(value.casefold().split())
    if match := _DATETIME.fullmatch(text.upper()):
        text = f"{match[1]} {match[2]}"
    return text


def _cell(value: object) -> Cell:
    if value is None or isinstance(value, bool | int | float):
        return value
    assert isinstance(value, str)
    return _text(value)


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
        if len(cells) != spec.width or any(isinstance(cell, list | dict) for cell in cells):
            raise _wrong(spec)
        result.append(tuple(_cell(cell) for cell in cells))
    return result


def _same_cell(given: Cell, wanted: Cell, decimals: int) -> bool:
    if given is None or wanted is None or isinstance(given, bool) or isinstance(wanted, bool):
        return bool(given is wanted)
    if isinstance(given, str) and isinstance(wanted, str):
        return given.removesuffix(_MIDNIGHT) == wanted.removesuffix(_MIDNIGHT)
    left, right = _as_number(given), _as_number(wanted)
    if left is None or right is None:
        return False
    # Half a unit of the last place, plus room for the rounding of either side.
    return abs(left - right) <= 0.5 * 10.0**-decimals + 1e-9 * max(1.0, abs(right))


def _same_row(given: Row, wanted: Row, decimals: int) -> bool:
    return len(given) == len(wanted) and all(
        _same_cell(left, right, decimals) for left, right in zip(given, wanted, strict=True)
    )


def _key(row: Row) -> Row:
    """Equal keys are equal rows; unequal keys may still be equal by tolerance or by a number given as text."""
    return tuple(("b", cell) if isinstance(cell, bool) else cell for cell in row)  # type: ignore[misc]


def _same_rows(given: Sequence[Row], wanted: Sequence[Row], decimals: int, ordered: bool) -> bool:
    if len(given) != len(wanted):
        return False
    if ordered:
        return all(_same_row(left, right, decimals) for left, right in zip(given, wanted, strict=True))
    left, right = Counter(map(_key, given)), Counter(map(_key, wanted))
    exact = left & right
    rest_given = _expand(given, left - exact)
    rest_wanted = _expand(wanted, right - exact)
    if len(rest_given) > 2_000:
        return _same_sorted(rest_given, rest_wanted, decimals)
    for row in rest_given:
        for index, candidate in enumerate(rest_wanted):
            if _same_row(row, candidate, decimals):
                del rest_wanted[index]
                break
        else:
            return False
    return True


def _expand(rows: Sequence[Row], counts: Counter[Row]) -> list[Row]:
    result = []
    for row in rows:
        key = _key(row)
        if counts[key] > 0:
            counts[key] -= 1
            result.append(row)
    return result


def _same_sorted(given: list[Row], wanted: list[Row], decimals: int) -> bool:
    def order(row: Row) -> list[tuple[int, float, str]]:
        keys = []
        for cell in row:
            number = _as_number(cell)
            keys.append(
                (0, 0.0, "") if cell is None else (1, number, "") if number is not None else (2, 0.0, str(cell))
            )
        return keys

    pairs = zip(sorted(given, key=order), sorted(wanted, key=order), strict=True)
    return all(_same_row(left, right, decimals) for left, right in pairs)
