"""What can be measured and given in the synthetic hospital: labs, vital signs, drugs, fluids, cultures, units.

Names are the field's standard terms, lower-cased; reference ranges and doses are common adult textbook values, enough
for plausible data and of no use for care. Codes of items are the view's business (`mimic.py` numbers them), but the
laboratory carries MIMIC's item ids, which agents may know.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lab:
    """A laboratory test. `low` and `high` are the limits of normal; `spread` is the relative noise of one result."""

    item: int
    name: str
    unit: str
    low: float
    high: float
    spread: float
    decimals: int
    price: float

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2


PANELS: dict[str, tuple[Lab, ...]] = {
    "chemistry": (
        Lab(50983, "sodium", "meq/l", 135, 145, 0.015, 0, 12),
        Lab(50971, "potassium", "meq/l", 3.5, 5.0, 0.07, 1, 12),
        Lab(50902, "chloride", "meq/l", 98, 106, 0.02, 0, 11),
        Lab(50882, "bicarbonate", "meq/l", 22, 28, 0.06, 0, 12),
        Lab(51006, "urea nitrogen", "mg/dl", 8, 20, 0.12, 0, 13),
        Lab(50912, "creatinine", "mg/dl", 0.6, 1.2, 0.08, 1, 13),
        Lab(50931, "glucose", "mg/dl", 75, 130, 0.14, 0, 10),
        Lab(50868, "anion gap", "meq/l", 8, 16, 0.0, 0, 9),
    ),
    "minerals": (
        Lab(50893, "calcium, total", "mg/dl", 8.5, 10.2, 0.03, 1, 12),
        Lab(50960, "magnesium", "mg/dl", 1.7, 2.4, 0.07, 1, 14),
        Lab(50970, "phosphate", "mg/dl", 2.7, 4.5, 0.12, 1, 13),
    ),
    "blood count": (
        Lab(51222, "hemoglobin", "g/dl", 12.5, 16.0, 0.04, 1, 9),
        Lab(51221, "hematocrit", "%", 37, 48, 0.0, 1, 9),
        Lab(51279, "red blood cells", "m/ul", 4.2, 5.4, 0.0, 2, 9),
        Lab(51250, "mcv", "fl", 82, 98, 0.02, 0, 9),
        Lab(51265, "platelet count", "k/ul", 150, 400, 0.10, 0, 10),
        Lab(51301, "white blood cells", "k/ul", 4.5, 11.0, 0.14, 1, 10),
        Lab(51277, "rdw", "%", 11.5, 14.5, 0.03, 1, 9),
    ),
    "coagulation": (
        Lab(51274, "pt", "sec", 11.0, 13.5, 0.04, 1, 15),
        Lab(51275, "ptt", "sec", 25.0, 35.0, 0.08, 1, 16),
        Lab(51237, "inr(pt)", "ratio", 0.9, 1.1, 0.0, 1, 15),
    ),
    "liver": (
        Lab(50861, "alanine aminotransferase (alt)", "iu/l", 8, 40, 0.14, 0, 18),
        Lab(50878, "asparate aminotransferase (ast)", "iu/l", 10, 40, 0.14, 0, 18),
        Lab(50863, "alkaline phosphatase", "iu/l", 40, 120, 0.10, 0, 17),
        Lab(50885, "bilirubin, total", "mg/dl", 0.2, 1.2, 0.14, 1, 17),
        Lab(50862, "albumin", "g/dl", 3.5, 5.0, 0.05, 1, 16),
    ),
    "blood gas": (
        Lab(50818, "pco2", "mm hg", 35, 45, 0.07, 0, 22),
        Lab(50820, "ph", "units", 7.35, 7.45, 0.0, 2, 22),
        Lab(50821, "po2", "mm hg", 80, 110, 0.13, 0, 22),
        Lab(50813, "lactate", "mmol/l", 0.5, 2.0, 0.16, 1, 24),
    ),
    "cardiac": (
        Lab(51003, "troponin t", "ng/ml", 0.01, 0.05, 0.25, 2, 42),
        Lab(50910, "creatine kinase (ck)", "iu/l", 40, 200, 0.20, 0, 26),
    ),
    "heart failure": (Lab(50963, "ntprobnp", "pg/ml", 50, 300, 0.22, 0, 78),),
    "diabetes": (Lab(50852, "% hemoglobin a1c", "%", 4.6, 5.7, 0.03, 1, 34),),
    "inflammation": (Lab(50889, "c-reactive protein", "mg/l", 0.5, 8.0, 0.25, 1, 28),),
    "iron": (
        Lab(50924, "ferritin", "ng/ml", 30, 300, 0.18, 0, 36),
        Lab(50952, "iron", "ug/dl", 50, 160, 0.15, 0, 21),
    ),
    "thyroid": (Lab(50993, "thyroid stimulating hormone", "uiu/ml", 0.4, 4.0, 0.18, 2, 39),),
    "pancreas": (Lab(50956, "lipase", "iu/l", 10, 60, 0.20, 0, 31),),
    "lipids": (
        Lab(50907, "cholesterol, total", "mg/dl", 130, 200, 0.06, 0, 23),
        Lab(51000, "triglycerides", "mg/dl", 50, 150, 0.15, 0, 23),
    ),
}
LABS: dict[str, Lab] = {lab.name: lab for panel in PANELS.values() for lab in panel}


@dataclass(frozen=True, slots=True)
class Vital:
    """A vital sign: MIMIC's item id and label, unit, usual value and noise, and the limits a monitor would show."""

    item: int
    name: str
    unit: str
    usual: float
    noise: float
    low: float
    high: float
    decimals: int


VITALS: dict[str, Vital] = {
    vital.name: vital
    for vital in (
        Vital(677, "temperature c (calc)", "deg. c", 36.9, 0.35, 33.5, 41.0, 1),
        Vital(834, "sao2", "%", 97.0, 1.3, 80.0, 100.0, 0),
        Vital(211, "heart rate", "bpm", 82.0, 8.0, 35.0, 180.0, 0),
        Vital(618, "respiratory rate", "bpm", 17.0, 2.6, 6.0, 45.0, 0),
        Vital(51, "arterial bp [systolic]", "mmhg", 122.0, 11.0, 60.0, 220.0, 0),
        Vital(8368, "arterial bp [diastolic]", "mmhg", 64.0, 7.0, 30.0, 120.0, 0),
        Vital(52, "arterial bp mean", "mmhg", 83.0, 0.0, 40.0, 153.0, 0),
        Vital(762, "admit wt", "kg", 78.0, 0.0, 38.0, 180.0, 1),
        Vital(920, "admit ht", "cm", 170.0, 0.0, 140.0, 205.0, 0),
    )
}


@dataclass(frozen=True, slots=True)
class Drug:
    """A drug with the doses in use, unit and route; `days` is the usual length of a course, 0 = until discharge."""

    name: str
    doses: tuple[str, ...]
    unit: str
    route: str
    price: float
    days: int = 0


DRUGS: dict[str, Drug] = {
    drug.name: drug
    for drug in (
        Drug("acetaminophen", ("325-650", "650", "1000"), "mg", "po", 3),
        Drug("heparin", ("5000",), "unit", "sc", 6),
        Drug("pantoprazole", ("40",), "mg", "po", 5),
        Drug("docusate sodium", ("100",), "mg", "po", 2),
        Drug("senna", ("1", "2"), "tab", "po", 2),
        Drug("ondansetron", ("4",), "mg", "iv", 9, 2),
        Drug("potassium chloride", ("20", "40"), "meq", "po", 4, 1),
        Drug("magnesium sulfate", ("2", "4"), "gm", "iv", 8, 1),
        Drug("0.9% sodium chloride", ("500", "1000"), "ml", "iv", 7, 1),
        Drug("morphine sulfate", ("2", "4"), "mg", "iv", 10, 2),
        Drug("oxycodone", ("5", "10"), "mg", "po", 6, 4),
        Drug("hydromorphone", ("0.5", "1"), "mg", "iv", 11, 2),
        Drug("fentanyl citrate", ("25-100", "100"), "mcg", "iv drip", 24, 2),
        Drug("propofol", ("10", "20-50"), "mcg/kg/min", "iv drip", 32, 2),
        Drug("midazolam", ("1-2", "2"), "mg", "iv", 13, 1),
        Drug("norepinephrine", ("0.03-0.25",), "mcg/kg/min", "iv drip", 58, 2),
        Drug("vasopressin", ("2.4",), "unit/hr", "iv drip", 96, 1),
        Drug("lorazepam", ("0.5", "1"), "mg", "iv", 8, 3),
        Drug("haloperidol", ("2.5", "5"), "mg", "iv", 9, 2),
        Drug("quetiapine", ("25", "50"), "mg", "po", 7, 5),
        Drug("aspirin", ("81", "325"), "mg", "po", 2),
        Drug("clopidogrel", ("75",), "mg", "po", 12),
        Drug("atorvastatin", ("40", "80"), "mg", "po", 6),
        Drug("simvastatin", ("20", "40"), "mg", "po", 4),
        Drug("metoprolol tartrate", ("12.5", "25", "50"), "mg", "po", 4),
        Drug("carvedilol", ("3.125", "6.25"), "mg", "po", 5),
        Drug("lisinopril", ("5", "10", "20"), "mg", "po", 3),
        Drug("amlodipine", ("5", "10"), "mg", "po", 3),
        Drug("hydralazine", ("10", "25"), "mg", "po", 5),
        Drug("furosemide", ("20", "40", "80"), "mg", "iv", 7, 4),
        Drug("spironolactone", ("25", "50"), "mg", "po", 5),
        Drug("nitroglycerin", ("0.3", "0.4"), "mg", "sl", 8, 1),
        Drug("amiodarone", ("200", "400"), "mg", "po", 14),
        Drug("diltiazem", ("30", "60"), "mg", "po", 6),
        Drug("digoxin", ("0.125", "0.25"), "mg", "po", 5),
        Drug("warfarin", ("2", "5"), "mg", "po", 4),
        Drug("enoxaparin sodium", ("40", "80"), "mg", "sc", 28),
        Drug("heparin sodium", ("25000",), "unit", "iv drip", 34, 3),
        Drug("insulin", ("1-10", "10"), "unit", "sc", 9),
        Drug("glargine", ("10", "20"), "unit", "sc", 15),
        Drug("metformin", ("500", "1000"), "mg", "po", 3),
        Drug("levothyroxine sodium", ("50", "75", "100"), "mcg", "po", 3),
        Drug("vancomycin", ("1000", "1250"), "mg", "iv", 42, 6),
        Drug("piperacillin-tazobactam", ("3.375", "4.5"), "gm", "iv", 48, 6),
        Drug("cefepime", ("1", "2"), "gm", "iv", 44, 6),
        Drug("ceftriaxone", ("1", "2"), "gm", "iv", 26, 5),
        Drug("cefazolin", ("1", "2"), "gm", "iv", 18, 1),
        Drug("levofloxacin", ("500", "750"), "mg", "po", 21, 5),
        Drug("ciprofloxacin hcl", ("250", "500"), "mg", "po", 14, 5),
        Drug("azithromycin", ("250", "500"), "mg", "po", 16, 4),
        Drug("metronidazole", ("500",), "mg", "iv", 15, 6),
        Drug("meropenem", ("500", "1000"), "mg", "iv", 76, 6),
        Drug("fluconazole", ("200", "400"), "mg", "po", 22, 5),
        Drug("albuterol 0.083% neb soln", ("1",), "neb", "ih", 6),
        Drug("ipratropium bromide neb", ("1",), "neb", "ih", 7),
        Drug("fluticasone propionate 110mcg", ("2",), "puff", "ih", 19),
        Drug("prednisone", ("20", "40", "60"), "mg", "po", 4, 5),
        Drug("methylprednisolone sodium succ", ("40", "125"), "mg", "iv", 23, 2),
        Drug("lactulose", ("30",), "ml", "po", 8),
        Drug("rifaximin", ("550",), "mg", "po", 62),
        Drug("octreotide acetate", ("50",), "mcg/hr", "iv drip", 68, 3),
        Drug("phytonadione", ("5", "10"), "mg", "po", 9, 2),
        Drug("folic acid", ("1",), "mg", "po", 2),
        Drug("thiamine", ("100",), "mg", "iv", 5, 3),
        Drug("multivitamins", ("1",), "tab", "po", 2),
        Drug("ferrous sulfate", ("325",), "mg", "po", 2),
        Drug("calcium gluconate", ("2",), "gm", "iv", 8, 1),
        Drug("sodium bicarbonate", ("50", "150"), "meq", "iv", 10, 1),
        Drug("sevelamer", ("800", "1600"), "mg", "po", 16),
        Drug("levetiracetam", ("500", "1000"), "mg", "po", 11),
        Drug("phenytoin", ("100",), "mg", "iv", 10, 4),
        Drug("mannitol", ("25", "50"), "gm", "iv", 21, 1),
        Drug("nimodipine", ("60",), "mg", "po", 33, 7),
        Drug("donepezil", ("5", "10"), "mg", "po", 6),
        Drug("sertraline", ("50", "100"), "mg", "po", 3),
        Drug("gabapentin", ("100", "300"), "mg", "po", 3),
        Drug("tamsulosin", ("0.4",), "mg", "po", 4),
        Drug("filgrastim", ("300", "480"), "mcg", "sc", 120, 4),
        Drug("dexamethasone", ("4", "10"), "mg", "iv", 12, 4),
        Drug("allopurinol", ("100", "300"), "mg", "po", 3),
    )
}


@dataclass(frozen=True, slots=True)
class Fluid:
    """Something that goes in or comes out: usual ml per record, the step of the scale, hours between records."""

    item: int
    name: str
    usual: float
    step: int
    hours: int


INTAKE: dict[str, Fluid] = {
    fluid.name: fluid
    for fluid in (
        Fluid(30018, ".9% normal saline", 250, 10, 4),
        Fluid(30013, "d5w", 120, 10, 6),
        Fluid(30021, "lactated ringers", 300, 50, 8),
        Fluid(30056, "po intake", 180, 20, 6),
        Fluid(30131, "propofol", 22, 1, 4),
        Fluid(30118, "fentanyl (concentrate)", 8, 1, 4),
        Fluid(30120, "levophed-k", 16, 1, 4),
        Fluid(30001, "packed red blood cells", 350, 25, 24),
        Fluid(30005, "fresh frozen plasma", 280, 20, 24),
        Fluid(30006, "platelets", 240, 20, 24),
        Fluid(30008, "albumin 5%", 250, 250, 24),
        Fluid(30059, "nutren pulmonary", 160, 10, 4),
        Fluid(30025, "heparin", 12, 1, 4),
        Fluid(30045, "insulin", 4, 1, 4),
    )
}
OUTPUT: dict[str, Fluid] = {
    fluid.name: fluid
    for fluid in (
        Fluid(40055, "urine out foley", 230, 5, 4),
        Fluid(40069, "urine out void", 400, 25, 8),
        Fluid(40059, "chest tubes right pleural 1", 60, 10, 6),
        Fluid(40061, "gastric nasogastric", 90, 10, 8),
        Fluid(40067, "gastric emesis", 120, 10, 24),
        Fluid(40072, "stool out (non-specific)", 200, 50, 12),
        Fluid(40076, "ultrafiltrate", 1900, 100, 48),
        Fluid(40074, "drain jackson pratt #1", 45, 5, 8),
    )
}

CARE_UNITS: dict[str, tuple[int, ...]] = {
    "micu": (50, 52, 23),
    "sicu": (33, 57),
    "ccu": (7,),
    "csru": (12, 15),
    "tsicu": (14,),
}
"""Intensive care units and their wards."""
FLOOR_WARDS = (3, 17, 18, 24, 29, 40, 45, 54, 55)

SPECIMENS: dict[str, tuple[str, ...]] = {
    "blood culture": (
        "staph aureus coag +",
        "staphylococcus, coagulase negative",
        "escherichia coli",
        "klebsiella pneumoniae",
        "enterococcus sp.",
        "pseudomonas aeruginosa",
        "candida albicans",
    ),
    "urine": (
        "escherichia coli",
        "klebsiella pneumoniae",
        "enterococcus sp.",
        "proteus mirabilis",
        "pseudomonas aeruginosa",
        "yeast",
    ),
    "sputum": (
        "staph aureus coag +",
        "pseudomonas aeruginosa",
        "klebsiella pneumoniae",
        "streptococcus pneumoniae",
        "haemophilus influenzae",
        "yeast",
    ),
    "swab": ("staph aureus coag +", "staphylococcus, coagulase negative", "enterococcus sp.", "escherichia coli"),
    "stool": ("clostridium difficile",),
    "mrsa screen": ("positive for methicillin resistant staph aureus",),
    "bronchoalveolar lavage": ("pseudomonas aeruginosa", "staph aureus coag +", "aspergillus fumigatus", "yeast"),
    "peritoneal fluid": ("escherichia coli", "klebsiella pneumoniae", "enterococcus sp."),
    "catheter tip-iv": ("staphylococcus, coagulase negative", "staph aureus coag +", "candida albicans"),
}
"""What may grow in each specimen, the most frequent first."""

ETHNICITIES = (
    ("white", 0.66),
    ("black/african american", 0.13),
    ("hispanic or latino", 0.07),
    ("asian", 0.06),
    ("unknown/not specified", 0.05),
    ("other", 0.03),
)
LANGUAGES = (("engl", 0.78), ("span", 0.07), ("russ", 0.03), ("ptun", 0.03), ("cant", 0.02), (None, 0.07))
