"""Where the values of a question's slots come from, table by table, for MIMIC-III."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Values of a slot are `value` over `table` (alias e) with `join`."""

    table: str
    value: str
    join: str = ""


_DIAGNOSIS = Source("DIAGNOSES_ICD", "d.SHORT_TITLE", "JOIN D_ICD_DIAGNOSES d ON d.ICD9_CODE = e.ICD9_CODE")
_PROCEDURE = Source("PROCEDURES_ICD", "d.SHORT_TITLE", "JOIN D_ICD_PROCEDURES d ON d.ICD9_CODE = e.ICD9_CODE")
_ITEM = "JOIN D_ITEMS d ON d.ITEMID = e.ITEMID"

MIMIC_III_SOURCES: dict[str, tuple[Source, ...]] = {
    "diagnosis_name": (_DIAGNOSIS,),
    "procedure_name": (_PROCEDURE,),
    "abbreviation": (_DIAGNOSIS, _PROCEDURE),
    "drug_name": (Source("PRESCRIPTIONS", "e.DRUG"),),
    "drug_route": (Source("PRESCRIPTIONS", "e.ROUTE"),),
    "lab_name": (Source("LABEVENTS", "d.LABEL", "JOIN D_LABITEMS d ON d.ITEMID = e.ITEMID"),),
    "lab_value": (Source("LABEVENTS", "e.VALUENUM"),),
    "vital_name": (Source("CHARTEVENTS", "d.LABEL", _ITEM),),
    "vital_value": (Source("CHARTEVENTS", "e.VALUENUM"),),
    "intake_name": (Source("INPUTEVENTS_CV", "d.LABEL", _ITEM),),
    "output_name": (Source("OUTPUTEVENTS", "d.LABEL", _ITEM),),
    "culture_name": (Source("MICROBIOLOGYEVENTS", "e.SPEC_TYPE_DESC"),),
    "careunit": (Source("TRANSFERS", "e.CAREUNIT"),),
    "ward_id": (Source("TRANSFERS", "e.WARDID"),),
    "admission_route": (Source("ADMISSIONS", "e.ADMISSION_LOCATION"),),
}
"""By the slot's name without its number; one source is chosen where there are several."""

MIMIC_III_TIMES: dict[str, str] = {
    "DIAGNOSES_ICD": "CHARTTIME",
    "PROCEDURES_ICD": "CHARTTIME",
    "PRESCRIPTIONS": "STARTDATE",
    "LABEVENTS": "CHARTTIME",
    "CHARTEVENTS": "CHARTTIME",
    "INPUTEVENTS_CV": "CHARTTIME",
    "OUTPUTEVENTS": "CHARTTIME",
    "MICROBIOLOGYEVENTS": "CHARTTIME",
    "COST": "CHARGETIME",
    "TRANSFERS": "INTIME",
    "ICUSTAYS": "INTIME",
    "ADMISSIONS": "ADMITTIME",
}
"""Tables of events and their time, the more telling first: where a question has no slot, the first of its tables."""

NUMERIC = ("patient_id", "ward_id", "lab_value", "vital_value")
