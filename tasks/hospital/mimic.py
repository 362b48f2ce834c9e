"""The population as EHRSQL sees a MIMIC-III hospital: one SQLite file in that schema and with its conventions.

Text is lower-cased; diagnoses carry the time of admission and procedures that of discharge (so the procedures of who
is still in hospital are not there yet); what is not over has a null end; every diagnosis, procedure, lab result and
prescription has one row in COST at its own time.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

from tasks.ehrsql.schema import MIMIC_III, MIMIC_III_INDEXES
from tasks.hospital.conditions import CONDITIONS, PROCEDURES
from tasks.hospital.records import DAY, Admission, Patient, moment
from tasks.hospital.vocabulary import INTAKE, LABS, OUTPUT, VITALS

FILE_NAME = "mimic_iii.db"
Row = tuple[Any, ...]

_BY_PATIENT = {
    "ICUSTAYS": "SUBJECT_ID",
    "DIAGNOSES_ICD": "SUBJECT_ID",
    "PROCEDURES_ICD": "SUBJECT_ID",
    "LABEVENTS": "SUBJECT_ID, ITEMID",
    "PRESCRIPTIONS": "SUBJECT_ID",
    "COST": "SUBJECT_ID",
    "CHARTEVENTS": "SUBJECT_ID, ITEMID",
    "INPUTEVENTS_CV": "SUBJECT_ID",
    "OUTPUTEVENTS": "SUBJECT_ID",
    "MICROBIOLOGYEVENTS": "SUBJECT_ID",
}
"""Indexes beside those of the schema: most questions begin with one patient."""


def write_mimic(patients: Iterable[Patient], path: Path) -> None:
    """Create the database; equal patients give equal files. Raises FileExistsError where `path` is there."""
    if path.exists():
        raise FileExistsError(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.executescript(MIMIC_III)
        writer = _Writer(database)
        writer.dictionaries()
        for patient in patients:
            writer.patient(patient)
        writer.flush()
        database.executescript(MIMIC_III_INDEXES)
        for table, columns in _BY_PATIENT.items():
            database.execute(f"CREATE INDEX {table}_{columns.replace(', ', '_')} ON {table} ({columns})")
        database.commit()
        database.execute("ANALYZE")
        database.commit()
        database.execute("VACUUM")


class _Writer:
    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._rows: dict[str, list[Row]] = {}
        self._numbers: dict[str, count[int]] = {}

    def add(self, table: str, *cells: Any) -> int:
        """Returns the ROW_ID of the new row."""
        rows = self._rows.get(table)
        if rows is None:
            rows = self._rows[table] = []
            self._numbers.setdefault(table, count(1))
        number = next(self._numbers[table])
        rows.append((number, *cells))
        return number

    def flush(self) -> None:
        for table, rows in self._rows.items():
            marks = ", ".join("?" * len(rows[0]))
            self._database.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        self._rows.clear()

    def dictionaries(self) -> None:
        for condition in sorted(CONDITIONS.values(), key=lambda c: c.code):
            self.add("D_ICD_DIAGNOSES", condition.code, condition.short, condition.long)
        for procedure in sorted(PROCEDURES.values(), key=lambda p: p.code):
            self.add("D_ICD_PROCEDURES", procedure.code, procedure.short, procedure.long)
        for lab in sorted(LABS.values(), key=lambda x: x.item):
            self.add("D_LABITEMS", lab.item, lab.name)
        items = [(v.item, v.name, "chartevents") for v in VITALS.values()]
        items += [(f.item, f.name, "inputevents_cv") for f in INTAKE.values()]
        items += [(f.item, f.name, "outputevents") for f in OUTPUT.values()]
        for item in sorted(items):
            self.add("D_ITEMS", *item)

    def patient(self, patient: Patient) -> None:
        self.add("PATIENTS", patient.number, patient.sex, _stamp(patient.birth), _time(patient.death))
        for admission in patient.admissions:
            self._admission(patient, admission)
        if len(self._rows.get("LABEVENTS", ())) > 50_000:
            self.flush()

    def _admission(self, patient: Patient, admission: Admission) -> None:
        who = (patient.number, admission.number)
        self.add(
            "ADMISSIONS", *who, _time(admission.admitted), _time(admission.discharged), admission.kind,
            admission.source, admission.destination, admission.insurance, patient.language, admission.marital,
            patient.ethnicity, admission.age,
        )  # fmt: skip
        self._charged(admission, who)
        for culture in admission.cultures:
            self.add("MICROBIOLOGYEVENTS", *who, _time(culture.time), culture.specimen, culture.organism)
        for move in admission.movements:
            icu = None if move.stay is None else admission.stays[move.stay].number
            self.add("TRANSFERS", *who, icu, move.kind, move.unit, move.ward, _time(move.start), _time(move.end))
        for stay in admission.stays:
            self.add(
                "ICUSTAYS", *who, stay.number, stay.first_unit, stay.last_unit, stay.first_ward, stay.last_ward,
                _time(stay.start), _time(stay.end),
            )  # fmt: skip
            for sign in stay.vitals:
                vital = VITALS[sign.name]
                self.add("CHARTEVENTS", *who, stay.number, vital.item, _time(sign.time), sign.value, vital.unit)
            for record in stay.intake:
                item = INTAKE[record.name].item
                self.add("INPUTEVENTS_CV", *who, stay.number, _time(record.time), item, record.amount)
            for record in stay.output:
                item = OUTPUT[record.name].item
                self.add("OUTPUTEVENTS", *who, stay.number, _time(record.time), item, record.amount)

    def _charged(self, admission: Admission, who: tuple[int, int]) -> None:
        for diagnosis in admission.diagnoses:
            at = _time(admission.admitted)
            row = self.add("DIAGNOSES_ICD", *who, diagnosis.code, at)
            self.add("COST", *who, "diagnoses_icd", row, at, diagnosis.cost)
        for procedure in admission.procedures if admission.discharged is not None else ():
            at = _time(admission.discharged)
            row = self.add("PROCEDURES_ICD", *who, procedure.code, at)
            self.add("COST", *who, "procedures_icd", row, at, procedure.cost)
        for result in admission.labs:
            lab, at = LABS[result.name], _time(result.time)
            row = self.add("LABEVENTS", *who, lab.item, at, result.value, lab.unit)
            self.add("COST", *who, "labevents", row, at, result.cost)
        for drug in admission.prescriptions:
            at = _time(drug.start)
            row = self.add(
                "PRESCRIPTIONS", *who, at, _time(drug.end), drug.drug, drug.dose, drug.unit, drug.route
            )  # fmt: skip
            self.add("COST", *who, "prescriptions", row, at, drug.cost)


def _stamp(time: datetime) -> str:
    return time.isoformat(" ", "seconds")


@lru_cache(maxsize=4096)
def _day(day: int) -> str:
    return moment(day * DAY).date().isoformat()


def _time(minute: int | None) -> str | None:
    if minute is None:
        return None
    day, rest = divmod(minute, DAY)
    return f"{_day(day)} {rest // 60:02}:{rest % 60:02}:00"
