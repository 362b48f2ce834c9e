"""How far a rollout is, while it runs."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from agent.rollout import Tally, Watch


@contextmanager
def progress() -> Iterator[Watch]:
    """A live bar on stderr: attempts, time left, score, and what was not scored."""
    columns = (
        TextColumn("attempts"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        shown = bar.add_task("", total=None)

        def watch(tally: Tally) -> None:
            score = "" if tally.score is None else f"score {tally.score:.3f}"
            rest = (("unscored", tally.unscored), ("abandoned", tally.abandoned), ("limit", tally.limit))
            counts = "".join(f" · {name} {count}" for name, count in rest if count)
            bar.update(shown, completed=tally.done, total=tally.total, description=f"{score}{counts}")

        yield watch
