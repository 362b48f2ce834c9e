"""Equations on the body and the electrocardiogram. Units are in the names of the parameters."""

import math
from typing import Literal

Sex = Literal["male", "female"]


def mean_arterial_pressure(systolic_mmhg: float, diastolic_mmhg: float) -> float:
    """Mean arterial pressure in mmHg: one third of the pulse pressure over the diastolic one (Guyton and Hall)."""
    return diastolic_mmhg + (systolic_mmhg - diastolic_mmhg) / 3


def body_mass_index(weight_kg: float, height_cm: float) -> float:
    """Body mass index in kg/m2 (Keys et al., J Chronic Dis 1972;25:329)."""
    return weight_kg / (height_cm / 100) ** 2


def ideal_body_weight(height_cm: float, sex: Sex) -> float:
    """Ideal body weight in kg (Devine, Drug Intell Clin Pharm 1974;8:650): 2.3 kg per inch from 60 inches."""
    return (50.0 if sex == "male" else 45.5) + 2.3 * (height_cm / 2.54 - 60)


def adjusted_body_weight(weight_kg: float, height_cm: float, sex: Sex) -> float:
    """Ideal weight plus 0.4 of what is above it, in kg (Bauer et al., Eur J Clin Pharmacol 1983;24:643)."""
    ideal = ideal_body_weight(height_cm, sex)
    return ideal + 0.4 * (weight_kg - ideal)


def target_weight(bmi_kg_m2: float, height_cm: float) -> float:
    """The weight in kg at which the body mass index is as asked."""
    return bmi_kg_m2 * (height_cm / 100) ** 2


def body_surface_area(weight_kg: float, height_cm: float) -> float:
    """Body surface area in m2 (Mosteller, N Engl J Med 1987;317:1098)."""
    return math.sqrt(weight_kg * height_cm / 3600)


def maintenance_fluids(weight_kg: float) -> float:
    """Maintenance fluid in mL/h by the 4-2-1 rule (Holliday and Segar, Pediatrics 1957;19:823)."""
    return 4 * min(weight_kg, 10) + 2 * min(max(weight_kg - 10, 0), 10) + max(weight_kg - 20, 0)


def qtc_bazett(qt_ms: float, rate_bpm: float) -> float:
    """Corrected QT in ms (Bazett, Heart 1920;7:353): QT / RR^(1/2), RR in seconds."""
    return qt_ms / math.sqrt(60 / rate_bpm)


def qtc_fridericia(qt_ms: float, rate_bpm: float) -> float:
    """Corrected QT in ms (Fridericia, Acta Med Scand 1920;53:469): QT / RR^(1/3)."""
    return float(qt_ms / (60 / rate_bpm) ** (1 / 3))


def qtc_framingham(qt_ms: float, rate_bpm: float) -> float:
    """Corrected QT in ms (Sagie et al., Am J Cardiol 1992;70:797): QT + 154 (1 - RR)."""
    return qt_ms + 154 * (1 - 60 / rate_bpm)


def qtc_hodges(qt_ms: float, rate_bpm: float) -> float:
    """Corrected QT in ms (Hodges et al., J Am Coll Cardiol 1983;1:694): QT + 1.75 (rate - 60)."""
    return qt_ms + 1.75 * (rate_bpm - 60)


def qtc_rautaharju(qt_ms: float, rate_bpm: float) -> float:
    """Corrected QT in ms (Rautaharju et al., J Am Coll Cardiol 2014;63:1228, linear form): QT (120 + rate) / 180."""
    return qt_ms * (120 + rate_bpm) / 180
