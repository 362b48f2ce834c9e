"""The command `demo`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tasks.terminal import DataOption, LogsOption, console, fail, log_folder, open_root, print_report, progress_bar

if TYPE_CHECKING:
    from tasks.data import DataRoot


def add_commands(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(demo)


def demo(
    data: DataOption = None,
    logs: LogsOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the synthetic hospital.")] = 0,
    tasks: Annotated[int, typer.Option(min=1, max=50, help="Tasks of each family to work through.")] = 3,
) -> None:
    """Generate a small synthetic hospital, serve it, and let a scripted agent work through tasks over MCP."""
    import anyio

    from agent.demo import run_demo
    from agent.errors import AgentError

    root = open_root(data)
    _generate_missing(root, seed)
    command = [sys.executable, str(Path(sys.argv[0]).resolve()), "serve"]
    try:
        passed = anyio.run(run_demo, command, root, log_folder(root, logs), tasks, console())
    except AgentError as error:
        fail(str(error))
    raise typer.Exit(0 if passed else 1)


def _generate_missing(root: "DataRoot", seed: int) -> None:
    from tasks.datasets import generate_dataset, synthetic_name
    from tasks.families import family_names
    from tasks.family import GenerateOptions

    present = {manifest.name: manifest for manifest in root.datasets()}
    for family in family_names():
        name = synthetic_name(family)
        if name in present and present[name].seed == seed:
            console().print(f"Dataset {name} is already here ({present[name].tasks} tasks).")
            continue
        with progress_bar() as progress:
            report = generate_dataset(root, family, GenerateOptions(seed=seed), progress=progress)
        print_report(name, report)
