"""One admission: why, how bad, where the patient lay, what was done and given.

Everything is drawn for the whole admission and then cut at the present, so that a patient who is still in hospital is
like one who was once at that day of the stay.
"""

import numpy as np

from tasks.hospital import measures
from tasks.hospital.conditions import ACUTE, COMPLICATIONS, CONDITIONS, PROCEDURES, ROUTINE_DRUGS, Condition
from tasks.hospital.records import (
    DAY,
    END,
    Culture,
    Diagnosis,
    IcuStay,
    Movement,
    Prescription,
    ProcedureDone,
)
from tasks.hospital.vocabulary import CARE_UNITS, DRUGS, FLOOR_WARDS, SPECIMENS

# Who has the first is so many times likelier to be admitted for the second.
_LEADS_TO: dict[str, dict[str, float]] = {
    "4280": {"42833": 5, "51881": 1.5},
    "41401": {"41071": 3, "41401": 4},
    "496": {"49121": 12, "486": 1.5, "51881": 2},
    "5859": {"5849": 3},
    "25000": {"6826": 2, "25013": 0.2, "43491": 1.5},
    "4019": {"431": 1.5, "43491": 1.5},
    "42731": {"43491": 2},
    "5712": {"5789": 5, "29181": 3, "5770": 2},
    "3051": {"1623": 2},
    "27801": {"71536": 2.5, "57410": 2},
}


def pick_reason(rng: np.random.Generator, age: int, chronic: tuple[Condition, ...]) -> Condition:
    weights = []
    for condition in ACUTE:
        weight = condition.weight * float(np.exp(np.clip(condition.age * (age - 65) / 25, -2.5, 1.5)))
        for known in chronic:
            weight *= _LEADS_TO.get(known.code, {}).get(condition.code, 1.0)
        weights.append(weight)
    share = np.cumsum(weights)
    return ACUTE[int(np.searchsorted(share, rng.random() * share[-1]))]


def pick_complications(rng: np.random.Generator, reason: Condition, severity: float) -> tuple[Condition, ...]:
    draws = rng.random(len(COMPLICATIONS))
    factor = (0.25 if reason.elective > 0.5 else 0.5) + 1.3 * severity
    found = [c for c, draw in zip(COMPLICATIONS, draws, strict=True) if c.code != reason.code]
    draws = draws[[c.code != reason.code for c in COMPLICATIONS]]
    infected = {"0389", "486", "5990", "00845"} & {reason.code}
    return tuple(
        c
        for c, draw in zip(found, draws, strict=True)
        if draw < c.weight * factor * (4 if infected and c.code in ("78552", "99592") else 1)
        and (infected or c.code not in ("78552", "99592") or draw < c.weight * 0.2)
    )


def diagnoses(rng: np.random.Generator, conditions: tuple[Condition, ...]) -> tuple[Diagnosis, ...]:
    codes = list(dict.fromkeys(condition.code for condition in conditions))
    noise = np.exp(rng.normal(0, 0.2, len(codes)))
    return tuple(
        Diagnosis(code, round(CONDITIONS[code].price * float(z), 2)) for code, z in zip(codes, noise, strict=True)
    )


def procedures(
    rng: np.random.Generator, conditions: tuple[Condition, ...], start: int, end: int, severity: float
) -> tuple[ProcedureDone, ...]:
    """Done until the present; which of them is known to the caller through the codes alone."""
    chances: dict[str, float] = {}
    for condition in conditions:
        for code, chance in condition.procedures.items():
            chances[code] = max(chances.get(code, 0.0), chance)
    done = {code for code, chance in chances.items() if rng.random() < chance * (0.75 + 0.5 * severity)}
    if {"9671", "9672"} <= done:
        done.discard("9671" if severity > 0.5 else "9672")
    if end - start < 4 * DAY:
        done.discard("9672")
    if done & {"9671", "9672"} and "9604" in chances:
        done.add("9604")
    if "3607" in done:
        done |= {"0066", "3722"}
    result = []
    for code in sorted(done):
        repeats = 1
        if code in ("3995", "9904"):
            repeats = 1 + int(rng.integers(0, max(1, min(4, (end - start) // (2 * DAY)))))
        for _ in range(repeats):
            time = start + 90 + int(rng.beta(1.2, 3) * max(end - start - 120, 60))
            cost = round(PROCEDURES[code].price * float(np.exp(rng.normal(0, 0.15))), 2)
            if time <= END:
                result.append(ProcedureDone(code, time, cost))
    return tuple(sorted(result, key=lambda p: (p.time, p.code)))


def prescriptions(
    rng: np.random.Generator, conditions: tuple[Condition, ...], doses: dict[str, int], start: int, end: int
) -> tuple[Prescription, ...]:
    """`doses` remembers which dose of a drug the patient gets; it is filled here, so that later stays agree."""
    chances = dict(ROUTINE_DRUGS)
    for condition in conditions:
        for name, chance in condition.drugs.items():
            chances[name] = max(chances.get(name, 0.0), chance)
    home = {name for c in conditions if c.stay < 2 and c.icu < 0.1 for name in c.drugs}
    first, last = start // DAY, end // DAY
    result = []
    for name, chance in chances.items():
        if rng.random() >= chance:
            continue
        drug = DRUGS[name]
        begin = first if name in home else first + min(int(rng.geometric(0.6)) - 1, last - first)
        courses = 1 if drug.days != 1 else 1 + int(rng.integers(0, 3))
        for _ in range(courses):
            if begin > last or begin * DAY > END:
                break
            if name not in doses or rng.random() < 0.1:
                doses[name] = int(rng.integers(0, len(drug.doses)))
            stop = last if drug.days == 0 else min(last, begin + max(0, drug.days - 1 + int(rng.integers(-1, 2))))
            days = stop - begin + 1
            cost = round(drug.price * days * float(np.exp(rng.normal(0, 0.15))), 2)
            open_ended = stop * DAY > END
            result.append(
                Prescription(
                    name,
                    drug.doses[doses[name]],
                    drug.unit,
                    drug.route,
                    begin * DAY,
                    None if open_ended else stop * DAY,
                    cost,
                )  # fmt: skip
            )
            begin = stop + 1 + int(rng.integers(0, 3))
    return tuple(sorted(result, key=lambda p: (p.start, p.drug)))


def cultures(rng: np.random.Generator, conditions: tuple[Condition, ...], start: int, end: int) -> tuple[Culture, ...]:
    chances: dict[str, float] = {}
    for condition in conditions:
        for name, chance in condition.cultures.items():
            chances[name] = max(chances.get(name, 0.0), chance)
    codes = {c.code for c in conditions}
    growth = {
        "stool": 0.9 if "00845" in codes else 0.1,
        "mrsa screen": 0.12,
        "urine": 0.8 if "5990" in codes else 0.3,
        "blood culture": 0.4 if codes & {"0389", "78552", "99592"} else 0.12,
    }
    result = []
    for name, chance in chances.items():
        if rng.random() >= chance:
            continue
        for number in range(1 + int(rng.integers(0, 3 if name in ("blood culture", "urine", "sputum") else 2))):
            time = start + 40 + int(rng.integers(0, 300)) + number * int(rng.integers(14 * 60, 40 * 60))
            if time > min(end, END):
                break
            kinds = SPECIMENS[name]
            if rng.random() < growth.get(name, 0.42) * 0.75**number:
                share = 1 / np.arange(1, len(kinds) + 1)
                many = 2 if len(kinds) > 2 and rng.random() < 0.1 else 1
                chosen = rng.choice(len(kinds), size=many, replace=False, p=share / share.sum())
                result += [Culture(name, time, kinds[int(i)]) for i in sorted(chosen)]
            else:
                result.append(Culture(name, time, None))
    return tuple(sorted(result, key=lambda c: (c.time, c.specimen, c.organism or "")))


def icu_spans(
    rng: np.random.Generator, conditions: tuple[Condition, ...], start: int, end: int, severity: float, died: bool
) -> list[tuple[int, int]]:
    """Begin and end of each stay in intensive care, none overlapping, within the admission."""
    chance = min(0.97, sum(c.icu for c in conditions) * (0.55 + 0.9 * severity))
    length = end - start
    if rng.random() >= chance or length < 16 * 60:
        return []
    direct = rng.random() < 0.7
    begin = start + (int(rng.integers(5, 60)) if direct else int(rng.uniform(0.05, 0.3) * length))
    finish = begin + max(8 * 60, int(rng.beta(2.2, 2.4) * (end - begin)))
    if died and rng.random() < 0.75:
        finish = end
    spans = [(begin, min(finish, end))]
    if end - finish > 3 * DAY and rng.random() < 0.15:
        again = finish + int(rng.uniform(0.1, 0.5) * (end - finish))
        spans.append((again, again + int(rng.uniform(0.3, 0.7) * (end - again))))
    return spans


def places(
    rng: np.random.Generator, unit: str, spans: list[tuple[int, int]], start: int, end: int
) -> tuple[list[Movement], list[tuple[str, str, int, int]]]:
    """The movements of the whole admission, and (first unit, last unit, first ward, last ward) of each ICU stay."""
    movements: list[Movement] = []
    units: list[tuple[str, str, int, int]] = []

    def move(unit: str | None, ward: int, begin: int, finish: int, stay: int | None) -> None:
        movements.append(Movement("transfer" if movements else "admit", unit, ward, begin, finish, stay))

    def pick(wards: tuple[int, ...]) -> int:
        return wards[int(rng.integers(0, len(wards)))]

    here = start
    for index, (begin, finish) in enumerate(spans):
        if begin - here >= 60:
            move(None, pick(FLOOR_WARDS), here, begin, None)
            here = begin
        first = unit if rng.random() < 0.85 else ("micu", "sicu")[int(rng.integers(0, 2))]
        ward = pick(CARE_UNITS[first])
        last, last_ward = first, ward
        if finish - begin > 2 * DAY and rng.random() < 0.15:
            last = sorted(CARE_UNITS)[int(rng.integers(0, len(CARE_UNITS)))]
            last_ward = pick(CARE_UNITS[last])
        if last_ward != ward:
            middle = begin + int(rng.uniform(0.3, 0.7) * (finish - begin))
            move(first, ward, here, middle, index)
            move(last, last_ward, middle, finish, index)
        else:
            move(first, ward, here, finish, index)
        units.append((first, last, ward, last_ward))
        here = finish
    if end - here > 0:
        move(None, pick(FLOOR_WARDS), here, end, None)
    movements.append(Movement("discharge", None, None, end, None, None))
    return movements, units


def cut_movements(movements: list[Movement]) -> tuple[Movement, ...]:
    return tuple(m._replace(end=None if m.end is None or m.end > END else m.end) for m in movements if m.start <= END)


def icu_stay(
    rng: np.random.Generator,
    number: int,
    illness: measures.Illness,
    span: tuple[int, int],
    units: tuple[str, str, int, int],
    body: tuple[float, float],
    given: tuple[set[str], set[str]],
) -> IcuStay:
    """`body` is weight in kg and height in cm; `given` the drugs and the procedure codes of the admission."""
    begin, finish = span
    last = min(finish, END)
    drugs, done = given
    codes = {c.code for c in (*illness.acute, *illness.chronic)}
    return IcuStay(
        number, *units, begin, finish if finish <= END else None,
        measures.vitals(rng, illness, begin, finish, last, *body),
        measures.intake(rng, begin, finish, last, drugs, done),
        measures.output(rng, begin, finish, last, codes, done),
    )  # fmt: skip
