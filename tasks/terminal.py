"""What the commands share: options, tables, progress bars, and errors of one line."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tasks.data import DataRoot
    from tasks.family import ImportReport, Progress

DataOption = Annotated[
    Path | None, typer.Option("--data", help="The data root. Default: $MED_COPILOT_DATA, else the user's data folder.")
]
LogsOption = Annotated[Path | None, typer.Option("--logs", help="Folder of the logs. Default: logs/ in the data root.")]


def open_root(path: Path | None) -> "DataRoot":
    from tasks.data import DataRoot

    return DataRoot(path or DataRoot.default_path())


def log_folder(root: "DataRoot", path: Path | None) -> Path:
    return path or root.path / "logs"


def choose(option: str, value: str, known: tuple[str, ...]) -> Any:
    if value not in known:
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(known)}.", param_hint=option)
    return value


def print_report(name: str, report: "ImportReport") -> None:
    console().print(f"[bold]{name}[/]: {report.tasks} tasks")
    for reason, count in sorted(report.left_out.items(), key=lambda item: -item[1]):
        console().print(f"  left out {count}: {reason}", markup=False)
    for note in report.notes:
        console().print(f"  {note}", markup=False)


def console() -> "Console":
    from rich.console import Console

    # A file or a pipe gets lines that are wide enough for task ids.
    return Console(width=None if sys.stdout.isatty() else 160)


def table(title: str, *columns: str) -> "Table":
    from rich.table import Table

    made = Table(title=title, title_justify="left")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


@contextmanager
def progress_bar() -> "Iterator[Progress]":
    """A progress bar on stderr for each thing that is worked on."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        shown = bar.add_task("", total=None)

        def advance(what: str, done: int, total: int) -> None:
            bar.update(shown, description=what, completed=done, total=total or None)

        yield advance


def fail(text: str) -> NoReturn:
    typer.echo(f"med-copilot: {text}", err=True)
    raise SystemExit(1)
