"""Term search: the catalogue over MCP against reading the whole folder with pandas for each request."""

from pathlib import Path

import anyio

from bench import reference
from bench.measure import Measurement, median, milliseconds, timed
from bench.served import ROOT, serve
from tasks.data import DataRoot
from tasks.datasets import import_dataset
from tasks.family import ImportOptions
from tasks.registry import Registry

MIMIC = ROOT.parent / "shared" / "data" / "mimic_iii"
TERMS = ("ointment", "sepsis", "potassium", "emergency", "heparin", "staph aureus coag +")


async def run(folder: Path) -> list[Measurement]:
    """Needs the open MIMIC-III demo beside the checkout; without it there is nothing to compare."""
    what, goal = "term search over the MIMIC-III demo", "p50 <= 20 ms, >= 400x the reference"
    release = MIMIC / "mimic-iii-demo-1.4"
    if not release.is_dir():
        return [Measurement(what, goal, "not measured: the MIMIC-III demo is not beside this checkout", False)]
    root = DataRoot(folder / "mimic")
    options = ImportOptions(questions=MIMIC / "ehrsql" / "valid.json", per_template=1)
    await anyio.to_thread.run_sync(
        lambda: import_dataset(root, "mimic_iii", release, options, progress=lambda *_: None)
    )
    task = Registry(root).ids()[0]
    ours: list[float] = []
    theirs: list[float] = []
    async with serve(root.path, "--turns", "100000") as served:
        call = served.environment.call
        episode = (await call("start_task", task_id=task))["episode_id"]
        for term in TERMS:
            for _ in range(10):
                ours.append(
                    await timed(lambda t=term: call("request_info", episode_id=episode, kind="search", term=t))  # type: ignore[misc]
                )
            if len(theirs) < 3:
                theirs.append(await timed(lambda t=term: anyio.to_thread.run_sync(reference.search, release, t)))  # type: ignore[misc]
    ratio = median(theirs) / median(ours)
    return [
        Measurement(
            what,
            goal,
            f"p50 {milliseconds(median(ours))}, {ratio:.0f}x (reference p50 {milliseconds(median(theirs))})",
            median(ours) <= 0.020 and ratio >= 400,
        )
    ]
