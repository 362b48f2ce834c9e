"""What came out of attempts, and the curves of trainings as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.evaluate import clustered_interval
from tasks.attempt import AttemptRecord


def summary(records: Sequence[AttemptRecord]) -> dict[str, Any]:
    """Success in all and by category, with clustered 95% intervals, and what was not scored."""

    def row(chosen: Sequence[AttemptRecord]) -> dict[str, Any]:
        scored = [record for record in chosen if record.reward is not None]
        wins = [float((record.reward or 0.0) >= 1) for record in scored]
        interval = clustered_interval(wins, [record.task.cluster for record in scored])
        ends = [None, None] if interval is None else [interval.low, interval.high]
        mean = 0.0 if interval is None else interval.mean
        return {"success": mean, "interval": ends, "attempts": len(chosen), "unscored": len(chosen) - len(scored)}

    categories = sorted({record.task.category for record in records})
    by_category = {name: row([one for one in records if one.task.category == name]) for name in categories}
    return {"all": row(records), "categories": by_category}


def plot(curves: dict[str, Path], target: Path) -> None:
    """Success per iteration of several runs, and its mean over five, as a picture; nothing without matplotlib."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        return
    import matplotlib as mpl

    mpl.use("Agg")
    # Equal runs give equal files.
    mpl.rcParams["svg.hashsalt"] = target.name
    from matplotlib import pyplot as plt

    from training.metrics import read_metrics

    figure, axes = plt.subplots(figsize=(7, 4))
    for name, path in curves.items():
        lines = read_metrics(path)
        steps, values = [line["iteration"] for line in lines], [line["success"] for line in lines]
        means = [sum(values[max(0, end - 5) : end]) / min(5, end) for end in range(1, len(values) + 1)]
        (drawn,) = axes.plot(steps, means, label=name)
        axes.plot(steps, values, color=drawn.get_color(), alpha=0.25, linewidth=1)
    axes.set(xlabel="iteration", ylabel="sampled success on train tasks", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})
    plt.close(figure)
