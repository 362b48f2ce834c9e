"""Attempts that know or guess values but do not answer; each must score 0."""

from typing import Any

from tasks.family import Attempt, Step
from tasks.task import Task, Truth

_FLOOD = list(range(10_000))


def cheats(task: Task, truth: Truth) -> list[Attempt]:
    """All that are wrong for this truth: one that would be the right answer is left out."""
    rows: list[list[Any]] = truth.value
    cells = [cell for row in rows for cell in row]
    width = len(rows[0]) if rows else 1
    joined = ", ".join("None" if cell is None else str(cell) for cell in cells)
    attempts = [
        Attempt("print_everything", (Step("for number in range(10_000): print(number)"),), "nothing"),
        Attempt("flood_text", value=" ".join(map(str, _FLOOD))),
        Attempt("flood_list", value=[[number] * width for number in _FLOOD]),
        Attempt("empty_object", value={}),
        Attempt("empty_table", value=[]),
        Attempt("null", value=None),
        Attempt("traceback", value=f'Traceback (most recent call last):\n  File "a.py", line 1\nValueError: {joined}'),
        # A submission that holds the answer in a longer text, as a substring match would accept it.
        Attempt("within_text", value=[[f"maybe {joined} or so"] * width]),
        Attempt("hedge", value=[*rows, *_others(rows)]),
        Attempt("candidates", value=[[[cell, _other(cell)] for cell in row] for row in rows]),
    ]
    if len(cells) > 1:
        attempts.append(Attempt("one_string", value=joined))
    if len(rows) > 1:
        attempts.append(Attempt("repeated", value=[*rows, rows[0]]))
        if any(_differ(row, rows[0]) for row in rows):
            attempts.append(Attempt("first_row_for_all", value=[rows[0]] * len(rows)))
        attempts.append(Attempt("first_row", value=[rows[0]]))
    for name, old, new in (("none_for_null", None, "None"), ("zero_for_null", None, 0), ("none_for_zero", 0, "None"),
                           ("null_for_zero", 0, None), ("true_for_one", 1, True)):  # fmt: skip
        if any(_is(cell, old) for cell in cells):
            attempts.append(Attempt(name, value=[[new if _is(cell, old) else cell for cell in row] for row in rows]))
    return attempts


def _is(cell: Any, value: Any) -> bool:
    return cell is None if value is None else not isinstance(cell, bool | str) and cell is not None and cell == value


def _differ(left: list[Any], right: list[Any]) -> bool:
    """Beyond what a comparison of numbers by value, or of texts without case, would take for equal."""
    for one, two in zip(left, right, strict=True):
        if isinstance(one, int | float) and isinstance(two, int | float):
            if abs(one - two) > 0.01:
                return True
        elif str(one).casefold().split() != str(two).casefold().split():
            return True
    return False


def _other(cell: Any) -> Any:
    return cell + 1 if isinstance(cell, int | float) else "unknown"


def _others(rows: list[list[Any]]) -> list[list[Any]]:
    return [[_other(cell) for cell in row] for row in rows[:5]] or [["unknown"]]
