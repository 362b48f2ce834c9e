"""A small MIMIC-III release of our own, and questions of EHRSQL's form over it."""

import csv
import gzip
import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

HEADERS = {
    "PATIENTS": "row_id subject_id gender dob dod",
    "ADMISSIONS": "row_id subject_id hadm_id admittime dischtime admission_type admission_location "
    "discharge_location insurance language marital_status ethnicity",
    "D_ICD_DIAGNOSES": "row_id icd9_code short_title long_title",
    "D_ICD_PROCEDURES": "row_id icd9_code short_title long_title",
    "D_LABITEMS": "row_id itemid label",
    "D_ITEMS": "row_id itemid label linksto",
    "ICUSTAYS": "row_id subject_id hadm_id icustay_id first_careunit last_careunit first_wardid last_wardid "
    "intime outtime",
    "DIAGNOSES_ICD": "row_id subject_id hadm_id icd9_code",
    "PROCEDURES_ICD": "row_id subject_id hadm_id icd9_code",
    "LABEVENTS": "row_id subject_id hadm_id itemid charttime valuenum valueuom",
    "PRESCRIPTIONS": "row_id subject_id hadm_id startdate enddate drug dose_val_rx dose_unit_rx route",
    "CHARTEVENTS": "row_id subject_id hadm_id icustay_id itemid charttime valuenum valueuom",
    "INPUTEVENTS_CV": "row_id subject_id hadm_id icustay_id charttime itemid amount amountuom",
    "OUTPUTEVENTS": "row_id subject_id hadm_id icustay_id charttime itemid value valueuom",
    "MICROBIOLOGYEVENTS": "row_id subject_id hadm_id charttime spec_type_desc org_name",
    "TRANSFERS": "row_id subject_id hadm_id icustay_id eventtype curr_careunit curr_wardid intime outtime",
}
PATIENTS = 24
DRUGS = ("Aspirin", "Heparin Sodium", "O'Dell's Tonic")


def release() -> dict[str, list[list[Any]]]:
    """Table -> rows. Every patient has one stay of some days, with a few events of each kind."""
    tables: dict[str, list[list[Any]]] = {name: [] for name in HEADERS}
    tables["D_ICD_DIAGNOSES"] = [[1, "0010", "Cholera", "Cholera, long"], [2, "4019", "Hypertension NOS", "High"]]
    tables["D_ICD_PROCEDURES"] = [[1, "3961", "Extracorporeal circulat", "Bypass"]]
    tables["D_LABITEMS"] = [[1, 50912, "Creatinine"], [2, 50971, "Potassium"]]
    tables["D_ITEMS"] = [
        [1, 211, "Heart Rate", "chartevents"], [2, 30056, "Po Intake", "inputevents_cv"],
        [3, 40055, "Urine Out Foley", "outputevents"], [4, 5, "A note", "datetimeevents"],
    ]  # fmt: skip

    def add(table: str, *cells: Any) -> None:
        tables[table].append([len(tables[table]) + 1, *cells])

    for number in range(PATIENTS):
        who, stay, unit = 100 + number, 5000 + number, 9000 + number
        start = datetime(2150 + number, 3, 1 + number, 10, 30)
        end = start + timedelta(days=3 + number / 4)
        born = start - timedelta(days=365.25 * (30 + number))
        add("PATIENTS", who, "MF"[number % 2], born, "")
        add("ADMISSIONS", who, stay, start, end, "EMERGENCY", "CLINIC REFERRAL", "HOME", "Private", "", "SINGLE", "X")
        add("ICUSTAYS", who, stay, unit, "MICU", "MICU", 52, 52, start, start + timedelta(days=2))
        add("TRANSFERS", who, stay, unit, "admit", "MICU", 52, start, start + timedelta(days=2))
        add("DIAGNOSES_ICD", who, stay, ["0010", "4019"][number % 2])
        add("PROCEDURES_ICD", who, stay, "3961")
        for step in range(4):
            at = start + timedelta(hours=7 * step + number % 3)
            add("LABEVENTS", who, stay, 50912, at, 1 + step / 4 + number / 10, "mg/dL")
            add("PRESCRIPTIONS", who, stay, at, at + timedelta(days=1), DRUGS[(step + number) % 3], "5", "mg", "PO")
            add("CHARTEVENTS", who, stay, unit, 211, at, 70 + step + number, "bpm")
            add("INPUTEVENTS_CV", who, stay, unit, at, 30056, 100 + step * 10, "ml")
            add("OUTPUTEVENTS", who, stay, unit, at, 40055, 50 + step, "ml")
        add("INPUTEVENTS_CV", who, stay, unit, start, 30056, 3, "mg")
        add("LABEVENTS", who, "", 50912, start, 1, "mg/dL")
        add("LABEVENTS", who, stay, 50912, start, "", "mg/dL")
        add("MICROBIOLOGYEVENTS", who, stay, start, "URINE", "E. COLI")
    return tables


def write_release(folder: Path, tables: dict[str, list[list[Any]]], *, zipped: Iterable[str] = (), upper: bool = True,
                  drop_column: tuple[str, str] | None = None) -> Path:  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    for table, rows in tables.items():
        header = HEADERS[table].split()
        keep = [place for place, name in enumerate(header) if (table, name) != drop_column]
        name = f"{table if upper else table.lower()}.csv"
        path = folder / (f"{name}.gz" if table in zipped else name)
        with gzip.open(path, "wt", newline="") if table in zipped else path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([header[place].upper() if upper else header[place] for place in keep])
            writer.writerows([row[place] for place in keep] for row in rows)
    return folder


def question(local: str, text: str, q_tag: str, sql: str, **more: Any) -> dict[str, Any]:
    slots = more.pop("value", {})
    return {"id": local, "question": text, "template": more.pop("template", text.lower()), "q_tag": q_tag,
            "query": sql, "value": slots, "is_impossible": False, "split": "valid", **more}  # fmt: skip


QUESTIONS = [
    question("drugs", "Which drugs are there?", "list drugs.", "select distinct prescriptions.drug from prescriptions"),
    question(
        "route", "How is Danazol given?", "what is the dose of {drug_name}?",
        "select distinct prescriptions.dose_val_rx from prescriptions where prescriptions.drug = 'danazol'",
        template="what is the dose of danazol?", value={"drug_name": "danazol"},
    ),
    question(
        "lab", "The last creatinine of patient 7 since 2101?",
        "what was the last {lab_name} of patient {patient_id} [time_filter_global1]?",
        "select labevents.valuenum from labevents where labevents.hadm_id in ( select admissions.hadm_id from "
        "admissions where admissions.subject_id = 7 ) and labevents.itemid in ( select d_labitems.itemid from "
        "d_labitems where d_labitems.label = 'sodium' ) and strftime('%y',labevents.charttime) >= '2101' "
        "order by labevents.charttime desc limit 1",
        template="what was the last sodium of patient 7 since 2101?",
        value={"lab_name": "sodium", "patient_id": 7},
    ),
    question(
        "now", "How long is patient 7 here?", "how many hours is patient {patient_id} here?",
        "select 24 * ( strftime('%j',current_time) - strftime('%j',admissions.admittime) ) from admissions where "
        "admissions.subject_id = 7 and admissions.dischtime is null",
        template="how many hours is patient 7 here?", value={"patient_id": 7},
    ),
    question(
        "ago", "Intake of patient 7 since 9 months ago?",
        "what was the total volume of intake that patient {patient_id} received [time_filter_global1]?",
        "select sum(inputevents_cv.amount) from inputevents_cv where inputevents_cv.icustay_id in ( select "
        "icustays.icustay_id from icustays where icustays.hadm_id in ( select admissions.hadm_id from admissions where "
        "admissions.subject_id = 7 ) ) and datetime(inputevents_cv.charttime) >= datetime(current_time,'-9 month')",
        template="what was the total volume of intake that patient 7 received since 9 month ago?",
        value={"patient_id": 7},
    ),
    question("one", "Is there anyone?", "is there anyone?", "select count(*)>0 from patients"),
    {"id": "no", "question": "What will it be?", "template": "x", "query": "nan", "is_impossible": True},
]  # fmt: skip


def write_questions(path: Path, questions: list[dict[str, Any]] | None = None, *, lines: bool = False) -> Path:
    entries = QUESTIONS if questions is None else questions
    path.write_text("\n".join(map(json.dumps, entries)) + "\n" if lines else json.dumps(entries))
    return path
