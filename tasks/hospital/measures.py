"""Labs, vital signs and fluids over one admission, drawn as arrays.

A measured value is the patient's own usual value, times what the chronic conditions make of it, times what the acute
ones make of it to the power of how ill the patient is at that moment, times noise. Values that follow from others are
computed from them: anion gap, chloride, haematocrit, red cells, INR, pH (Henderson-Hasselbalch), mean pressure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.hospital.conditions import Condition
from tasks.hospital.records import FluidRecord, LabResult, VitalSign
from tasks.hospital.vocabulary import INTAKE, LABS, OUTPUT, PANELS, VITALS, Fluid

Floats = NDArray[np.float64]
_BOUNDS = {
    "sodium": (112, 168),
    "potassium": (2.0, 7.6),
    "bicarbonate": (6, 44),
    "glucose": (38, 900),
    "creatinine": (0.2, 14.5),
    "urea nitrogen": (3, 160),
    "calcium, total": (5.5, 14),
    "hemoglobin": (4.5, 18.5),
    "platelet count": (8, 900),
    "white blood cells": (0.4, 60),
    "pco2": (18, 110),
    "po2": (38, 320),
    "lactate": (0.4, 17),
    "albumin": (1.2, 5.2),
    "% hemoglobin a1c": (4.0, 15.0),
    "pt": (9.5, 60),
    "ptt": (19, 140),
}
_SMALL = 1e-9


@dataclass(frozen=True, slots=True)
class Illness:
    """The course of one admission: when, what from, how bad (0 to 1), and whether it ends in death."""

    start: int
    end: int
    acute: tuple[Condition, ...]
    chronic: tuple[Condition, ...]
    severity: float
    died: bool

    def level(self, times: Floats) -> Floats:
        """How ill the patient is at each time: falls in who recovers, rises in who dies."""
        passed = (times - self.start) / max(self.end - self.start, 1)
        worst = 0.45 + 0.75 * self.severity
        return worst * (0.65 + 0.5 * passed if self.died else np.exp(-2.2 * passed))


def usual_values(rng: np.random.Generator, sex: str) -> dict[str, float]:
    """The patient's own factor on the middle of each lab's reference range."""
    draws = rng.normal(size=len(LABS))
    values = {
        lab.name: float(np.exp(np.clip(z, -2, 2) * 0.22 * (lab.high - lab.low) / (lab.high + lab.low)))
        for lab, z in zip(LABS.values(), draws, strict=True)
    }
    lower = {"hemoglobin": 0.92, "creatinine": 0.85, "iron": 0.9} if sex == "f" else {}
    return {name: value * lower.get(name, 1.0) for name, value in values.items()}


def labs(rng: np.random.Generator, illness: Illness, usual: dict[str, float], last: int) -> tuple[LabResult, ...]:
    """Results until minute `last` (the end, or the present)."""
    every = 9 * 60 if illness.severity > 0.5 else 14 * 60
    count = max(1, int((illness.end - illness.start) / every))
    times = illness.start + 25 + every * np.arange(count, dtype=float) + np.round(rng.uniform(0, every * 0.5, count))
    level = illness.level(times)
    special = {panel for condition in (*illness.acute, *illness.chronic) for panel in condition.panels}
    chances = {"chemistry": 0.92, "blood count": 0.9, "minerals": 0.65, "coagulation": 0.25, "liver": 0.12}
    values: dict[str, Floats] = {}
    for lab in LABS.values():
        noise = np.exp(rng.normal(0, lab.spread or _SMALL, count))
        worst = _product(illness.acute, lab.name)
        own = lab.middle * usual[lab.name] * _product(illness.chronic, lab.name)
        values[lab.name] = own * np.exp(np.log(worst) * level) * noise
    _derive(values)
    result: list[LabResult] = []
    for panel, tests in PANELS.items():
        chance = max(chances.get(panel, 0.03), 0.4 if panel in special else 0.0)
        done = rng.random(count) < chance
        done[0] |= panel in special or panel in ("chemistry", "blood count")
        done &= times <= last
        for lab in tests:
            costs = np.round(lab.price * np.exp(rng.normal(0, 0.12, count)), 2)
            rounded = np.round(values[lab.name], lab.decimals)
            result += [
                LabResult(lab.name, int(time), value, cost)
                for time, value, cost in zip(
                    times[done].tolist(), rounded[done].tolist(), costs[done].tolist(), strict=True
                )
            ]
    result.sort(key=lambda r: (r.time, r.name))
    return tuple(result)


def _product(conditions: Sequence[Condition], name: str, *, vital: bool = False) -> float:
    """Of several effects in one direction the strongest counts in full, each further one by a third."""
    factors = sorted(
        (np.log(f) for c in conditions if (f := (c.vitals if vital else c.labs).get(name))), key=abs, reverse=True
    )
    return float(np.exp(sum(f if i == 0 else f / 3 for i, f in enumerate(factors))))


def _derive(values: dict[str, Floats]) -> None:
    for name, (low, high) in _BOUNDS.items():
        values[name] = np.clip(values[name], low, high)
    for name in ("sodium", "bicarbonate", "hemoglobin", "mcv", "pt", "pco2"):
        rounded: Floats = np.round(values[name], LABS[name].decimals)
        values[name] = rounded
    sodium, bicarbonate = values["sodium"], values["bicarbonate"]
    chloride: Floats = values["chloride"] * sodium / 140 + 0.35 * (25 - bicarbonate)
    chloride = np.rint(np.minimum(chloride, sodium - bicarbonate - 4))
    values["chloride"] = chloride
    values["anion gap"] = sodium - chloride - bicarbonate
    values["hematocrit"] = np.round(values["hemoglobin"] * 2.95 * values["hematocrit"] / LABS["hematocrit"].middle, 1)
    values["red blood cells"] = values["hematocrit"] / values["mcv"] * 10
    values["inr(pt)"] = (values["pt"] / 12.2) ** 1.15
    values["ph"] = np.clip(6.1 + np.log10(bicarbonate / (0.0307 * values["pco2"])), 6.8, 7.7)


def vitals(
    rng: np.random.Generator, illness: Illness, start: int, end: int, last: int, weight: float, height: float
) -> tuple[VitalSign, ...]:
    """Of one ICU stay from `start` to `end`, every two hours until minute `last`."""
    count = max(2, (end - start) // 120)
    times = start + 6 + 120 * np.arange(count, dtype=float) + np.round(rng.uniform(0, 90, count))
    times = times[times < end]
    level = illness.level(times)
    values: dict[str, Floats] = {}
    for name, vital in VITALS.items():
        # A reading resembles the one before it.
        steps = rng.normal(0, vital.noise or _SMALL, len(times))
        for i in range(1, len(steps)):
            steps[i] = 0.6 * steps[i - 1] + 0.8 * steps[i]
        worst = _product(illness.acute, name, vital=True)
        usual = vital.usual * _product(illness.chronic, name, vital=True) * np.exp(np.log(worst) * level)
        values[name] = np.round(np.clip(usual + steps, vital.low, vital.high), vital.decimals)
    systolic = values["arterial bp [systolic]"]
    diastolic = np.minimum(values["arterial bp [diastolic]"], systolic - 15)
    values["arterial bp [diastolic]"] = diastolic
    values["arterial bp mean"] = np.round((systolic + 2 * diastolic) / 3)
    result = [
        VitalSign(name, int(start + 5), value)
        for name, value in (("admit wt", round(weight, 1)), ("admit ht", round(height)))
        if start + 5 <= last
    ]
    for name, series in values.items():
        if name.startswith("admit"):
            continue
        done = (rng.random(len(times)) < 0.93) & (times <= last)
        result += [
            VitalSign(name, int(time), value)
            for time, value in zip(times[done].tolist(), series[done].tolist(), strict=True)
        ]
    result.sort(key=lambda v: (v.time, v.name))
    return tuple(result)


def intake(
    rng: np.random.Generator, start: int, end: int, last: int, drugs: set[str], procedures: set[str]
) -> tuple[FluidRecord, ...]:
    chances = {
        ".9% normal saline": 0.8,
        "d5w": 0.45,
        "lactated ringers": 0.3,
        "po intake": 0.15 if "9604" in procedures else 0.7,
        "propofol": 0.9 if "propofol" in drugs else 0.0,
        "fentanyl (concentrate)": 0.9 if "fentanyl citrate" in drugs else 0.0,
        "levophed-k": 0.95 if "norepinephrine" in drugs else 0.0,
        "packed red blood cells": 0.9 if "9904" in procedures else 0.0,
        "fresh frozen plasma": 0.9 if "9907" in procedures else 0.0,
        "platelets": 0.9 if "9905" in procedures else 0.0,
        "albumin 5%": 0.12,
        "nutren pulmonary": 0.9 if "966" in procedures else 0.0,
        "heparin": 0.9 if "heparin sodium" in drugs else 0.0,
        "insulin": 0.3 if "insulin" in drugs else 0.0,
    }
    return _fluids(rng, start, end, last, INTAKE, chances, 1.0)


def output(
    rng: np.random.Generator, start: int, end: int, last: int, codes: set[str], procedures: set[str]
) -> tuple[FluidRecord, ...]:
    catheter = rng.random() < 0.75
    chances = {
        "urine out foley": 1.0 if catheter else 0.0,
        "urine out void": 0.0 if catheter else 1.0,
        "chest tubes right pleural 1": 0.9 if procedures & {"3404", "3612", "3521"} else 0.0,
        "gastric nasogastric": 0.35 if "9604" in procedures else 0.05,
        "gastric emesis": 0.1,
        "stool out (non-specific)": 0.9 if "00845" in codes else 0.3,
        "ultrafiltrate": 0.9 if "3995" in procedures else 0.0,
        "drain jackson pratt #1": 0.8 if procedures & {"4573", "5123"} else 0.0,
    }
    scale = 0.12 if "5856" in codes else 0.4 if "5849" in codes else 1.0
    return _fluids(rng, start, end, last, OUTPUT, chances, scale)


def _fluids(
    rng: np.random.Generator,
    start: int,
    end: int,
    last: int,
    fluids: dict[str, Fluid],
    chances: dict[str, float],
    urine: float,
) -> tuple[FluidRecord, ...]:
    result: list[FluidRecord] = []
    for name, fluid in fluids.items():
        if rng.random() >= chances[name]:
            continue
        every = fluid.hours * 60
        count = max(1, (end - start) // every)
        times = start + 15 + every * np.arange(count) + np.round(rng.uniform(0, every * 0.6, count))
        usual = fluid.usual * (urine if name.startswith("urine") else 1.0)
        amounts = usual * np.exp(rng.normal(0, 0.35, count))
        amounts = np.maximum(np.round(amounts / fluid.step), 1) * fluid.step
        done = (times <= last) & (times < end) & (rng.random(count) < 0.85)
        result += [
            FluidRecord(name, int(time), amount)
            for time, amount in zip(times[done].tolist(), amounts[done].tolist(), strict=True)
        ]
    result.sort(key=lambda f: (f.time, f.name))
    return tuple(result)
