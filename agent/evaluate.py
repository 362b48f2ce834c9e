"""Success per family, with intervals, and what was not scored counted beside it.

The unit of independence is the task's cluster (patient, note, template or calculator): the standard error of the mean
is the clustered one (Liang & Zeger 1986; for evaluations, Miller 2024, arXiv:2411.00640) with the correction
G / (G - 1), and the interval is Student's t with G - 1 degrees of freedom, cut to [0, 1]. Where the clusters do
not differ that interval would have no width, which no finite sample justifies: there it is Wilson's, with the clusters
as trials.

Outcomes that say nothing about the agent are never averaged in, and never dropped in silence.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from tasks.attempt import AttemptRecord

if TYPE_CHECKING:
    from rich.table import Table

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its interval; the ends are None where there are fewer than two clusters."""

    mean: float
    low: float | None
    high: float | None
    clusters: int


@dataclass(frozen=True)
class Row:
    """One family. `attempts` = `scored` + `unscored`; `abandoned`, `limit` and `graded` are among the scored ones.

    `success` is of attempts (correct or not), `reward` of scores. Means are per attempt. `actions`: calls of each tool.
    """

    family: str
    tasks: int
    attempts: int
    scored: int
    unscored: int
    graded: int
    abandoned: int
    limit: int
    success: Interval | None
    reward: float | None
    turns: float
    tokens: float
    cost_usd: float | None
    loops: int
    actions: dict[str, int]


def evaluate(records: Iterable[AttemptRecord]) -> list[Row]:
    """A row for each family, by name, and one for all where there are several. One record for each attempt is given
    (`agent.rollout.last_records`)."""
    families: dict[str, list[AttemptRecord]] = {}
    for record in records:
        families.setdefault(record.task.family, []).append(record)
    rows = [_row(name, found) for name, found in sorted(families.items())]
    if len(rows) > 1:
        rows.append(_row("all", [record for found in families.values() for record in found]))
    return rows


def table(rows: Sequence[Row], title: str) -> "Table":
    """The rows for a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    columns = ["family", "attempts", "success", "95%", "unscored", "abandoned", "limit", "turns"]
    tokens, costs = any(row.tokens for row in rows), any(row.cost_usd is not None for row in rows)
    columns += ["tokens"] * tokens + ["cost"] * costs
    for column in columns:
        made.add_column(column, justify="left" if column == "family" else "right", no_wrap=True)
    for row in rows:
        cells = [
            row.family,
            f"{row.attempts}",
            "-" if row.success is None else f"{100 * row.success.mean:.1f}%",
            _between(row.success),
            f"{row.unscored}",
            f"{row.abandoned}",
            f"{row.limit}",
            f"{row.turns:.1f}",
        ]
        cells += [f"{row.tokens:,.0f}"] * tokens
        cells += ["-" if row.cost_usd is None else f"${row.cost_usd:.4f}"] * costs
        made.add_row(*cells)
    return made


def mix(row: Row) -> str:
    """Which tools a family's attempts called, the most frequent first."""
    total = sum(row.actions.values())
    shares = [f"{name} {100 * count / total:.0f}%" for name, count in row.actions.items()]
    return f"{row.family}: {total} calls: {', '.join(shares) or 'none'}"


def clustered_interval(
    values: Sequence[float], clusters: Sequence[str], confidence: float = CONFIDENCE
) -> Interval | None:
    """The mean of values in [0, 1] with its clustered t-interval; None where there are no values."""
    if not values:
        return None
    count, mean = len(values), math.fsum(values) / len(values)
    residuals: dict[str, float] = {}
    for value, cluster in zip(values, clusters, strict=True):
        residuals[cluster] = residuals.get(cluster, 0.0) + value - mean
    groups = len(residuals)
    if groups < 2:
        return Interval(mean, None, None, groups)
    variance = groups / (groups - 1) * math.fsum(one * one for one in residuals.values()) / count**2
    if variance < 1e-24:
        return Interval(mean, *_wilson(mean, groups, confidence), groups)
    half = t_quantile(0.5 + confidence / 2, groups - 1) * math.sqrt(variance)
    return Interval(mean, max(0.0, mean - half), min(1.0, mean + half), groups)


def t_quantile(probability: float, degrees: int) -> float:
    """The quantile of Student's t, for `probability` in (0.5, 1) and whole `degrees` of freedom, to about 1e-8.

    The distribution function of whole degrees is a finite sum (Abramowitz & Stegun 26.7.3-4); it is inverted by
    bisection.
    """
    low, high = 0.0, 1.0
    while _t_central(high, degrees) < 2 * probability - 1:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        if _t_central(middle, degrees) < 2 * probability - 1:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _t_central(t: float, degrees: int) -> float:
    """P(-t < T < t)."""
    if degrees > 20_000:
        # The sum grows long, and the normal expansion (26.7.8) is good to 1e-8 here.
        z = t * (1 - 1 / (4 * degrees)) / math.sqrt(1 + t * t / (2 * degrees))
        return 2 * NormalDist().cdf(z) - 1
    angle = math.atan(t / math.sqrt(degrees))
    cosine2 = math.cos(angle) ** 2
    if degrees % 2:
        total, term = 0.0, math.cos(angle)
        for step in range(1, (degrees - 1) // 2 + 1):
            total += term
            term *= cosine2 * 2 * step / (2 * step + 1)
        return 2 / math.pi * (angle + math.sin(angle) * total)
    total, term = 0.0, 1.0
    for step in range(1, degrees // 2 + 1):
        total += term
        term *= cosine2 * (2 * step - 1) / (2 * step)
    return math.sin(angle) * total


def _wilson(mean: float, count: int, confidence: float) -> tuple[float, float]:
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    centre = (mean + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(mean * (1 - mean) / count + z * z / (4 * count * count))
    # Rounding must not keep the ends from 0 and 1 where these are exact.
    return max(0.0, centre - half) if mean > 0 else 0.0, min(1.0, centre + half) if mean < 1 else 1.0


def _row(family: str, records: Sequence[AttemptRecord]) -> Row:
    scored = [record for record in records if record.reward is not None]
    wins = [float(_won(record)) for record in scored]
    rewards = [record.reward for record in scored if record.reward is not None]
    costs = [call.cost_usd for record in records for call in record.calls if call.cost_usd is not None]
    tokens = [sum(call.usage.prompt_tokens + call.usage.completion_tokens for call in one.calls) for one in records]
    return Row(
        family=family,
        tasks=len({record.task.id for record in records}),
        attempts=len(records),
        scored=len(scored),
        unscored=len(records) - len(scored),
        graded=sum(record.outcome == "graded" for record in scored),
        abandoned=sum(record.outcome == "abandoned" for record in scored),
        limit=sum(record.outcome == "limit" for record in scored),
        success=clustered_interval(wins, [f"{record.task.family}/{record.task.cluster}" for record in scored]),
        reward=sum(rewards) / len(rewards) if rewards else None,
        turns=sum(_turns(record) for record in records) / len(records),
        tokens=sum(tokens) / len(records),
        cost_usd=sum(costs) if costs else None,
        loops=sum(record.error is not None and record.error.kind == "loop" for record in records),
        actions=dict(Counter(_calls(records)).most_common()),
    )


def _calls(records: Sequence[AttemptRecord]) -> list[str]:
    messages = [message for record in records for message in record.messages]
    return [call.function.name for message in messages for call in message.tool_calls or ()]


def _won(record: AttemptRecord) -> bool:
    return record.grade.correct if record.grade is not None else record.reward == 1.0


def _turns(record: AttemptRecord) -> int:
    return sum(message.role == "assistant" for message in record.messages)


def _between(interval: Interval | None) -> str:
    if interval is None or interval.low is None or interval.high is None:
        return "-"
    return f"{100 * interval.low:.1f}-{100 * interval.high:.1f}"
