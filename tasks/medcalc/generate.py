"""Making tasks: a seeded synthetic population, drawn values, a note, and the truth from our own calculators.

The same seed gives the same tasks (canaries apart). A patient belongs to one split, and so do the phrasings of notes.
About one task in twenty lacks a value that its calculation needs; there the right answer is to abstain, and every
task allows abstention, so that the form of the answer gives nothing away.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from tasks.errors import DataError
from tasks.family import GenerateOptions
from tasks.medcalc.calculators import CALCULATORS
from tasks.medcalc.catalogue import Calculator
from tasks.medcalc.inputs import Age, Drawn, Fact, Flag, Input, Person, Quantity
from tasks.medcalc.notes import RULES, write_note
from tasks.medcalc.source import oracle
from tasks.task import Limit, Split

TOLERANCE = 0.05
MISSING_SHARE = 0.05
_TRIES = 400
_CONVERSION_ERROR = 0.006
"""Factors between units differ between laboratories and books by up to this share."""


@dataclass(frozen=True)
class Made:
    """One generated task before it gets its names. `missing` is the parameter that the note lacks."""

    calculator: Calculator
    index: int
    split: Split
    person: Person
    problem: str
    value: Any
    limit: Limit | None
    oracle: str
    missing: str | None


def generate(options: GenerateOptions) -> Iterator[Made]:
    """`per_category` tasks of each calculator. Raises DataError for options below 1."""
    if options.per_category < 1 or options.patients < 1:
        raise DataError("At least one patient and one task of each category are needed.")
    people = population(options.seed, options.patients)
    total = len(CALCULATORS) * options.per_category
    missing = set(Random(f"{options.seed}/missing").sample(range(total), round(MISSING_SHARE * total)))
    for position, calculator in enumerate(CALCULATORS.values()):
        for index in range(options.per_category):
            rng = Random(f"{options.seed}/{calculator.number}/{index}")
            split: Split = "test" if index % 5 == 1 else "train"
            person = _someone(rng, people, split, calculator)
            yield _make(rng, calculator, index, split, person, position * options.per_category + index in missing)


def population(seed: int, size: int) -> dict[Split, list[Person]]:
    """Adults of 30 to 79 years; one in five is kept for testing."""
    people: dict[Split, list[Person]] = {"train": [], "test": []}
    for number in range(size):
        people["test" if number % 5 == 1 else "train"].append(_person(Random(f"{seed}/person/{number}"), number))
    return people


def _person(rng: Random, number: int) -> Person:
    return Person(number, rng.choice(("female", "male")), rng.randint(30, 79), rng.choice("ABCDEFGHJKLMNPRSTVWZ"))


def _someone(rng: Random, people: dict[Split, list[Person]], split: Split, calculator: Calculator) -> Person:
    fitting = [person for person in people[split] if calculator.fits(person)]
    if not fitting:
        number = sum(map(len, people.values()))
        fitting = [person for person in (_person(rng, number) for _ in range(_TRIES)) if calculator.fits(person)][:1]
        people[split] += fitting
    return rng.choice(fitting)


def _make(rng: Random, calculator: Calculator, index: int, split: Split, person: Person, missing: bool) -> Made:
    for attempt in range(_TRIES):
        # The last tries keep to the calculator's own units, where no rounding of a factor can change a score.
        drawn = [(one, one.draw(rng, person, other_units=attempt < _TRIES // 2)) for one in calculator.inputs]
        value = _compute(calculator, drawn)
        if value is None or not _steady(calculator, drawn, value):
            continue
        lacking = _lacking(rng, calculator, drawn, person) if missing else None
        if missing and lacking is None:
            continue
        facts: list[Fact] = []
        for one, found in drawn:
            facts += found.withheld if one is lacking else found.facts
        # Every note tells the age unless it is what the note lacks.
        if not any(isinstance(one, Age) for one, _ in drawn):
            facts.append(Fact("person", "age"))
        note = write_note(rng, person, split, facts, _earlier(rng, drawn, person))
        code = {name: text for _, found in drawn for name, text in found.code.items()}
        values = {name: one for _, found in drawn for name, one in found.values.items()}
        return Made(
            calculator,
            index,
            split,
            person,
            f"{note}\n\n{calculator.question.format(**values)}\n\n{RULES}",
            None if lacking else value,
            None if lacking or calculator.kind != "number" else limits(value),
            "answer = None\n" if lacking else oracle(calculator, code),
            _name(lacking) if lacking else None,
        )
    raise RuntimeError(f"no values were found for calculator {calculator.number}")


def limits(value: float) -> Limit:
    """5% on either side, as in the benchmark."""
    low, high = sorted((value * (1 - TOLERANCE), value * (1 + TOLERANCE)))
    return Limit(lower=low, upper=high)


def _compute(calculator: Calculator, drawn: list[tuple[Input, Drawn]], **changed: Any) -> Any:
    """The answer, or None where there is none or it is too near nothing."""
    values = {name: value for _, found in drawn for name, value in found.values.items()} | changed
    try:
        value = calculator.compute(values)
    except (ValueError, ZeroDivisionError):
        return None
    if isinstance(value, float) and (not math.isfinite(value) or abs(value) < calculator.least):
        return None
    return value


def _steady(calculator: Calculator, drawn: list[tuple[Input, Drawn]], value: Any) -> bool:
    """Whether the answer stays right when the factor of a converted unit is taken a little differently."""
    for _, found in drawn:
        if found.converted:
            for name, number in found.values.items():
                for factor in (1 - _CONVERSION_ERROR, 1 + _CONVERSION_ERROR):
                    other = _compute(calculator, drawn, **{name: number * factor})
                    if not _agrees(value, other, TOLERANCE / 2):
                        return False
    return True


def _agrees(value: Any, other: Any, tolerance: float) -> bool:
    if isinstance(value, float) and isinstance(other, float):
        return abs(value - other) <= tolerance * abs(value)
    return bool(value == other)


def _lacking(rng: Random, calculator: Calculator, drawn: list[tuple[Input, Drawn]], person: Person) -> Input | None:
    """An input without which the answer is truly open: other values of it give other answers."""
    essential = [(one, found) for one, found in drawn if one.essential and found.values]
    if not essential:
        essential = [(one, found) for one, found in drawn if found.withheld]
    rng.shuffle(essential)
    value = _compute(calculator, drawn)
    for one, found in essential:
        others: list[dict[str, Any]]
        if isinstance(one, Age):
            others = [{one.name: age} for age in (30, 42, 52, 62, 72, 79)]
        elif isinstance(one, Flag):
            others = [{name: not old for name, old in found.values.items()}]
        else:
            others = [one.draw(rng, person, other_units=False).values for _ in range(12)]
        if any(not _agrees(value, _compute(calculator, drawn, **other), 2 * TOLERANCE) for other in others):
            return one
    return None


def _name(one: Input) -> str:
    return str(getattr(one, "name", "dose"))


def _earlier(rng: Random, drawn: list[tuple[Input, Drawn]], person: Person) -> Fact | None:
    """An older value of one laboratory quantity, in half of the notes that have one."""
    labs = [one for one, _ in drawn if isinstance(one, Quantity) and one.section == "lab" and not one.optional]
    if not labs or rng.random() < 0.5:
        return None
    facts = rng.choice(labs).draw(rng, person, other_units=False).facts
    return facts[0] if facts else None
