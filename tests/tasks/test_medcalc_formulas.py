"""The calculators against values worked by hand or printed in the sources, and at the bounds of the scores."""

from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import DataError
from tasks.medcalc import dates, dosage, lab, physical, scores_acute, scores_risk
from tasks.medcalc.units import CONVERSIONS, convert, unit_name

HEALTHY: dict[str, Any] = {
    "age_years": 40,
    "temperature_c": 37,
    "systolic_mmhg": 120,
    "diastolic_mmhg": 75,
    "rate_bpm": 80,
    "breaths_per_min": 16,
    "ph": 7.4,
    "sodium_meq_l": 140,
    "potassium_meq_l": 4.2,
    "creatinine_mg_dl": 0.9,
    "hematocrit_percent": 42,
    "wbc_per_ul": 7000,
    "coma_score": 15,
    "fio2_percent": 21,
    "pao2_mmhg": 90,
}


@pytest.mark.parametrize(
    ("computed", "expected"),
    [
        (lab.cockcroft_gault(60, 60, 170, 1.0, "male"), 80 * 60 / 72),
        (lab.cockcroft_gault(60, 72, 170, 1.0, "female"), 80 * 61.443 * 0.85 / 72),
        (lab.cockcroft_gault(60, 50, 170, 1.0, "male"), 80 * 50 / 72),
        (lab.ckd_epi_2021(50, 0.9, "male"), 142 * 0.9938**50),
        (lab.ckd_epi_2021(50, 0.7, "female"), 142 * 0.9938**50 * 1.012),
        (lab.mdrd_gfr(1, 1.0, "female", black=True), 175 * 0.742 * 1.212),
        (lab.corrected_calcium(8.0, 2.0), 9.6),
        (lab.fib4(50, 40, 25, 200_000), 2.0),
        (lab.corrected_sodium(130, 600), 142.0),
        (lab.serum_osmolality(140, 14, 90), 290.0),
        (lab.homa_ir(81, 5), 1.0),
        (lab.free_water_deficit(40, 70, 154, "male"), 4.2),
        (lab.free_water_deficit(40, 70, 154, "female"), 3.5),
        (lab.free_water_deficit(66, 70, 154, "female"), 3.15),
        (lab.free_water_deficit(65, 70, 154, "male"), 4.2),
        (lab.free_water_deficit(40, 70, 133, "male"), -2.1),
        (lab.anion_gap(140, 100, 20), 20),
        (lab.delta_gap(140, 100, 20), 8),
        (lab.delta_ratio(140, 100, 20), 2),
        (lab.corrected_anion_gap(140, 100, 20, 2), 25),
        (lab.corrected_delta_gap(140, 100, 20, 2), 13),
        (lab.corrected_delta_ratio(140, 100, 20, 2), 3.25),
        (lab.fractional_sodium_excretion(140, 2, 28, 40), 1.0),
        (lab.ldl_friedewald(200, 50, 150), 120),
        (physical.mean_arterial_pressure(120, 90), 100),
        (physical.body_mass_index(81, 180), 25),
        (physical.ideal_body_weight(177.8, "male"), 73),
        (physical.ideal_body_weight(152.4, "female"), 45.5),
        (physical.adjusted_body_weight(93, 177.8, "male"), 81),
        (physical.target_weight(25, 180), 81),
        (physical.body_surface_area(80, 180), 2),
        (physical.maintenance_fluids(5), 20),
        (physical.maintenance_fluids(15), 50),
        (physical.maintenance_fluids(70), 110),
        (physical.qtc_bazett(400, 60), 400),
        (physical.qtc_bazett(400, 240), 800),
        (physical.qtc_fridericia(400, 480), 800),
        (physical.qtc_framingham(400, 120), 477),
        (physical.qtc_hodges(400, 80), 435),
        (physical.qtc_rautaharju(360, 90), 420),
        (dosage.steroid_equivalent(40, "prednisone", "dexamethasone"), 6),
        (dosage.morphine_equivalents({"oxycodone": (10, 2), "fentanyl patch": (25, 1)}), 90),
        (scores_risk.wells_pe(101, surgery=True, immobilized=True, previous_dvt=True), 4.5),
        (scores_risk.wells_pe(100), 0),
    ],
)
def test_equations(computed: float, expected: float) -> None:
    assert computed == pytest.approx(expected, rel=1e-4)


def test_meld_na_as_unos_rounds_and_bounds() -> None:
    assert lab.meld_na(1.0, 1.0, 1.0, 140) == 6
    assert lab.meld_na(9.0, 50.0, 20.0, 110) == 40
    assert lab.meld_na(0.5, 0.5, 0.9, 125) == 6
    # MELD 10 (0.957 ln 1 + 0.378 ln 1 + 1.12 ln 1.37 + 0.643 = 0.996): sodium does not enter.
    assert lab.meld_na(1.0, 1.0, 1.37, 125) == 10
    # 0.957 ln 2 + 0.378 ln 3 + 1.12 ln 1.5 + 0.643 = 2.176 -> 22; 22 + 1.32 * 7 - 0.033 * 22 * 7 = 26.158
    assert lab.meld_na(2.0, 3.0, 1.5, 130) == 26
    assert lab.meld_na(1.0, 3.0, 1.5, 130, dialysis=True) == lab.meld_na(4.0, 3.0, 1.5, 130)


def test_framingham_rises_with_each_risk_and_is_a_percentage() -> None:
    base = lab.framingham_hard_chd(55, 213, 50, 120, "male")
    assert 4 < base < 12
    assert lab.framingham_hard_chd(55, 213, 50, 120, "male", smoker=True) > base
    assert lab.framingham_hard_chd(55, 213, 50, 120, "male", treated=True) > base
    assert lab.framingham_hard_chd(55, 213, 50, 120, "female") < base


def test_dates_of_a_pregnancy() -> None:
    period = date(2024, 1, 1)
    assert dates.due_date(period, 28) == date(2024, 10, 7)
    assert dates.due_date(period, 25) == date(2024, 10, 4), "a shorter cycle brings the date forward"
    assert dates.conception_date(period, 28) == date(2024, 1, 15)
    assert dates.conception_date(period, 30) == date(2024, 1, 17)
    assert dates.gestational_age(period, date(2024, 3, 1)) == (8, 4)
    assert dates.gestational_age(period, period) == (0, 0)
    with pytest.raises(ValueError, match="after the day"):
        dates.gestational_age(period, date(2023, 12, 31))


@settings(deadline=None)
@given(st.dates(date(1950, 1, 1), date(2090, 1, 1)), st.integers(0, 300))
def test_gestational_age_is_the_days_between(period: date, days: int) -> None:
    weeks, rest = dates.gestational_age(period, date.fromordinal(period.toordinal() + days))
    assert 7 * weeks + rest == days
    assert 0 <= rest < 7


def test_apache_of_a_healthy_adult_is_zero_and_each_part_counts() -> None:
    def score(**changes: Any) -> int:
        return scores_acute.apache_ii(**(HEALTHY | changes))

    assert score() == 0
    assert score(age_years=75) == 6
    assert score(creatinine_mg_dl=3.5, acute_renal_failure=True) == 8
    assert score(coma_score=3) == 12
    assert score(pao2_mmhg=70) == 1
    assert score(fio2_percent=50, gradient_mmhg=350) == 3
    assert score(organ_failure=True, surgery="elective") == 2
    assert score(organ_failure=True, surgery="emergency") == 5
    assert score(temperature_c=29.9, rate_bpm=180, ph=7.1) == 12
    with pytest.raises(ValueError, match="gradient"):
        score(fio2_percent=60)


@pytest.mark.parametrize(
    ("computed", "expected"),
    [
        (scores_acute.sofa(90, 21, 200_000, 0.8, 15, creatinine_mg_dl=0.9), 0),
        (scores_acute.sofa(90, 60, 200_000, 0.8, 15, creatinine_mg_dl=0.9, supported=True), 3),
        (scores_acute.sofa(90, 60, 200_000, 0.8, 15, creatinine_mg_dl=0.9), 2),
        (scores_acute.sofa(90, 100, 19_000, 12, 5, creatinine_mg_dl=5, epinephrine=0.2, supported=True), 24),
        (scores_acute.sofa(90, 21, 200_000, 0.8, 15, urine_ml_day=199), 4),
        (scores_acute.sofa(90, 21, 200_000, 0.8, 15, 0.9, 900, 80, 50), 1),
        (scores_acute.pneumonia_severity_index(60, "female", 80, 16, 120, 37, 7.4, 15, 140, 100, 40, 90), 50),
        (
            scores_acute.pneumonia_severity_index(
                60, "male", 125, 30, 89, 40, 7.34, 30, 129, 250, 29, 59, True, True, True, True, True, True, True, True
            ),
            60 + 10 + 30 + 20 + 10 * 3 + 20 + 10 + 20 * 4 + 15 + 30 + 10 * 4,
        ),
        (scores_acute.curb_65(65, 20, 30, 120, 60, True), 5),
        (scores_acute.curb_65(64, 19, 29, 90, 61), 0),
        (scores_acute.sirs_criteria(38.1, 91, 20, 12_001, 31), 4),
        (scores_acute.sirs_criteria(38, 90, 20, 12_000, 32), 0),
        (scores_acute.glasgow_coma_score(4, 5, 6), 15),
        (scores_acute.glasgow_blatchford(17, 13, 120, 80, "male"), 0),
        (scores_acute.glasgow_blatchford(70, 9.9, 89, 100, "female", True, True, True, True), 23),
        (scores_acute.glasgow_blatchford(18.2, 12.5, 109, 80, "male"), 4),
        (scores_acute.centor_score(10, 38.5, True, True, True), 5),
        (scores_acute.centor_score(45, 37.0), -1),
        (scores_acute.fever_pain(True, True, True, True, True), 5),
        (scores_risk.cha2ds2_vasc(75, "female", True, True, True, True, True, True, True), 9),
        (scores_risk.cha2ds2_vasc(65, "male"), 1),
        (scores_risk.wells_dvt(alternative_likely=True), -2),
        (scores_risk.wells_dvt(True, True, True, True, True, True, True, True, True), 9),
        (scores_risk.revised_cardiac_risk(2.0), 0),
        (scores_risk.revised_cardiac_risk(2.1, True, True, True, True, True), 6),
        (scores_risk.heart_score(45, 1, 1, 1, hypertension=True), 5),
        (scores_risk.heart_score(44, 0, 0, 0, atherosclerosis=True), 2),
        (scores_risk.has_bled(66, 8, True, True, True, True, True, True, True), 9),
        (scores_risk.has_bled(65, 7), 0),
        (scores_risk.charlson_index(49), 0),
        (scores_risk.charlson_index(95), 4),
        (scores_risk.charlson_index(55, tumor="metastatic", liver="severe", diabetes="organ damage"), 12),
        (scores_risk.caprini_2005(40, 25), 0),
        (scores_risk.caprini_2005(75, 25.1, surgery="arthroplasty", mobility="confined", stroke=True), 16),
        (scores_risk.child_pugh(1.9, 3.6, 1.6, "absent", "none"), 5),
        (scores_risk.child_pugh(3.1, 2.7, 2.4, "moderate", "grade 3-4"), 15),
        (scores_risk.perc_criteria(49, 99, 95), 0),
        (scores_risk.perc_criteria(50, 100, 94, True, True, True, True, True, True), 8),
    ],
)
def test_scores_at_their_bounds(computed: int, expected: int) -> None:
    assert computed == expected


def test_units_are_read_as_people_write_them() -> None:
    assert convert("temperature", 98.6, "degrees fahreinheit") == pytest.approx(37.0)
    assert convert("creatinine", 88.42, "umol/L") == pytest.approx(1.0)
    assert convert("creatinine", 88.42, "μmol/L") == pytest.approx(1.0), "the Greek letter as well as the micro sign"
    assert convert("weight", 100, "lbs") == pytest.approx(45.359237)
    assert convert("cells", 7.5, "×10⁹/L") == 7500
    assert unit_name("pressure", "mm Hg") == "mmHg"
    with pytest.raises(DataError, match="known: kg"):
        convert("weight", 70, "stone")


@settings(deadline=None)
@given(st.sampled_from(sorted(CONVERSIONS)), st.data(), st.floats(0.01, 1e6))
def test_a_conversion_and_its_python_agree(kind: str, data: st.DataObject, value: float) -> None:
    conversion = CONVERSIONS[kind][data.draw(st.sampled_from(sorted(CONVERSIONS[kind])))]
    assert eval(conversion.text(repr(value))) == conversion(value)
