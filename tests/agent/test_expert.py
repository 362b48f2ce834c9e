"""The scripted analyst: always right in the end, never by the same way, and its mistakes are mistakes."""

import random
from collections import Counter

import anyio
import pytest

from agent import mistakes
from agent.expert import Expert
from agent.loop import Agent
from tasks.attempt import AttemptRecord
from tasks.registry import Registry
from tests.agent.conftest import Serve

pytestmark = pytest.mark.anyio


async def play(serve: Serve, registry: Registry, tasks: list[str], share: float, seed: int = 0) -> list[AttemptRecord]:
    records: list[AttemptRecord] = []
    queue = iter(tasks)
    async with serve() as environment:

        async def work() -> None:
            for task in queue:
                expert = Expert(registry.get(task), registry.truth(task).oracle, seed=seed, mistakes=share)
                records.append(await Agent(environment, expert).attempt(task))

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(work)
    return sorted(records, key=lambda record: record.task.id)


def actions(record: AttemptRecord) -> list[str]:
    return [call.function.name for message in record.messages for call in message.tool_calls or ()]


@pytest.mark.parametrize("family", ["mimic_iii", "medcalcbench"])
@pytest.mark.parametrize("share", [0.4, 1.0])
async def test_twenty_tasks_of_each_family_are_all_solved(
    serve: Serve, registry: Registry, family: str, share: float
) -> None:
    ids = registry.ids(family=family)
    tasks = ids[:: max(1, len(ids) // 20)][:20]
    records = await play(serve, registry, tasks, share)
    assert [(record.task.id, record.outcome, record.reward) for record in records if record.reward != 1.0] == []
    assert len(records) == len(tasks) >= 15
    mix = Counter(action for record in records for action in actions(record))
    assert mix["submit_answer"] == len(tasks)
    assert mix["execute_code"] >= len(tasks) // 2
    if family == "mimic_iii":
        assert all(actions(record)[0] == "request_info" for record in records)
    errors = sum("status: error" in (message.content or "") for record in records for message in record.messages)
    assert errors > 0 if share == 1.0 else errors < len(tasks)


async def test_a_seed_gives_one_path_and_seeds_give_several(serve: Serve, registry: Registry, sql_task: str) -> None:
    (first,) = await play(serve, registry, [sql_task], 0.5, seed=1)
    (again,) = await play(serve, registry, [sql_task], 0.5, seed=1)
    assert first.messages == again.messages
    others = [(await play(serve, registry, [sql_task], 0.5, seed=seed))[0] for seed in range(2, 8)]
    assert len({tuple(actions(one)) for one in others}) > 1


async def test_what_an_analyst_cannot_know_is_never_said(serve: Serve, registry: Registry) -> None:
    ids = registry.ids(family="mimic_iii")[:8]
    for record in await play(serve, registry, ids, 0.5):
        truth = registry.truth(record.task.id)
        assert truth.canary not in record.model_dump_json()


SQL = (
    "SELECT COUNT(DISTINCT subject_id) FROM admissions JOIN d_labitems USING (itemid) WHERE label = 'free calcium' "
    "AND admittime >= '2102-01-01 00:00:00' AND admittime < '2103-01-01 00:00:00'"
)
CODE = (
    "def ratio(weight_kg, height_cm):\n    return weight_kg / height_cm\n"
    "weight_kg = 80\nheight_cm = 74.3 * 2.54\nanswer = ratio(weight_kg=weight_kg, height_cm=height_cm)\n"
)


@pytest.mark.parametrize(
    ("maker", "code", "shows", "changed"),
    [
        (mistakes.wrong_column, SQL, "error", None),
        (mistakes.wrong_table, SQL, "error", None),
        (mistakes.wrong_case, SQL, "result", None),
        (mistakes.forgotten_window, SQL, "result", SQL[: SQL.index(" AND admittime")]),
        (mistakes.syntax_error, SQL, "error", None),
        (mistakes.forgotten_unit, CODE, "result", CODE.replace("74.3 * 2.54", "74.3")),
        (mistakes.wrong_name, CODE, "error", None),
        (mistakes.slip, CODE, "error", None),
    ],
)
def test_every_mistake_changes_the_code(maker: mistakes.Maker, code: str, shows: str, changed: str | None) -> None:
    for seed in range(10):
        made = maker(code, random.Random(seed))
        assert made is not None
        assert made.code != code
        assert made.shows == shows
        assert changed is None or made.code == changed


@pytest.mark.parametrize("maker", [*mistakes.SQL[:4], *mistakes.PYTHON])
def test_code_that_offers_no_place_is_left_alone(maker: mistakes.Maker) -> None:
    assert maker("SELECT 1", random.Random(0)) is None


def test_a_window_that_is_the_whole_condition_goes_with_its_word() -> None:
    made = mistakes.forgotten_window("SELECT COUNT(*) FROM labevents WHERE charttime >= '2102-01-01'", random.Random(0))
    assert made is not None
    assert made.code == "SELECT COUNT(*) FROM labevents"
