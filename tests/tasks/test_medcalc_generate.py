"""Generated calculator tasks: their oracles, their notes, abstention, splits, and the cheats."""

import contextlib
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.answers import grade_answer
from tasks.data import DataRoot
from tasks.errors import AnswerError, DataError
from tasks.families import get_family
from tasks.family import GenerateOptions
from tasks.medcalc.calculators import BY_NAME, CALCULATORS
from tasks.medcalc.generate import Made, generate
from tasks.medcalc.inputs import Age, Choice, Flag, Quantity
from tasks.medcalc.source import definitions
from tasks.registry import Registry
from tasks.task import Submission, Task, Truth

OPTIONS = GenerateOptions(seed=3, patients=60, per_category=10)


def silent(what: str, done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def made() -> list[Made]:
    return list(generate(OPTIONS))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Task, Truth]]:
    root, family = DataRoot(tmp_path_factory.mktemp("root")), get_family("medcalcbench")
    writer = root.writer(
        "made", family=family.name, title="t", source="s", version="1", licence="Apache-2.0", restricted=False, seed=3
    )
    with writer as dataset:
        report = family.generate(dataset, OPTIONS, silent)
    registry = Registry(root)
    found = [(registry.get(one), registry.truth(one)) for one in registry.ids()]
    assert report.tasks == len(found)
    return found


def correct(task: Task, truth: Truth, value: Any) -> bool:
    return grade_answer(task.answer, truth, Submission(value=value), grader="g", version="1").correct


def run(source: str) -> Any:
    names: dict[str, Any] = {}
    exec(source, names)
    return names["answer"]


def note_of(one: Made) -> str:
    return one.problem.split("\n\n")[0]


def test_there_are_55_calculators_and_each_gets_its_tasks(pairs: list[tuple[Task, Truth]]) -> None:
    assert len(CALCULATORS) == len(BY_NAME) == 55
    assert Counter(task.category for task, _ in pairs) == dict.fromkeys(BY_NAME, 10)
    assert set(get_family("medcalcbench").categories) == set(BY_NAME)


def test_every_oracle_reaches_its_truth_without_this_project(pairs: list[tuple[Task, Truth]]) -> None:
    for task, truth in pairs:
        assert "tasks" not in truth.oracle
        answer = run(truth.oracle)
        assert correct(task, truth, answer), task.id
        assert answer == truth.value
        if task.answer.kind == "number" and truth.value is not None:
            assert truth.limit is not None
            assert (truth.limit.lower, truth.limit.upper) == pytest.approx(
                sorted((0.95 * truth.value, 1.05 * truth.value))
            )
            assert correct(task, truth, f"{truth.value:.4g}"), "four digits suffice, also as text"


def test_a_note_states_every_value_that_its_oracle_uses(made: list[Made]) -> None:
    for one in made:
        if one.missing:
            continue
        numbers = set(re.findall(r"\d+(?:\.\d+)?", note_of(one)))
        for name, shown in re.findall(r"^(\w+) = \(?(-?\d+(?:\.\d+)?)\b", one.oracle, re.MULTILINE):
            if not isinstance(_input(one, name), Choice):
                assert shown in numbers, (one.calculator.name, name, shown)
        for item in one.calculator.inputs:
            if isinstance(item, Flag) and item.chance:
                assert item.finding in note_of(one) or (item.contrary and item.contrary in note_of(one))
            if isinstance(item, Choice):
                assert sum(sentence in note_of(one) for sentence in item.says.values()) == 1


def test_the_anion_gap_can_be_read_from_the_note_alone(made: list[Made]) -> None:
    for one in made:
        if one.calculator.number == 39 and not one.missing:
            today = re.sub(r"[^.]*(?:year ago|old letter|Two years|previous clinic)[^.]*\.", "", note_of(one))
            sodium, chloride, bicarbonate = (
                int(re.findall(rf"\b{name}:? (\d+)", today)[0]) for name in ("sodium", "chloride", "bicarbonate")
            )
            assert one.value == sodium - chloride - bicarbonate


def test_one_in_twenty_lacks_a_needed_value(made: list[Made]) -> None:
    lacking = [one for one in made if one.missing]
    assert len(lacking) == round(0.05 * len(made))
    for one in lacking:
        assert one.value is None
        assert run(one.oracle) is None
        item = _input(one, str(one.missing))
        if isinstance(item, Age):
            assert not re.search(r"year-old|aged", note_of(one))
        elif isinstance(item, Quantity):
            older = re.findall(r"[^.]*(?:year ago|old letter|Two years|previous clinic).*", note_of(one))
            assert note_of(one).count(item.label) <= sum(text.count(item.label) for text in older)
        elif isinstance(item, Choice):
            assert item.default is None, "a state that is taken as absent is never the missing one"
            assert not any(sentence in note_of(one) for sentence in item.says.values())


def test_abstention_is_allowed_everywhere_and_right_only_there(pairs: list[tuple[Task, Truth]]) -> None:
    for task, truth in pairs:
        assert task.answer.abstain
        assert correct(task, truth, None) == (truth.value is None)
    assert sum(truth.value is None for _, truth in pairs) > 0


def test_splits_share_no_note_and_no_patient(pairs: list[tuple[Task, Truth]]) -> None:
    patients: dict[str, set[str]] = {"train": set(), "test": set()}
    for task, _ in pairs:
        patients[task.split].add(task.cluster)
    assert not patients["train"] & patients["test"]
    assert len({task.problem for task, _ in pairs}) == len(pairs)
    per_category = Counter((task.category, task.split) for task, _ in pairs)
    assert all(per_category[name, "test"] == 2 and per_category[name, "train"] == 8 for name in BY_NAME)


def test_the_seed_decides_all(made: list[Made]) -> None:
    assert list(generate(OPTIONS)) == made
    other = list(generate(replace(OPTIONS, seed=4)))
    assert sum(left.problem == right.problem for left, right in zip(made, other, strict=True)) == 0


def test_one_patient_suffices_and_none_is_an_error() -> None:
    assert len(list(generate(GenerateOptions(patients=1, per_category=2)))) == 110
    with pytest.raises(DataError, match="At least one"):
        list(generate(GenerateOptions(per_category=0)))


def test_no_truth_is_in_the_public_part(pairs: list[tuple[Task, Truth]]) -> None:
    for task, truth in pairs:
        assert truth.canary not in task.model_dump_json()
        assert truth.oracle not in task.problem
        if isinstance(truth.value, float) and len(repr(truth.value)) > 8:
            assert repr(truth.value) not in task.problem


def test_cheats_score_nothing(pairs: list[tuple[Task, Truth]]) -> None:
    family, names = get_family("medcalcbench"), Counter[str]()
    for task, truth in pairs:
        for attempt in family.cheats(task, truth):
            names[attempt.name] += 1
            if attempt.submit == "value":
                with contextlib.suppress(AnswerError):
                    assert not correct(task, truth, attempt.value), (task.id, attempt.name)
    assert names["any number"] == names["the right one in a sentence"] == names["nothing"] == len(pairs)
    assert names["null"] == sum(truth.value is not None for _, truth in pairs)
    assert names["zero"] < len(pairs), "where zero is right, answering it is no cheat"


def test_what_an_oracle_leaves_as_text_is_no_answer(pairs: list[tuple[Task, Truth]]) -> None:
    for task, truth in pairs[::11]:
        everything = "\n".join(map(str, range(1000)))
        with pytest.raises(AnswerError):
            correct(task, truth, everything)


def test_a_calculator_that_cannot_be_written_out_is_refused(tmp_path: Path) -> None:
    def uses_a_module() -> str:
        return Path.cwd().name

    with pytest.raises(TypeError, match="Path"):
        definitions(uses_a_module)


def test_the_prompt_tells_nothing_of_any_answer() -> None:
    prompt = get_family("medcalcbench").system_prompt
    assert len(prompt) > 400
    assert not re.search(r"\d", prompt)


def _input(one: Made, name: str) -> Any:
    return next((item for item in one.calculator.inputs if getattr(item, "name", None) == name), None)
