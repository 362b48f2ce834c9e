"""Where the numbers of a training go: one JSON line per iteration, TensorBoard, and a live table on the terminal."""

import json
import math
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = 12
"""Iterations that the live table shows."""


class MetricsLog:
    """Writes <folder>/metrics.jsonl and <folder>/tensorboard from one process; the others give `writes=False`."""

    def __init__(
        self,
        folder: Path,
        columns: tuple[str, ...],
        total: int,
        *,
        begin: int = 0,
        writes: bool = True,
        title: str = "",
    ) -> None:
        """`begin`: the iteration that comes next; lines of it and of later ones are of a life that was cut, and go."""
        self.folder, self.columns, self.total, self.title, self._writes = folder, columns, total, title, writes
        self._begin, self._started = begin, time.monotonic()
        self._rows: deque[dict[str, float]] = deque(maxlen=SHOWN)
        self._live: Any = None
        self._board: Any = None
        self.path = folder / "metrics.jsonl"
        if writes:
            folder.mkdir(parents=True, exist_ok=True)
            self._forget(begin)

    def __enter__(self) -> "MetricsLog":
        if self._writes:
            from rich.console import Console
            from rich.live import Live
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self._begin)
            console = Console(stderr=True)
            if console.is_terminal:
                self._live = Live(self._table(), console=console, auto_refresh=False)
                self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        if self._board is not None:
            self._board.close()

    def write(self, iteration: int, values: dict[str, float]) -> None:
        """Record an iteration. What is not a finite number is null in the file."""
        if not self._writes:
            return
        clean = {name: value if math.isfinite(value) else None for name, value in values.items()}
        with self.path.open("a") as file:
            file.write(json.dumps({"iteration": iteration, **clean}) + "\n")
        for name, value in values.items():
            if math.isfinite(value):
                self._board.add_scalar(name, value, iteration)
        self._board.flush()
        self._rows.append({"iteration": iteration, **values})
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
        else:
            from rich.console import Console

            shown = " ".join(f"{name} {_short(values.get(name))}" for name in self.columns)
            Console(stderr=True).print(
                f"{self.title} {iteration + 1}/{self.total} {shown} {self._left()}", markup=False
            )

    def _table(self) -> "Table":
        from rich.table import Table

        table = Table(title=f"{self.title}: {self._left()}", title_justify="left")
        for column in ("iteration", *self.columns):
            table.add_column(column, justify="right")
        for row in self._rows:
            table.add_row(str(int(row["iteration"])), *(_short(row.get(name)) for name in self.columns))
        return table

    def _left(self) -> str:
        done = len(self._rows) and int(self._rows[-1]["iteration"]) + 1 - self._begin
        if not done:
            return f"{self.total - self._begin} iterations to go"
        spent = time.monotonic() - self._started
        left = spent / done * (self.total - self._begin - done)
        return f"{spent:.0f} s, {left:.0f} s to go"

    def _forget(self, begin: int) -> None:
        if not self.path.is_file():
            return
        kept = []
        for line in self.path.read_text().splitlines():
            try:
                if json.loads(line)["iteration"] < begin:
                    kept.append(line)
            except (ValueError, KeyError, TypeError):
                continue
        self.path.write_text("".join(f"{line}\n" for line in kept))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def _short(value: float | None) -> str:
    if value is None:
        return ""
    if not math.isfinite(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
