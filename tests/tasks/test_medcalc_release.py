"""Reading MedCalc-Bench: the real files where they are beside the checkout, and hand-made ones for each rule."""

import contextlib
import csv
import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.answers import grade_answer
from tasks.data import DataRoot
from tasks.errors import AnswerError, DataError
from tasks.families import get_family
from tasks.family import ImportOptions, ImportReport
from tasks.medcalc.calculators import CALCULATORS
from tasks.medcalc.release import INTEGERS, kind_of, read_duration, read_entities, read_label, rows
from tasks.registry import Registry
from tasks.task import DateSpec, DurationSpec, IntegerSpec, NumberSpec, Submission, Task, Truth

COLUMNS = [
    "Row Number",
    "Calculator ID",
    "Calculator Name",
    "Category",
    "Output Type",
    "Note ID",
    "Note Type",
    "Patient Note",
    "Question",
    "Relevant Entities",
    "Ground Truth Answer",
    "Lower Limit",
    "Upper Limit",
    "Ground Truth Explanation",
]


def silent(what: str, done: int, total: int) -> None:
    pass


def made_row(
    number: object, calculator: int, entities: object, answer: str, low: str = "", high: str = ""
) -> list[Any]:
    note = f"Note number {number}."
    name = CALCULATORS[calculator].name if calculator in CALCULATORS else "?"
    return [
        number,
        calculator,
        name,
        "",
        "",
        f"pmc-{number}",
        "",
        note,
        "How much?",
        entities,
        answer,
        low,
        high,
        "why",
    ]


def write_csv(path: Path, lines: list[list[Any]], columns: list[str] = COLUMNS) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *lines])
    return path


def imported(
    tmp_path: Path, source: Path, options: ImportOptions | None = None
) -> tuple[ImportReport, list[tuple[Task, Truth]]]:
    root, family = DataRoot(tmp_path / "root"), get_family("medcalcbench")
    writer = root.writer(
        "calc", family=family.name, title="t", source="s", version="1", licence=family.licence, restricted=False
    )
    with writer as dataset:
        report = family.import_release(source, dataset, options or ImportOptions(), silent)
    registry = Registry(root)
    return report, [(registry.get(one), registry.truth(one)) for one in registry.ids()]


def correct(task: Task, truth: Truth, value: Any) -> bool:
    return grade_answer(task.answer, truth, Submission(value=value), grader="g", version="1").correct


def run(source: str) -> Any:
    names: dict[str, Any] = {}
    exec(source, names)
    return names["answer"]


@pytest.fixture(scope="module")
def released(shared_data: Path) -> Path:
    return shared_data / "medcalcbench"


@pytest.mark.parametrize("name", ["upstream/test_data_sample.csv", "medagentgym/test_tasks_sample.jsonl"])
def test_every_row_of_the_real_release_becomes_a_task(released: Path, tmp_path: Path, name: str) -> None:
    path = released / name
    if name.endswith("csv"):
        with path.open(newline="", encoding="utf-8") as file:
            expected = sum(1 for _ in csv.reader(file)) - 1
    else:
        expected = sum(1 for line in path.read_text("utf-8").split("\n") if line.strip())
    report, pairs = imported(tmp_path, path)
    assert (report.tasks, report.left_out, len(pairs)) == (expected, {}, expected)
    assert {task.split for task, _ in pairs} == {"test"}
    assert {task.category for task, _ in pairs} == set(get_family("medcalcbench").categories)
    for task, truth in pairs:
        assert correct(task, truth, run(truth.oracle)), task.id
        assert not task.answer.abstain
        spec: type = {13: DateSpec, 68: DateSpec, 69: DurationSpec}.get(truth.extra["calculator"], NumberSpec)
        assert isinstance(task.answer, IntegerSpec if truth.extra["calculator"] in INTEGERS else spec)
    computed = Counter(truth.extra["oracle"] for _, truth in pairs)
    assert computed["calculator"] >= 0.75 * expected


def test_entities_and_explanations_stay_out_of_the_public_part(released: Path, tmp_path: Path) -> None:
    _, pairs = imported(tmp_path, released / "upstream/test_data_sample.csv")
    for task, truth in pairs:
        assert truth.extra["explanation"]
        assert truth.extra["entities"]
        public = json.dumps(task.model_dump(mode="json"), ensure_ascii=False)
        assert json.dumps(truth.extra["explanation"][:80], ensure_ascii=False).strip('"') not in public
        assert str(truth.extra["entities"]) not in public
        assert truth.oracle not in public


def test_the_exact_label_is_accepted_in_each_form(released: Path, tmp_path: Path) -> None:
    """The reference rejects negatives, dates and (weeks, days)."""
    _, pairs = imported(tmp_path, released / "upstream/test_data_sample.csv")
    seen = Counter[str]()
    for task, truth in pairs:
        seen[task.answer.kind] += 1
        label = truth.extra["label"]
        if task.answer.kind == "date":
            assert correct(task, truth, label)
            assert correct(task, truth, truth.value)
        elif task.answer.kind == "duration":
            assert correct(task, truth, read_duration(label))
            assert correct(task, truth, {"weeks": truth.value[0], "days": truth.value[1]})
        else:
            assert correct(task, truth, label), "a number may come as text"
            assert correct(task, truth, float(label))
            seen["negative"] += float(label) < 0
    assert min(seen[kind] for kind in ("date", "duration", "number", "integer", "negative")) > 0


def test_most_calculators_meet_the_released_labels(released: Path) -> None:
    """Where ours differs, the release is known to be wrong (GCS above 15, APACHE II, Caprini, SOFA, due dates)."""
    shares = {}
    tally: dict[int, list[bool]] = {}
    for row in rows(released / "upstream/test_data_sample.csv", None, ImportReport()):
        assert row.entities is not None
        try:
            answer = row.calculator.compute(row.calculator.read(row.entities)[0])
        except DataError:
            answer = None
        limit = row.label.limit
        met = (
            answer == row.label.value if limit is None else answer is not None and limit.lower <= answer <= limit.upper
        )
        tally.setdefault(row.calculator.number, []).append(met)
    shares = {number: sum(found) / len(found) for number, found in tally.items()}
    assert len(shares) == 55
    assert sum(share >= 0.9 for share in shares.values()) >= 42
    assert {number for number, share in shares.items() if share < 0.5} <= {13, 15, 17, 21, 23, 28, 32, 36, 43, 46, 68}


def test_corrected_labels_where_the_release_is_wrong(released: Path, tmp_path: Path) -> None:
    overlay = released / "upstream/medcalc_v1_corrected_sample.csv"
    options = ImportOptions(labels="corrected", overlay=overlay)
    report, pairs = imported(tmp_path, released / "upstream/test_data_sample.csv", options)
    with overlay.open(newline="", encoding="utf-8") as file:
        wanted = {row["Unique ID"]: row for row in csv.DictReader(file)}
    assert report.tasks == len(wanted) == len(pairs)
    assert set(report.left_out) == {"no corrected label"}
    for task, truth in pairs:
        row = wanted[str(truth.extra["row"])]
        assert task.answer.abstain, "on every task, so that the form does not tell which cannot be computed"
        assert task.problem.endswith(row["Question"].strip())
        assert (truth.value is None) == (row["Ground Truth Answer"] == "N/A")
        assert correct(task, truth, None) == (truth.value is None)
        assert correct(task, truth, run(truth.oracle))
    days = [(task, truth) for task, truth in pairs if truth.extra["calculator"] == 69]
    assert days
    assert all(task.answer == IntegerSpec(unit="days", abstain=True) for task, _ in days)
    assert all(truth.extra["oracle"] == "calculator" for _, truth in days)
    dates = [truth for _, truth in pairs if truth.extra["calculator"] == 13]
    assert sum(truth.extra["oracle"] == "calculator" for truth in dates) > len(dates) / 2


def test_the_verified_release_is_read_too(released: Path, tmp_path: Path) -> None:
    report, pairs = imported(tmp_path, released / "upstream/verified_one_shot_data.csv")
    assert (report.tasks, report.left_out) == (55, {})
    assert {task.split for task, _ in pairs} == {"train"}
    assert sum(truth.extra["oracle"] == "calculator" for _, truth in pairs) >= 50


def test_corrected_labels_need_their_file(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "test.csv", [made_row(1, 5, "{}", "90", "85.5", "94.5")])
    with pytest.raises(DataError, match="overlay"):
        imported(tmp_path, source, ImportOptions(labels="corrected"))
    with pytest.raises(DataError, match="only used with"):
        imported(tmp_path, source, ImportOptions(overlay=source))


def test_an_overlay_replaces_the_label_of_its_own_note_only(tmp_path: Path) -> None:
    lines = [made_row(number, 5, "{}", "90", "85.5", "94.5") for number in (1, 2, 3, 4)]
    source = write_csv(tmp_path / "test.csv", lines)
    columns = ["Unique ID", "Question", "Patient Note", "Ground Truth Answer", "Lower Limit", "Upper Limit"]
    corrections = [
        [1, "How much?", "Note number 1.", "80", "76", "84"],
        [2, "How much?", "Note number 2.", "N/A", "N/A", "N/A"],
        [3, "How much?", "A note of another release.", "80", "76", "84"],
        [9, "How much?", "Note number 9.", "80", "76", "84"],
    ]
    overlay = write_csv(tmp_path / "corrected.csv", corrections, columns)
    report, pairs = imported(tmp_path, source, ImportOptions(labels="corrected", overlay=overlay))
    assert {truth.extra["row"]: truth.value for _, truth in pairs} == {1: 80.0, 2: None}
    assert report.left_out == {
        "no corrected label": 1,
        "the corrected label is of another note": 1,
        "a corrected label without its row in the release": 2,
    }
    assert all(correct(task, truth, run(truth.oracle)) for task, truth in pairs)
    write_csv(overlay, [corrections[0], corrections[0]], columns)
    with pytest.raises(DataError, match="twice"):
        imported(tmp_path, source, ImportOptions(labels="corrected", overlay=overlay))


def test_rows_that_cannot_be_used_are_left_out_with_a_reason(tmp_path: Path) -> None:
    good = made_row(1, 5, "{'Systolic Blood Pressure': [120, 'mm Hg']}", "90", "85.5", "94.5")
    lines = [
        good,
        made_row("x", 5, "{}", "90", "85", "95"),
        made_row(3, 99, "{}", "90", "85", "95"),
        made_row(4, 5, "{}", "about 90", "85", "95"),
        made_row(5, 5, "{}", "90", "95", "99"),
        made_row(6, 13, "{}", "31/12/2020"),
        made_row(7, 69, "{}", "4 weeks"),
        made_row(8, 4, "{}", "2.5"),
        made_row(9, 5, "{}", "nan", "85", "95"),
        made_row(10, 5, "__import__('os').system('true')", "-0.8", "-0.76", "-0.84"),
    ]
    report, pairs = imported(tmp_path, write_csv(tmp_path / "test.csv", lines))
    assert report.tasks == 2
    assert sum(report.left_out.values()) == 8
    assert report.left_out["there is no calculator 99"] == 1
    assert report.left_out["the label lies outside its own limits"] == 1
    by_row = {truth.extra["row"]: (task, truth) for task, truth in pairs}
    assert by_row[1][1].extra["oracle"] == "label", "the diastolic pressure is not among its entities"
    task, truth = by_row[10]
    assert truth.extra["entities"] is None
    assert correct(task, truth, -0.8), "limits of a negative label are given swapped"
    assert not correct(task, truth, 0.8)


@pytest.mark.parametrize(
    "text",
    ["", "Row Number\n1\n", ",".join(COLUMNS) + "\n1,2\n", ",".join(COLUMNS) + '\n1,5,"open\n', "\xff"],
)
def test_a_broken_file_is_an_error_and_registers_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "test.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError):
        imported(tmp_path, path)
    assert DataRoot(tmp_path / "root").datasets() == []


def test_a_folder_gives_both_splits_also_from_a_zip(tmp_path: Path) -> None:
    folder = tmp_path / "release"
    folder.mkdir()
    entities = "{'Systolic Blood Pressure': [120, 'mm Hg'], 'Diastolic Blood Pressure': [75.0, 'mm hg']}"
    write_csv(folder / "test_data.csv", [made_row(1, 5, entities, "90", "85.5", "94.5")])
    train = write_csv(tmp_path / "train_data.csv", [made_row(1, 5, entities, "90", "85.5", "94.5")])
    with zipfile.ZipFile(folder / "train_data.csv.zip", "w") as archive:
        archive.write(train, "train_data.csv")
    write_csv(folder / "latest.csv", [made_row(1, 5, entities, "90", "85.5", "94.5")])
    report, pairs = imported(tmp_path, folder)
    assert report.tasks == 2
    assert {task.id: task.split for task, _ in pairs} == {"calc/test-00001": "test", "calc/train-00001": "train"}
    assert len({task.cluster for task, _ in pairs}) == 1, "both are on one note"
    assert all(truth.extra["oracle"] == "calculator" for _, truth in pairs)


UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
PLAIN = st.one_of(st.booleans(), st.integers(-(10**6), 10**6), st.floats(-1e6, 1e6), st.text(max_size=12))
ENTITIES = st.dictionaries(st.text(min_size=1, max_size=20), st.one_of(PLAIN, st.lists(PLAIN, max_size=4)), max_size=6)


@UNHURRIED
@given(ENTITIES)
def test_entities_are_read_back_as_python_wrote_them(entities: dict[str, Any]) -> None:
    try:
        assert read_entities(repr(entities)) == entities
    except DataError:
        assert any("\ud800" <= letter <= "\udfff" for letter in str(entities))


@UNHURRIED
@given(st.text(max_size=200))
def test_any_text_is_entities_or_a_data_error(text: str) -> None:
    with contextlib.suppress(DataError):
        assert isinstance(read_entities(text), dict)


@pytest.mark.parametrize(
    "text", ["open('x')", "{'a': 1e999}", "[1]", "{1: 2}", "(" * 500, "{'a': {1, 2}}", "{'a': 1j}"]
)
def test_entities_that_are_not_plain_literals(text: str) -> None:
    with pytest.raises(DataError):
        read_entities(text)


@UNHURRIED
@given(st.sampled_from(sorted(CALCULATORS)), ENTITIES, st.data())
def test_no_entities_break_a_calculator(number: int, entities: dict[str, Any], data: st.DataObject) -> None:
    known = st.sampled_from(sorted(_names(number)) or ["age"])
    value = st.one_of(
        PLAIN,
        st.tuples(PLAIN, st.sampled_from(["mg/dL", "years", "kg", "%", "", "mm hg"])).map(list),
        st.just(["a", 1, "mg"]),
    )
    calculator = CALCULATORS[number]
    try:
        values, code = calculator.read(entities | data.draw(st.dictionaries(known, value, max_size=8)))
    except DataError:
        return
    assert set(values) == set(code)


def _names(number: int) -> set[str]:
    found = set()
    for one in CALCULATORS[number].inputs:
        found |= {str(getattr(one, "entity", "") or ""), *getattr(one, "entities", ())}
    return found - {""} | {"age", "sex", "input steroid", "target steroid", "Morphine Dose", "Morphine Dose Per Day"}


@UNHURRIED
@given(st.integers(0, 999), st.integers(0, 999))
def test_durations(weeks: int, days: int) -> None:
    for text in (f"('{weeks} weeks', '{days} days')", f"({weeks} week, {days} day)", f"{weeks} weeks, {days} days"):
        assert read_duration(text) == [weeks, days]


@UNHURRIED
@given(st.sampled_from(sorted(CALCULATORS)), st.text(max_size=20), st.text(max_size=8), st.text(max_size=8))
def test_any_label_is_read_or_refused(number: int, answer: str, low: str, high: str) -> None:
    try:
        label = read_label(number, answer, low, high)
    except DataError:
        return
    assert label.kind == kind_of(number)


def test_a_wrong_form_is_refused_without_the_truth(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "test.csv", [made_row(1, 69, "{}", "('39 weeks', '2 days')")])
    _, [(task, truth)] = imported(tmp_path, source)
    assert correct(task, truth, [39, 2])
    assert not correct(task, truth, [38, 9]), "whole weeks first"
    with pytest.raises(AnswerError) as error:
        correct(task, truth, "39 weeks, 2 days")
    assert "39" not in str(error.value)
