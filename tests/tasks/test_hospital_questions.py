"""The hospital's MIMIC-III view and the questions about it: whole, repeatable, telling, and right by another way."""

import hashlib
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tasks.answers import grade_answer
from tasks.ehrsql import schema
from tasks.family import ImportReport
from tasks.hospital.mimic import write_mimic
from tasks.hospital.pools import POOLS, Pools, names_patient
from tasks.hospital.population import make_population
from tasks.hospital.questions import TEMPLATES, Question, draw_questions, fill, is_test_patient, share_out
from tasks.hospital.template import CATEGORIES, Rank, Template
from tasks.task import RowsSpec, Submission, Truth
from tests.tasks.hospital_answers import ANSWERS, Frames, read_tables

SEED, PATIENTS = 5, 100
BY_NAME = {template.name: template for template in TEMPLATES}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hospital") / "mimic_iii.db"
    write_mimic(make_population(SEED, PATIENTS), path)
    return path


@pytest.fixture(scope="module")
def database(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        yield database


@pytest.fixture(scope="module")
def tables(path: Path) -> Frames:
    return read_tables(path)


@pytest.fixture(scope="module")
def questions(database: sqlite3.Connection) -> list[Question]:
    pools = Pools(database)
    return [q for c in CATEGORIES for q in draw_questions(database, SEED, c, 40, pools, ImportReport())]


def _some(database: sqlite3.Connection, template: Template, at_most: int) -> list[Question]:
    stream = fill(database, SEED, template, Pools(database), ImportReport())
    return [question for question, _ in zip(stream, range(at_most), strict=False)]


def test_equal_seeds_give_equal_files(path: Path, tmp_path: Path) -> None:
    write_mimic(make_population(SEED, PATIENTS), tmp_path / "again.db")
    write_mimic(make_population(SEED + 1, PATIENTS), tmp_path / "other.db")
    digests = [hashlib.sha256(p.read_bytes()).digest() for p in (path, tmp_path / "again.db", tmp_path / "other.db")]
    assert digests[0] == digests[1] != digests[2]


def test_a_file_is_not_overwritten(path: Path) -> None:
    with pytest.raises(FileExistsError):
        write_mimic(make_population(SEED, 1), path)


def test_every_reference_has_its_row(database: sqlite3.Connection) -> None:
    assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    for table in schema.MIMIC_III_TABLES:
        assert database.execute(f"SELECT COUNT(*) FROM {table.name}").fetchone()[0] > 0, table.name
    lost = """SELECT COUNT(*) FROM icustays WHERE NOT EXISTS (SELECT 1 FROM transfers
        WHERE transfers.icustay_id = icustays.icustay_id)"""
    assert database.execute(lost).fetchone() == (0,)


@pytest.mark.parametrize("events", ["diagnoses_icd", "procedures_icd", "labevents", "prescriptions"])
def test_every_charged_event_has_one_cost(database: sqlite3.Connection, events: str) -> None:
    time = "startdate" if events == "prescriptions" else "charttime"
    matched = f"""SELECT COUNT(*), COUNT(DISTINCT event_id) FROM cost JOIN {events} AS e ON e.row_id = event_id
        AND e.hadm_id = cost.hadm_id AND e.subject_id = cost.subject_id AND chargetime = e.{time}
        WHERE event_type = '{events}' AND cost > 0"""
    count = database.execute(f"SELECT COUNT(*) FROM {events}").fetchone()[0]
    assert database.execute(matched).fetchone() == (count, count)
    assert database.execute(f"SELECT COUNT(*) FROM cost WHERE event_type = '{events}'").fetchone() == (count,)


def test_the_conventions_of_ehrsql_hold(database: sqlite3.Connection) -> None:
    def one(sql: str) -> Any:
        return database.execute(sql).fetchone()[0]

    for table in schema.MIMIC_III_TABLES:
        for column in table.columns:
            if column.type == "TEXT":
                assert one(f"SELECT COUNT(*) FROM {table.name} WHERE {column.name} <> lower({column.name})") == 0
            elif column.type == "TIMESTAMP":
                pattern = "'[12][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9]'"
                where = f"{column.name} NOT GLOB {pattern} OR {column.name} > '{schema.CURRENT_TIME}'"
                assert one(f"SELECT COUNT(*) FROM {table.name} WHERE {where}") == 0, (table.name, column.name)
    diagnoses = "SELECT COUNT(*) FROM diagnoses_icd JOIN admissions USING (hadm_id) WHERE charttime <> admittime"
    assert one(diagnoses) == 0
    procedures = "SELECT COUNT(*) FROM procedures_icd JOIN admissions USING (hadm_id) WHERE charttime IS NOT dischtime"
    assert one(procedures) == 0
    assert one("SELECT COUNT(*) FROM admissions WHERE (dischtime IS NULL) <> (discharge_location IS NULL)") == 0
    assert one("SELECT COUNT(*) FROM admissions WHERE dischtime IS NULL") >= 1
    assert one("SELECT COUNT(DISTINCT itemid) FROM chartevents") == 9
    assert one("SELECT MIN(admittime) FROM admissions") >= "2100-01-01"


def test_there_are_templates_for_every_category_on_both_sides() -> None:
    assert CATEGORIES == schema.CATEGORIES
    assert len(TEMPLATES) >= 60
    assert len(BY_NAME) == len(TEMPLATES)
    for category in CATEGORIES:
        mine = [t for t in TEMPLATES if t.category == category]
        assert Counter(t.split for t in mine)["train"] >= 6
        assert Counter(t.split for t in mine)["test"] >= 2
        assert {t.level for t in mine} >= {2, 3}
        assert all(t.name.startswith(f"{category}.") for t in mine)
    assert all(len(set(t.phrases)) >= 2 for t in TEMPLATES)
    assert all(t.ordered == (t.rank is not None and t.rank.n != 1) for t in TEMPLATES)
    assert {t.pool for t in TEMPLATES} <= POOLS.keys()


@pytest.mark.parametrize("name", BY_NAME)
def test_a_template_gives_questions_that_its_sql_answers(database: sqlite3.Connection, name: str) -> None:
    template = BY_NAME[name]
    found = _some(database, template, 3)
    assert found
    for question in found:
        cursor = database.execute(question.sql)
        assert tuple(column[0].lower() for column in cursor.description) == template.columns
        assert cursor.fetchall() == question.rows
        assert all(len(row) == len(template.columns) for row in question.rows)
        assert question.rows not in ([], [(0,)], [(1,)])
        assert any(cell is not None for row in question.rows for cell in row)
        for phrase in range(len(template.phrases)):
            text = template.question(question.slots, phrase)
            assert "{" not in text
            named = [
                str(v) for k, v in question.slots.items() if k in ("patient", "lab", "drug", "diagnosis", "period")
            ]
            assert all(value in text for value in named), text


@pytest.mark.parametrize("name", ANSWERS)
def test_pandas_finds_the_same_answer(database: sqlite3.Connection, tables: Frames, name: str) -> None:
    template = BY_NAME[name]
    for question in _some(database, template, 4):
        spec = RowsSpec(width=len(template.columns), ordered=template.ordered)
        truth = Truth(task_id="x", value=[list(row) for row in question.rows], oracle="", canary="")
        given: Any = json.loads(json.dumps(ANSWERS[name](tables, question.slots)))
        grade = grade_answer(spec, truth, Submission(value=given), grader="rows", version="1")
        assert grade.correct, (question.text, question.rows, given)


def test_questions_are_the_same_again_and_never_repeat(database: sqlite3.Connection, questions: list[Question]) -> None:
    pools = Pools(database)
    again = [q for c in CATEGORIES for q in draw_questions(database, SEED, c, 40, pools, ImportReport())]
    assert again == questions
    assert len({q.text for q in questions}) == len(questions)
    assert len({q.sql for q in questions}) == len(questions)


def test_splits_share_no_template_and_no_patient(questions: list[Question]) -> None:
    sides: dict[str, set[str | int]] = {"train": set(), "test": set()}
    for question in questions:
        sides[question.template.split].add(question.template.name)
        if names_patient(question.template.pool):
            number = question.slots["patient"]
            sides[question.template.split].add(number)
            assert is_test_patient(SEED, number) == (question.template.split == "test")
            assert str(number) in question.text
    assert sides["train"]
    assert sides["test"]
    assert not sides["train"] & sides["test"]


def test_a_question_that_names_no_patient_tells_no_number_of_one(questions: list[Question], tables: Frames) -> None:
    numbers = {str(n) for n in tables["patients"]["subject_id"]} | {str(n) for n in tables["admissions"]["hadm_id"]}
    for question in questions:
        if not names_patient(question.template.pool):
            assert not numbers & set(re.findall(r"\d{5,}", question.text))


def test_a_third_of_the_patients_is_for_test() -> None:
    share = sum(is_test_patient(0, number) for number in range(10_000, 13_000)) / 3_000
    assert 0.28 < share < 0.39


@pytest.mark.parametrize(("per_category", "train", "test"), [(1, 1, 0), (2, 1, 1), (20, 14, 6), (100, 70, 30)])
def test_share_out(per_category: int, train: int, test: int) -> None:
    assert share_out(per_category) == {"train": train, "test": test}


def test_every_category_has_its_share(questions: list[Question]) -> None:
    counts = Counter((q.template.category, q.template.split) for q in questions)
    for category in CATEGORIES:
        assert counts[(category, "train")] == 28
        assert counts[(category, "test")] >= 8


def test_a_tie_voids_the_question() -> None:
    def asked(*values: tuple[str, int], n: int = 1) -> tuple[list[Question], ImportReport]:
        with closing(sqlite3.connect(":memory:")) as database:
            database.execute("CREATE TABLE patients (subject_id, name, k)")
            database.executemany("INSERT INTO patients VALUES (?, ?, ?)", [(i, *v) for i, v in enumerate(values)])
            template = Template(
                "cost.x", "cost", 1, "train", ("Which?",), "hospital", "SELECT name, k FROM patients", ("name",),
                Rank("k", n), True,
            )  # fmt: skip
            report = ImportReport()
            return list(fill(database, 0, template, Pools(database), report)), report

    found, _ = asked(("a", 3), ("b", 2), ("c", 2))
    assert [q.rows for q in found] == [[("a",)]]
    found, report = asked(("a", 3), ("b", 3), ("c", 2))
    assert found == []
    assert report.left_out == {"a tie in the ranking": 1}
    found, report = asked(("a", 3), ("a", 3), ("c", 2))
    assert found == []
    found, report = asked(("a", 4), ("b", 3), ("c", 3), n=2)
    assert found == []


def test_questions_are_not_those_of_ehrsql(shared_data: Path, questions: list[Question]) -> None:
    source = shared_data / "mimic_iii" / "ehrsql" / "valid.json"
    if not source.is_file():
        pytest.skip("EHRSQL's questions are not here")

    def plain(text: str) -> str:
        return " ".join(re.findall(r"[a-z]+", text.lower()))

    published = {plain(row[key]) for row in json.loads(source.read_text()) for key in ("question", "template")}
    assert not published & {plain(q.text) for q in questions}
