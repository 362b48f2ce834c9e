"""Units of measured quantities: names as people write them, and conversion to the unit a calculator wants."""

from dataclasses import dataclass

from tasks.errors import DataError


@dataclass(frozen=True)
class Conversion:
    """wanted = (given - offset) * scale."""

    scale: float = 1.0
    offset: float = 0.0

    def __call__(self, value: float) -> float:
        return value * self.scale if self.offset == 0 else (value - self.offset) * self.scale

    def text(self, value: str) -> str:
        """The conversion of the literal `value` as a Python expression."""
        if self == Conversion():
            return value
        return f"{value} * {self.scale!r}" if self.offset == 0 else f"({value} - {self.offset!r}) * {self.scale!r}"


SAME = Conversion()
CONVERSIONS: dict[str, dict[str, Conversion]] = {
    "age": {
        "years": SAME,
        "months": Conversion(1 / 12),
        "weeks": Conversion(7 / 365.25),
        "days": Conversion(1 / 365.25),
    },
    "albumin": {"g/dL": SAME, "g/L": Conversion(0.1), "mg/dL": Conversion(0.001)},
    "bilirubin": {"mg/dL": SAME, "µmol/L": Conversion(1 / 17.1)},
    "bmi": {"kg/m2": SAME},
    "bun": {"mg/dL": SAME, "mmol/L": Conversion(2.8)},
    "calcium": {"mg/dL": SAME, "mmol/L": Conversion(4.008)},
    "cells": {
        "/µL": SAME,
        "×10³/µL": Conversion(1000.0),
        "×10⁹/L": Conversion(1000.0),
        "/L": Conversion(1e-6),
    },
    "cholesterol": {"mg/dL": SAME, "mmol/L": Conversion(38.67)},
    "creatinine": {"mg/dL": SAME, "µmol/L": Conversion(1 / 88.42), "mmol/L": Conversion(1000 / 88.42)},
    "dose rate": {"mcg/kg/min": SAME},
    "enzyme": {"U/L": SAME},
    "glucose": {"mg/dL": SAME, "mmol/L": Conversion(18.016)},
    "hemoglobin": {"g/dL": SAME, "g/L": Conversion(0.1), "mmol/L": Conversion(1.611)},
    "insulin": {"µIU/mL": SAME, "pmol/L": Conversion(1 / 6.0)},
    "ion": {"mEq/L": SAME, "mmol/L": SAME},
    "length": {"cm": SAME, "m": Conversion(100.0), "in": Conversion(2.54), "ft": Conversion(30.48)},
    "none": {"": SAME},
    "percent": {"%": SAME},
    "pressure": {"mmHg": SAME, "kPa": Conversion(7.50062)},
    "rate": {"/min": SAME},
    "temperature": {"°C": SAME, "°F": Conversion(5 / 9, 32.0)},
    "time": {"ms": SAME, "s": Conversion(1000.0)},
    "triglycerides": {"mg/dL": SAME, "mmol/L": Conversion(88.57)},
    "urine": {"mL/day": SAME, "L/day": Conversion(1000.0)},
    "weight": {"kg": SAME, "g": Conversion(0.001), "lb": Conversion(0.45359237), "oz": Conversion(0.028349523125)},
}
"""Per kind of quantity: unit -> how it becomes the first unit named."""

_ALIASES = {
    "beatsperminute": "/min",
    "bpm": "/min",
    "breathsperminute": "/min",
    "mmhg": "mmHg",
    "msec": "ms",
    "sec": "s",
    "lbs": "lb",
    "pounds": "lb",
    "kilograms": "kg",
    "grams": "g",
    "inches": "in",
    "inch": "in",
    "feet": "ft",
    "kg/m^2": "kg/m2",
    "kg/m²": "kg/m2",
    "µl": "/µL",
    "ul": "/µL",
    "mm^3": "/µL",
    "mm³": "/µL",
    "m^3": "/µL",  # the release writes m^3 for mm^3
    "l": "/L",
    "mc/kg/min": "mcg/kg/min",
    "µg/kg/min": "mcg/kg/min",
    "umol/l": "µmol/L",
    "degreescelsius": "°C",
    "degreescelsisus": "°C",
    "degreesfahrenheit": "°F",
    "degreesfahreinheit": "°F",
    "year": "years",
    "month": "months",
    "week": "weeks",
    "day": "days",
    "iu/l": "U/L",
    "uiu/ml": "µIU/mL",
}


def unit_name(kind: str, text: str) -> str:
    """The unit of `kind` that `text` names, whatever its letter case and blanks. Raises DataError."""
    plain = "".join(text.replace("μ", "µ").split()).lower()
    for known in CONVERSIONS[kind]:
        if plain == known.lower() or _ALIASES.get(plain) == known:
            return known
    raise DataError(f"{text!r} is not a known unit of {kind}; known: {', '.join(CONVERSIONS[kind])}.")


def convert(kind: str, value: float, unit: str) -> float:
    """`value` in the unit that calculators use for this kind of quantity. Raises DataError for an unknown unit."""
    return CONVERSIONS[kind][unit_name(kind, unit)](value)
