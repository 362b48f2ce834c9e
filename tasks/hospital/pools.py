"""Where the slots of questions come from: combinations that occur in the database, so that questions have answers."""

import sqlite3
from typing import Any

from tasks.hospital.template import Slots
from tasks.hospital.vocabulary import INTAKE, LABS, OUTPUT, VITALS

_OF_PATIENT = {
    "patient_lab": """SELECT subject_id AS patient, label AS lab FROM
        (SELECT subject_id, itemid FROM labevents GROUP BY subject_id, itemid HAVING COUNT(*) >= 2)
        JOIN d_labitems USING (itemid)""",
    "patient_vital": """SELECT subject_id AS patient, label AS vital FROM
        (SELECT DISTINCT subject_id, itemid FROM chartevents WHERE itemid NOT IN (762, 920))
        JOIN d_items USING (itemid)""",
    "patient_intake": """SELECT DISTINCT subject_id AS patient, label AS intake FROM inputevents_cv
        JOIN d_items USING (itemid)""",
    "patient_output": """SELECT DISTINCT subject_id AS patient, label AS output FROM outputevents
        JOIN d_items USING (itemid)""",
    "patient_drug": "SELECT DISTINCT subject_id AS patient, drug FROM prescriptions",
    "patient_route": "SELECT DISTINCT subject_id AS patient, route FROM prescriptions",
    "patient_diagnosis": """SELECT DISTINCT subject_id AS patient, long_title AS diagnosis FROM diagnoses_icd
        JOIN d_icd_diagnoses USING (icd9_code)""",
    "patient_procedure": """SELECT DISTINCT subject_id AS patient, long_title AS procedure FROM procedures_icd
        JOIN d_icd_procedures USING (icd9_code)""",
    "patient_specimen": """SELECT DISTINCT subject_id AS patient, spec_type_desc AS specimen
        FROM microbiologyevents""",
    "patient_admission": "SELECT subject_id AS patient, hadm_id AS admission FROM admissions",
    "patient": "SELECT subject_id AS patient FROM patients",
    "patient_icu": "SELECT DISTINCT subject_id AS patient FROM icustays",
    "patient_icus": "SELECT subject_id AS patient FROM icustays GROUP BY subject_id HAVING COUNT(*) > 1",
    "patient_again": "SELECT subject_id AS patient FROM admissions GROUP BY subject_id HAVING COUNT(*) > 1",
    "patient_dead": "SELECT subject_id AS patient FROM patients WHERE dod IS NOT NULL",
    "patient_culture": "SELECT DISTINCT subject_id AS patient FROM microbiologyevents",
    "patient_operated": "SELECT DISTINCT subject_id AS patient FROM procedures_icd",
}
_OF_ALL = {
    "hospital": "SELECT 1 AS one",
    "sex": "SELECT DISTINCT gender AS sex FROM patients",
    "unit": "SELECT DISTINCT careunit AS unit FROM transfers WHERE careunit IS NOT NULL",
    "kind": "SELECT DISTINCT admission_type AS kind FROM admissions",
    "insured": "SELECT DISTINCT ethnicity, insurance FROM admissions",
    "diagnosis": """SELECT long_title AS diagnosis FROM d_icd_diagnoses
        WHERE icd9_code IN (SELECT icd9_code FROM diagnoses_icd)""",
    "diagnosis_pair": """SELECT a.long_title AS diagnosis, b.long_title AS other FROM
        (SELECT DISTINCT x.icd9_code AS one, y.icd9_code AS two FROM diagnoses_icd AS x JOIN diagnoses_icd AS y
        ON x.hadm_id = y.hadm_id AND x.icd9_code < y.icd9_code)
        JOIN d_icd_diagnoses AS a ON a.icd9_code = one JOIN d_icd_diagnoses AS b ON b.icd9_code = two""",
    "procedure": """SELECT long_title AS procedure FROM d_icd_procedures
        WHERE icd9_code IN (SELECT icd9_code FROM procedures_icd)""",
    "procedure_pair": """SELECT a.long_title AS procedure, b.long_title AS other FROM
        (SELECT DISTINCT x.icd9_code AS one, y.icd9_code AS two FROM procedures_icd AS x JOIN procedures_icd AS y
        ON x.hadm_id = y.hadm_id AND x.icd9_code < y.icd9_code)
        JOIN d_icd_procedures AS a ON a.icd9_code = one JOIN d_icd_procedures AS b ON b.icd9_code = two""",
    "diagnosis_procedure": """SELECT d.long_title AS diagnosis, p.long_title AS procedure FROM
        (SELECT DISTINCT x.icd9_code AS one, y.icd9_code AS two FROM diagnoses_icd AS x JOIN procedures_icd AS y
        ON x.hadm_id = y.hadm_id)
        JOIN d_icd_diagnoses AS d ON d.icd9_code = one JOIN d_icd_procedures AS p ON p.icd9_code = two""",
    "lab": "SELECT label AS lab FROM d_labitems WHERE itemid IN (SELECT DISTINCT itemid FROM labevents)",
    "diagnosis_lab": """SELECT long_title AS diagnosis, label AS lab FROM d_icd_diagnoses, d_labitems
        WHERE icd9_code IN (SELECT icd9_code FROM diagnoses_icd)
        AND itemid IN (SELECT DISTINCT itemid FROM labevents)""",
    "drug": "SELECT DISTINCT drug FROM prescriptions",
    "drug_pair": """SELECT DISTINCT x.drug AS drug, y.drug AS other FROM prescriptions AS x JOIN prescriptions AS y
        ON x.hadm_id = y.hadm_id AND x.drug < y.drug""",
    "vital": """SELECT label AS vital FROM d_items WHERE linksto = 'chartevents'
        AND itemid NOT IN (762, 920)""",
    "vital_unit": """SELECT label AS vital, unit FROM d_items,
        (SELECT DISTINCT first_careunit AS unit FROM icustays)
        WHERE linksto = 'chartevents' AND itemid NOT IN (762, 920)""",
    "intake": "SELECT label AS intake FROM d_items WHERE itemid IN (SELECT DISTINCT itemid FROM inputevents_cv)",
    "output": "SELECT label AS output FROM d_items WHERE itemid IN (SELECT DISTINCT itemid FROM outputevents)",
    "icu": "SELECT DISTINCT first_careunit AS unit FROM icustays",
    "specimen": "SELECT DISTINCT spec_type_desc AS specimen FROM microbiologyevents",
    "organism": "SELECT DISTINCT org_name AS organism FROM microbiologyevents WHERE org_name IS NOT NULL",
    "organism_drug": """SELECT DISTINCT org_name AS organism, drug FROM microbiologyevents
        JOIN prescriptions USING (hadm_id) WHERE org_name IS NOT NULL""",
    "diagnosis_culture": """SELECT DISTINCT long_title AS diagnosis FROM microbiologyevents
        JOIN diagnoses_icd USING (hadm_id) JOIN d_icd_diagnoses USING (icd9_code) WHERE org_name IS NOT NULL""",
}
POOLS: dict[str, str] = _OF_PATIENT | _OF_ALL


def names_patient(pool: str) -> bool:
    """Whether the questions of this pool are about one patient."""
    return pool in _OF_PATIENT


class Pools:
    """The pools of one database, each read once."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._rows: dict[str, list[Slots]] = {}

    def rows(self, name: str) -> list[Slots]:
        """In a fixed order, each with the limits and words that follow from its slots."""
        if name not in self._rows:
            cursor = self._database.execute(POOLS[name])
            columns = [column[0].lower() for column in cursor.description]
            rows = sorted(cursor, key=lambda row: tuple(map(str, row)))
            self._rows[name] = [_enrich(dict(zip(columns, row, strict=True))) for row in rows]
        return self._rows[name]


def _enrich(slots: dict[str, Any]) -> Slots:
    if lab := LABS.get(slots.get("lab", "")):
        slots |= {"limit": lab.high, "measure": lab.unit}
    if vital := VITALS.get(slots.get("vital", "")):
        slots |= {"limit": round(vital.usual * (1.0 if vital.name == "sao2" else 1.1), 1), "measure": vital.unit}
    if fluid := (INTAKE.get(slots.get("intake", "")) or OUTPUT.get(slots.get("output", ""))):
        slots |= {"limit": fluid.usual}
    if sex := slots.get("sex"):
        slots |= {"women": {"f": "female", "m": "male"}[sex]}
    return slots
