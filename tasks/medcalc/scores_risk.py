"""Scores of risk, and of chronic illness. Units are in the names of the parameters; flags are absent by default."""

from typing import Literal

Sex = Literal["male", "female"]


def cha2ds2_vasc(
    age_years: float,
    sex: Sex,
    heart_failure: bool = False,
    hypertension: bool = False,
    diabetes: bool = False,
    stroke: bool = False,
    tia: bool = False,
    thromboembolism: bool = False,
    vascular_disease: bool = False,
) -> int:
    """CHA2DS2-VASc, 0 to 9 (Lip et al., Chest 2010;137:263). Stroke, TIA and embolism together give two points."""
    points = heart_failure + hypertension + diabetes + vascular_disease + (sex == "female")
    return points + 2 * (stroke or tia or thromboembolism) + (2 if age_years >= 75 else age_years >= 65)


def wells_pe(
    rate_bpm: float,
    dvt_signs: bool = False,
    pe_likely: bool = False,
    immobilized: bool = False,
    surgery: bool = False,
    previous_pe: bool = False,
    previous_dvt: bool = False,
    hemoptysis: bool = False,
    malignancy: bool = False,
) -> float:
    """Wells score for pulmonary embolism, 0 to 12.5 (Wells et al., Thromb Haemost 2000;83:416)."""
    points = 3.0 * (dvt_signs + pe_likely) + hemoptysis + malignancy
    return points + 1.5 * ((rate_bpm > 100) + (immobilized or surgery) + (previous_pe or previous_dvt))


def wells_dvt(
    active_cancer: bool = False,
    bedridden_or_surgery: bool = False,
    calf_swelling: bool = False,
    collateral_veins: bool = False,
    leg_swollen: bool = False,
    tenderness: bool = False,
    pitting_edema: bool = False,
    paralysis_or_cast: bool = False,
    previous_dvt: bool = False,
    alternative_likely: bool = False,
) -> int:
    """Wells score for deep vein thrombosis, -2 to 9 (Wells et al., N Engl J Med 2003;349:1227)."""
    points = active_cancer + bedridden_or_surgery + calf_swelling + collateral_veins + leg_swollen
    return points + tenderness + pitting_edema + paralysis_or_cast + previous_dvt - 2 * alternative_likely


def revised_cardiac_risk(
    creatinine_mg_dl: float,
    high_risk_surgery: bool = False,
    ischemic_heart_disease: bool = False,
    heart_failure: bool = False,
    cerebrovascular: bool = False,
    insulin: bool = False,
) -> int:
    """Revised cardiac risk index, 0 to 6 (Lee et al., Circulation 1999;100:1043)."""
    points = high_risk_surgery + ischemic_heart_disease + heart_failure + cerebrovascular + insulin
    return points + (creatinine_mg_dl > 2)


def heart_score(
    age_years: float,
    history: int,
    ecg: int,
    troponin: int,
    hypertension: bool = False,
    high_cholesterol: bool = False,
    diabetes: bool = False,
    obesity: bool = False,
    smoking: bool = False,
    family_history: bool = False,
    atherosclerosis: bool = False,
) -> int:
    """HEART score, 0 to 10 (Six et al., Neth Heart J 2008;16:191).

    `history`, `ecg` and `troponin` are graded 0 to 2. Three risk factors, or known atherosclerotic disease, give two.
    """
    factors = hypertension + high_cholesterol + diabetes + obesity + smoking + family_history
    risk = 2 if factors >= 3 or atherosclerosis else 1 if factors else 0
    return history + ecg + troponin + risk + (2 if age_years >= 65 else age_years >= 45)


def has_bled(
    age_years: float,
    drinks_per_week: float = 0,
    hypertension: bool = False,
    renal_disease: bool = False,
    liver_disease: bool = False,
    stroke: bool = False,
    bleeding: bool = False,
    labile_inr: bool = False,
    bleeding_drugs: bool = False,
) -> int:
    """HAS-BLED, 0 to 9 (Pisters et al., Chest 2010;138:1093). Age counts above 65, alcohol from 8 drinks a week on."""
    points = hypertension + renal_disease + liver_disease + stroke + bleeding + labile_inr + bleeding_drugs
    return points + (age_years > 65) + (drinks_per_week >= 8)


def charlson_index(
    age_years: float,
    infarction: bool = False,
    heart_failure: bool = False,
    peripheral_vascular: bool = False,
    cerebrovascular: bool = False,
    dementia: bool = False,
    copd: bool = False,
    connective_tissue: bool = False,
    peptic_ulcer: bool = False,
    liver: Literal["none", "mild", "severe"] = "none",
    diabetes: Literal["none", "uncomplicated", "organ damage"] = "none",
    hemiplegia: bool = False,
    kidney_disease: bool = False,
    tumor: Literal["none", "localized", "metastatic"] = "none",
    leukemia: bool = False,
    lymphoma: bool = False,
    aids: bool = False,
) -> int:
    """Age-adjusted Charlson index, 0 to 37 (Charlson et al., J Clin Epidemiol 1994;47:1245): a point per decade from
    50 years on, at most four. `liver` "severe" is moderate or severe."""
    points = infarction + heart_failure + peripheral_vascular + cerebrovascular + dementia + copd
    points += connective_tissue + peptic_ulcer + 2 * (hemiplegia + kidney_disease + leukemia + lymphoma) + 6 * aids
    points += {"none": 0, "mild": 1, "severe": 3}[liver]
    points += {"none": 0, "uncomplicated": 1, "organ damage": 2}[diabetes]
    points += {"none": 0, "localized": 2, "metastatic": 6}[tumor]
    return points + min(max(int(age_years) // 10 - 4, 0), 4)


def caprini_2005(
    age_years: float,
    bmi_kg_m2: float,
    surgery: Literal["none", "minor", "major", "laparoscopic", "arthroplasty"] = "none",
    mobility: Literal["normal", "bed rest", "confined"] = "normal",
    recent_surgery: bool = False,
    heart_failure: bool = False,
    sepsis: bool = False,
    pneumonia: bool = False,
    copd: bool = False,
    infarction: bool = False,
    bowel_disease: bool = False,
    varicose_veins: bool = False,
    swollen_legs: bool = False,
    plaster_cast: bool = False,
    central_line: bool = False,
    malignancy: bool = False,
    previous_dvt: bool = False,
    previous_pe: bool = False,
    family_thrombosis: bool = False,
    factor_v_leiden: bool = False,
    prothrombin_20210a: bool = False,
    homocysteine: bool = False,
    lupus_anticoagulant: bool = False,
    anticardiolipin: bool = False,
    heparin_thrombocytopenia: bool = False,
    other_thrombophilia: bool = False,
    hip_or_leg_fracture: bool = False,
    stroke: bool = False,
    multiple_trauma: bool = False,
    spinal_cord_injury: bool = False,
) -> int:
    """Caprini score of 2005 (Caprini, Dis Mon 2005;51:70). History of DVT and of PE count once each."""
    points = recent_surgery + heart_failure + sepsis + pneumonia + copd + infarction + bowel_disease
    points += varicose_veins + swollen_legs + (bmi_kg_m2 > 25)
    points += 2 * (plaster_cast + central_line + malignancy)
    points += 3 * (previous_dvt + previous_pe + family_thrombosis + factor_v_leiden + prothrombin_20210a)
    points += 3 * (homocysteine + lupus_anticoagulant + anticardiolipin + heparin_thrombocytopenia)
    points += 3 * other_thrombophilia + 5 * (hip_or_leg_fracture + stroke + multiple_trauma + spinal_cord_injury)
    points += {"none": 0, "minor": 1, "major": 2, "laparoscopic": 2, "arthroplasty": 5}[surgery]
    points += {"normal": 0, "bed rest": 1, "confined": 2}[mobility]
    return points + (3 if age_years >= 75 else 2 if age_years >= 61 else age_years >= 41)


def child_pugh(
    bilirubin_mg_dl: float,
    albumin_g_dl: float,
    inr: float,
    ascites: Literal["absent", "slight", "moderate"],
    encephalopathy: Literal["none", "grade 1-2", "grade 3-4"],
) -> int:
    """Child-Pugh score, 5 to 15 (Pugh et al., Br J Surg 1973;60:646, with INR for the prothrombin time)."""
    points = 1 if bilirubin_mg_dl < 2 else 2 if bilirubin_mg_dl <= 3 else 3
    points += 1 if albumin_g_dl > 3.5 else 2 if albumin_g_dl >= 2.8 else 3
    points += 1 if inr < 1.7 else 2 if inr <= 2.3 else 3
    points += {"absent": 1, "slight": 2, "moderate": 3}[ascites]
    return points + {"none": 1, "grade 1-2": 2, "grade 3-4": 3}[encephalopathy]


def perc_criteria(
    age_years: float,
    rate_bpm: float,
    saturation_percent: float,
    leg_swelling: bool = False,
    hemoptysis: bool = False,
    surgery_or_trauma: bool = False,
    previous_pe: bool = False,
    previous_dvt: bool = False,
    hormones: bool = False,
) -> int:
    """Criteria of the PERC rule that are positive, 0 to 8 (Kline et al., J Thromb Haemost 2004;2:1247)."""
    points = (age_years >= 50) + (rate_bpm >= 100) + (saturation_percent < 95) + leg_swelling + hemoptysis
    return points + surgery_or_trauma + (previous_pe or previous_dvt) + hormones
