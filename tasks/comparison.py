"""Comparison of canonical values: numbers by tolerance, texts without regard to case, tables as multisets of rows.

Numbers in a table agree to a number of decimals, integers exactly; a number written as text equals a number. `null`,
true, 0 and "" all differ.
"""

import math
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence

from tasks.task import Limit

Cell = str | float | int | bool | None
Row = tuple[Cell, ...]

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")
_PADDED = re.compile(r"[+-]?0\d")
"""A code, such as an ICD code, whose leading zero counts."""
_DATETIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(\.0+)?")
_MIDNIGHT = " 00:00:00"
_ANY = "\0#"
_LARGEST = 1e300
_RELATIVE = 1e-12
"""Rounding of sums of doubles."""
_COMPARISONS = 1_000_000
"""Comparisons of rows before two tables count as different: no submission may keep the server busy."""


def as_number(value: object) -> float | int | None:
    """The number that a JSON value stands for; a text must hold nothing but one number. None for any other."""
    number: float | int | None = None
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str) and len(value) < 400 and _NUMBER.fullmatch(value.strip()):
        digits = value.strip()
        number = int(digits) if digits.lstrip("+-").isdigit() else float(digits)
    return None if number is None or not -_LARGEST < number < _LARGEST else number


def text(value: str) -> str:
    """Canonical text: case folded, blanks collapsed, Unicode composed, a date and time with a blank between."""
    folded = " ".join(unicodedata.normalize("NFC", value).casefold().split())
    if match := _DATETIME.fullmatch(folded.upper()):
        return f"{match[1]} {match[2]}"
    return folded


def cell(value: object) -> Cell:
    """The canonical cell of a JSON scalar."""
    if value is None or isinstance(value, bool | int | float):
        return value
    assert isinstance(value, str)
    return text(value).removesuffix(_MIDNIGHT)


def within(limit: Limit | None, given: float, wanted: float) -> bool:
    """Whether a number is right: inside its inclusive limits, or, without limits, equal but for rounding."""
    if limit is None:
        return math.isclose(given, wanted, rel_tol=1e-9, abs_tol=1e-9 if wanted == 0 else 0.0)
    low, high = sorted((limit.lower, limit.upper))
    slack = 1e-9 * max(abs(low), abs(high))
    return low - slack <= given <= high + slack


def same_rows(given: Sequence[Row], wanted: Sequence[Row], decimals: int, *, ordered: bool) -> bool:
    """Whether two tables are the same, row by row or as multisets."""
    if len(given) != len(wanted):
        return False
    if ordered:
        return all(same_row(left, right, decimals) for left, right in zip(given, wanted, strict=True))
    left, right = Counter(map(_exact, given)), Counter(map(_exact, wanted))
    common = left & right
    return _matched(_beyond(given, common), _beyond(wanted, common), decimals)


def same_row(given: Row, wanted: Row, decimals: int) -> bool:
    """Whether two rows agree in every cell."""
    return len(given) == len(wanted) and all(
        _same_cell(left, right, decimals) for left, right in zip(given, wanted, strict=True)
    )


def _same_cell(given: Cell, wanted: Cell, decimals: int) -> bool:
    if given is None or wanted is None or isinstance(given, bool) or isinstance(wanted, bool):
        return given is wanted
    if isinstance(given, str) and isinstance(wanted, str):
        return given == wanted
    left, right = _numeric(given), _numeric(wanted)
    if left is None or right is None:
        return False
    if isinstance(left, int) and isinstance(right, int):
        return left == right
    return abs(left - right) <= _tolerance(right, decimals)


def _tolerance(wanted: float, decimals: int) -> float:
    half = 0.5 * 10.0**-decimals
    if 0 < abs(wanted) < half:
        # It would round to 0, which is no answer to it.
        return 0.005 * abs(wanted)
    return half + _RELATIVE * abs(wanted)


def _numeric(value: Cell) -> float | int | None:
    return None if isinstance(value, str) and _PADDED.match(value) else as_number(value)


def _exact(row: Row) -> Row:
    """Equal for rows that are equal without any tolerance; 1 and true differ."""
    return tuple(f"\0{part}" if isinstance(part, bool) else part for part in row)


def _beyond(rows: Sequence[Row], common: Counter[Row]) -> list[Row]:
    """The rows that are left when those in common are taken away."""
    counts, left = Counter(common), []
    for row in rows:
        key = _exact(row)
        if counts[key] > 0:
            counts[key] -= 1
        else:
            left.append(row)
    return left


def _matched(given: list[Row], wanted: list[Row], decimals: int) -> bool:
    """Whether the rows can be paired so that each pair agrees: a perfect matching."""
    kinds: dict[Row, list[int]] = defaultdict(list)
    for place, row in enumerate(wanted):
        kinds[_kind(row)].append(place)
    groups = {kind: _Group(kind, places, wanted, decimals) for kind, places in kinds.items()}
    budget = _COMPARISONS
    candidates: list[list[int]] = []
    for row in given:
        group = groups.get(_kind(row))
        near = group.near(row) if group else []
        budget -= len(near)
        if budget < 0:
            return False
        candidates.append([place for place in near if same_row(row, wanted[place], decimals)])
    pairs = _Pairs(candidates)
    return all(pairs.add(number) for number in range(len(given)))


class _Group:
    """Rows that differ in their numbers only, in the order of the number that tells most of them apart."""

    def __init__(self, kind: Row, places: list[int], wanted: list[Row], decimals: int) -> None:
        columns = [column for column, part in enumerate(kind) if part == _ANY]
        self._places, self._column = places, -1
        if columns:
            self._column = max(columns, key=lambda column: len({_numeric(wanted[place][column]) for place in places}))
            numbered = sorted((self._number(wanted[place]), place) for place in places)
            self._numbers = [number for number, _ in numbered]
            self._places = [place for _, place in numbered]
            self._slack = _tolerance(max(map(abs, self._numbers)), decimals) + 0.5 * 10.0**-decimals

    def near(self, row: Row) -> list[int]:
        """The places that may agree with `row`."""
        if self._column < 0:
            return self._places
        number = self._number(row)
        first = bisect_left(self._numbers, number - self._slack)
        return self._places[first : bisect_right(self._numbers, number + self._slack)]

    def _number(self, row: Row) -> float:
        return float(_numeric(row[self._column]) or 0)


def _kind(row: Row) -> Row:
    """Equal for any two rows that agree: a number, also one written as text, counts as any number."""
    return tuple(_ANY if not isinstance(part, bool) and _numeric(part) is not None else part for part in row)


class _Pairs:
    """A matching that grows row by row, by augmenting paths (H. W. Kuhn, 1955)."""

    def __init__(self, candidates: list[list[int]]) -> None:
        self._candidates = candidates
        self._owner: dict[int, int] = {}
        self._place: dict[int, int] = {}

    def add(self, number: int) -> bool:
        """Give row `number` a place, moving others where they have another choice; False if there is no way."""
        wanted_by: dict[int, int] = {}
        waiting = [number]
        while waiting:
            row = waiting.pop()
            for place in self._candidates[row]:
                if place in wanted_by:
                    continue
                wanted_by[place] = row
                if place not in self._owner:
                    self._move(place, wanted_by)
                    return True
                waiting.append(self._owner[place])
        return False

    def _move(self, place: int | None, wanted_by: dict[int, int]) -> None:
        while place is not None:
            row = wanted_by[place]
            left = self._place.get(row)
            self._owner[place], self._place[row] = row, place
            place = left
