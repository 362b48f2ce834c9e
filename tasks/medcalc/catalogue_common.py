"""Inputs that several calculators share. Ranges are for drawing; the words are those of our notes."""

from tasks.medcalc.inputs import Age, Flag, Quantity, SexInput

AGE, SEX = Age(), SexInput()
WEIGHT = Quantity("weight_kg", "weight", "weight", 48, 118, 1, "weight", (("lb", 0),), "vital")
HEIGHT = Quantity("height_cm", "height", "length", 150, 192, 0, "height", (("m", 2), ("in", 1)), "vital")
SYSTOLIC = Quantity(
    "systolic_mmhg", "systolic blood pressure", "pressure", 84, 188, 0, "Systolic Blood Pressure", (), "vital"
)
DIASTOLIC = Quantity(
    "diastolic_mmhg", "diastolic blood pressure", "pressure", 42, 82, 0, "Diastolic Blood Pressure", (), "vital"
)
RATE = Quantity("rate_bpm", "heart rate", "rate", 48, 136, 0, "Heart Rate or Pulse", (), "vital")
QT = Quantity("qt_ms", "QT interval", "time", 310, 470, 0, "QT interval", (("s", 3),), "vital")
BMI = Quantity("bmi_kg_m2", "target body mass index", "bmi", 19, 26, 1, "Body Mass Index (BMI)", (), "vital")
CREATININE = Quantity("creatinine_mg_dl", "serum creatinine", "creatinine", 0.5, 4.6, 2, "creatinine", (("µmol/L", 0),))
SODIUM = Quantity("sodium_meq_l", "sodium", "ion", 124, 158, 0, "Sodium", (("mmol/L", 0),))
LOW_SODIUM = Quantity("sodium_meq_l", "sodium", "ion", 120, 139, 0, "Sodium", (("mmol/L", 0),))
HIGH_SODIUM = Quantity("sodium_meq_l", "sodium", "ion", 147, 172, 0, "Sodium", (("mmol/L", 0),))
GAP_SODIUM = Quantity("sodium_meq_l", "sodium", "ion", 132, 148, 0, "Sodium", (("mmol/L", 0),))
CHLORIDE = Quantity("chloride_meq_l", "chloride", "ion", 92, 109, 0, "Chloride", (("mmol/L", 0),))
BICARBONATE = Quantity("bicarbonate_meq_l", "bicarbonate", "ion", 6, 21, 0, "Bicarbonate", (("mmol/L", 0),))
ALBUMIN = Quantity("albumin_g_dl", "albumin", "albumin", 1.8, 3.8, 1, "Albumin", (("g/L", 0),))
GLUCOSE = Quantity("glucose_mg_dl", "glucose", "glucose", 74, 330, 0, "Glucose", (("mmol/L", 1),))
HIGH_GLUCOSE = Quantity("glucose_mg_dl", "glucose", "glucose", 240, 960, 0, "Glucose", (("mmol/L", 1),))
BUN = Quantity("bun_mg_dl", "blood urea nitrogen", "bun", 8, 82, 0, "Blood Urea Nitrogen (BUN)")
BILIRUBIN = Quantity("bilirubin_mg_dl", "total bilirubin", "bilirubin", 0.4, 9.5, 1, "Bilirubin", (("µmol/L", 0),))
INR = Quantity("inr", "INR", "none", 0.9, 3.1, 1, "international normalized ratio")
PLATELETS = Quantity(
    "platelets_per_ul", "platelet count", "cells", 42_000, 380_000, -3, "Platelet count", (("×10⁹/L", 0),)
)
TOTAL = Quantity("total_mg_dl", "total cholesterol", "cholesterol", 162, 292, 0, "Total cholesterol", (("mmol/L", 2),))
HDL = Quantity(
    "hdl_mg_dl", "HDL cholesterol", "cholesterol", 28, 72, 0, "high-density lipoprotein cholesterol", (("mmol/L", 2),)
)
TRIGLYCERIDES = Quantity(
    "triglycerides_mg_dl", "triglycerides", "triglycerides", 62, 360, 0, "Triglycerides", (("mmol/L", 2),)
)
CYCLE = Quantity("cycle_days", "cycle length in days", "none", 22, 35, 0, "cycle length", (), "vital")
BREATHS = Quantity("breaths_per_min", "respiratory rate", "rate", 11, 38, 0, "respiratory rate", (), "vital")
TEMPERATURE = Quantity(
    "temperature_c", "temperature", "temperature", 35.0, 40.6, 1, "Temperature", (("°F", 1),), "vital"
)
FIO2 = Quantity("fio2_percent", "inspired oxygen fraction", "percent", 21, 49, 0, "FiO₂", (), "vital")
PAO2 = Quantity("pao2_mmhg", "arterial PaO2", "pressure", 48, 108, 0, "Partial pressure of oxygen (PaO₂) for Apache II")
COMA = Quantity("coma_score", "Glasgow Coma Scale total", "none", 5, 15, 0, "Glasgow Coma Score", (), "vital")
PH = Quantity("ph", "arterial pH", "none", 7.12, 7.56, 2, "pH")
HEMATOCRIT = Quantity("hematocrit_percent", "hematocrit", "percent", 22, 52, 0, "Hematocrit")
WHITE = Quantity(
    "wbc_per_ul", "white cell count", "cells", 2_200, 22_000, -2, "White blood cell count", (("×10³/µL", 1),)
)
DVT, PE = "Previously documented Deep Vein Thrombosis", "Previously Documented Pulmonary Embolism"
PREVIOUS = (
    Flag("previous_pe", "an earlier pulmonary embolism", (PE,), chance=0.15),
    Flag("previous_dvt", "an earlier deep vein thrombosis", (DVT,), chance=0.2),
)
HEART_FAILURE = Flag("heart_failure", "congestive heart failure", ("Congestive Heart Faliure",))
TIA = "Transient Ischemic Attacks History"
