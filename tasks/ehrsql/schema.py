"""Schemas of the hospital databases: tables, columns, types, and what a question's tables say of its category.

Column names and their order are those that published EHRSQL questions expect; times are ISO texts (`YYYY-MM-DD
HH:MM:SS`) or null.
"""

from dataclasses import dataclass
from typing import Literal

CATEGORIES = (
    "demographics",
    "diagnosis",
    "procedure",
    "laboratory",
    "prescription",
    "vital_signs",
    "intake_output",
    "microbiology",
    "cost",
)
CURRENT_TIME = "2105-12-31 23:59:00"
"""The end of the data: what questions call now."""

Type = Literal["INTEGER", "REAL", "TEXT", "TIMESTAMP"]


@dataclass(frozen=True)
class Column:
    name: str
    type: Type
    nullable: bool = False
    unique: bool = False


@dataclass(frozen=True)
class Table:
    """`references` maps a column to the `TABLE(COLUMN)` it points to; every table begins with its key ROW_ID."""

    name: str
    columns: tuple[Column, ...]
    references: tuple[tuple[str, str], ...] = ()
    category: str | None = None
    indexes: tuple[str, ...] = ()

    def ddl(self) -> str:
        lines = ["ROW_ID INTEGER NOT NULL PRIMARY KEY"]
        for column in self.columns:
            line = f"{column.name} {column.type}"
            line += "" if column.nullable else " NOT NULL"
            lines.append(line + (" UNIQUE" if column.unique else ""))
        lines += [f"FOREIGN KEY ({column}) REFERENCES {target}" for column, target in self.references]
        return f"CREATE TABLE {self.name} (\n    " + ",\n    ".join(lines) + "\n);\n"

    def index_ddl(self) -> str:
        return "".join(
            f"CREATE INDEX {self.name}_{columns.replace(', ', '_')} ON {self.name} ({columns});\n"
            for columns in self.indexes
        )


def _table(name: str, columns: str, category: str | None = None, references: str = "", indexes: str = "") -> Table:
    """`columns` is "NAME type, ..." with i(nteger), r(eal), t(ext), d(ate and time); `?` nullable, `!` unique."""
    types: dict[str, Type] = {"i": "INTEGER", "r": "REAL", "t": "TEXT", "d": "TIMESTAMP"}
    made = []
    for part in columns.split(","):
        column, kind = part.split()
        made.append(Column(column, types[kind[0]], "?" in kind, "!" in kind))
    links = tuple((left.strip(), right.strip()) for left, right in (r.split("->") for r in references.split(";") if r))
    return Table(name, tuple(made), links, category, tuple(i.strip() for i in indexes.split(";") if i))


_STAY = "HADM_ID -> ADMISSIONS(HADM_ID)"
_ICU = f"{_STAY}; ICUSTAY_ID -> ICUSTAYS(ICUSTAY_ID); ITEMID -> D_ITEMS(ITEMID)"

MIMIC_III_TABLES: tuple[Table, ...] = (
    _table("PATIENTS", "SUBJECT_ID i!, GENDER t, DOB d, DOD d?", "demographics"),
    _table(
        "ADMISSIONS",
        "SUBJECT_ID i, HADM_ID i!, ADMITTIME d, DISCHTIME d?, ADMISSION_TYPE t, ADMISSION_LOCATION t, "
        "DISCHARGE_LOCATION t?, INSURANCE t, LANGUAGE t?, MARITAL_STATUS t?, ETHNICITY t, AGE i",
        "demographics", "SUBJECT_ID -> PATIENTS(SUBJECT_ID)", "SUBJECT_ID",
    ),
    _table("D_ICD_DIAGNOSES", "ICD9_CODE t!, SHORT_TITLE t, LONG_TITLE t", "diagnosis"),
    _table("D_ICD_PROCEDURES", "ICD9_CODE t!, SHORT_TITLE t, LONG_TITLE t", "procedure"),
    _table("D_LABITEMS", "ITEMID i!, LABEL t", "laboratory"),
    _table("D_ITEMS", "ITEMID i!, LABEL t, LINKSTO t"),
    _table(
        "DIAGNOSES_ICD", "SUBJECT_ID i, HADM_ID i, ICD9_CODE t, CHARTTIME d", "diagnosis",
        f"{_STAY}; ICD9_CODE -> D_ICD_DIAGNOSES(ICD9_CODE)", "HADM_ID; ICD9_CODE",
    ),
    _table(
        "PROCEDURES_ICD", "SUBJECT_ID i, HADM_ID i, ICD9_CODE t, CHARTTIME d", "procedure",
        f"{_STAY}; ICD9_CODE -> D_ICD_PROCEDURES(ICD9_CODE)", "HADM_ID; ICD9_CODE",
    ),
    _table(
        "LABEVENTS", "SUBJECT_ID i, HADM_ID i, ITEMID i, CHARTTIME d?, VALUENUM r?, VALUEUOM t?", "laboratory",
        f"{_STAY}; ITEMID -> D_LABITEMS(ITEMID)", "HADM_ID; ITEMID",
    ),
    _table(
        "PRESCRIPTIONS",
        "SUBJECT_ID i, HADM_ID i, STARTDATE d, ENDDATE d?, DRUG t, DOSE_VAL_RX t, DOSE_UNIT_RX t, ROUTE t",
        "prescription", _STAY, "HADM_ID; DRUG",
    ),
    _table(
        "COST", "SUBJECT_ID i, HADM_ID i, EVENT_TYPE t, EVENT_ID i, CHARGETIME d, COST r", "cost",
        _STAY, "HADM_ID; EVENT_TYPE, EVENT_ID",
    ),
    _table(
        "ICUSTAYS",
        "SUBJECT_ID i, HADM_ID i, ICUSTAY_ID i!, FIRST_CAREUNIT t, LAST_CAREUNIT t, FIRST_WARDID i, LAST_WARDID i, "
        "INTIME d, OUTTIME d?",
        "demographics", _STAY, "HADM_ID",
    ),
    _table(
        "CHARTEVENTS",
        "SUBJECT_ID i, HADM_ID i, ICUSTAY_ID i, ITEMID i, CHARTTIME d, VALUENUM r?, VALUEUOM t?",
        "vital_signs", _ICU, "ICUSTAY_ID; ITEMID",
    ),
    _table(
        "INPUTEVENTS_CV", "SUBJECT_ID i, HADM_ID i, ICUSTAY_ID i, CHARTTIME d, ITEMID i, AMOUNT r?",
        "intake_output", _ICU, "ICUSTAY_ID; ITEMID",
    ),
    _table(
        "OUTPUTEVENTS", "SUBJECT_ID i, HADM_ID i, ICUSTAY_ID i, CHARTTIME d, ITEMID i, VALUE r?",
        "intake_output", _ICU, "ICUSTAY_ID; ITEMID",
    ),
    _table(
        "MICROBIOLOGYEVENTS", "SUBJECT_ID i, HADM_ID i, CHARTTIME d, SPEC_TYPE_DESC t?, ORG_NAME t?",
        "microbiology", _STAY, "HADM_ID",
    ),
    _table(
        "TRANSFERS",
        "SUBJECT_ID i, HADM_ID i, ICUSTAY_ID i?, EVENTTYPE t, CAREUNIT t?, WARDID i?, INTIME d, OUTTIME d?",
        "demographics", _STAY, "HADM_ID",
    ),
)  # fmt: skip

MIMIC_III = "".join(table.ddl() for table in MIMIC_III_TABLES)
"""The DDL of a MIMIC-III database by EHRSQL's conventions: one script, without indexes."""

MIMIC_III_INDEXES = "".join(table.index_ddl() for table in MIMIC_III_TABLES)
"""The indexes; created once the rows are in."""

_ORDER = ("cost", "microbiology", "vital_signs", "intake_output", "laboratory", "prescription", "procedure",
          "diagnosis", "demographics")  # fmt: skip


def category_of(tables: set[str]) -> str:
    """The category of a question over these tables (any letter case): the most special of theirs.

    D_ITEMS belongs to none: it names vitals as well as intake and output.
    """
    wanted = {table.upper() for table in tables}
    found = {table.category for table in MIMIC_III_TABLES if table.name in wanted}
    return next((category for category in _ORDER if category in found), "demographics")
