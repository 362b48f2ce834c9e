"""Conditions and procedures of the synthetic hospital, by ICD-9-CM, and what each does to a patient.

A condition drives all else: how likely it is at an age, its intensive care, length of stay and mortality, the labs
and vital signs it shifts (factors on the usual value), the drugs, procedures, cultures and fluids it brings. The
numbers are chosen to be plausible, not estimated from anyone's data.
"""

from dataclasses import dataclass, field

Factors = dict[str, float]


@dataclass(frozen=True, slots=True)
class Procedure:
    """A procedure by its ICD-9-CM volume 3 code. `operation`: done in theatre, under anaesthesia."""

    code: str
    short: str
    long: str
    price: float
    operation: bool = False


PROCEDURES: dict[str, Procedure] = {
    procedure.code: procedure
    for procedure in (
        Procedure("3893", "venous cath nec", "venous catheterization, not elsewhere classified", 420),
        Procedure("3891", "arterial catheterization", "arterial catheterization", 310),
        Procedure("3895", "ven cath renal dialysis", "venous catheterization for renal dialysis", 690),
        Procedure("3995", "hemodialysis", "hemodialysis", 1450),
        Procedure("9604", "insert endotracheal tube", "insertion of endotracheal tube", 520),
        Procedure(
            "9671",
            "cont inv mec ven <96 hrs",
            "continuous invasive mechanical ventilation for less than 96 consecutive hours",
            2600,
        ),
        Procedure(
            "9672",
            "cont inv mec ven 96+ hrs",
            "continuous invasive mechanical ventilation for 96 consecutive hours or more",
            7800,
        ),
        Procedure("9390", "non-invasive mech vent", "non-invasive mechanical ventilation", 900),
        Procedure("966", "entral infus nutrit sub", "enteral infusion of concentrated nutritional substances", 240),
        Procedure("9904", "packed cell transfusion", "transfusion of packed cells", 380),
        Procedure("9905", "platelet transfusion", "transfusion of platelets", 430),
        Procedure("9907", "serum transfusion nec", "transfusion of other serum", 350),
        Procedure("4513", "sm bowel endoscopy nec", "other endoscopy of small intestine", 980),
        Procedure("4523", "colonoscopy", "colonoscopy", 1150),
        Procedure("4443", "endosc control gast hem", "endoscopic control of gastric or duodenal bleeding", 1900),
        Procedure("5491", "percu abdominal drainage", "percutaneous abdominal drainage", 640),
        Procedure("0066", "ptca", "percutaneous transluminal coronary angioplasty [ptca]", 6400, True),
        Procedure("3722", "left heart cardiac cath", "left heart cardiac catheterization", 3300),
        Procedure("8856", "coronar arteriogr-2 cath", "coronary arteriography using two catheters", 2100),
        Procedure("3607", "ins drug-elut coronry st", "insertion of drug-eluting coronary artery stent(s)", 5200, True),
        Procedure("3612", "aortocor bypas-2 cor art", "(aorto)coronary bypass of two coronary arteries", 21000, True),
        Procedure(
            "3961", "extracorporeal circulat", "extracorporeal circulation auxiliary to open heart surgery", 5600
        ),
        Procedure(
            "3521",
            "opn/oth rep aort vlv-tis",
            "open and other replacement of aortic valve with tissue graft",
            24000,
            True,
        ),
        Procedure("8872", "dx ultrasound-heart", "diagnostic ultrasound of heart", 560),
        Procedure("9962", "heart countershock nec", "other electric countershock of heart", 870),
        Procedure("3324", "closed bronchial biopsy", "closed [endoscopic] biopsy of bronchus", 1250),
        Procedure("3404", "insert intercostal cath", "insertion of intercostal catheter for drainage", 720),
        Procedure("0331", "spinal tap", "spinal tap", 410),
        Procedure("8703", "c.a.t. scan of head", "computerized axial tomography of head", 620),
        Procedure("0139", "oth brain incision", "other incision of brain", 14500, True),
        Procedure("9910", "inject/inf thrombolytic", "injection or infusion of thrombolytic agent", 3900),
        Procedure("5123", "lap cholecystectomy", "laparoscopic cholecystectomy", 7900, True),
        Procedure("4573", "opn rt hemicolectomy nec", "open and other right hemicolectomy", 13200, True),
        Procedure(
            "7935", "op red-int fix femur", "open reduction of fracture with internal fixation, femur", 12400, True
        ),
        Procedure("8154", "total knee replacement", "total knee replacement", 15800, True),
        Procedure("8622", "wnd debridmnt/excis", "excisional debridement of wound, infection, or burn", 2300, True),
        Procedure(
            "9925", "inject ca chemother nec", "injection or infusion of cancer chemotherapeutic substance", 2700
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A diagnosis. `weight` is, for a chronic one, its share of 65-year-olds; for an acute one, how often it admits.

    `age` > 0 makes it commoner in the old, < 0 in the young. `stay` is the usual length of stay in days. `labs` and
    `vitals` are factors on the usual value at its worst; `drugs` are given with the chance beside them.
    """

    code: str
    short: str
    long: str
    weight: float
    age: float = 0.0
    icu: float = 0.0
    death: float = 0.0
    stay: float = 0.0
    unit: str = "micu"
    elective: float = 0.0
    price: float = 300.0
    labs: Factors = field(default_factory=dict)
    vitals: Factors = field(default_factory=dict)
    drugs: Factors = field(default_factory=dict)
    procedures: Factors = field(default_factory=dict)
    cultures: Factors = field(default_factory=dict)
    panels: tuple[str, ...] = ()
    sex: str | None = None


C = Condition
BP = "arterial bp [systolic]"
DIA = "arterial bp [diastolic]"
HR = "heart rate"
RR = "respiratory rate"
TEMP = "temperature c (calc)"

# fmt: off
CHRONIC: tuple[Condition, ...] = (
    C("4019", "hypertension nos", "unspecified essential hypertension", 0.52, 1.0, vitals={BP: 1.10, DIA: 1.08},
      drugs={"lisinopril": .5, "amlodipine": .35, "metoprolol tartrate": .4, "hydralazine": .12}, price=120),
    C("25000", "dmii wo cmp nt st uncntr", "diabetes mellitus without mention of complication, type ii or unspecified "
      "type, not stated as uncontrolled", 0.24, .7, labs={"glucose": 1.55, "% hemoglobin a1c": 1.45},
      drugs={"insulin": .8, "metformin": .45, "glargine": .35}, panels=("diabetes",), price=210),
    C("41401", "crnry athrscl natve vssl", "coronary atherosclerosis of native coronary artery", 0.22, 1.2,
      labs={"cholesterol, total": 1.15}, drugs={"aspirin": .85, "atorvastatin": .6, "metoprolol tartrate": .5,
      "nitroglycerin": .25, "clopidogrel": .25}, panels=("lipids",), price=340),
    C("4280", "chf nos", "congestive heart failure, unspecified", 0.17, 1.4, death=.02, icu=.05, stay=.8,
      labs={"ntprobnp": 12, "creatinine": 1.15}, drugs={"furosemide": .8, "carvedilol": .45, "spironolactone": .3},
      panels=("heart failure",), price=410),
    C("42731", "atrial fibrillation", "atrial fibrillation", 0.19, 1.5, vitals={HR: 1.12}, labs={"ptt": 1.15,
      "pt": 1.8}, drugs={"warfarin": .55, "metoprolol tartrate": .5, "diltiazem": .2, "amiodarone": .2, "digoxin": .12},
      panels=("coagulation",), price=260),
    C("5859", "chronic kidney dis nos", "chronic kidney disease, unspecified", 0.14, 1.0, death=.01,
      labs={"creatinine": 2.3, "urea nitrogen": 2.0, "potassium": 1.06, "bicarbonate": .94, "phosphate": 1.2,
      "hemoglobin": .88}, drugs={"calcium gluconate": .1}, price=330),
    C("5856", "end stage renal disease", "end stage renal disease", 0.035, .4, death=.03, icu=.06, stay=1.0,
      labs={"creatinine": 5.6, "urea nitrogen": 2.9, "potassium": 1.14, "bicarbonate": .88, "phosphate": 1.5,
      "hemoglobin": .8}, drugs={"sevelamer": .8}, procedures={"3995": .85, "3895": .2}, price=980),
    C("496", "chr airway obstruct nec", "chronic airway obstruction, not elsewhere classified", 0.15, .8, icu=.04,
      stay=.4, labs={"pco2": 1.16}, vitals={"sao2": .965, RR: 1.08}, drugs={"albuterol 0.083% neb soln": .7,
      "ipratropium bromide neb": .6, "fluticasone propionate 110mcg": .4}, price=280),
    C("2724", "hyperlipidemia nec/nos", "other and unspecified hyperlipidemia", 0.33, .6, labs={"cholesterol, total":
      1.25, "triglycerides": 1.4}, drugs={"simvastatin": .5, "atorvastatin": .35}, panels=("lipids",), price=90),
    C("2449", "hypothyroidism nos", "unspecified acquired hypothyroidism", 0.11, .7,
      labs={"thyroid stimulating hormone": 1.8}, drugs={"levothyroxine sodium": .95}, panels=("thyroid",), price=100),
    C("53081", "esophageal reflux", "esophageal reflux", 0.19, .2, drugs={"pantoprazole": .8}, price=80),
    C("2859", "anemia nos", "anemia, unspecified", 0.17, .6, labs={"hemoglobin": .78, "rdw": 1.12, "iron": .5},
      drugs={"ferrous sulfate": .5, "folic acid": .2}, panels=("iron",), price=150),
    C("5712", "alcohol cirrhosis liver", "alcoholic cirrhosis of liver", 0.025, -.4, death=.06, icu=.1, stay=1.4,
      labs={"bilirubin, total": 4.5, "albumin": .62, "pt": 1.5, "platelet count": .38,
      "asparate aminotransferase (ast)": 2.6, "sodium": .96}, drugs={"lactulose": .8, "rifaximin": .4,
      "spironolactone": .5, "thiamine": .4}, procedures={"5491": .35}, cultures={"peritoneal fluid": .35},
      panels=("liver", "coagulation"), price=640),
    C("311", "depressive disorder nec", "depressive disorder, not elsewhere classified", 0.14, -.3,
      drugs={"sertraline": .7}, price=90),
    C("3051", "tobacco use disorder", "tobacco use disorder", 0.13, -.6, price=50),
    C("2948", "mental disor nec oth dis", "other persistent mental disorders due to conditions classified elsewhere",
      0.06, 2.2, death=.015, drugs={"donepezil": .6, "quetiapine": .3}, price=170),
    C("60000", "bph w/o urinary obs/luts", "hypertrophy (benign) of prostate without urinary obstruction and other "
      "lower urinary tract symptom (luts)", 0.2, 1.2, drugs={"tamsulosin": .85}, sex="m", price=90),
    C("2749", "gout nos", "gout, unspecified", 0.07, .8, drugs={"allopurinol": .8}, price=80),
    C("3569", "idio periph neurpthy nos", "unspecified hereditary and idiopathic peripheral neuropathy", 0.06, .5,
      drugs={"gabapentin": .8}, price=100),
    C("27801", "morbid obesity", "morbid obesity", 0.06, -.5, price=110),
)

ACUTE: tuple[Condition, ...] = (
    C("0389", "septicemia nos", "unspecified septicemia", 10, .7, .72, .17, 8.5, price=1900,
      labs={"lactate": 2.8, "white blood cells": 2.1, "creatinine": 1.7, "bicarbonate": .82, "platelet count": .7,
      "c-reactive protein": 24, "albumin": .72}, vitals={TEMP: 1.035, HR: 1.32, BP: .78, DIA: .8, RR: 1.4},
      drugs={"vancomycin": .85, "piperacillin-tazobactam": .55, "cefepime": .25, "meropenem": .2, "norepinephrine": .5,
      "vasopressin": .15, "0.9% sodium chloride": .9, "fluconazole": .1}, procedures={"3893": .7, "3891": .4,
      "9604": .3}, cultures={"blood culture": 1, "urine": .8, "sputum": .4, "catheter tip-iv": .15},
      panels=("blood gas", "inflammation", "liver", "coagulation")),
    C("486", "pneumonia, organism nos", "pneumonia, organism unspecified", 10, .6, .3, .07, 6, price=900,
      labs={"white blood cells": 1.6, "c-reactive protein": 14, "po2": .78}, vitals={TEMP: 1.028, RR: 1.4, "sao2": .95,
      HR: 1.15}, drugs={"ceftriaxone": .5, "azithromycin": .5, "levofloxacin": .4, "vancomycin": .3,
      "albuterol 0.083% neb soln": .3}, procedures={"3324": .1}, cultures={"blood culture": .6, "sputum": .8,
      "bronchoalveolar lavage": .1}, panels=("inflammation",)),
    C("5990", "urin tract infection nos", "urinary tract infection, site not specified", 7, .8, .12, .03, 4.2,
      price=450, labs={"white blood cells": 1.45, "c-reactive protein": 8}, vitals={TEMP: 1.02, HR: 1.1},
      drugs={"ciprofloxacin hcl": .5, "ceftriaxone": .5}, cultures={"urine": 1, "blood culture": .4}),
    C("42833", "ac on chr diast hrt fail", "acute on chronic diastolic heart failure", 8, 1.2, .28, .06, 5.5, "ccu",
      price=1200, labs={"ntprobnp": 22, "creatinine": 1.35, "urea nitrogen": 1.5, "sodium": .975, "troponin t": 2},
      vitals={RR: 1.35, "sao2": .95, HR: 1.1, BP: 1.1}, drugs={"furosemide": 1, "carvedilol": .4,
      "nitroglycerin": .3, "potassium chloride": .6}, procedures={"8872": .6, "9390": .2},
      panels=("heart failure", "cardiac")),
    C("41071", "subendo infarct, initial", "subendocardial infarction, initial episode of care", 8, .9, .45, .06, 4.8,
      "ccu", price=2100, labs={"troponin t": 38, "creatine kinase (ck)": 3.2, "glucose": 1.15}, vitals={HR: 1.1},
      drugs={"aspirin": 1, "clopidogrel": .8, "atorvastatin": .9, "metoprolol tartrate": .8, "heparin sodium": .8,
      "nitroglycerin": .5}, procedures={"3722": .8, "8856": .75, "0066": .5, "3607": .42},
      panels=("cardiac", "lipids", "coagulation")),
    C("41401", "crnry athrscl natve vssl", "coronary atherosclerosis of native coronary artery", 6, .8, 1.0, .02, 7,
      "csru", .8, 2600, labs={"hemoglobin": .76, "platelet count": .72, "creatine kinase (ck)": 3, "lactate": 1.3,
      "glucose": 1.2}, vitals={HR: 1.06}, drugs={"aspirin": 1, "metoprolol tartrate": .9, "cefazolin": .9,
      "propofol": .9, "morphine sulfate": .8, "oxycodone": .7, "furosemide": .7, "potassium chloride": .7,
      "insulin": .8, "atorvastatin": .7, "magnesium sulfate": .6}, procedures={"3612": .85, "3961": .85, "8872": .5,
      "9671": .6, "9904": .4, "3891": .5}, cultures={"mrsa screen": .5}, panels=("coagulation", "blood gas",
      "cardiac")),
    C("4241", "aortic valve disorder", "aortic valve disorders", 3, 1.1, 1.0, .03, 7.5, "csru", .8, 2300,
      labs={"hemoglobin": .74, "platelet count": .66, "lactate": 1.4}, drugs={"cefazolin": .9, "propofol": .9,
      "morphine sulfate": .8, "metoprolol tartrate": .8, "warfarin": .5, "furosemide": .7, "oxycodone": .6},
      procedures={"3521": .9, "3961": .9, "8872": .6, "9904": .4, "9907": .2, "9905": .15},
      cultures={"mrsa screen": .5}, panels=("coagulation", "blood gas")),
    C("51881", "acute respiratry failure", "acute respiratory failure", 8, .6, .95, .2, 9, price=2400,
      labs={"pco2": 1.3, "po2": .72, "lactate": 1.4, "bicarbonate": 1.06}, vitals={"sao2": .93, RR: 1.5, HR: 1.18},
      drugs={"fentanyl citrate": .6, "propofol": .6, "midazolam": .5, "methylprednisolone sodium succ": .4,
      "albuterol 0.083% neb soln": .6, "vancomycin": .4, "piperacillin-tazobactam": .3}, procedures={"9604": .7,
      "9671": .45, "9672": .32, "966": .4, "3891": .4, "3893": .4, "9390": .25, "3324": .15},
      cultures={"sputum": .8, "blood culture": .6, "bronchoalveolar lavage": .2, "mrsa screen": .5},
      panels=("blood gas",)),
    C("5789", "gastrointest hemorr nos", "hemorrhage of gastrointestinal tract, unspecified", 7, .6, .48, .05, 5,
      price=1100, labs={"hemoglobin": .6, "urea nitrogen": 1.7, "lactate": 1.4}, vitals={HR: 1.2, BP: .86},
      drugs={"pantoprazole": 1, "0.9% sodium chloride": .7, "octreotide acetate": .2, "phytonadione": .2},
      procedures={"4513": .6, "4523": .4, "4443": .2, "9904": .75, "9907": .15}, panels=("coagulation", "iron")),
    C("5770", "acute pancreatitis", "acute pancreatitis", 4, -.4, .25, .03, 6, price=950,
      labs={"lipase": 16, "white blood cells": 1.5, "calcium, total": .9, "glucose": 1.2, "c-reactive protein": 16},
      vitals={HR: 1.18, TEMP: 1.015}, drugs={"hydromorphone": .8, "0.9% sodium chloride": .9, "ondansetron": .6,
      "meropenem": .15}, cultures={"blood culture": .3}, panels=("pancreas", "liver", "lipids", "inflammation")),
    C("5849", "acute kidney failure nos", "acute kidney failure, unspecified", 7, .8, .3, .08, 6.5, price=1000,
      labs={"creatinine": 3.4, "urea nitrogen": 3.0, "potassium": 1.2, "bicarbonate": .8, "phosphate": 1.4},
      drugs={"0.9% sodium chloride": .6, "sodium bicarbonate": .3, "calcium gluconate": .3, "furosemide": .3},
      procedures={"3995": .2, "3895": .18}),
    C("431", "intracerebral hemorrhage", "intracerebral hemorrhage", 4, .6, .92, .26, 8, "sicu", price=2500,
      labs={"glucose": 1.25, "sodium": 1.02}, vitals={BP: 1.25, DIA: 1.2}, drugs={"levetiracetam": .6, "phenytoin": .3,
      "mannitol": .35, "amlodipine": .4, "hydralazine": .3, "dexamethasone": .15}, procedures={"8703": .9, "0139": .25,
      "9604": .4, "9671": .35, "966": .3, "3891": .5}, cultures={"mrsa screen": .5, "sputum": .2},
      panels=("coagulation",)),
    C("43491", "crbl art ocl nos w infrc", "cerebral artery occlusion, unspecified with cerebral infarction", 5, 1.0,
      .35, .09, 6, price=1500, labs={"glucose": 1.15, "cholesterol, total": 1.2}, vitals={BP: 1.2},
      drugs={"aspirin": .9, "atorvastatin": .8, "clopidogrel": .3}, procedures={"8703": .95, "9910": .18, "8872": .5},
      panels=("lipids", "coagulation", "diabetes")),
    C("430", "subarachnoid hemorrhage", "subarachnoid hemorrhage", 2, -.3, 1.0, .2, 11, "sicu", price=3100,
      labs={"sodium": .97, "glucose": 1.15}, vitals={BP: 1.15}, drugs={"nimodipine": .95, "levetiracetam": .8,
      "docusate sodium": .8, "dexamethasone": .3}, procedures={"8703": .95, "0331": .2, "3891": .6, "9604": .4},
      cultures={"mrsa screen": .5}),
    C("82021", "intertrochanteric fx-cl", "closed fracture of intertrochanteric section of neck of femur", 5, 1.8, .12,
      .03, 6, "tsicu", price=1400, labs={"hemoglobin": .76}, drugs={"oxycodone": .8, "enoxaparin sodium": .8,
      "cefazolin": .8, "morphine sulfate": .6}, procedures={"7935": .9, "9904": .3}),
    C("86500", "spleen injury nos-closed", "injury to spleen without mention of open wound into cavity, unspecified "
      "injury", 2.5, -1.2, .75, .04, 6, "tsicu", price=1800, labs={"hemoglobin": .7, "lactate": 1.5},
      vitals={HR: 1.2, BP: .9}, drugs={"hydromorphone": .7, "cefazolin": .3, "0.9% sodium chloride": .8},
      procedures={"3404": .3, "9904": .4, "9907": .15}, panels=("coagulation", "blood gas")),
    C("25013", "dmi ketoacd uncontrold", "diabetes with ketoacidosis, type i [juvenile type], uncontrolled", 4, -1.3,
      .6, .01, 3.2, price=700, labs={"glucose": 4.2, "bicarbonate": .5, "potassium": 1.15, "% hemoglobin a1c": 2.0,
      "sodium": .965}, vitals={HR: 1.25, RR: 1.35}, drugs={"insulin": 1, "potassium chloride": .9,
      "0.9% sodium chloride": 1, "glargine": .6}, panels=("diabetes", "blood gas")),
    C("57410", "cholelith w cholecys nec", "calculus of gallbladder with other cholecystitis, without mention of "
      "obstruction", 4, -.2, .08, .01, 4, "sicu", .3, 800, labs={"bilirubin, total": 2.2, "alkaline phosphatase": 1.9,
      "alanine aminotransferase (alt)": 2.4, "white blood cells": 1.5}, vitals={TEMP: 1.015},
      drugs={"piperacillin-tazobactam": .6, "metronidazole": .3, "ondansetron": .6, "oxycodone": .6},
      procedures={"5123": .8}, cultures={"blood culture": .3}, panels=("liver",)),
    C("1536", "malig neo ascend colon", "malignant neoplasm of ascending colon", 2.5, .8, .2, .03, 7.5, "sicu", .8,
      1700, labs={"hemoglobin": .74, "albumin": .8}, drugs={"cefazolin": .7, "metronidazole": .6, "hydromorphone": .7,
      "heparin": .8, "ondansetron": .6}, procedures={"4573": .9, "9904": .25}, panels=("liver", "iron")),
    C("1623", "mal neo upper lobe lung", "malignant neoplasm of upper lobe, bronchus or lung", 3, .6, .22, .12, 6,
      price=1600, labs={"calcium, total": 1.08, "albumin": .78, "hemoglobin": .82}, vitals={"sao2": .965},
      drugs={"dexamethasone": .5, "morphine sulfate": .6, "ondansetron": .6, "filgrastim": .15},
      procedures={"3324": .5, "9925": .3, "3404": .2}, cultures={"bronchoalveolar lavage": .2}, panels=("liver",)),
    C("71536", "loc osteoarth nos-l/leg", "osteoarthrosis, localized, not specified whether primary or secondary, "
      "lower leg", 5, .8, .03, .002, 3.5, "sicu", .95, 900, labs={"hemoglobin": .8}, drugs={"oxycodone": .9,
      "cefazolin": .9, "enoxaparin sodium": .8, "acetaminophen": .9}, procedures={"8154": .95, "9904": .1}),
    C("00845", "int inf clstrdium dfcile", "intestinal infection due to clostridium difficile", 3, .9, .2, .06, 6,
      price=700, labs={"white blood cells": 1.9, "creatinine": 1.25, "albumin": .78, "potassium": .88},
      vitals={TEMP: 1.02, HR: 1.12}, drugs={"metronidazole": .9, "vancomycin": .5, "0.9% sodium chloride": .6},
      cultures={"stool": 1, "blood culture": .4}),
    C("29181", "alcohol withdrawal", "alcohol withdrawal", 3.5, -1.2, .4, .01, 4, price=500,
      labs={"magnesium": .8, "potassium": .92, "mcv": 1.06, "asparate aminotransferase (ast)": 2.4,
      "platelet count": .75}, vitals={HR: 1.25, BP: 1.1, TEMP: 1.01}, drugs={"lorazepam": .95, "thiamine": .9,
      "folic acid": .9, "multivitamins": .8, "magnesium sulfate": .5, "haloperidol": .2}, panels=("liver",)),
    C("49121", "obs chr bronc w(ac) exac", "obstructive chronic bronchitis with (acute) exacerbation", 6, .7, .3, .05,
      5, price=850, labs={"pco2": 1.32, "bicarbonate": 1.12, "po2": .8, "white blood cells": 1.3},
      vitals={"sao2": .93, RR: 1.4, HR: 1.15}, drugs={"prednisone": .8, "methylprednisolone sodium succ": .6,
      "azithromycin": .6, "albuterol 0.083% neb soln": 1, "ipratropium bromide neb": .9}, procedures={"9390": .35,
      "9604": .12}, cultures={"sputum": .5}, panels=("blood gas",)),
    C("6826", "cellulitis of leg", "cellulitis and abscess of leg, except foot", 4, 0, .06, .01, 4, price=500,
      labs={"white blood cells": 1.4, "c-reactive protein": 10}, vitals={TEMP: 1.015}, drugs={"vancomycin": .6,
      "cefazolin": .5, "acetaminophen": .8}, procedures={"8622": .3}, cultures={"swab": .7, "blood culture": .5},
      panels=("inflammation",)),
)

COMPLICATIONS: tuple[Condition, ...] = (
    C("5849", "acute kidney failure nos", "acute kidney failure, unspecified", .14, death=.05, stay=1.5, price=1000,
      labs={"creatinine": 2.4, "urea nitrogen": 2.2, "potassium": 1.1, "bicarbonate": .9}),
    C("78552", "septic shock", "septic shock", .05, death=.14, stay=2, icu=.5, price=1700, labs={"lactate": 2.2},
      vitals={BP: .8}, drugs={"norepinephrine": .95, "vasopressin": .4}, cultures={"blood culture": 1}),
    C("2851", "ac posthemorrhag anemia", "acute posthemorrhagic anemia", .09, stay=.5, price=250,
      labs={"hemoglobin": .8}, procedures={"9904": .6}),
    C("2762", "acidosis", "acidosis", .08, death=.02, price=200, labs={"bicarbonate": .8, "lactate": 1.3}),
    C("2761", "hyposmolality", "hyposmolality and/or hyponatremia", .08, price=180, labs={"sodium": .925,
      "chloride": .93}),
    C("2760", "hyperosmolality", "hyperosmolality and/or hypernatremia", .04, price=180, labs={"sodium": 1.07}),
    C("2875", "thrombocytopenia nos", "thrombocytopenia, unspecified", .06, price=220, labs={"platelet count": .42},
      procedures={"9905": .3}),
    C("70703", "pressure ulcer, low back", "pressure ulcer, lower back", .05, stay=1.5, price=380,
      procedures={"8622": .2}, cultures={"swab": .6}),
    C("4275", "cardiac arrest", "cardiac arrest", .02, death=.5, icu=.5, price=2200, labs={"lactate": 2},
      procedures={"9962": .7, "9604": .6}),
    C("2930", "delirium d/t other cond", "delirium due to conditions classified elsewhere", .07, stay=1, price=240,
      drugs={"haloperidol": .5, "quetiapine": .5}),
    C("99592", "severe sepsis", "severe sepsis", .06, death=.06, stay=1.5, price=1300, labs={"lactate": 1.6},
      drugs={"vancomycin": .6}, cultures={"blood culture": 1, "urine": .6}),
    C("5070", "food/vomit pneumonitis", "pneumonitis due to inhalation of food or vomitus", .05, death=.04, stay=1.5,
      price=800, labs={"white blood cells": 1.4}, vitals={RR: 1.15, TEMP: 1.01}, drugs={"metronidazole": .4,
      "levofloxacin": .4}, cultures={"sputum": .8}),
)
# fmt: on

CONDITIONS: dict[str, Condition] = {c.code: c for c in (*COMPLICATIONS, *ACUTE, *CHRONIC)}
"""Every condition by code, for the dictionary of codes."""

ROUTINE_DRUGS: Factors = {
    "acetaminophen": 0.7,
    "heparin": 0.6,
    "docusate sodium": 0.55,
    "senna": 0.4,
    "pantoprazole": 0.35,
    "potassium chloride": 0.25,
    "magnesium sulfate": 0.18,
    "0.9% sodium chloride": 0.35,
    "ondansetron": 0.2,
    "oxycodone": 0.15,
}
