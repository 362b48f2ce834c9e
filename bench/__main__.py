"""`python -m bench [NAME ...]`: measure, and print a table of goals and figures. Names: see BENCHMARKS."""

import argparse
import importlib
import tempfile
from pathlib import Path

import anyio
from rich.console import Console
from rich.table import Table

from bench.measure import Measurement, load

BENCHMARKS = ("calls", "episodes", "search", "spawn", "listing", "hospital", "regrade", "sandbox", "training")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of: {', '.join(BENCHMARKS)}; default: all")
    names = parser.parse_args().names or list(BENCHMARKS)
    if unknown := set(names) - set(BENCHMARKS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(BENCHMARKS)}")
    table = Table(title=f"Speed ({load()} at the start)", title_justify="left")
    for column in ("what", "goal", "measured", "reached", "what bounds it"):
        table.add_column(column, overflow="fold")
    console = Console(width=140)
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            console.print(f"measuring: {name}")
            for line in anyio.run(_run, name, Path(folder)):
                verdict = "[green]yes[/]" if line.reached else "[red]no[/]"
                table.add_row(line.what, line.goal, line.measured, verdict, "" if line.reached else line.bound)
    console.print(table)


async def _run(name: str, folder: Path) -> list[Measurement]:
    found: list[Measurement] = await importlib.import_module(f"bench.{name}").run(folder)
    return found


if __name__ == "__main__":
    main()
