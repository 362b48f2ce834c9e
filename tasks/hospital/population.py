"""The population of the synthetic hospital, from a seed.

Patient i has a random generator of their own, seeded by (seed, i): the same patient for any number of patients, and
cost that is linear in them. Nothing here knows a schema; views (`mimic.py`) see this.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal, TypeVar

import numpy as np

from tasks.hospital import course, measures
from tasks.hospital.conditions import CHRONIC, Condition
from tasks.hospital.records import DAY, END, EPOCH, Admission, IcuStay, Patient, moment
from tasks.hospital.vocabulary import ETHNICITIES, LANGUAGES

MAX_PATIENTS = 100_000
"""Numbers of patients, admissions and stays do not collide up to here."""
_ADMISSIONS = 8
_STAYS = 2
T = TypeVar("T")


def make_patients(seed: int, patients: int) -> Iterator[Patient]:
    """One after the other, so that memory does not grow with their number.

    Raises ValueError where `seed` is negative or `patients` is not from 1 to MAX_PATIENTS.
    """
    if seed < 0:
        raise ValueError(f"A seed is 0 or more, not {seed}.")
    if not 1 <= patients <= MAX_PATIENTS:
        raise ValueError(f"The number of patients must be from 1 to {MAX_PATIENTS:,}, not {patients:,}.")
    return (make_patient(seed, index) for index in range(patients))


def make_population(seed: int, patients: int) -> tuple[Patient, ...]:
    """All of `make_patients` at once."""
    return tuple(make_patients(seed, patients))


def make_patient(seed: int, index: int) -> Patient:
    rng = np.random.default_rng((seed, index))
    sex: Literal["f", "m"] = "f" if rng.random() < 0.46 else "m"
    age = int(np.clip(rng.normal(63, 17), 18, 87))
    chronic = _chronic(rng, sex, age)
    count = 1 + min(_ADMISSIONS - 1, int(rng.poisson(0.25 + 0.09 * len(chronic))))
    ethnicity, language = _choose(rng, ETHNICITIES), _choose(rng, LANGUAGES)
    usual = measures.usual_values(rng, sex)
    tall = float(np.clip(rng.normal(162 if sex == "f" else 176, 7), 145, 202))
    index_of_mass = float(np.clip(rng.normal(27, 4.5), 17.5, 39)) + (12 if _has(chronic, "27801") else 0)
    insured = _insurance(rng, age)
    marital = _marital(rng, age)
    present = rng.random() < 0.07
    # Later years are likelier, as in EHRSQL; a quarter of a year is left for the first stay.
    begin = int(END * rng.random() ** 0.7 * 0.96)
    plans = [_Plan(rng, age, chronic) for _ in range(count)]
    gaps = [DAY * 6 + int(rng.exponential(170) * DAY) for _ in plans]
    starts = _starts(rng, begin, plans, gaps, present)
    birth = _birth(rng, age, starts[0])
    doses: dict[str, int] = {}
    admissions: list[Admission] = []
    death: int | None = None
    for order, (start, plan) in enumerate(zip(starts, plans, strict=False)):
        if start > END - 60 or plan is None or _years(birth, moment(start)) >= 90:
            break
        weight = index_of_mass * (tall / 100) ** 2 * float(np.exp(rng.normal(0, 0.03)))
        number = index * _ADMISSIONS + order
        admission = _admission(rng, number, start, plan, birth, chronic, usual, (weight, tall), doses, insured, marital)
        admissions.append(admission)
        if plan.died:
            death = start + plan.length if start + plan.length <= END else None
            break
    if death is None and admissions and admissions[-1].discharged is not None:
        last = admissions[-1].discharged
        days = rng.exponential(365 * 9 / (1 + len(chronic) / 2 + max(age - 60, 0) / 10))
        later = last + DAY + int(days * DAY)
        death = later if later <= END else None
    return Patient(
        index, 10_000 + _scatter(index, 999_983), sex, birth, None if death is None else death // DAY * DAY, ethnicity,
        language, tuple(c.code for c in chronic), tuple(admissions),
    )  # fmt: skip


class _Plan:
    """Why, how bad and how long: known before the dates are."""

    def __init__(self, rng: np.random.Generator, age: int, chronic: tuple[Condition, ...]) -> None:
        self.reason = course.pick_reason(rng, age, chronic)
        self.severity = float(rng.beta(2, 2.4))
        self.complications = course.pick_complications(rng, self.reason, self.severity)
        self.acute = (self.reason, *self.complications)
        conditions = (*self.acute, *chronic)
        death = self.reason.death * (0.3 + 1.5 * self.severity) * float(np.exp((age - 65) / 40))
        death += sum(c.death * 0.7 for c in self.complications) + sum(c.death * 0.5 for c in chronic)
        self.died = bool(rng.random() < min(0.8, death))
        usual = max(1.0, sum(c.stay for c in conditions) * (0.6 + 0.9 * self.severity))
        days = float(np.clip(usual * np.exp(rng.normal(0, 0.35)), 0.8, 34))
        if self.died:
            days = max(0.5, days * rng.uniform(0.3, 1.0))
        self.length = int(days * DAY)
        self.elective = rng.random() < self.reason.elective


def _starts(rng: np.random.Generator, begin: int, plans: list[_Plan], gaps: list[int], present: bool) -> list[int]:
    starts, here = [], begin
    for plan, gap in zip(plans, gaps, strict=True):
        starts.append(here)
        here += plan.length + gap
    if present:
        # One of the stays is going on now; those before it keep their distance, as far as the calendar reaches.
        current = int(rng.integers(0, len(plans)))
        while current and starts[current] - starts[0] > END - 40 * DAY:
            current -= 1
        shift = END - int(rng.uniform(0.15, 0.9) * plans[current].length) - starts[current]
        starts = [start + shift for start in starts[: current + 1]]
        for plan in plans[:current]:
            plan.died = False
    return starts


def _admission(
    rng: np.random.Generator,
    number: int,
    start: int,
    plan: _Plan,
    birth: datetime,
    chronic: tuple[Condition, ...],
    usual: dict[str, float],
    body: tuple[float, float],
    doses: dict[str, int],
    insurance: str,
    marital: str | None,
) -> Admission:
    end = start + plan.length
    conditions = (*plan.acute, *chronic)
    age = _years(birth, moment(start))
    illness = measures.Illness(start, end, plan.acute, chronic, plan.severity, plan.died)
    spans = course.icu_spans(rng, conditions, start, end, plan.severity, plan.died)
    movements, units = course.places(rng, plan.reason.unit, spans, start, end)
    done = course.procedures(rng, conditions, start, end, plan.severity)
    drugs = course.prescriptions(rng, conditions, doses, start, end)
    given = ({p.drug for p in drugs}, {p.code for p in done})
    stays: list[IcuStay] = [
        course.icu_stay(rng, 3_000_000 + _scatter(number * _STAYS + order, 1_999_993), illness, span, unit, body, given)
        for order, (span, unit) in enumerate(zip(spans, units, strict=True))
        if span[0] <= END
    ]
    over = end <= END
    kind, source = _arrival(rng, plan.elective)
    destination = _destination(rng, plan.died, age, plan.severity)
    return Admission(
        number=1_000_000 + _scatter(number, 999_983),
        admitted=start,
        discharged=end if over else None,
        kind=kind,
        source=source,
        destination=destination if over else None,
        insurance="medicare" if age >= 65 and insurance == "private" and rng.random() < 0.5 else insurance,
        marital=marital,
        age=age,
        died=plan.died and over,
        diagnoses=course.diagnoses(rng, conditions),
        procedures=done,
        prescriptions=drugs,
        labs=measures.labs(rng, illness, usual, min(end, END)),
        cultures=course.cultures(rng, conditions, start, end),
        movements=course.cut_movements(movements),
        stays=tuple(stays),
    )


def _chronic(rng: np.random.Generator, sex: str, age: int) -> tuple[Condition, ...]:
    draws = rng.random(len(CHRONIC))
    found = []
    for condition, draw in zip(CHRONIC, draws, strict=True):
        chance = condition.weight * float(np.exp(np.clip(condition.age * (age - 65) / 22, -3, 0.7)))
        if condition.sex in (None, sex) and draw < min(chance, 0.85):
            found.append(condition)
    codes = {c.code for c in found}
    # One kidney disease, the worse one.
    return tuple(c for c in found if not (c.code == "5859" and "5856" in codes))


def _has(conditions: tuple[Condition, ...], code: str) -> bool:
    return any(c.code == code for c in conditions)


def _scatter(index: int, prime: int) -> int:
    """A number below the prime; different ones for different indices, without order that would tell anything."""
    return (index * 387_420_489 + 271_828) % prime


def _choose(rng: np.random.Generator, options: tuple[tuple[T, float], ...]) -> T:
    draw = rng.random() * sum(share for _, share in options)
    for value, share in options:
        draw -= share
        if draw < 0:
            return value
    return options[-1][0]


def _insurance(rng: np.random.Generator, age: int) -> str:
    if age >= 65:
        return _choose(rng, (("medicare", 0.86), ("private", 0.11), ("medicaid", 0.03)))
    return _choose(
        rng, (("private", 0.6), ("medicaid", 0.2), ("medicare", 0.1), ("government", 0.06), ("self pay", 0.04))
    )


def _marital(rng: np.random.Generator, age: int) -> str | None:
    if age < 30:
        return _choose(rng, (("single", 0.75), ("married", 0.2), (None, 0.05)))
    widowed = max(0.02, (age - 55) / 90)
    return _choose(
        rng,
        (
            ("married", 0.55),
            ("single", 0.2),
            ("widowed", widowed),
            ("divorced", 0.09),
            ("separated", 0.02),
            (None, 0.04),
        ),
    )


def _arrival(rng: np.random.Generator, elective: bool) -> tuple[str, str]:
    if elective:
        return "elective", "phys referral/normal deli"
    kind = "emergency" if rng.random() < 0.93 else "urgent"
    where = (("emergency room admit", 0.68), ("transfer from hosp/extram", 0.18), ("clinic referral/premature", 0.14))
    return kind, _choose(rng, where)


def _destination(rng: np.random.Generator, died: bool, age: int, severity: float) -> str:
    if died:
        return "dead/expired"
    frail = severity * 0.6 + max(age - 55, 0) / 80
    return _choose(
        rng,
        (
            ("home", 0.9),
            ("home health care", 0.5),
            ("snf", frail),
            ("rehab/distinct part hosp", frail * 0.6),
            ("long term care hospital", frail * 0.15),
            ("hospice-home", frail * 0.06),
        ),
    )


def _birth(rng: np.random.Generator, age: int, start: int) -> datetime:
    """A midnight that makes the patient `age` years old at minute `start`."""
    day = (EPOCH + timedelta(minutes=start)).replace(hour=0, minute=0)
    return day - timedelta(days=int(age * 365.25) + 1 + int(rng.integers(0, 363)))


def _years(birth: datetime, then: datetime) -> int:
    return then.year - birth.year - ((then.month, then.day) < (birth.month, birth.day))
