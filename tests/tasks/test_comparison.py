"""Comparison of tables and numbers: what must be equal, what must not, and what may not take long."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.answers import grade_answer, loads_strict
from tasks.comparison import same_rows, within
from tasks.errors import AnswerError
from tasks.task import Limit, RowsSpec, SetSpec, Submission, Truth


@pytest.mark.parametrize(
    ("given_cell", "wanted_cell"),
    [
        (10**10, 10**10 + 5),
        (1e10, 10**10 + 5),
        (2**60, 2**60 + 1),
        (1e12, 1e12 + 900),
        (0, 0.0003),
        (389, "0389"),
        (10**400, 1.5),
        (True, 1),
        (None, 0),
        ("", None),
    ],
)
def test_cells_that_differ(given_cell: object, wanted_cell: object) -> None:
    assert not same_rows([(given_cell,)], [(wanted_cell,)], 3, ordered=False)  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("given_cell", "wanted_cell"),
    [(1.2344, 1.2341), ("5.0", 5), (5, "5.0"), (0.1 + 0.2, 0.3), (1e12 + 0.2, 1e12), (0.000301, 0.0003)],
)
def test_cells_that_agree(given_cell: object, wanted_cell: object) -> None:
    assert same_rows([(given_cell,)], [(wanted_cell,)], 3, ordered=False)  # type: ignore[list-item]


def test_a_number_without_limits_is_not_met_by_zero() -> None:
    assert not within(None, 0, 1e-12)
    assert not within(Limit(lower=0.95e-10, upper=1.05e-10), 0, 1e-10)
    assert within(None, 0.0, 0)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.sampled_from(["a", "b", None])), max_size=40), st.randoms())
def test_noise_within_the_tolerance_and_any_order_change_nothing(
    rows: list[tuple[float, str | None]], source: random.Random
) -> None:
    noisy = [(number + source.uniform(-4e-4, 4e-4), text) for number, text in rows]
    source.shuffle(noisy)
    rounded = [(round(number, 3), text) for number, text in rows]
    assert same_rows(noisy, rows, 3, ordered=False) or any(0 < abs(number) < 5e-3 for number, _ in rows)
    assert same_rows(rounded, rows, 3, ordered=False) or any(0 < abs(number) < 5e-3 for number, _ in rows)


def test_a_pairing_is_found_where_the_first_choice_is_wrong() -> None:
    wanted = [(1.0,), (1.0008,)]
    assert same_rows([(1.0004,), (1.0,)], wanted, 3, ordered=False)
    assert same_rows([(1.0,), (1.0004,)], wanted, 3, ordered=False)


def test_one_row_too_far_is_seen_among_many() -> None:
    wanted = [(number / 7, f"text {number}") for number in range(3000)]
    given_rows = [(number / 7 + 2e-4, f"TEXT {number}".casefold()) for number in reversed(range(3000))]
    assert same_rows(given_rows, wanted, 3, ordered=False)
    assert same_rows(
        [(str(number),) for number, _ in given_rows], [(number,) for number, _ in wanted], 3, ordered=False
    )
    given_rows[1500] = (given_rows[1500][0] + 1, given_rows[1500][1])
    assert not same_rows(given_rows, wanted, 3, ordered=False)


def test_a_table_made_to_take_long_is_refused_not_compared() -> None:
    wanted = [(number * 1e-9 + 5,) for number in range(20_000)]
    given_rows = [(number * 1e-9 + 5.0000001,) for number in range(20_000)]
    assert not same_rows(given_rows, wanted, 3, ordered=False)


def test_a_repeated_member_is_one_member_of_a_set() -> None:
    truth = Truth(task_id="t/1", value=["a", "b"], oracle="", canary="")
    grade = grade_answer(SetSpec(), truth, Submission(value=["a", "b", "B"]), grader="g", version="1")
    assert grade.correct


def test_composed_and_decomposed_text_are_one() -> None:
    truth = Truth(task_id="t/1", value=[["caf\u00e9"]], oracle="", canary="")
    grade = grade_answer(RowsSpec(), truth, Submission(value=["cafe\u0301"]), grader="g", version="1")
    assert grade.correct


@pytest.mark.parametrize("text", ['"\\' * 400_000, "[" * 400_000, '{"a":' * 150_000])
def test_texts_made_to_take_long_are_refused_at_once(text: str) -> None:
    with pytest.raises(AnswerError):
        loads_strict(text)
