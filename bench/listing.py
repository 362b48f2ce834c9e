"""Listing, filtering, searching and paging over as many tasks as all of MedAgentGym has."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
from rich.console import Console
from rich.table import Table

from bench.measure import Measurement, load, milliseconds, percentile
from tasks.data import DataRoot
from tasks.registry import Registry
from tasks.task import NumberSpec, Split, Task, Truth

TASKS = 72_413
GOAL = 0.020
FAMILIES = 12
CATEGORIES = 129
_VOCABULARY = """
patient admission discharge ward heparin potassium sodium creatinine sepsis pneumonia fracture insulin dose
ointment culture glucose pressure oxygen ventilation bypass transfusion aspirin weight age month year first last
number maximum minimum average cost lab result diagnosis procedure prescription hospital visit unit careunit since
"""
WORDS = tuple(_VOCABULARY.split())


def made_up(seed: int = 0) -> Iterator[Task]:
    """Tasks of the size of real ones: two of three with a short question, the others with a note in it."""
    rng = random.Random(seed)
    for number in range(TASKS):
        family = f"family{number % FAMILIES:02}"
        split: Split = "test" if rng.random() < 0.2 else "train"
        words = rng.choices(WORDS, k=rng.choice((15, 20, 120)))
        yield Task(
            id=f"{family}/task-{number:05}",
            family=family,
            dataset=family,
            split=split,
            category=f"category {number % CATEGORIES:03}",
            cluster=str(number // 4),
            problem=f"What is the {' '.join(words)} of patient {rng.randrange(10_000_000)}?",
            answer=NumberSpec(),
        )


def build(root: DataRoot) -> float:
    """Register the tasks; returns the seconds it took."""
    began = time.perf_counter()
    by_family: dict[str, list[Task]] = {}
    for task in made_up():
        by_family.setdefault(task.family, []).append(task)
    for name, tasks in by_family.items():
        with root.writer(
            name, family=name, title=name, source="made up", version="1", licence="Apache-2.0", restricted=False
        ) as writer:
            for task in tasks:
                writer.add(task, Truth(task_id=task.id, value=1, oracle="answer = 1", canary=writer.new_canary()))
    return time.perf_counter() - began


def walk(registry: Registry, pages: int = 40, **filters: str) -> list[float]:
    """Seconds of each page, following the cursor."""
    seconds, cursor = [], None
    for _ in range(pages):
        began = time.perf_counter()
        cursor = registry.list(cursor=cursor, **filters).next_cursor  # type: ignore[arg-type]
        seconds.append(time.perf_counter() - began)
        if cursor is None:
            break
    return seconds


def each(call: Callable[[str], object], given: list[str]) -> list[float]:
    seconds = []
    for one in given:
        began = time.perf_counter()
        call(one)
        seconds.append(time.perf_counter() - began)
    return seconds


def measure(folder: Path) -> tuple[float, dict[str, list[float]]]:
    """Seconds of building, and of each call by what was called. No call is made twice with the same arguments."""
    root = DataRoot(folder / "listing")
    built = build(root)
    began = time.perf_counter()
    registry = Registry(root)
    opened = time.perf_counter() - began
    rng = random.Random(1)
    ids = registry.ids()
    assert len(ids) == TASKS
    some = rng.sample(ids, 100)
    pairs = [" ".join(rng.sample(WORDS, 2)) for _ in range(40)]
    found = {
        "list": walk(registry),
        "filter by split": walk(registry, split="test"),
        "filter by family and split": walk(registry, family="family03", split="train"),
        "filter by category": walk(registry, category="category 017"),
        "query, one word": each(lambda word: registry.list(query=word), list(WORDS)),
        "query, two words": each(lambda words: registry.list(query=words), pairs),
        "query, beginning of a word": each(
            lambda word: registry.list(query=word), sorted({word[:4] for word in WORDS} - set(WORDS))
        ),
        "query, next pages": [s for word in WORDS[:10] for s in walk(registry, 5, query=word)[1:]],
        "query and filter": each(lambda word: registry.list(query=word, split="test"), list(WORDS)),
        "get": each(registry.get, some),
        "complete": each(registry.complete, [one[:-2] for one in some]),
        "unknown task": each(lambda one: close_matches(registry, one), [f"{one}0" for one in some[:20]]),
        "open the registry": [opened],
    }
    registry.close()
    return built, found


def close_matches(registry: Registry, task_id: str) -> str:
    from tasks.errors import UnknownTask

    try:
        registry.get(task_id)
    except UnknownTask as error:
        return str(error)
    raise AssertionError(f"{task_id} exists")


async def run(folder: Path) -> list[Measurement]:
    _, found = await anyio.to_thread.run_sync(measure, folder)
    lists = [s for what, seconds in found.items() if what.startswith(("list", "filter", "query")) for s in seconds]
    p95 = percentile(lists, 0.95)
    worst = max(found, key=lambda what: percentile(found[what], 0.95))
    return [
        Measurement(
            f"list, filter, search, page over {TASKS:,} tasks",
            "p95 <= 20 ms",
            f"p95 {milliseconds(p95)} of {len(lists)} calls",
            p95 <= GOAL,
            f"slowest: {worst}",
        )
    ]


def main() -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        built, found = measure(Path(folder))
    table = Table(title=f"{TASKS:,} tasks, registered in {built:.0f} s ({load()})", title_justify="left")
    for column in ("call", "calls", "p50", "p95", "most"):
        table.add_column(column)
    for what, seconds in found.items():
        figures = (percentile(seconds, 0.5), percentile(seconds, 0.95), max(seconds))
        table.add_row(what, str(len(seconds)), *map(milliseconds, figures))
    Console().print(table)


if __name__ == "__main__":
    main()
