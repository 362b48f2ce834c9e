"""Typed answers: what is right, what is wrong, and what is refused."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.answers import describe_form, grade_answer, loads_strict, parse_answer
from tasks.errors import AnswerError
from tasks.task import (
    AnswerSpec,
    BooleanSpec,
    DateSpec,
    DurationSpec,
    IntegerSpec,
    Limit,
    NumberSpec,
    RowsSpec,
    SetSpec,
    Submission,
    TextSpec,
    Truth,
)


def score(spec: AnswerSpec, truth: object, answer: object, limit: tuple[float, float] | None = None) -> float:
    bounds = Limit(lower=limit[0], upper=limit[1]) if limit else None
    secret = Truth(task_id="t/1", value=truth, limit=bounds, oracle="answer = 1", canary="c")
    return grade_answer(spec, secret, Submission(value=answer), grader="test", version="1").score


@pytest.mark.parametrize(
    ("spec", "truth", "answer"),
    [
        (NumberSpec(), -4.5, "-4.50"),
        (NumberSpec(), 3, 3.0),
        (NumberSpec(abstain=True), None, None),
        (IntegerSpec(), 3, "3.0"),
        (DateSpec(), "04/07/2023", "2023-04-07"),
        (DurationSpec(), [39, 2], ["39", 2]),
        (DurationSpec(), [39, 2], {"weeks": 39, "days": 2}),
        (TextSpec(), "PO", " po "),
        (BooleanSpec(), True, True),
        (RowsSpec(), [["po"], ["iv"]], ["IV", "PO"]),
        (RowsSpec(), [[12.0]], "12"),
        (RowsSpec(), [["5"]], 5),
        (RowsSpec(), [[0.3333333]], [[0.333]]),
        (RowsSpec(), [], []),
        (RowsSpec(), [[None]], [[None]]),
        (RowsSpec(width=2), [["a", 1]], ["A", 1]),
        (RowsSpec(), [["2105-01-02 00:00:00"]], ["2105-01-02"]),
        (SetSpec(), ["a", "b"], ["B", "a"]),
    ],
)
def test_right_answers_score_one(spec: AnswerSpec, truth: object, answer: object) -> None:
    assert score(spec, truth, answer) == 1.0


@pytest.mark.parametrize(
    ("spec", "truth", "answer"),
    [
        (NumberSpec(), 5, 123456),
        (NumberSpec(abstain=True), 5, None),
        (NumberSpec(abstain=True), None, 5),
        (BooleanSpec(), True, False),
        (RowsSpec(), [[0]], [[None]]),
        (RowsSpec(), [[None]], [[0]]),
        (RowsSpec(), [[1]], [[True]]),
        (RowsSpec(), [["2.0"]], ["12.07"]),
        (RowsSpec(), [["a"], ["b"]], ["a"]),
        (RowsSpec(), [["a"]], ["a", "a"]),
        (RowsSpec(), [[7]], list(range(10_000))),
        (RowsSpec(), [], [[None]]),
        (RowsSpec(), [["0389"]], ["389"]),
        (RowsSpec(ordered=True), [["a"], ["b"]], ["b", "a"]),
    ],
)
def test_wrong_answers_score_zero(spec: AnswerSpec, truth: object, answer: object) -> None:
    assert score(spec, truth, answer) == 0.0


@pytest.mark.parametrize(
    ("spec", "answer"),
    [
        (NumberSpec(), [5, 6]),
        (NumberSpec(), "5 or 6"),
        (NumberSpec(), {}),
        (NumberSpec(), None),
        (NumberSpec(), True),
        (NumberSpec(), 'Traceback (most recent call last):\n  File "x", line 5'),
        (NumberSpec(), float("nan")),
        (IntegerSpec(), 3.5),
        (DateSpec(), "yesterday"),
        (DurationSpec(), [39]),
        (BooleanSpec(), "it is not true"),
        (RowsSpec(width=2), [["a"]]),
        (RowsSpec(), {}),
        (RowsSpec(), None),
    ],
)
def test_a_wrong_form_is_refused_and_the_form_is_told(spec: AnswerSpec, answer: object) -> None:
    with pytest.raises(AnswerError) as caught:
        parse_answer(spec, answer)
    assert describe_form(spec) in str(caught.value) or "NaN" in str(caught.value)


@pytest.mark.parametrize(("answer", "wanted"), [(-4.8, 1.0), (-5.2, 1.0), (-5.3, 0.0), (5.0, 0.0)])
def test_limits_are_inclusive_and_hold_for_negative_numbers(answer: float, wanted: float) -> None:
    assert score(NumberSpec(), -5, answer, limit=(-4.75, -5.25)) == wanted


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", '{"a": 1, "a": 2}', "[" * 100 + "]" * 100, "1" * 5000, '"\\ud800"', b"\xff", "{", ""]
)
def test_strict_json_refuses(text: str | bytes) -> None:
    with pytest.raises(AnswerError):
        loads_strict(text)


def test_strict_json_refuses_ten_megabytes() -> None:
    with pytest.raises(AnswerError, match="bytes"):
        loads_strict("[" + "1," * 5_000_000 + "1]")


cells = st.none() | st.integers(-1000, 1000) | st.floats(-1e6, 1e6) | st.text(max_size=5)


@given(st.lists(st.tuples(cells, cells).map(list), max_size=12), st.randoms())
def test_any_order_of_the_true_rows_is_right_and_a_missing_row_is_wrong(
    rows: list[list[object]], rng: random.Random
) -> None:
    shuffled = list(rows)
    rng.shuffle(shuffled)
    assert score(RowsSpec(width=2), rows, shuffled) == 1.0
    if len(rows) > 2:
        assert score(RowsSpec(width=2), rows, shuffled[1:]) == 0.0


@given(st.recursive(cells | st.booleans(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_no_submission_crashes_the_comparison(value: object) -> None:
    for spec, truth in ((RowsSpec(width=2), [["a", 1]]), (NumberSpec(), 1e9), (TextSpec(), "\x00never")):
        try:
            assert score(spec, truth, value) in (0.0, 1.0)
        except AnswerError:
            continue
