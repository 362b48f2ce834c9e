"""The commands `data`, `tasks` and `log`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tasks.terminal import (
    DataOption,
    choose,
    console,
    fail,
    log_folder,
    open_root,
    print_report,
    progress_bar,
    table,
)

if TYPE_CHECKING:
    from tasks.family import Progress

data_app = typer.Typer(no_args_is_help=True, help="The datasets that are registered here.")
tasks_app = typer.Typer(no_args_is_help=True, help="The tasks of the registered datasets.")
log_app = typer.Typer(no_args_is_help=True, help="The logs that a server writes.")


def add_commands(app: typer.Typer) -> None:
    """Add the three groups of commands to `app`."""
    app.add_typer(data_app, name="data")
    app.add_typer(tasks_app, name="tasks")
    app.add_typer(log_app, name="log")


@data_app.command("add")
def data_add(
    family: Annotated[str, typer.Argument(help="mimic_iii | medcalcbench")],
    path: Annotated[Path, typer.Argument(help="Folder or file of the release.")],
    questions: Annotated[Path | None, typer.Option(help="Question file (EHRSQL json, MedAgentGym jsonl).")] = None,
    labels: Annotated[str, typer.Option(help="released | corrected")] = "released",
    overlay: Annotated[Path | None, typer.Option(help="File of the corrected labels.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the dataset. Default: the family's.")] = None,
    restricted: Annotated[
        bool | None, typer.Option("--restricted/--open", help="Whether the rows may leave only with permission.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    per_template: Annotated[int, typer.Option(min=0, help="Re-grounded questions of one template, at most.")] = 8,
    data: DataOption = None,
) -> None:
    """Import the original release of a family, or MedAgentGym's jsonl."""
    from tasks.datasets import import_dataset
    from tasks.family import ImportOptions

    options = ImportOptions(
        questions=questions,
        labels=choose("--labels", labels, ("released", "corrected")),
        overlay=overlay,
        seed=seed,
        per_template=per_template,
    )
    with progress_bar() as progress:
        report = import_dataset(
            open_root(data), family, path, options, name=name, restricted=restricted, progress=progress
        )
    print_report(name or family, report)


@data_app.command("ls")
def data_ls(data: DataOption = None) -> None:
    """List the registered datasets."""
    root = open_root(data)
    shown = table(
        f"Datasets in {root.path}", "dataset", "family", "tasks", "licence", "restricted", "source", "created"
    )
    for manifest in root.datasets():
        shown.add_row(
            manifest.name,
            manifest.family,
            str(manifest.tasks),
            manifest.licence,
            "yes" if manifest.restricted else "no",
            manifest.source,
            manifest.created[:10],
        )
    console().print(shown)


@data_app.command("rm")
def data_rm(name: str, data: DataOption = None) -> None:
    """Forget a dataset and delete its files."""
    open_root(data).remove(name)


@data_app.command("verify")
def data_verify(data: DataOption = None) -> None:
    """Hash every file of every dataset again and compare with its manifest."""
    root = open_root(data)
    with progress_bar() as progress:
        problems = root.verify(progress)
    for problem in problems:
        console().print(f"[red]{problem}[/]")
    if problems:
        raise typer.Exit(1)
    files = sum(len(manifest.files) for manifest in root.datasets())
    console().print(f"{files} files of {len(root.datasets())} datasets are as registered.")


@tasks_app.command("ls")
def tasks_ls(
    family: Annotated[str | None, typer.Option()] = None,
    split: Annotated[str | None, typer.Option(help="train | test")] = None,
    category: Annotated[str | None, typer.Option()] = None,
    query: Annotated[str | None, typer.Option(help="Words that the task must contain.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
    data: DataOption = None,
) -> None:
    """List tasks."""
    from tasks.registry import Registry

    page = Registry(open_root(data)).list(family=family, split=split, category=category, query=query, limit=limit)
    shown = table(f"{len(page.tasks)} of {page.total} tasks", "task", "split", "category", "problem")
    for task in page.tasks:
        shown.add_row(task.id, task.split, task.category, task.title)
    console().print(shown)


@tasks_app.command("show")
def tasks_show(
    task_id: str,
    truth: Annotated[bool, typer.Option("--truth", help="Also show what only the server knows.")] = False,
    data: DataOption = None,
) -> None:
    """Show one task as JSON, as an agent sees it."""
    from tasks.registry import Registry

    registry = Registry(open_root(data))
    console().print_json(registry.get(task_id).model_dump_json())
    if truth:
        console().print_json(registry.truth(task_id).model_dump_json())


@tasks_app.command("generate")
def tasks_generate(
    family: Annotated[str | None, typer.Argument(help="Default: every family.")] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal tasks.")] = 0,
    patients: Annotated[int, typer.Option(min=1)] = 100,
    per_category: Annotated[int, typer.Option(min=1)] = 20,
    name: Annotated[str | None, typer.Option(help="Name of the dataset. Default: FAMILY_synthetic.")] = None,
    data: DataOption = None,
) -> None:
    """Generate tasks of a synthetic hospital on this machine."""
    from tasks.datasets import generate_dataset, synthetic_name
    from tasks.families import family_names
    from tasks.family import GenerateOptions

    options = GenerateOptions(seed=seed, patients=patients, per_category=per_category)
    for one in [family] if family else family_names():
        with progress_bar() as progress:
            report = generate_dataset(open_root(data), one, options, name=name, progress=progress)
        print_report(name or synthetic_name(one), report)


@tasks_app.command("verify")
def tasks_verify(
    family: Annotated[str | None, typer.Argument(help="Default: every registered family.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only this dataset.")] = None,
    concurrency: Annotated[int, typer.Option(min=1)] = 4,
    data: DataOption = None,
) -> None:
    """Run every task's oracle (must score 1), the do-nothing agent and every cheat (must score 0), without a model."""
    import anyio

    from sandbox.base import SandboxConfig
    from sandbox.embedded.backend import EmbeddedSandbox
    from tasks.registry import Registry
    from tasks.verify import FamilyResult, verify_tasks

    root = open_root(data)
    registry = Registry(root)
    ids = registry.ids(family=family, dataset=dataset)
    if not ids:
        fail("There are no such tasks here: `med-copilot data add` or `med-copilot tasks generate` first.")
    sources = {manifest.name: root.public_folder(manifest.name) for manifest in root.datasets()}

    async def verify(progress: "Progress") -> list[FamilyResult]:
        sandbox = EmbeddedSandbox(SandboxConfig(sources=sources, pool=concurrency))
        await sandbox.start()
        try:
            return await verify_tasks(registry, sandbox, ids=ids, concurrency=concurrency, progress=progress)
        finally:
            await sandbox.close()

    with progress_bar() as progress:
        results = anyio.run(verify, progress)
    shown = table("Without any model", "family", "tasks", "oracle passed", "do-nothing at 0", "cheats at 0", "seconds")
    for result in results:
        shown.add_row(
            result.family,
            str(result.tasks),
            f"{result.oracle_passed} of {result.tasks}",
            f"{result.nothing_zero} of {result.tasks}",
            f"{result.cheats_zero} of {result.cheats}",
            f"{result.seconds:.1f}",
        )
    console().print(shown)
    for text in (text for result in results for text in (*result.failures, *result.infra_errors)):
        console().print(text, style="red", markup=False)
    if not all(result.passed for result in results):
        raise typer.Exit(1)


@log_app.command("verify")
def log_verify(
    paths: Annotated[list[Path] | None, typer.Argument(help="Event logs, or folders of them.")] = None,
    data: DataOption = None,
) -> None:
    """Check the hash chain of event logs: nothing changed, removed or reordered."""
    from tasks.record import verify_log

    given = paths or [log_folder(open_root(data), None)]
    for path in given:
        if not path.exists():
            fail(f"There is no file or folder {path}.")
    files = [file for path in given for file in (sorted(path.glob("events-*.jsonl")) if path.is_dir() else [path])]
    if not files:
        fail(f"There is no event log in {', '.join(map(str, given))}.")
    bad = False
    for file in files:
        problems = verify_log(file)
        bad = bad or bool(problems)
        console().print(f"{file}: {'the chain verifies' if not problems else ''}", highlight=False)
        for problem in problems:
            console().print(f"  {problem}", style="red", markup=False)
    if bad:
        raise typer.Exit(1)
