"""What a calculator asks for. An input knows how the published entities hold it, how to draw it, how notes say it.

Published entities are a dict from `canonical` names to a value: `[12.0, 'mg/dL']`, a bare number, True or False, or a
text. What cannot be read from them raises `DataError`; the importer then keeps the label as it is.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from random import Random
from typing import Any, Literal, Protocol

from tasks.errors import DataError
from tasks.medcalc.dosage import OPIOID_FACTOR, STEROID_MG
from tasks.medcalc.units import CONVERSIONS, unit_name

Section = Literal["person", "vital", "lab", "yes", "no", "unknown", "sentence"]
Entities = Mapping[str, Any]


_OTHER_NAMES = {
    "pao2": "partial pressure of oxygen (pao2) for apache ii",
    "partial pressure of oxygen": "partial pressure of oxygen (pao2) for apache ii",
    "hypertension": "hypertension history",
    "diabetes mellitus": "diabetes mellitus criteria for cci rule",
    "renal disease history": "renal disease",
    "liver disease history": "liver disease severity",
    "chronic pulmonary disease": "chronic obstructive pulmonary disease",
    "continuous positive airway pressure": "continous positive airway pressure",
}


def canonical(entity: str) -> str:
    """The name of an entity without regard to letter case, blanks and small digits, and to the names of releases."""
    plain = " ".join(entity.replace("₂", "2").replace("\u00a0", " ").lower().split())
    return _OTHER_NAMES.get(plain, plain)


@dataclass(frozen=True)
class Person:
    """A synthetic patient. `age` in years, 30 to 79."""

    number: int
    sex: Literal["male", "female"]
    age: int
    initial: str


@dataclass(frozen=True)
class Fact:
    """One thing a note says. `reading` is the value with its unit where there is one."""

    section: Section
    label: str
    reading: str = ""


@dataclass(frozen=True)
class Drawn:
    """A drawn input: `values` by parameter, the same as Python expressions, and the facts that a note states.

    `converted` tells that a note shows the value in another unit than the calculator's. `withheld` is what a note
    states in place of `facts` where the value is to be missing.
    """

    values: dict[str, Any] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)
    facts: tuple[Fact, ...] = ()
    converted: bool = False
    withheld: tuple[Fact, ...] = ()


class Input(Protocol):
    """`essential`: without it the calculator has no answer, so a note that lacks it is a case for abstention."""

    @property
    def essential(self) -> bool: ...

    def read(self, entities: Entities) -> tuple[dict[str, Any], dict[str, str]]: ...

    def draw(self, rng: Random, person: Person, other_units: bool = True) -> Drawn: ...


@dataclass(frozen=True)
class Quantity:
    """A measured number. `others` are further units in which a note may give it, each with its decimals."""

    name: str
    label: str
    kind: str
    low: float
    high: float
    digits: int = 0
    entity: str = ""
    others: tuple[tuple[str, int], ...] = ()
    section: Section = "lab"
    optional: bool = False
    chance: float = 1.0

    @property
    def essential(self) -> bool:
        return not self.optional

    @property
    def unit(self) -> str:
        return next(iter(CONVERSIONS[self.kind]))

    def read(self, entities: Entities) -> tuple[dict[str, Any], dict[str, str]]:
        if (value := entities.get(canonical(self.entity))) is None:
            if self.optional:
                return {}, {}
            raise DataError(f"{self.entity!r} is not among the entities")
        parts = list(value) if isinstance(value, list | tuple) else [value, self.unit]
        if len(parts) == 1:
            parts.append(self.unit)
        if not parts or len(parts) % 2:
            raise DataError(f"{self.entity!r} is not a number with its unit: {value!r}")
        total, code = 0.0, []
        for number, unit in zip(parts[::2], parts[1::2], strict=True):
            _check_number(self.entity, number)
            conversion = CONVERSIONS[self.kind][unit_name(self.kind, str(unit))]
            total += conversion(number)
            code.append(conversion.text(repr(number)))
        return {self.name: total}, {self.name: " + ".join(code)}

    def draw(self, rng: Random, person: Person, other_units: bool = True) -> Drawn:
        wanted, at_all, other = rng.uniform(self.low, self.high), rng.random(), rng.random()
        if at_all >= self.chance:
            return Drawn()
        unit, digits = self.unit, self.digits
        if other_units and self.others and other < 0.4:
            unit, digits = self.others[int(other / 0.4 * len(self.others))]
        conversion = CONVERSIONS[self.kind][unit]
        shown = round(wanted / conversion.scale + conversion.offset, digits)
        number: float | int = int(shown) if digits <= 0 else shown
        return Drawn(
            {self.name: conversion(number)},
            {self.name: conversion.text(repr(number))},
            (Fact(self.section, self.label, f"{number} {unit}".replace(" %", "%").replace(" /", "/").strip()),),
            conversion.scale != 1.0,
        )


def _check_number(entity: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e15 < value < 1e15:
        raise DataError(f"{entity!r} is not a number: {value!r}")


@dataclass(frozen=True)
class Age:
    """The age in years: the person's own when drawn."""

    name: str = "age_years"
    essential: bool = True

    def read(self, entities: Entities) -> tuple[dict[str, Any], dict[str, str]]:
        return Quantity(self.name, "age", "age", 0, 0, entity="age").read(entities)

    def draw(self, rng: Random, person: Person, other_units: bool = True) -> Drawn:
        return Drawn({self.name: person.age}, {self.name: str(person.age)}, (Fact("person", "age"),))


@dataclass(frozen=True)
class SexInput:
    """The sex, which every note tells."""

    name: str = "sex"
    essential: bool = False

    def read(self, entities: Entities) -> tuple[dict[str, Any], dict[str, str]]:
        value = str(entities.get("sex", "")).strip().lower()
        if value not in ("male", "female"):
            raise DataError("'sex' is neither Male nor Female")
        return {self.name: value}, {self.name: repr(value)}

    def draw(self, rng: Random, person: Person, other_units: bool = True) -> Drawn:
        return Drawn({self.name: person.sex}, {self.name: repr(person.sex)})


@dataclass(frozen=True)
class Flag:
    """A finding that is there or not. `contrary` is the finding that a note states where it is not (a cough, for
    "no cough"). True among the entities where any of `entities` is; never drawn where `chance` is 0."""

    name: str
    finding: str
    entities: tuple[str, ...] = ()
    contrary: str = ""
    chance: float = 0.3
    equal_to: str = "true"

    essential: bool = False

    def read(self, entities: Entities) -> tuple[dict[str, Any], dict[str, str]]:
        found = False
        for entity in self.entities:
            value = entities.get(canonical(entity), False)
            if isinstance(value, str):
                value = value.strip().lower()
                if value not in (self.equal_to, "false", "no", "none", "white", "absent"):
                    raise DataError(f"{entity!r} is neither true nor false: {value!r}")
                value = value == self.equal_to
            if not isinstance(value, bool):
                raise DataError(f"{entity!r} is neither true nor false: {value!r}")
            found = found or value
        return {self.name: found}, {self.name: repr(found)}

    def draw(self, rng: Random, person: Person, other_units: bool = True) -> Drawn:
        value = rng.random() < self.chance
        if self.chance == 0:
            return Drawn()
        if value or self.contrary:
            fact = Fact("yes", self.finding if value else self.contrary)
        else:
            fact = Fact("no", self.finding)
        withheld = (Fact("unknown", self.finding),)
        return Drawn({self.name: value}, {self.name: repr(value)}, (fact,), withheld=withheld)


@dataclass(frozen=True)
class Choice:
    """One of several states. `says` maps the calculator's value to the sentence of a note; `words` maps the texts
    of the entities, in lower case, to the value; `default` is the value where the entities say nothing or False."""

    name: str
    says: dict[Any, str]
    words: dict[str, Any]
    entity: str = ""
    default: Any = None

    @property
    def essential(self) -> bool:
        return self.default is None

    def read(self, entities: Entities) -> tuple[dict[str, Any], dict[str, str]]:
        value = entities.get(canonical(self.entity), False)
        if value is False:
            if self.default is None:
                raise DataError(f"{self.entity!r} is not among the entities")
            result = self.default
        else:
            text = str(value).strip().lower()
            if text not in self.words:
                raise DataError(f"{self.entity!r} has an unknown value: {value!r}")
            result = self.words[text]
        return {self.name: result}, {self.name: repr(result)}

    def draw(self, rng: Random, person: Person, other_units: bool = True) -> Drawn:
        value = rng.choice(list(self.says))
        return Drawn({self.name: value}, {self.name: repr(value)}, (Fact("sentence", self.says[value]),))


@dataclass(frozen=True)
class Day:
    """A calendar date, `ago` (least, most) days before 15 January 2025."""

    name: str
    sentence: str
    entity: str
    ago: tuple[int, int]
    essential: bool = True

    def read(self, entities: Entities) -> tuple[dict[str, Any], dict[str, str]]:
        try:
            day = datetime.strptime(str(entities[canonical(self.entity)]).strip(), "%m/%d/%Y").date()
        except (KeyError, ValueError):
            raise DataError(f"{self.entity!r} is not a date MM/DD/YYYY") from None
        return {self.name: day}, {self.name: _code(day)}

    def draw(self, rng: Random, person: Person, other_units: bool = True) -> Drawn:
        day = date(2025, 1, 15) - timedelta(days=rng.randint(*self.ago))
        month = day.strftime("%B")
        text = rng.choice((f"{day.day} {month} {day.year}", f"{month} {day.day}, {day.year}", day.isoformat()))
        return Drawn({self.name: day}, {self.name: _code(day)}, (Fact("sentence", self.sentence.format(day=text)),))


def _code(day: date) -> str:
    return f"date({day.year}, {day.month}, {day.day})"


@dataclass(frozen=True)
class SteroidDose:
    """A dose of one glucocorticoid and the one wanted. The question names the wanted one."""

    essential: bool = True

    def read(self, entities: Entities) -> tuple[dict[str, Any], dict[str, str]]:
        given, wanted = entities.get("input steroid"), entities.get("target steroid")
        if not (isinstance(given, list) and len(given) == 3 and given[2] == "mg" and isinstance(wanted, str)):
            raise DataError("the entities do not name a steroid in mg and one to convert it to")
        _check_number("input steroid", given[1])
        values = {"dose_mg": float(given[1]), "given": _steroid(given[0]), "wanted": _steroid(wanted)}
        return values, {name: repr(value) for name, value in values.items()}

    def draw(self, rng: Random, person: Person, other_units: bool = True) -> Drawn:
        given, wanted = rng.sample(sorted(STEROID_MG), 2)
        dose = round(STEROID_MG[given] * rng.uniform(0.5, 12), 2)
        values = {"dose_mg": dose, "given": given, "wanted": wanted}
        return Drawn(
            values,
            {name: repr(value) for name, value in values.items()},
            (Fact("sentence", f"Current glucocorticoid: {given}, {dose} mg a day."),),
            withheld=(Fact("sentence", f"Current glucocorticoid: {given}; the dose is not stated."),),
        )


def _steroid(text: object) -> str:
    name = re.sub(r"\s+(PO|IV|IM)$", "", str(text).strip(), flags=re.IGNORECASE).lower()
    if name not in STEROID_MG:
        raise DataError(f"{text!r} is not a glucocorticoid that we convert")
    return name


_OPIOID_UNITS = {"fentanyl buccal": "mcg", "fentanyl patch": "mcg/hr"}


@dataclass(frozen=True)
class OpioidDoses:
    """All opioids with their dose and doses a day."""

    essential: bool = True

    def read(self, entities: Entities) -> tuple[dict[str, Any], dict[str, str]]:
        doses: dict[str, tuple[float, float]] = {}
        for entity, value in entities.items():
            if not entity.endswith(" dose"):
                continue
            drug, per_day = entity.removesuffix(" dose"), entities.get(f"{entity} per day")
            if drug not in OPIOID_FACTOR or not isinstance(value, list) or not isinstance(per_day, list):
                raise DataError(f"{entity!r} is not a dose of a known opioid with its doses a day")
            if len(value) != 2 or len(per_day) != 2:
                raise DataError(f"{entity!r} is not one number with its unit")
            _check_number(entity, value[0])
            _check_number(entity, per_day[0])
            doses[drug] = (value[0], per_day[0])
        if not doses:
            raise DataError("the entities name no opioid")
        return {"doses": doses}, {"doses": repr(doses)}

    def draw(self, rng: Random, person: Person, other_units: bool = True) -> Drawn:
        doses, facts = {}, []
        for drug in rng.sample(sorted(OPIOID_FACTOR), rng.choice((1, 2, 3))):
            amount = rng.choice((12, 25, 50)) if drug == "fentanyl patch" else 5 * rng.randint(1, 12)
            per_day = 1 if drug == "fentanyl patch" else rng.randint(1, 4)
            doses[drug] = (amount, per_day)
            unit = _OPIOID_UNITS.get(drug, "mg")
            how = (
                "worn all day" if drug == "fentanyl patch" else f"{per_day} {'time' if per_day == 1 else 'times'} a day"
            )
            facts.append(Fact("sentence", f"Pain treatment: {drug} {amount} {unit}, {how}."))
        withheld = (*facts[:-1], Fact("sentence", f"Pain treatment: {drug}; the dose is not stated."))
        return Drawn({"doses": doses}, {"doses": repr(doses)}, tuple(facts), withheld=withheld)
