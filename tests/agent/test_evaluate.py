"""Intervals against closed forms and scipy, and the counts beside them."""

import math

import pytest

from agent.evaluate import clustered_interval, evaluate, mix, t_quantile
from agent.models import assistant, call
from tasks.attempt import AttemptRecord, ErrorRef, Message, TaskRef, Timing
from tasks.task import Grade, Outcome


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 9, 10, 30, 101, 500, 1999, 2001, 20_001])
@pytest.mark.parametrize("probability", [0.6, 0.9, 0.975, 0.995])
def test_quantiles_of_student_agree_with_scipy(degrees: int, probability: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert t_quantile(probability, degrees) == pytest.approx(float(stats.t.ppf(probability, degrees)), rel=1e-7)


def test_clusters_of_one_give_the_ordinary_t_interval() -> None:
    values = [1.0, 0.0, 1.0, 1.0, 0.0]
    found = clustered_interval(values, list("abcde"))
    assert found is not None
    mean = 0.6
    error = math.sqrt(sum((value - mean) ** 2 for value in values) / 4 / 5)
    assert found.mean == pytest.approx(mean)
    assert found.low == pytest.approx(max(0, mean - 2.7764451 * error))
    assert found.high == pytest.approx(min(1, mean + 2.7764451 * error))


def test_repeated_clusters_widen_the_interval_as_if_counted_once() -> None:
    """Copying every value within its cluster adds nothing: the interval must not shrink."""
    values, clusters = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0], list("abcdef")
    once = clustered_interval(values, clusters)
    thrice = clustered_interval(values * 3, clusters * 3)
    assert once is not None
    assert thrice is not None
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_equal_scores_still_have_an_interval(value: float) -> None:
    found = clustered_interval([value] * 10, [str(number) for number in range(10)])
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    # Wilson, ten of ten: 0.7225.
    assert max(found.low, 1 - found.high) == pytest.approx(0.7224672)
    assert min(found.low, 1 - found.high) == 0


def test_clusters_that_do_not_differ_still_have_an_interval() -> None:
    found = clustered_interval([1.0, 0.0, 1.0, 0.0], ["a", "a", "b", "b"])
    assert found is not None
    assert found.low is not None
    assert found.low < 0.2


def test_one_cluster_has_no_interval() -> None:
    found = clustered_interval([1.0, 0.0], ["a", "a"])
    assert found is not None
    assert (found.mean, found.low, found.high) == (0.5, None, None)


def test_nothing_has_no_mean() -> None:
    assert clustered_interval([], []) is None


def record(
    name: str, outcome: Outcome, score: float | None = None, family: str = "ward", kind: str = ""
) -> AttemptRecord:
    grade = None if score is None else Grade(grader="server", version="1", correct=score == 1, score=score)
    reward = None if outcome in ("infra_error", "data_missing") else 0.0 if score is None else score
    return AttemptRecord(
        id=f"{name} {outcome}",
        task=TaskRef(id=name, family=family, split="test", category="c", version="1", digest="", cluster=name[0]),
        messages=(Message(role="assistant", content="x"),),
        outcome=outcome,
        reward=reward,
        grade=grade,
        timing=Timing(started="", ended="", tool_s=0),
        error=ErrorRef(kind=kind, message="") if kind else None,
        source="agent",
    )


def test_what_was_not_scored_is_counted_and_not_averaged() -> None:
    rows = evaluate(
        [
            record("a1", "graded", 1.0),
            record("a2", "graded", 0.0),
            record("b1", "limit", kind="loop"),
            record("b2", "abandoned"),
            record("c1", "infra_error"),
            record("c2", "data_missing"),
            record("d1", "graded", 0.5, family="clinic"),
        ]
    )
    clinic, ward, everything = rows
    assert ward.success is not None
    assert clinic.success is not None
    assert (ward.attempts, ward.scored, ward.unscored, ward.graded, ward.limit, ward.abandoned) == (6, 4, 2, 2, 1, 1)
    assert (ward.success.mean, ward.success.clusters, ward.loops) == (0.25, 2, 1)
    assert (clinic.success.mean, clinic.reward) == (0.0, 0.5)
    assert (everything.family, everything.attempts, everything.scored) == ("all", 7, 5)


def test_a_family_that_was_never_scored_has_no_success() -> None:
    (row,) = evaluate([record("a1", "infra_error")])
    assert (row.success, row.reward, row.unscored) == (None, None, 1)


def test_the_mix_of_actions_is_counted_and_told() -> None:
    messages = (
        assistant(None, [call("execute_code", code="1"), call("execute_code", code="2")]),
        assistant("so", [call("submit_answer", answer=2)]),
        assistant("no call", []),
    )
    acted = record("a1", "graded", 1.0).model_copy(update={"messages": messages})
    (row,) = evaluate([acted, record("a2", "limit")])
    assert row.turns == 2.0
    assert row.actions == {"execute_code": 2, "submit_answer": 1}
    assert mix(row) == "ward: 3 calls: execute_code 67%, submit_answer 33%"
    (idle,) = evaluate([record("a2", "limit")])
    assert mix(idle) == "ward: 0 calls: none"
