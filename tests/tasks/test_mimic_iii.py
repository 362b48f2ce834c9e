"""The family mimic_iii: the database by EHRSQL's conventions, its tasks, what scores and what does not."""

import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tasks.answers import grade_answer
from tasks.data import DataRoot
from tasks.datasets import import_dataset
from tasks.ehrsql.schema import CATEGORIES, CURRENT_TIME
from tasks.ehrsql.sql import is_trivial
from tasks.errors import AnswerError, DataError
from tasks.families import get_family
from tasks.family import Attempt, ImportOptions, ImportReport
from tasks.registry import Registry
from tasks.task import Submission, Task, Truth
from tests.tasks.ehrsql_fixture import DRUGS, PATIENTS, release, write_questions, write_release


@dataclass
class Imported:
    root: DataRoot
    report: ImportReport

    @property
    def pairs(self) -> list[tuple[Task, Truth]]:
        registry = Registry(self.root)
        return [(registry.get(i), registry.truth(i)) for i in registry.ids()]

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.root.public_folder("mimic_iii") / "mimic_iii.db")) as database:
            return database.execute(sql).fetchall()


def run(source: Path, questions: Path, root: Path, seed: int = 0, per_template: int = 8) -> Imported:
    options = ImportOptions(questions=questions, seed=seed, per_template=per_template)
    data = DataRoot(root)
    return Imported(data, import_dataset(data, "mimic_iii", source, options, progress=lambda *_: None))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Imported:
    folder = tmp_path_factory.mktemp("small")
    source = write_release(folder / "csv", release(), zipped=("LABEVENTS", "ADMISSIONS"))
    return run(source, write_questions(folder / "valid.json"), folder / "root")


def test_the_database_follows_the_conventions(small: Imported) -> None:
    [(admissions,)] = small.rows("select count(*) from admissions")
    # The longest stays, 5% of them, are left out.
    assert 0 < admissions < PATIENTS
    first = small.rows("select min(admittime) from admissions group by subject_id")
    assert all("2100" <= row[0][:4] <= "2105" for row in first)
    for table, column in (("LABEVENTS", "CHARTTIME"), ("PRESCRIPTIONS", "ENDDATE"), ("ADMISSIONS", "DISCHTIME"),
                          ("COST", "CHARGETIME"), ("TRANSFERS", "OUTTIME"), ("CHARTEVENTS", "CHARTTIME")):  # fmt: skip
        [(latest,)] = small.rows(f"select max({column}) from {table}")
        assert datetime.fromisoformat(latest) <= datetime.fromisoformat(CURRENT_TIME)
    assert {row[0] for row in small.rows("select distinct drug from prescriptions")} == {d.lower() for d in DRUGS}
    assert small.rows("select count(*) from admissions where dischtime is null")[0][0] >= 2
    assert small.rows(
        "select count(*) from admissions a join patients p using (subject_id) join diagnoses_icd d using (hadm_id) "
        "where d.charttime <> a.admittime or a.age <= 10 or a.age >= 90"
    ) == [(0,)]
    assert small.rows(
        "select count(*) from procedures_icd p join admissions a using (hadm_id) where p.charttime is not a.dischtime"
    ) == [(0,)]
    # Only volumes, only results with value and admission, only the three kinds of items.
    assert small.rows("select min(amount) from inputevents_cv") == [(100.0,)]
    assert small.rows("select count(*) from labevents where valuenum is null or hadm_id = ''") == [(0,)]
    assert small.rows("select count(*) from d_items") == [(3,)]
    with closing(sqlite3.connect(small.root.public_folder("mimic_iii") / "mimic_iii.db")) as database:
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []


def test_every_event_is_charged_once_at_one_price_for_its_kind(small: Imported) -> None:
    for table in ("diagnoses_icd", "procedures_icd", "labevents", "prescriptions"):
        assert small.rows(f"select count(*) from {table}") == small.rows(
            f"select count(*) from cost join {table} e on e.row_id = event_id and e.hadm_id = cost.hadm_id "
            f"where event_type = '{table}'"
        )
    prices = small.rows(
        "select count(distinct cost) from cost join prescriptions p on p.row_id = event_id "
        "where event_type = 'prescriptions' group by drug"
    )
    assert prices == [(1,)] * len(DRUGS)


def test_tasks(small: Imported) -> None:
    pairs = small.pairs
    templates = Counter(truth.extra["template"] for _, truth in pairs)
    assert templates["list drugs."] == 1
    assert "is there anyone?" not in templates
    assert len(templates) == 5
    assert all(count <= 8 for count in templates.values())
    assert small.report.tasks == len(pairs)
    assert small.report.left_out["unanswerable in EHRSQL"] == 1
    assert small.report.left_out["as asked: a guess would do (a lone 0, 1 or null)"] == 1
    clusters: dict[str, set[str]] = {}
    for task, truth in pairs:
        clusters.setdefault(task.cluster, set()).add(task.split)
        assert task.category in CATEGORIES
        assert task.missing is None
        assert not is_trivial(truth.value)
        assert small.rows(truth.extra["sql"]) == [tuple(row) for row in truth.value]
        if task.cluster.startswith("patient-"):
            assert f"patient {task.cluster.removeprefix('patient-')}" in task.problem
    assert all(len(splits) == 1 for splits in clusters.values())
    [asked] = [task for task, truth in pairs if truth.extra["template"] == "list drugs."]
    assert asked.problem == "Which drugs are there?"
    assert asked.split == "test"
    assert asked.id == "mimic_iii/drugs"
    assert len({task.problem for task, _ in pairs}) == len(pairs)


def test_oracles_are_right_and_cheats_are_not(small: Imported) -> None:
    check_attempts(small)


def check_attempts(imported: Imported, step: int = 1) -> int:
    """Runs the oracles beside the sandbox, on the same file, and grades the cheats of every `step`-th task."""
    family, graded = get_family("mimic_iii"), 0
    database = imported.root.public_folder("mimic_iii") / "mimic_iii.db"
    for number, (task, truth) in enumerate(imported.pairs):
        scope: dict[str, Any] = {}
        exec(truth.oracle.replace("/data/mimic_iii.db", str(database)), scope)
        scope["db"].close()
        assert score(task, truth, scope["answer"]) == 1.0, task.id
        for cheat in family.cheats(task, truth) if number % step == 0 else ():
            if cheat.submit != "nothing":
                assert submitted(task, truth, cheat) == 0.0, (task.id, cheat.name)
                graded += 1
    return graded


def submitted(task: Task, truth: Truth, attempt: Attempt) -> float:
    assert attempt.submit == "value"
    return score(task, truth, attempt.value)


def score(task: Task, truth: Truth, value: Any) -> float:
    try:
        return grade_answer(task.answer, truth, Submission(value=value), grader="mimic_iii", version="1").score
    except AnswerError:
        return 0.0


def test_equal_seeds_give_equal_data_and_tasks(small: Imported, tmp_path: Path) -> None:
    source = write_release(tmp_path / "csv", release(), upper=False)
    questions = write_questions(tmp_path / "lines.jsonl", lines=True)
    again, other = run(source, questions, tmp_path / "a"), run(source, questions, tmp_path / "b", seed=1)

    def everything(imported: Imported) -> tuple[Any, ...]:
        tables = [row[0] for row in imported.rows("select name from sqlite_master where type = 'table' order by 1")]
        tasks = [(task, truth.value) for task, truth in imported.pairs]
        return {t: imported.rows(f"select * from {t}") for t in tables}, tasks

    assert everything(again) == everything(small)
    assert everything(other) != everything(small)


def test_per_template_bounds(small: Imported, tmp_path: Path) -> None:
    source = write_release(tmp_path / "csv", release())
    few = run(source, write_questions(tmp_path / "q.json"), tmp_path / "root", per_template=2)
    counts = Counter(truth.extra["template"] for _, truth in few.pairs)
    assert max(counts.values()) == 2
    assert len(counts) == 5
    assert {task.id for task, _ in few.pairs} < {task.id for task, _ in small.pairs}


def test_a_missing_optional_table_leaves_its_tasks_missing(tmp_path: Path) -> None:
    tables = release()
    del tables["D_LABITEMS"]
    made = run(write_release(tmp_path / "csv", tables), write_questions(tmp_path / "q.json"), tmp_path / "root")
    missing = [task for task, _ in made.pairs if task.missing]
    assert [task.id for task in missing] == ["mimic_iii/lab"]
    assert missing[0].missing is not None
    assert "D_LABITEMS.csv was not in the imported folder" in missing[0].missing
    assert any("LABEVENTS is empty" in note for note in made.report.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"without": "PATIENTS"}, "has no PATIENTS.csv"),
        ({"drop_column": ("PRESCRIPTIONS", "drug")}, "PRESCRIPTIONS.csv has no column DRUG"),
        ({"bad": ("LABEVENTS", 4, "yesterday")}, "LABEVENTS.csv, column CHARTTIME: 'yesterday' is not"),
        ({"bad": ("ADMISSIONS", 1, "x7")}, "ADMISSIONS.csv, column SUBJECT_ID: 'x7' is not"),
        ({"broken": "TRANSFERS"}, "TRANSFERS.csv is not a well-formed CSV"),
        ({"truncated": "LABEVENTS"}, r"LABEVENTS.csv.gz (cannot be read|is not a well-formed)"),
        ({"empty": "D_ITEMS"}, "D_ITEMS.csv has no column ROW_ID"),
    ],
)
def test_malformed_input_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    tables = release()
    if "without" in change:
        del tables[change["without"]]
    if "bad" in change:
        table, place, value = change["bad"]
        tables[table][3][place] = value
    zipped = (change["truncated"],) if "truncated" in change else ()
    source = write_release(tmp_path / "csv", tables, drop_column=change.get("drop_column"), zipped=zipped)
    if "broken" in change:
        with (source / f"{change['broken']}.csv").open("a") as file:
            file.write("1,2\n")
    if "empty" in change:
        (source / f"{change['empty']}.csv").write_bytes(b"")
    for table in zipped:
        path = source / f"{table}.csv.gz"
        path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(DataError, match=message):
        run(source, write_questions(tmp_path / "q.json"), tmp_path / "root")
    assert DataRoot(tmp_path / "root").datasets() == []


def test_questions_are_needed(tmp_path: Path) -> None:
    source = write_release(tmp_path / "csv", release())
    with pytest.raises(DataError, match="--questions"):
        import_dataset(DataRoot(tmp_path / "r"), "mimic_iii", source, ImportOptions(), progress=lambda *_: None)


@pytest.fixture(scope="module")
def demo(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Imported:
    """The open demo with EHRSQL's validation questions; takes about 20 s, once."""
    folder = shared_data / "mimic_iii"
    return run(folder / "mimic-iii-demo-1.4", folder / "ehrsql" / "valid.json", tmp_path_factory.mktemp("demo"))


def test_the_open_demo_gives_many_tasks(demo: Imported) -> None:
    pairs = demo.pairs
    assert len(pairs) >= 500
    assert len({truth.extra["template"] for _, truth in pairs}) >= 100
    assert {task.category for task, _ in pairs} == set(CATEGORIES)
    assert {task.split for task, _ in pairs} == {"train", "test"}
    asked = [task for task, truth in pairs if task.id == f"mimic_iii/{truth.extra['source']}"]
    assert len(asked) >= 60
    clusters: dict[str, set[str]] = {}
    for task, _ in pairs:
        clusters.setdefault(task.cluster, set()).add(task.split)
    assert all(len(splits) == 1 for splits in clusters.values())


def test_on_the_open_demo_oracles_are_right_and_cheats_are_not(demo: Imported) -> None:
    assert check_attempts(demo, step=10) > 800
