"""Scores of acute and critical illness. Each returns whole points. Units are in the names of the parameters."""

from typing import Literal

Sex = Literal["male", "female"]


def apache_ii(
    age_years: float,
    temperature_c: float,
    systolic_mmhg: float,
    diastolic_mmhg: float,
    rate_bpm: float,
    breaths_per_min: float,
    ph: float,
    sodium_meq_l: float,
    potassium_meq_l: float,
    creatinine_mg_dl: float,
    hematocrit_percent: float,
    wbc_per_ul: float,
    coma_score: float,
    fio2_percent: float,
    pao2_mmhg: float | None = None,
    gradient_mmhg: float | None = None,
    acute_renal_failure: bool = False,
    organ_failure: bool = False,
    surgery: Literal["none", "elective", "emergency"] = "none",
) -> int:
    """APACHE II (Knaus et al., Crit Care Med 1985;13:818). 0 to 71.

    Oxygenation is the A-a gradient from an FiO2 of 50% on, else PaO2; ValueError where the one needed is not given.
    Creatinine counts twice in acute renal failure. `organ_failure`: severe organ insufficiency or immunocompromise.
    """
    mean = diastolic_mmhg + (systolic_mmhg - diastolic_mmhg) / 3
    white = wbc_per_ul / 1000
    points = band(temperature_c, (30, 4), (32, 3), (34, 2), (36, 1), (38.5, 0), (39, 1), (41, 3), beyond=4)
    points += band(mean, (50, 4), (70, 2), (110, 0), (130, 2), (160, 3), beyond=4)
    points += band(rate_bpm, (40, 4), (55, 3), (70, 2), (110, 0), (140, 2), (180, 3), beyond=4)
    points += band(breaths_per_min, (6, 4), (10, 2), (12, 1), (25, 0), (35, 1), (50, 3), beyond=4)
    points += band(ph, (7.15, 4), (7.25, 3), (7.33, 2), (7.5, 0), (7.6, 1), (7.7, 3), beyond=4)
    points += band(sodium_meq_l, (111, 4), (120, 3), (130, 2), (150, 0), (155, 1), (160, 2), (180, 3), beyond=4)
    points += band(potassium_meq_l, (2.5, 4), (3, 2), (3.5, 1), (5.5, 0), (6, 1), (7, 3), beyond=4)
    renal = band(creatinine_mg_dl, (0.6, 2), (1.5, 0), (2, 2), (3.5, 3), beyond=4)
    points += renal * (2 if acute_renal_failure else 1)
    points += band(hematocrit_percent, (20, 4), (30, 2), (46, 0), (50, 1), (60, 2), beyond=4)
    points += band(white, (1, 4), (3, 2), (15, 0), (20, 1), (40, 2), beyond=4)
    if fio2_percent >= 50:
        if gradient_mmhg is None:
            raise ValueError("from an FiO2 of 50% on the A-a gradient is needed")
        points += band(gradient_mmhg, (200, 0), (350, 2), (500, 3), beyond=4)
    else:
        if pao2_mmhg is None:
            raise ValueError("below an FiO2 of 50% PaO2 is needed")
        points += 4 if pao2_mmhg < 55 else 3 if pao2_mmhg <= 60 else 1 if pao2_mmhg <= 70 else 0
    points += 15 - int(coma_score)
    points += band(age_years, (45, 0), (55, 2), (65, 3), (75, 5), beyond=6)
    if organ_failure:
        points += 2 if surgery == "elective" else 5
    return points


def band(value: float, *steps: tuple[float, int], beyond: int) -> int:
    """The points of the first step whose upper end lies above `value`, else `beyond`."""
    return next((points for end, points in steps if value < end), beyond)


def sofa(
    pao2_mmhg: float,
    fio2_percent: float,
    platelets_per_ul: float,
    bilirubin_mg_dl: float,
    coma_score: float,
    creatinine_mg_dl: float | None = None,
    urine_ml_day: float | None = None,
    systolic_mmhg: float | None = None,
    diastolic_mmhg: float | None = None,
    hypotension: bool = False,
    dopamine: float = 0.0,
    dobutamine: float = 0.0,
    epinephrine: float = 0.0,
    norepinephrine: float = 0.0,
    supported: bool = False,
) -> int:
    """SOFA (Vincent et al., Intensive Care Med 1996;22:707). 0 to 24.

    Catecholamines in mcg/kg/min; `supported`: mechanical ventilation or CPAP. Hypotension is a mean arterial pressure
    below 70 mmHg. Of creatinine and urine output the worse counts; ValueError where neither is given.
    """
    if creatinine_mg_dl is None and urine_ml_day is None:
        raise ValueError("creatinine or urine output is needed")
    ratio = pao2_mmhg / (fio2_percent / 100)
    points = 0
    if ratio < 100 and supported:
        points += 4
    elif ratio < 200 and supported:
        points += 3
    elif ratio < 400:
        points += 2 if ratio < 300 else 1
    points += band(platelets_per_ul / 1000, (20, 4), (50, 3), (100, 2), (150, 1), beyond=0)
    points += band(bilirubin_mg_dl, (1.2, 0), (2, 1), (6, 2), (12, 3), beyond=4)
    if systolic_mmhg is not None and diastolic_mmhg is not None:
        hypotension = hypotension or diastolic_mmhg + (systolic_mmhg - diastolic_mmhg) / 3 < 70
    if dopamine > 15 or epinephrine > 0.1 or norepinephrine > 0.1:
        points += 4
    elif dopamine > 5 or epinephrine > 0 or norepinephrine > 0:
        points += 3
    elif dopamine > 0 or dobutamine > 0:
        points += 2
    elif hypotension:
        points += 1
    points += band(coma_score, (6, 4), (10, 3), (13, 2), (15, 1), beyond=0)
    renal = 0 if creatinine_mg_dl is None else band(creatinine_mg_dl, (1.2, 0), (2, 1), (3.5, 2), (5, 3), beyond=4)
    output = 0 if urine_ml_day is None else band(urine_ml_day, (200, 4), (500, 3), beyond=0)
    return points + max(renal, output)


def pneumonia_severity_index(
    age_years: float,
    sex: Sex,
    rate_bpm: float,
    breaths_per_min: float,
    systolic_mmhg: float,
    temperature_c: float,
    ph: float,
    bun_mg_dl: float,
    sodium_meq_l: float,
    glucose_mg_dl: float,
    hematocrit_percent: float,
    pao2_mmhg: float,
    nursing_home: bool = False,
    cancer: bool = False,
    liver_disease: bool = False,
    heart_failure: bool = False,
    cerebrovascular: bool = False,
    renal_disease: bool = False,
    altered_mental_status: bool = False,
    pleural_effusion: bool = False,
) -> int:
    """Points of the pneumonia severity index (Fine et al., N Engl J Med 1997;336:243)."""
    points = int(age_years) - (10 if sex == "female" else 0)
    points += 30 * cancer + 20 * liver_disease + 20 * altered_mental_status
    points += 10 * (nursing_home + heart_failure + cerebrovascular + renal_disease + pleural_effusion)
    points += 20 * ((breaths_per_min >= 30) + (systolic_mmhg < 90) + (bun_mg_dl >= 30) + (sodium_meq_l < 130))
    points += 15 * (temperature_c < 35 or temperature_c >= 40) + 30 * (ph < 7.35)
    return points + 10 * ((rate_bpm >= 125) + (glucose_mg_dl >= 250) + (hematocrit_percent < 30) + (pao2_mmhg < 60))


def curb_65(
    age_years: float,
    bun_mg_dl: float,
    breaths_per_min: float,
    systolic_mmhg: float,
    diastolic_mmhg: float,
    confusion: bool = False,
) -> int:
    """CURB-65, 0 to 5 (Lim et al., Thorax 2003;58:377). Urea above 7 mmol/L is BUN above 19 mg/dL."""
    low = systolic_mmhg < 90 or diastolic_mmhg <= 60
    return confusion + (bun_mg_dl > 19) + (breaths_per_min >= 30) + low + (age_years >= 65)


def sirs_criteria(
    temperature_c: float, rate_bpm: float, breaths_per_min: float, wbc_per_ul: float, paco2_mmhg: float | None = None
) -> int:
    """SIRS criteria met, 0 to 4 (Bone et al., Chest 1992;101:1644). Bands are not looked at."""
    breathing = breaths_per_min > 20 or (paco2_mmhg is not None and paco2_mmhg < 32)
    white = wbc_per_ul > 12_000 or wbc_per_ul < 4_000
    return (temperature_c > 38 or temperature_c < 36) + (rate_bpm > 90) + breathing + white


def glasgow_coma_score(eye: int, verbal: int, motor: int) -> int:
    """Sum of the best eye (1-4), verbal (1-5) and motor (1-6) response (Teasdale and Jennett, Lancet 1974;2:81)."""
    return eye + verbal + motor


def glasgow_blatchford(
    bun_mg_dl: float,
    hemoglobin_g_dl: float,
    systolic_mmhg: float,
    rate_bpm: float,
    sex: Sex,
    melena: bool = False,
    syncope: bool = False,
    liver_disease: bool = False,
    heart_failure: bool = False,
) -> int:
    """Glasgow-Blatchford score, 0 to 23 (Blatchford et al., Lancet 2000;356:1318)."""
    points = band(bun_mg_dl, (18.2, 0), (22.4, 2), (28, 3), (70, 4), beyond=6)
    if sex == "male":
        points += band(hemoglobin_g_dl, (10, 6), (12, 3), (13, 1), beyond=0)
    else:
        points += band(hemoglobin_g_dl, (10, 6), (12, 1), beyond=0)
    points += band(systolic_mmhg, (90, 3), (100, 2), (110, 1), beyond=0)
    return points + (rate_bpm >= 100) + melena + 2 * (syncope + liver_disease + heart_failure)


def centor_score(
    age_years: float,
    temperature_c: float,
    cough_absent: bool = False,
    tender_nodes: bool = False,
    exudate: bool = False,
) -> int:
    """Modified Centor score, -1 to 5 (McIsaac et al., CMAJ 1998;158:75): plus 1 at 3-14 years, minus 1 from 45 on."""
    points = cough_absent + tender_nodes + exudate + (temperature_c > 38)
    return points + (3 <= age_years < 15) - (age_years >= 45)


def fever_pain(
    fever: bool = False,
    no_cough_or_coryza: bool = False,
    early_onset: bool = False,
    purulent_tonsils: bool = False,
    severe_inflammation: bool = False,
) -> int:
    """FeverPAIN, 0 to 5 (Little et al., BMJ 2013;347:f5806). `early_onset`: symptoms for three days or fewer."""
    return fever + no_cough_or_coryza + early_onset + purulent_tonsils + severe_inflammation
