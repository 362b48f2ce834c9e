"""Scores of thrombosis and embolism. Questions are in our own words."""

from tasks.medcalc import scores_risk as risk
from tasks.medcalc.catalogue import Calculator
from tasks.medcalc.catalogue_common import AGE, DVT, PE, PREVIOUS, RATE
from tasks.medcalc.inputs import Choice, Flag, Quantity

CLOTS: tuple[Calculator, ...] = (
    Calculator(
        8,
        "Wells' Criteria for Pulmonary Embolism",
        "number",
        risk.wells_pe,
        (
            RATE,
            Flag(
                "dvt_signs",
                "clinical signs of a deep vein thrombosis",
                ("Clinical signs and symptoms of Deep Vein Thrombosis",),
            ),
            Flag(
                "pe_likely",
                "pulmonary embolism as the leading diagnosis",
                ("Pulmonary Embolism is #1 diagnosis OR equally likely",),
            ),
            Flag("immobilized", "immobilization for three days or longer", ("Immobilization for at least 3 days",)),
            Flag("surgery", "surgery within the past four weeks", ("Surgery in the previous 4 weeks",)),
            *PREVIOUS,
            Flag("hemoptysis", "hemoptysis", ("Hemoptysis",)),
            Flag("malignancy", "cancer under treatment", ("Malignancy with treatment within 6 months or palliative",)),
        ),
        "What is the Wells score for pulmonary embolism?",
        least=1,
    ),
    Calculator(
        16,
        "Wells' Criteria for DVT",
        "integer",
        risk.wells_dvt,
        (
            Flag("active_cancer", "active cancer", ("Active cancer",)),
            Flag(
                "bedridden_or_surgery",
                "bed rest of more than three days",
                ("Bedridden recently >3 days or major surgery within 12 weeks", "Major surgery within 12 weeks"),
            ),
            Flag(
                "calf_swelling",
                "calf swelling of more than 3 cm against the other leg",
                ("Calf swelling >3 centimeters compared to the other leg",),
            ),
            Flag(
                "collateral_veins",
                "collateral superficial veins that are not varicose",
                ("Collateral (nonvaricose) superficial veins present",),
            ),
            Flag("leg_swollen", "swelling of the entire leg", ("Entire Leg Swollen",)),
            Flag(
                "tenderness", "tenderness along the deep veins", ("Localized tenderness along the deep venous system",)
            ),
            Flag(
                "pitting_edema",
                "pitting edema in the affected leg only",
                ("Pitting edema, confined to symptomatic leg",),
            ),
            Flag(
                "paralysis_or_cast",
                "a recent plaster cast of the leg",
                ("Paralysis, paresis, or recent plaster immobilization of the lower extremity",),
            ),
            Flag("previous_dvt", "an earlier deep vein thrombosis", (DVT,)),
            Flag(
                "alternative_likely",
                "another diagnosis that is at least as likely",
                ("Alternative diagnosis to Deep Vein Thrombosis as likely or more likely",),
            ),
        ),
        "What is the Wells score for deep vein thrombosis?",
    ),
    Calculator(
        36,
        "Caprini Score for Venous Thromboembolism (2005)",
        "integer",
        risk.caprini_2005,
        (
            AGE,
            Quantity("bmi_kg_m2", "body mass index", "bmi", 19, 36, 1, "Body Mass Index (BMI)", (), "vital"),
            Choice(
                "surgery",
                {
                    "none": "No operation is planned.",
                    "minor": "A minor operation is planned.",
                    "major": "A major open operation of more than 45 minutes is planned.",
                    "laparoscopic": "A laparoscopic operation of more than 45 minutes is planned.",
                    "arthroplasty": "An elective hip replacement is planned.",
                },
                {
                    "none": "none",
                    "minor": "minor",
                    "major": "major",
                    "laparoscopic": "laparoscopic",
                    "arthroscopic": "major",
                    "elective major lower extremity arthroplasty": "arthroplasty",
                },
                "Surgery Type",
                "none",
            ),
            Choice(
                "mobility",
                {
                    "normal": "Mobility is normal.",
                    "bed rest": "The patient is on bed rest at present.",
                    "confined": "The patient has been confined to bed for more than 72 hours.",
                },
                {"normal": "normal", "on bed rest": "bed rest", "confined to bed >72 hours": "confined"},
                "Mobility",
                "normal",
            ),
            *(
                Flag(name, finding, entities, chance=0.12)
                for name, finding, entities in (
                    ("recent_surgery", "major surgery in the last month", ("Major Surgery in the last month",)),
                    (
                        "heart_failure",
                        "congestive heart failure in the last month",
                        ("Congestive Heart Failure in the last month",),
                    ),
                    ("sepsis", "sepsis in the last month", ("Sepsis in the last month",)),
                    ("pneumonia", "pneumonia in the last month", ("Pneumonia in the last month",)),
                    ("copd", "chronic obstructive pulmonary disease", ("Chronic Obstructive Pulmonary Disease",)),
                    ("infarction", "an acute myocardial infarction", ("Acute Myocardial infarction",)),
                    ("bowel_disease", "inflammatory bowel disease", ("History of inflammatory bowel disease",)),
                    ("varicose_veins", "varicose veins", ("Varicose veins",)),
                    ("swollen_legs", "swollen legs at present", ("Current swollen legs",)),
                    (
                        "plaster_cast",
                        "a plaster cast in the last month",
                        ("Immobilizing plaster cast in the last month",),
                    ),
                    ("central_line", "a central venous line", ("Current central venous access",)),
                    ("malignancy", "a malignancy", ("Present or previous malignancy",)),
                    ("previous_dvt", "an earlier deep vein thrombosis", (DVT,)),
                    ("previous_pe", "an earlier pulmonary embolism", (PE,)),
                    ("family_thrombosis", "thrombosis in the family", ("Family history of thrombosis",)),
                    ("factor_v_leiden", "factor V Leiden", ("Positive Factor V Leiden",)),
                    ("prothrombin_20210a", "the prothrombin 20210A mutation", ("Positive prothrombin 20210A",)),
                    ("homocysteine", "an elevated homocysteine", ("Elevated serum homocysteine",)),
                    ("lupus_anticoagulant", "a lupus anticoagulant", ("Positive lupus anticoagulant",)),
                    ("anticardiolipin", "anticardiolipin antibodies", ("Elevated anticardiolipin antibody",)),
                    (
                        "heparin_thrombocytopenia",
                        "heparin-induced thrombocytopenia",
                        ("Heparin-induced thrombocytopenia",),
                    ),
                    ("other_thrombophilia", "another thrombophilia", ("Other congenital or acquired thrombophilia",)),
                    (
                        "hip_or_leg_fracture",
                        "a hip fracture in the last month",
                        ("Hip, pelvis, or leg fracture in the last month",),
                    ),
                    ("stroke", "a stroke in the last month", ("Stroke in the last month",)),
                    ("multiple_trauma", "multiple trauma in the last month", ("Multiple trauma in the last month",)),
                    (
                        "spinal_cord_injury",
                        "a spinal cord injury with paralysis in the last month",
                        ("Acute spinal cord injury causing paralysis in the last month",),
                    ),
                )
            ),
        ),
        "What is the Caprini score of 2005 for venous thromboembolism? A body mass index above 25 counts one point; "
        "earlier deep vein thrombosis and earlier pulmonary embolism count apart.",
    ),
    Calculator(
        48,
        "PERC Rule for Pulmonary Embolism",
        "integer",
        risk.perc_criteria,
        (
            AGE,
            RATE,
            Quantity(
                "saturation_percent",
                "oxygen saturation",
                "percent",
                90,
                100,
                0,
                "O₂ saturation percentage",
                (),
                "vital",
            ),
            Flag("leg_swelling", "swelling of one leg", ("Unilateral Leg Swelling",)),
            Flag("hemoptysis", "hemoptysis", ("Hemoptysis",)),
            Flag("surgery_or_trauma", "surgery or trauma in the past four weeks", ("Recent surgery or trauma",)),
            *PREVIOUS,
            Flag("hormones", "use of estrogen", ("Hormone use",)),
        ),
        "How many of the eight PERC criteria are positive?",
    ),
)
