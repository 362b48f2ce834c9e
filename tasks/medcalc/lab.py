"""Laboratory equations. Units are in the names of the parameters; electrolytes in mEq/L (for these ions = mmol/L)."""

import math
from typing import Literal

from tasks.medcalc.physical import adjusted_body_weight, body_mass_index, ideal_body_weight

Sex = Literal["male", "female"]


def cockcroft_gault(age_years: float, weight_kg: float, height_cm: float, creatinine_mg_dl: float, sex: Sex) -> float:
    """Creatinine clearance in mL/min (Cockcroft and Gault, Nephron 1976;16:31).

    The weight is by body mass index: actual below 18.5 kg/m2; the lesser of ideal and actual below 25; adjusted from
    25 on (Winter et al., Pharmacotherapy 2012;32:604).
    """
    bmi = body_mass_index(weight_kg, height_cm)
    weight = weight_kg
    if bmi >= 25:
        weight = adjusted_body_weight(weight_kg, height_cm, sex)
    elif bmi >= 18.5:
        weight = min(weight_kg, ideal_body_weight(height_cm, sex))
    return (140 - age_years) * weight * (0.85 if sex == "female" else 1.0) / (72 * creatinine_mg_dl)


def ckd_epi_2021(age_years: float, creatinine_mg_dl: float, sex: Sex) -> float:
    """eGFR in mL/min/1.73 m2 from creatinine, without race (Inker et al., N Engl J Med 2021;385:1737)."""
    kappa, alpha = (0.7, -0.241) if sex == "female" else (0.9, -0.302)
    ratio = creatinine_mg_dl / kappa
    value = 142 * min(ratio, 1) ** alpha * max(ratio, 1) ** -1.2 * 0.9938**age_years
    return float(value * (1.012 if sex == "female" else 1.0))


def mdrd_gfr(age_years: float, creatinine_mg_dl: float, sex: Sex, black: bool = False) -> float:
    """eGFR in mL/min/1.73 m2, four variables, IDMS creatinine (Levey et al., Ann Intern Med 2006;145:247)."""
    value = 175 * creatinine_mg_dl**-1.154 * age_years**-0.203
    return float(value * (0.742 if sex == "female" else 1.0) * (1.212 if black else 1.0))


def corrected_calcium(calcium_mg_dl: float, albumin_g_dl: float) -> float:
    """Calcium in mg/dL corrected to albumin 4 g/dL (Payne et al., Br Med J 1973;4:643)."""
    return calcium_mg_dl + 0.8 * (4.0 - albumin_g_dl)


def fib4(age_years: float, ast_u_l: float, alt_u_l: float, platelets_per_ul: float) -> float:
    """Fibrosis-4 index, no unit (Sterling et al., Hepatology 2006;43:1317). Platelets enter in 10^9/L."""
    return age_years * ast_u_l / (platelets_per_ul / 1000 * math.sqrt(alt_u_l))


def meld_na(
    creatinine_mg_dl: float, bilirubin_mg_dl: float, inr: float, sodium_meq_l: float, dialysis: bool = False
) -> int:
    """MELD with sodium as UNOS/OPTN used it from January 2016 on: a whole number from 6 to 40.

    Creatinine, bilirubin and INR count as at least 1; creatinine as at most 4, and as 4 with dialysis twice in the
    past week or 24 hours of continuous haemodialysis; sodium as 125 to 137. Sodium enters above a MELD of 11.
    """
    creatinine = 4.0 if dialysis else min(max(creatinine_mg_dl, 1.0), 4.0)
    raw = 0.957 * math.log(creatinine) + 0.378 * math.log(max(bilirubin_mg_dl, 1.0)) + 1.120 * math.log(max(inr, 1.0))
    meld = round(raw + 0.643, 1) * 10
    if meld > 11:
        gap = 137 - min(max(sodium_meq_l, 125), 137)
        meld = meld + 1.32 * gap - 0.033 * meld * gap
    return min(max(math.floor(meld + 0.5), 6), 40)


def corrected_sodium(sodium_meq_l: float, glucose_mg_dl: float) -> float:
    """Sodium in mEq/L corrected for hyperglycemia, 2.4 per 100 mg/dL (Hillier et al., Am J Med 1999;106:399)."""
    return sodium_meq_l + 0.024 * (glucose_mg_dl - 100)


def serum_osmolality(sodium_meq_l: float, bun_mg_dl: float, glucose_mg_dl: float) -> float:
    """Calculated osmolality in mOsm/kg: 2 Na + BUN/2.8 + glucose/18 (Smithline and Gardner, JAMA 1976;236:1594)."""
    return 2 * sodium_meq_l + bun_mg_dl / 2.8 + glucose_mg_dl / 18


def homa_ir(glucose_mg_dl: float, insulin_uiu_ml: float) -> float:
    """HOMA-IR from fasting values, no unit (Matthews et al., Diabetologia 1985;28:412)."""
    return glucose_mg_dl * insulin_uiu_ml / 405


def free_water_deficit(age_years: float, weight_kg: float, sodium_meq_l: float, sex: Sex) -> float:
    """Free water deficit in litres against a sodium of 140 mEq/L (Adrogue and Madias, N Engl J Med 2000;342:1493).

    Body water as a part of weight: children 0.6; adults 0.6 (men) and 0.5 (women); over 65 years 0.5 and 0.45.
    """
    share = 0.6
    if age_years > 65:
        share = 0.5 if sex == "male" else 0.45
    elif age_years >= 18:
        share = 0.6 if sex == "male" else 0.5
    return share * weight_kg * (sodium_meq_l / 140 - 1)


def anion_gap(sodium_meq_l: float, chloride_meq_l: float, bicarbonate_meq_l: float) -> float:
    """Anion gap in mEq/L, potassium left out (Emmett and Narins, Medicine 1977;56:38)."""
    return sodium_meq_l - chloride_meq_l - bicarbonate_meq_l


def delta_gap(sodium_meq_l: float, chloride_meq_l: float, bicarbonate_meq_l: float) -> float:
    """Anion gap less a normal one of 12, in mEq/L (Wrenn, Ann Emerg Med 1990;19:1310)."""
    return anion_gap(sodium_meq_l, chloride_meq_l, bicarbonate_meq_l) - 12


def delta_ratio(sodium_meq_l: float, chloride_meq_l: float, bicarbonate_meq_l: float) -> float:
    """Delta gap over the fall of bicarbonate from 24 mEq/L (Rastegar, J Am Soc Nephrol 2007;18:2429).

    Raises ZeroDivisionError at a bicarbonate of 24.
    """
    return delta_gap(sodium_meq_l, chloride_meq_l, bicarbonate_meq_l) / (24 - bicarbonate_meq_l)


def corrected_anion_gap(
    sodium_meq_l: float, chloride_meq_l: float, bicarbonate_meq_l: float, albumin_g_dl: float
) -> float:
    """Anion gap in mEq/L corrected by 2.5 per g/dL of albumin below 4 (Figge et al., Crit Care Med 1998;26:1807)."""
    return anion_gap(sodium_meq_l, chloride_meq_l, bicarbonate_meq_l) + 2.5 * (4.0 - albumin_g_dl)


def corrected_delta_gap(
    sodium_meq_l: float, chloride_meq_l: float, bicarbonate_meq_l: float, albumin_g_dl: float
) -> float:
    """Albumin-corrected anion gap less 12, in mEq/L (sources as the two it is made of)."""
    return corrected_anion_gap(sodium_meq_l, chloride_meq_l, bicarbonate_meq_l, albumin_g_dl) - 12


def corrected_delta_ratio(
    sodium_meq_l: float, chloride_meq_l: float, bicarbonate_meq_l: float, albumin_g_dl: float
) -> float:
    """Albumin-corrected delta gap over the fall of bicarbonate from 24 mEq/L. ZeroDivisionError at 24."""
    gap = corrected_delta_gap(sodium_meq_l, chloride_meq_l, bicarbonate_meq_l, albumin_g_dl)
    return gap / (24 - bicarbonate_meq_l)


def fractional_sodium_excretion(
    sodium_meq_l: float, creatinine_mg_dl: float, urine_sodium_meq_l: float, urine_creatinine_mg_dl: float
) -> float:
    """FENa in percent (Espinel, JAMA 1976;236:579)."""
    return 100 * urine_sodium_meq_l * creatinine_mg_dl / (sodium_meq_l * urine_creatinine_mg_dl)


def ldl_friedewald(total_mg_dl: float, hdl_mg_dl: float, triglycerides_mg_dl: float) -> float:
    """LDL cholesterol in mg/dL (Friedewald et al., Clin Chem 1972;18:499); valid to triglycerides of 400 mg/dL."""
    return total_mg_dl - hdl_mg_dl - triglycerides_mg_dl / 5


def framingham_hard_chd(
    age_years: float,
    total_mg_dl: float,
    hdl_mg_dl: float,
    systolic_mmhg: float,
    sex: Sex,
    smoker: bool = False,
    treated: bool = False,
) -> float:
    """Ten-year risk of myocardial infarction or coronary death, in percent (ATP III final report, Circulation
    2002;106:3143; the equations behind its tables). The smoking term takes age as at most 70 (men) or 78 (women)."""
    age, total, hdl, pressure = (math.log(value) for value in (age_years, total_mg_dl, hdl_mg_dl, systolic_mmhg))
    capped = math.log(min(age_years, 70 if sex == "male" else 78))
    if sex == "male":
        line = 52.00961 * age + 20.014077 * total - 0.905964 * hdl + 1.305784 * pressure + 0.241549 * treated
        line += 12.096316 * smoker - 4.605038 * age * total - 2.84367 * capped * smoker - 2.93323 * age * age
        return float(100 * (1 - 0.9402 ** math.exp(line - 172.300168)))
    line = 31.764001 * age + 22.465206 * total - 1.187731 * hdl + 2.552905 * pressure + 0.420251 * treated
    line += 13.07543 * smoker - 5.060998 * age * total - 2.996945 * capped * smoker
    return float(100 * (1 - 0.98767 ** math.exp(line - 146.5933061)))
