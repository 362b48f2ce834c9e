"""Equivalent doses."""

STEROID_MG = {
    "betamethasone": 0.75,
    "cortisone": 25.0,
    "dexamethasone": 0.75,
    "hydrocortisone": 20.0,
    "methylprednisolone": 4.0,
    "prednisolone": 5.0,
    "prednisone": 5.0,
    "triamcinolone": 4.0,
}
"""Doses in mg of equal glucocorticoid effect, by mouth or vein (Liu et al., Allergy Asthma Clin Immunol 2013;9:30)."""

OPIOID_FACTOR = {
    "codeine": 0.15,
    "fentanyl buccal": 0.13,
    "fentanyl patch": 2.4,
    "hydrocodone": 1.0,
    "hydromorphone": 5.0,
    "methadone": 4.7,
    "morphine": 1.0,
    "oxycodone": 1.5,
    "oxymorphone": 3.0,
    "tapentadol": 0.4,
    "tramadol": 0.2,
}
"""Morphine milligram equivalents per mg by mouth; buccal fentanyl per microgram; the patch per microgram per hour
(CDC clinical practice guideline, MMWR Recomm Rep 2022;71(3):1; buccal fentanyl from the CDC table of 2016)."""


def steroid_equivalent(dose_mg: float, given: str, wanted: str) -> float:
    """The dose in mg of `wanted` of equal glucocorticoid effect. KeyError for a steroid not in STEROID_MG."""
    return dose_mg * STEROID_MG[wanted] / STEROID_MG[given]


def morphine_equivalents(doses: dict[str, tuple[float, float]]) -> float:
    """Morphine milligram equivalents per day. `doses` maps an opioid to (one dose, doses a day), the dose in the
    unit that OPIOID_FACTOR states. KeyError for an opioid not there."""
    return sum(OPIOID_FACTOR[drug] * amount * per_day for drug, (amount, per_day) in doses.items())
