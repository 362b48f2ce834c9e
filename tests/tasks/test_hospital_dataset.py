"""The generated dataset as it is registered: whole, repeatable, honest about its sides, and solvable."""

import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from tasks.answers import grade_answer
from tasks.data import DataRoot
from tasks.errors import AnswerError, DataError
from tasks.families import get_family
from tasks.family import GenerateOptions, ImportReport
from tasks.hospital.dataset import generate_mimic
from tasks.hospital.template import CATEGORIES
from tasks.registry import Registry
from tasks.task import RowsSpec, Submission, Task, Truth

OPTIONS = GenerateOptions(seed=2, patients=40, per_category=10)


def _generate(root: DataRoot, options: GenerateOptions = OPTIONS) -> ImportReport:
    writer = root.writer(
        "hospital", family="mimic_iii", title="t", source="generated", version="1", licence="Apache-2.0",
        restricted=False, seed=options.seed,
    )  # fmt: skip
    steps: list[tuple[str, int, int]] = []
    with writer as dataset:
        report = generate_mimic(dataset, options, lambda *step: steps.append(step))
    assert all(0 <= done <= total for _, done, total in steps)
    assert {"patients", "questions"} <= {what for what, _, _ in steps}
    return report


def _tasks(root: DataRoot) -> list[tuple[Task, Truth]]:
    registry = Registry(root)
    return [(registry.get(task_id), registry.truth(task_id)) for task_id in registry.ids()]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    root = DataRoot(tmp_path_factory.mktemp("root"))
    assert _generate(root).tasks == 9 * OPTIONS.per_category
    return root


def test_equal_options_give_equal_tasks_and_an_equal_database(root: DataRoot, tmp_path: Path) -> None:
    again = DataRoot(tmp_path)
    _generate(again)
    assert again.dataset("hospital").data_digest() == root.dataset("hospital").data_digest()
    left, right = _tasks(root), _tasks(again)
    assert [task for task, _ in left] == [task for task, _ in right]
    assert [truth.value for _, truth in left] == [truth.value for _, truth in right]
    assert [truth.extra for _, truth in left] == [truth.extra for _, truth in right]
    assert not {truth.canary for _, truth in left} & {truth.canary for _, truth in right}


def test_the_dataset_is_whole(root: DataRoot) -> None:
    assert root.verify() == []
    tasks = [task for task, _ in _tasks(root)]
    assert Counter(task.category for task in tasks) == dict.fromkeys(CATEGORIES, OPTIONS.per_category)
    assert Counter(task.split for task in tasks) == {"train": 63, "test": 27}
    assert {task.cluster for task in tasks if task.split == "train"}.isdisjoint(
        task.cluster for task in tasks if task.split == "test"
    )


def test_oracles_solve_and_their_absence_does_not(root: DataRoot) -> None:
    public = root.public_folder("hospital")
    for task, truth in _tasks(root):
        assert task.database == "/data/mimic_iii.db"
        assert isinstance(task.answer, RowsSpec)
        names: dict[str, object] = {}
        exec(truth.oracle.replace("/data/", f"{public}/"), names)
        connection = names["db"]
        assert isinstance(connection, sqlite3.Connection)
        connection.close()
        for value, correct in ((names["answer"], True), ([], False), (0 if task.answer.width == 1 else [], False)):
            grade = grade_answer(task.answer, truth, Submission(value=value), grader="rows", version="1")
            assert grade.correct == correct, task.problem
        assert truth.extra["sql"] not in task.model_dump_json()


def test_no_cheat_of_the_family_scores(root: DataRoot) -> None:
    family = get_family("mimic_iii")
    tried = 0
    for task, truth in _tasks(root):
        for cheat in family.cheats(task, truth):
            if cheat.submit != "value":
                continue
            tried += 1
            try:
                grade = grade_answer(task.answer, truth, Submission(value=cheat.value), grader="rows", version="1")
            except AnswerError:
                continue
            assert not grade.correct, (cheat.name, task.problem)
    assert tried > 500


@pytest.mark.parametrize(
    "options", [GenerateOptions(patients=0), GenerateOptions(per_category=0), GenerateOptions(seed=-1)]
)
def test_impossible_options_leave_nothing_behind(tmp_path: Path, options: GenerateOptions) -> None:
    root = DataRoot(tmp_path)
    with pytest.raises(DataError, match=r"number of|seed"):
        _generate(root, options)
    assert root.datasets() == []


def test_few_patients_give_fewer_tasks_and_say_so(tmp_path: Path) -> None:
    report = _generate(DataRoot(tmp_path), GenerateOptions(patients=2, per_category=20))
    assert 0 < report.tasks < 180
    missing = sum(count for reason, count in report.left_out.items() if "no further" in reason)
    assert report.tasks + missing == 180
