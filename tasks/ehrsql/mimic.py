"""Building EHRSQL's MIMIC-III database from the original release.

The conventions, all by SQL in DuckDB: text in lower case; admissions at an age between 10 and 90 and shorter than the
95th percentile; every patient's times moved together so that the first admission falls in 2100-2105, later years
likelier; nothing after the current time (2105-12-31 23:59:00), and what is not over then has no end. A tenth of the
patients are moved by days instead of years, so that they are in hospital at the current time, on an intensive care
unit where they were on one. Diagnoses carry the time of admission, procedures that of discharge. Costs are synthetic: a
price for each kind of event, drawn from the seed.
"""

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.ehrsql.release import CsvFile, find_csv, load
from tasks.ehrsql.schema import CURRENT_TIME, MIMIC_III, MIMIC_III_INDEXES, MIMIC_III_TABLES
from tasks.errors import DataError
from tasks.family import Progress

if TYPE_CHECKING:
    import duckdb

VITALS = (677, 834, 211, 618, 51, 8368, 52, 762, 920)
_NOW = f"TIMESTAMP '{CURRENT_TIME}'"
_I, _T, _D, _N = "BIGINT", "VARCHAR", "TIMESTAMP", "DOUBLE"

_COLUMNS: dict[str, dict[str, str]] = {
    "PATIENTS": {"SUBJECT_ID": _I, "GENDER": _T, "DOB": _D, "DOD": _D},
    "ADMISSIONS": {
        "SUBJECT_ID": _I, "HADM_ID": _I, "ADMITTIME": _D, "DISCHTIME": _D, "ADMISSION_TYPE": _T,
        "ADMISSION_LOCATION": _T, "DISCHARGE_LOCATION": _T, "INSURANCE": _T, "LANGUAGE": _T, "MARITAL_STATUS": _T,
        "ETHNICITY": _T,
    },
    "D_ICD_DIAGNOSES": {"ICD9_CODE": _T, "SHORT_TITLE": _T, "LONG_TITLE": _T},
    "D_ICD_PROCEDURES": {"ICD9_CODE": _T, "SHORT_TITLE": _T, "LONG_TITLE": _T},
    "D_LABITEMS": {"ITEMID": _I, "LABEL": _T},
    "D_ITEMS": {"ITEMID": _I, "LABEL": _T, "LINKSTO": _T},
    "ICUSTAYS": {
        "HADM_ID": _I, "ICUSTAY_ID": _I, "FIRST_CAREUNIT": _T, "LAST_CAREUNIT": _T, "FIRST_WARDID": _I,
        "LAST_WARDID": _I, "INTIME": _D, "OUTTIME": _D,
    },
    "DIAGNOSES_ICD": {"HADM_ID": _I, "ICD9_CODE": _T},
    "PROCEDURES_ICD": {"HADM_ID": _I, "ICD9_CODE": _T},
    "LABEVENTS": {"HADM_ID": _I, "ITEMID": _I, "CHARTTIME": _D, "VALUENUM": _N, "VALUEUOM": _T},
    "PRESCRIPTIONS": {
        "HADM_ID": _I, "STARTDATE": _D, "ENDDATE": _D, "DRUG": _T, "DOSE_VAL_RX": _T, "DOSE_UNIT_RX": _T, "ROUTE": _T,
    },
    "CHARTEVENTS": {"ICUSTAY_ID": _I, "ITEMID": _I, "CHARTTIME": _D, "VALUENUM": _N, "VALUEUOM": _T},
    "INPUTEVENTS_CV": {"ICUSTAY_ID": _I, "CHARTTIME": _D, "ITEMID": _I, "AMOUNT": _N, "AMOUNTUOM": _T},
    "OUTPUTEVENTS": {"ICUSTAY_ID": _I, "CHARTTIME": _D, "ITEMID": _I, "VALUE": _N, "VALUEUOM": _T},
    "MICROBIOLOGYEVENTS": {"HADM_ID": _I, "CHARTTIME": _D, "SPEC_TYPE_DESC": _T, "ORG_NAME": _T},
    "TRANSFERS": {
        "HADM_ID": _I, "ICUSTAY_ID": _I, "EVENTTYPE": _T, "CURR_CAREUNIT": _T, "CURR_WARDID": _I, "INTIME": _D,
        "OUTTIME": _D,
    },
}  # fmt: skip

_WHERE = {
    "D_ITEMS": "lower(LINKSTO) IN ('chartevents', 'inputevents_cv', 'outputevents') AND LABEL IS NOT NULL",
    "D_LABITEMS": "LABEL IS NOT NULL",
    "LABEVENTS": "HADM_ID IS NOT NULL AND VALUENUM IS NOT NULL AND VALUEUOM IS NOT NULL AND CHARTTIME IS NOT NULL",
    "CHARTEVENTS": f"ITEMID IN {VITALS} AND VALUENUM IS NOT NULL AND ICUSTAY_ID IS NOT NULL AND CHARTTIME IS NOT NULL",
    # Amounts are added up, so they must all be volumes.
    "INPUTEVENTS_CV": "lower(AMOUNTUOM) = 'ml' AND AMOUNT IS NOT NULL AND ICUSTAY_ID IS NOT NULL",
    "OUTPUTEVENTS": "lower(VALUEUOM) = 'ml' AND VALUE IS NOT NULL AND ICUSTAY_ID IS NOT NULL",
    "PRESCRIPTIONS": "STARTDATE IS NOT NULL AND DRUG IS NOT NULL AND DOSE_VAL_RX IS NOT NULL "
    "AND DOSE_UNIT_RX IS NOT NULL AND ROUTE IS NOT NULL",
    "MICROBIOLOGYEVENTS": "CHARTTIME IS NOT NULL",
}
_NEEDS = {
    "DIAGNOSES_ICD": ("D_ICD_DIAGNOSES",),
    "PROCEDURES_ICD": ("D_ICD_PROCEDURES",),
    "LABEVENTS": ("D_LABITEMS",),
    "CHARTEVENTS": ("ICUSTAYS", "D_ITEMS"),
    "INPUTEVENTS_CV": ("ICUSTAYS", "D_ITEMS"),
    "OUTPUTEVENTS": ("ICUSTAYS", "D_ITEMS"),
}
_REQUIRED = ("PATIENTS", "ADMISSIONS")
_CHARGED = {
    "DIAGNOSES_ICD": ("ICD9_CODE", "CHARTTIME"),
    "PROCEDURES_ICD": ("ICD9_CODE", "CHARTTIME"),
    "LABEVENTS": ("ITEMID", "CHARTTIME"),
    "PRESCRIPTIONS": ("DRUG", "STARTDATE"),
}
CURRENT_SHARE = 0.1
_BATCH = 20_000


@dataclass
class Built:
    """Rows of each table, and why tables are empty for want of a file."""

    rows: dict[str, int] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def build(source: Path, out: Path, *, seed: int, progress: Progress, scratch: Path) -> Built:
    """Write the SQLite database `out` from the CSV files in `source`; equal input and seed give equal tables.

    `scratch` is an empty folder for what does not fit into memory. Raises DataError.
    """
    import duckdb

    files = find_csv(source)
    absent = [table for table in _REQUIRED if table not in files]
    if absent:
        raise DataError(
            f"{source.name} has no {' and no '.join(f'{t}.csv' for t in absent)} (or .csv.gz). "
            "Give the folder that holds the CSV files of MIMIC-III."
        )
    built = Built()
    for table in _COLUMNS:
        for needed in (table, *_NEEDS.get(table, ())):
            if needed not in files:
                built.missing[table] = f"{needed}.csv was not in the imported folder"
    total = 2 * len(_COLUMNS)
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": 2,
        "memory_limit": "600MB",
        "temp_directory": str(scratch),
    }
    with closing(duckdb.connect(":memory:", config=config)) as duck:
        for done, (table, columns) in enumerate(_COLUMNS.items()):
            progress(f"read {table}", done, total)
            _read(duck, files.get(table), table, columns)
            if table == "ADMISSIONS":
                _choose_admissions(duck)
            elif table == "ICUSTAYS":
                _move(duck, seed)
        _shape(duck, seed)
        with closing(sqlite3.connect(out)) as lite:
            lite.execute("PRAGMA journal_mode = OFF")
            lite.execute("PRAGMA synchronous = OFF")
            lite.executescript(MIMIC_III)
            for done, schema in enumerate(MIMIC_III_TABLES):
                progress(f"write {schema.name}", len(_COLUMNS) + done, total)
                built.rows[schema.name] = _copy(duck, lite, schema.name)
            lite.executescript(MIMIC_III_INDEXES)
            lite.execute("ANALYZE")
            lite.commit()
    if not built.rows["ADMISSIONS"]:
        raise DataError("No admission is left by the rules on age and length of stay: are the CSV files complete?")
    progress("write", total, total)
    return built


def _read(duck: "duckdb.DuckDBPyConnection", file: CsvFile | None, table: str, columns: dict[str, str]) -> None:
    if file is None:
        duck.execute(f"CREATE TABLE raw_{table} (NUMBER BIGINT, {', '.join(f'{c} {k}' for c, k in columns.items())})")
        return
    load(duck, file, "loading", {"ROW_ID": _I, **columns}, _WHERE.get(table, "true"))
    texts = [column for column, kind in columns.items() if kind == _T and column != "ICD9_CODE"]
    lowered = f" REPLACE ({', '.join(f'lower({c}) AS {c}' for c in texts)})" if texts else ""
    duck.execute(f"CREATE TABLE raw_{table} AS SELECT * EXCLUDE (ROW_ID){lowered}, ROW_ID AS NUMBER FROM loading")
    duck.execute("DROP TABLE loading")
    if "ICD9_CODE" in columns:
        duck.execute(f"UPDATE raw_{table} SET ICD9_CODE = lower(trim(ICD9_CODE))")


def _choose_admissions(duck: "duckdb.DuckDBPyConnection") -> None:
    duck.execute("""
        CREATE TABLE chosen AS SELECT a.*, date_diff('year', p.DOB, a.ADMITTIME)
            - CASE WHEN strftime(a.ADMITTIME, '%m-%d') < strftime(p.DOB, '%m-%d') THEN 1 ELSE 0 END AS AGE
        FROM raw_ADMISSIONS a JOIN raw_PATIENTS p USING (SUBJECT_ID)
        WHERE a.ADMITTIME IS NOT NULL AND a.DISCHTIME > a.ADMITTIME AND AGE > 10 AND AGE < 90
    """)
    duck.execute("""
        DELETE FROM chosen WHERE DISCHTIME - ADMITTIME >= to_seconds((
            SELECT quantile_cont(epoch(DISCHTIME) - epoch(ADMITTIME), 0.95) FROM chosen))
            AND (SELECT count(*) FROM chosen) >= 20
    """)


def _share(seed: int, what: str, key: str) -> str:
    """SQL for a number in [0, 1) that depends on the seed, the purpose and the key alone."""
    return f"(CAST('0x' || substr(md5('{seed}/{what}/' || {key}), 1, 8) AS BIGINT) / 4294967296.0)"


def _move(duck: "duckdb.DuckDBPyConnection", seed: int) -> None:
    """`moves`: per patient the years or the days by which all times are moved."""
    duck.execute(f"""
        CREATE TABLE moves AS
        WITH first AS (
            SELECT SUBJECT_ID, min(ADMITTIME) AS begin, arg_max(HADM_ID, (ADMITTIME, HADM_ID)) AS HADM_ID,
                   max(ADMITTIME) AS last_in
            FROM chosen GROUP BY SUBJECT_ID
        ), stay AS (
            SELECT f.*, a.ADMITTIME AS inside, a.DISCHTIME AS outside, i.INTIME AS icu_in, i.OUTTIME AS icu_out,
                   row_number() OVER (PARTITION BY f.SUBJECT_ID ORDER BY i.INTIME DESC, i.ICUSTAY_ID) AS place
            FROM first f JOIN chosen a USING (HADM_ID)
            LEFT JOIN raw_ICUSTAYS i ON i.HADM_ID = f.HADM_ID
                AND i.OUTTIME <= a.DISCHTIME AND CAST(i.OUTTIME AS DATE) > CAST(i.INTIME AS DATE)
        ), one AS (
            SELECT *, CAST(COALESCE(icu_out, outside) AS DATE) - 1 AS day,
                   CAST(COALESCE(icu_out, outside) AS DATE) > CAST(COALESCE(icu_in, inside) AS DATE)
                   AND day - CAST(begin AS DATE) < 5 * 365 AS may_stay
            FROM stay WHERE place = 1
        ), ranked AS (
            SELECT *, row_number() OVER (ORDER BY NOT may_stay, icu_in IS NULL,
                                         {_share(seed, "current", "SUBJECT_ID")}, SUBJECT_ID) AS turn,
                   count(*) OVER () AS patients
            FROM one
        )
        SELECT SUBJECT_ID,
               CASE WHEN stays THEN 0 ELSE
                   2100 + CAST(floor(6 * sqrt({_share(seed, "year", "SUBJECT_ID")})) AS INTEGER) - year(begin)
               END AS years,
               CASE WHEN stays THEN DATE '2105-12-31' - day ELSE 0 END AS days
        FROM (SELECT *, may_stay AND turn <= greatest(1, floor(patients * {CURRENT_SHARE})) AS stays FROM ranked)
    """)


def _moved(column: str) -> str:
    return f"({column} + to_years(CAST(m.years AS INTEGER)) + to_days(CAST(m.days AS INTEGER)))"


def _ended(column: str) -> str:
    """A time that is not yet known when it lies after the current time."""
    return f"CASE WHEN {_moved(column)} <= {_NOW} THEN {_moved(column)} END"


def _shape(duck: "duckdb.DuckDBPyConnection", seed: int) -> None:
    """Create the tables of the schema as views `out_<TABLE>`, the charged ones as tables."""

    def view(table: str, select: str, order: str = "NUMBER", kind: str = "VIEW") -> None:
        duck.execute(f"CREATE {kind} out_{table} AS SELECT row_number() OVER (ORDER BY {order}) AS ROW_ID, * "
                     f"EXCLUDE (NUMBER) FROM ({select})")  # fmt: skip

    view("ADMISSIONS", f"""
        SELECT SUBJECT_ID, HADM_ID, {_moved("a.ADMITTIME")} AS ADMITTIME, {_ended("a.DISCHTIME")} AS DISCHTIME,
            COALESCE(ADMISSION_TYPE, 'unknown') AS ADMISSION_TYPE,
            COALESCE(ADMISSION_LOCATION, 'unknown') AS ADMISSION_LOCATION,
            CASE WHEN {_moved("a.DISCHTIME")} <= {_NOW} THEN DISCHARGE_LOCATION END AS DISCHARGE_LOCATION,
            COALESCE(INSURANCE, 'unknown') AS INSURANCE, LANGUAGE, MARITAL_STATUS,
            COALESCE(ETHNICITY, 'unknown') AS ETHNICITY, AGE, NUMBER
        FROM chosen a JOIN moves m USING (SUBJECT_ID) WHERE {_moved("a.ADMITTIME")} <= {_NOW}
    """, kind="TABLE")  # fmt: skip
    view("PATIENTS", f"""
        SELECT p.SUBJECT_ID, COALESCE(p.GENDER, 'unknown') AS GENDER, {_moved("p.DOB")} AS DOB,
            {_ended("p.DOD")} AS DOD, p.NUMBER
        FROM raw_PATIENTS p JOIN moves m USING (SUBJECT_ID)
        WHERE p.SUBJECT_ID IN (SELECT SUBJECT_ID FROM out_ADMISSIONS)
    """)  # fmt: skip
    for table in ("D_ICD_DIAGNOSES", "D_ICD_PROCEDURES"):
        view(table, f"""SELECT DISTINCT ON (ICD9_CODE) ICD9_CODE, SHORT_TITLE, LONG_TITLE, NUMBER FROM raw_{table}
            WHERE ICD9_CODE IS NOT NULL AND SHORT_TITLE IS NOT NULL AND LONG_TITLE IS NOT NULL
            ORDER BY ICD9_CODE, NUMBER""")  # fmt: skip
    for table, columns in (("D_LABITEMS", "ITEMID, LABEL"), ("D_ITEMS", "ITEMID, LABEL, LINKSTO")):
        view(table, f"""SELECT DISTINCT ON (ITEMID) {columns}, NUMBER FROM raw_{table} WHERE ITEMID IS NOT NULL
            ORDER BY ITEMID, NUMBER""")  # fmt: skip
    stays = "JOIN out_ADMISSIONS a USING (HADM_ID) JOIN moves m USING (SUBJECT_ID)"
    view("DIAGNOSES_ICD", f"""SELECT a.SUBJECT_ID, HADM_ID, ICD9_CODE, a.ADMITTIME AS CHARTTIME, e.NUMBER
        FROM raw_DIAGNOSES_ICD e JOIN out_D_ICD_DIAGNOSES USING (ICD9_CODE) {stays}""", kind="TABLE")  # fmt: skip
    view("PROCEDURES_ICD", f"""SELECT a.SUBJECT_ID, HADM_ID, ICD9_CODE, a.DISCHTIME AS CHARTTIME, e.NUMBER
        FROM raw_PROCEDURES_ICD e JOIN out_D_ICD_PROCEDURES USING (ICD9_CODE) {stays}
        WHERE a.DISCHTIME IS NOT NULL""", kind="TABLE")  # fmt: skip
    view("LABEVENTS", f"""SELECT a.SUBJECT_ID, HADM_ID, ITEMID, {_moved("e.CHARTTIME")} AS CHARTTIME, VALUENUM,
            VALUEUOM, e.NUMBER
        FROM raw_LABEVENTS e JOIN out_D_LABITEMS USING (ITEMID) {stays}
        WHERE {_moved("e.CHARTTIME")} <= {_NOW}""", kind="TABLE")  # fmt: skip
    view("PRESCRIPTIONS", f"""SELECT a.SUBJECT_ID, HADM_ID, {_moved("e.STARTDATE")} AS STARTDATE,
            {_ended("e.ENDDATE")} AS ENDDATE, DRUG, DOSE_VAL_RX, DOSE_UNIT_RX, ROUTE, e.NUMBER
        FROM raw_PRESCRIPTIONS e {stays} WHERE {_moved("e.STARTDATE")} <= {_NOW}""", kind="TABLE")  # fmt: skip
    view("ICUSTAYS", f"""SELECT a.SUBJECT_ID, HADM_ID, ICUSTAY_ID, FIRST_CAREUNIT, LAST_CAREUNIT, FIRST_WARDID,
            LAST_WARDID, {_moved("e.INTIME")} AS INTIME, {_ended("e.OUTTIME")} AS OUTTIME, e.NUMBER
        FROM raw_ICUSTAYS e {stays} WHERE {_moved("e.INTIME")} <= {_NOW} AND ICUSTAY_ID IS NOT NULL
            AND FIRST_CAREUNIT IS NOT NULL AND LAST_CAREUNIT IS NOT NULL AND FIRST_WARDID IS NOT NULL
            AND LAST_WARDID IS NOT NULL""", kind="TABLE")  # fmt: skip
    units = "JOIN out_ICUSTAYS i USING (ICUSTAY_ID) JOIN moves m USING (SUBJECT_ID)"
    for table, columns in (
        ("CHARTEVENTS", "ITEMID, CHARTTIME, VALUENUM, VALUEUOM"),
        ("INPUTEVENTS_CV", "CHARTTIME, ITEMID, AMOUNT"),
        ("OUTPUTEVENTS", "CHARTTIME, ITEMID, VALUE"),
    ):
        moved = columns.replace("CHARTTIME", f"{_moved('e.CHARTTIME')} AS CHARTTIME")
        view(table, f"""SELECT i.SUBJECT_ID, i.HADM_ID, ICUSTAY_ID, {moved}, e.NUMBER
            FROM raw_{table} e JOIN out_D_ITEMS USING (ITEMID) {units}
            WHERE {_moved("e.CHARTTIME")} <= {_NOW}""")  # fmt: skip
    view("MICROBIOLOGYEVENTS", f"""SELECT a.SUBJECT_ID, HADM_ID, {_moved("e.CHARTTIME")} AS CHARTTIME,
            SPEC_TYPE_DESC, ORG_NAME, e.NUMBER
        FROM raw_MICROBIOLOGYEVENTS e {stays} WHERE {_moved("e.CHARTTIME")} <= {_NOW}""")  # fmt: skip
    view("TRANSFERS", f"""SELECT a.SUBJECT_ID, HADM_ID, ICUSTAY_ID, EVENTTYPE, CURR_CAREUNIT AS CAREUNIT,
            CURR_WARDID AS WARDID, {_moved("e.INTIME")} AS INTIME, {_ended("e.OUTTIME")} AS OUTTIME, e.NUMBER
        FROM raw_TRANSFERS e {stays} WHERE EVENTTYPE IS NOT NULL AND {_moved("e.INTIME")} <= {_NOW}""")  # fmt: skip
    charges = " UNION ALL ".join(
        f"""SELECT SUBJECT_ID, HADM_ID, '{table.lower()}' AS EVENT_TYPE, ROW_ID AS EVENT_ID, {time} AS CHARGETIME,
            round(0.5 + 60 * pow({_share(seed, f"price/{table}", f"CAST({item} AS VARCHAR)")}, 2), 2) AS COST,
            {place} AS SORT FROM out_{table}"""
        for place, (table, (item, time)) in enumerate(_CHARGED.items())
    )
    view("COST", f"SELECT * RENAME (SORT AS NUMBER) FROM ({charges})", "NUMBER, EVENT_ID")


def _copy(duck: "duckdb.DuckDBPyConnection", lite: sqlite3.Connection, table: str) -> int:
    schema = next(t for t in MIMIC_III_TABLES if t.name == table)
    columns = ["ROW_ID"]
    for column in schema.columns:
        form = f"strftime({column.name}, '%Y-%m-%d %H:%M:%S')" if column.type == "TIMESTAMP" else column.name
        columns.append(form)
    insert = f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})"
    count = 0
    cursor = duck.execute(f"SELECT {', '.join(columns)} FROM out_{table} ORDER BY ROW_ID")
    while rows := cursor.fetchmany(_BATCH):
        lite.executemany(insert, rows)
        count += len(rows)
    lite.commit()
    return count
