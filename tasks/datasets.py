"""Registering datasets: an original release imported, or tasks generated. What `data add` and `tasks generate` do."""

from pathlib import Path

from tasks.data import DataRoot
from tasks.errors import DataError
from tasks.families import get_family
from tasks.family import GenerateOptions, ImportOptions, ImportReport, Progress


def import_dataset(
    root: DataRoot,
    family: str,
    source: Path,
    options: ImportOptions,
    *,
    name: str | None = None,
    restricted: bool | None = None,
    progress: Progress,
) -> ImportReport:
    """Import a release as dataset `name` (default: the family's name), replacing the one of that name.

    `restricted` overrides what the family says of its release. Raises DataError; on any error nothing is changed.
    """
    for path in filter(None, (source, options.questions, options.overlay)):
        if not path.exists():
            raise DataError(f"There is no file or folder {path}.")
    made = get_family(family)
    writer = root.writer(
        name or family,
        family=family,
        title=made.title,
        source=source.name,
        version=options.labels,
        licence=made.licence,
        restricted=made.restricted if restricted is None else restricted,
        seed=options.seed,
        options={"labels": options.labels, "per_template": options.per_template},
    )
    with writer as dataset:
        return made.import_release(source, dataset, options, progress)


def generate_dataset(
    root: DataRoot, family: str, options: GenerateOptions, *, name: str | None = None, progress: Progress
) -> ImportReport:
    """Generate tasks as dataset `name` (default: `<family>_synthetic`), replacing the one of that name.

    Raises DataError; on any error nothing is changed.
    """
    made = get_family(family)
    writer = root.writer(
        name or synthetic_name(family),
        family=family,
        title=f"{made.title} (synthetic)",
        source="generated",
        version=made.version,
        licence="Apache-2.0",
        restricted=False,
        seed=options.seed,
        options={"patients": options.patients, "per_category": options.per_category},
    )
    with writer as dataset:
        return made.generate(dataset, options, progress)


def synthetic_name(family: str) -> str:
    """The default name of a family's generated dataset."""
    return f"{family}_synthetic"
