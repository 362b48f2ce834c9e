"""Right answers that the reference implementation rejects, each through a served episode: all must score 1.

And the wrong ones that it accepts, which must score 0 (every family's full list of cheats is run by `tasks verify`).
"""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from agent.client import Environment, ToolFailed, connect
from tasks.data import DataRoot
from tasks.registry import Registry
from tasks.task import DateSpec, DurationSpec, IntegerSpec, NumberSpec, RowsSpec, Task, Truth
from tests.end_to_end.real import COMMAND, command

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    path = tmp_path_factory.mktemp("right")
    command("tasks", "generate", "--patients", "60", "--per-category", "8", "--data", path)
    return Registry(DataRoot(path))


@pytest.fixture
async def environment(registry: Registry) -> AsyncIterator[Environment]:
    async with connect([*COMMAND, "serve", "--data", str(registry.root.path)]) as environment:
        yield environment


def find(registry: Registry, family: str, wanted: Callable[[Task, Truth], bool]) -> tuple[Task, Truth]:
    for task_id in registry.ids(family=family):
        task, truth = registry.get(task_id), registry.truth(task_id)
        if truth.value is not None and wanted(task, truth):
            return task, truth
    raise AssertionError(f"no such task among the generated ones of {family}")


def many_rows(task: Task, truth: Truth) -> bool:
    return (
        isinstance(task.answer, RowsSpec)
        and not task.answer.ordered
        and len(truth.value) > 2
        and any(isinstance(cell, str) and cell.upper() != cell for cell in truth.value[0])
        and any(isinstance(cell, int | float) for cell in truth.value[0])
    )


async def score(environment: Environment, task: Task, **submission: Any) -> float:
    """The score of one submission; `code` is run before it."""
    episode = (await environment.call("start_task", task_id=task.id))["episode_id"]
    if code := submission.pop("code", None):
        await environment.call("execute_code", episode_id=episode, code=code)
    try:
        return float((await environment.call("submit_answer", episode_id=episode, **submission))["score"])
    except ToolFailed:
        await environment.call("close_episode", episode_id=episode)
        return 0.0


async def test_rows(registry: Registry, environment: Environment) -> None:
    task, truth = find(registry, "mimic_iii", many_rows)
    rows: list[list[Any]] = truth.value
    assert await score(environment, task, answer=rows) == 1
    assert await score(environment, task, answer=rows[::-1]) == 1
    upper = [[cell.upper() if isinstance(cell, str) else cell for cell in row] for row in rows]
    assert await score(environment, task, answer=upper) == 1
    text = [[cell if isinstance(cell, str) or cell is None else f"{float(cell)}" for cell in row] for row in rows]
    assert await score(environment, task, answer=text) == 1
    tuples = f"answer = {[tuple(row) for row in rows]!r}"
    assert await score(environment, task, code=tuples, variable="answer") == 1
    frame = f"import pandas as pd\nanswer = pd.DataFrame({rows!r})"
    assert await score(environment, task, code=frame, variable="answer") == 1


async def test_noise_around_a_right_answer(registry: Registry, environment: Environment) -> None:
    task, truth = find(registry, "mimic_iii", many_rows)
    for noise in (
        "import warnings\nwarnings.warn('deprecated')\nprint('careful', file=__import__('sys').stderr)",
        "print('x' * 100_000)",
        "# do not print this",
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    import traceback; traceback.print_exc()",
    ):
        assert await score(environment, task, code=f"{noise}\n{truth.oracle}", variable="answer") == 1


async def test_numbers_dates_and_durations(registry: Registry, environment: Environment) -> None:
    negative, truth = find(
        registry,
        "medcalcbench",
        lambda task, truth: isinstance(task.answer, NumberSpec | IntegerSpec) and truth.value < 0,
    )
    assert await score(environment, negative, answer=truth.value) == 1
    assert await score(environment, negative, answer=str(truth.value)) == 1
    assert await score(environment, negative, answer=-truth.value) == 0
    day, truth = find(registry, "medcalcbench", lambda task, _: isinstance(task.answer, DateSpec))
    year, month, date = truth.value.split("-")
    assert await score(environment, day, answer=truth.value) == 1
    assert await score(environment, day, answer=f"{month}/{date}/{year}") == 1
    weeks, truth = find(registry, "medcalcbench", lambda task, _: isinstance(task.answer, DurationSpec))
    assert await score(environment, weeks, answer=truth.value) == 1
    assert await score(environment, weeks, code=f"answer = {tuple(truth.value)!r}", variable="answer") == 1


async def test_what_the_reference_lets_pass(registry: Registry, environment: Environment) -> None:
    task, truth = find(registry, "mimic_iii", many_rows)
    everything = str(truth.value)
    wrongs: list[Any] = [
        list(range(10_000)),
        everything,
        f"Traceback (most recent call last): ValueError: {everything}",
        truth.value[:1],
        [truth.value, truth.value],
        {},
        None,
    ]
    for wrong in wrongs:
        assert await score(environment, task, answer=wrong) == 0
    assert await score(environment, task, code=f"print({everything!r})", variable="answer") == 0
    number, truth = find(registry, "medcalcbench", lambda task, _: isinstance(task.answer, NumberSpec))
    for guess in (123456, [truth.value, 1], f"about {truth.value}", {"answer": truth.value}, True):
        assert await score(environment, number, answer=guess) == 0
