"""Mistakes that analysts make, as changes of code that is right: what the scripted analyst errs with.

Every function returns the changed code and what the mistake shows as, or None where the code offers no place for it.
`shows` is "error" where running it fails, and "result" where it runs and the result is wrong.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Shows = Literal["error", "result"]

_TEXT = re.compile(r"'((?:[^']|'')*)'")
_TIME = re.compile(r"\d{4}-\d\d")
_WORD = re.compile(r"\b[a-z][a-z0-9_]*\b")
_WINDOW = re.compile(r"\s*\b(?:AND\s+)?(\w+\.)?(\w*time|dob|dod)\s*(>=|<=|<|>)\s*'\d{4}-\d\d[^']*'", re.I)
_FROM = re.compile(r"\b(?:FROM|JOIN)\s+([A-Za-z_]\w*)", re.I)
_COLUMNS = {
    "admittime": "admit_time",
    "dischtime": "discharge_time",
    "charttime": "chart_time",
    "startdate": "start_date",
    "intime": "in_time",
    "outtime": "out_time",
    "valuenum": "value_num",
    "valueuom": "unit",
    "long_title": "title",
    "short_title": "title",
    "subject_id": "patient_id",
    "hadm_id": "admission_id",
    "icustay_id": "icu_stay_id",
    "org_name": "organism",
    "gender": "sex",
    "careunit": "care_unit",
    "dose_val_rx": "dose",
    "marital_status": "marital",
    "admission_type": "type_of_admission",
    "event_type": "eventtype",
    "icd9_code": "icd_code",
    "label": "item_label",
}
_TABLES = {
    "diagnoses_icd": "diagnoses",
    "procedures_icd": "procedures",
    "d_icd_diagnoses": "icd_diagnoses",
    "d_icd_procedures": "icd_procedures",
    "labevents": "lab_events",
    "d_labitems": "lab_items",
    "prescriptions": "prescription",
    "inputevents_cv": "inputevents",
    "outputevents": "output_events",
    "chartevents": "chart_events",
    "microbiologyevents": "microbiology",
    "icustays": "icu_stays",
    "admissions": "admission",
    "patients": "patient",
    "transfers": "transfer",
}


@dataclass(frozen=True)
class Mistake:
    """`code` is wrong; `place` is what was got wrong, for the analyst to name when it is seen."""

    kind: str
    code: str
    shows: Shows
    place: str


Maker = Callable[[str, random.Random], Mistake | None]


def _bare(sql: str) -> str:
    """The SQL with its texts blanked, at equal length."""
    return _TEXT.sub(lambda found: "'" + " " * (len(found.group()) - 2) + "'", sql)


def wrong_column(sql: str, rng: random.Random) -> Mistake | None:
    """A column under a name that one would expect."""
    bare = _bare(sql)
    names = sorted({found.group() for found in _WORD.finditer(bare.lower())} & set(_COLUMNS))
    if not names:
        return None
    name = rng.choice(names)
    places = list(re.finditer(rf"\b{name}\b", bare, re.I))
    code = sql
    for found in reversed(places):
        code = code[: found.start()] + _COLUMNS[name] + code[found.end() :]
    return Mistake("wrong column", code, "error", name)


def wrong_table(sql: str, rng: random.Random) -> Mistake | None:
    """A table under a shorter name."""
    names = sorted({found.group(1).lower() for found in _FROM.finditer(_bare(sql))} & set(_TABLES))
    if not names:
        return None
    name = rng.choice(names)
    return Mistake("wrong table", re.sub(rf"\b{name}\b", _TABLES[name], sql, flags=re.I), "error", name)


def wrong_case(sql: str, rng: random.Random) -> Mistake | None:
    """A text as a person would write it, where the data have it in lower case."""
    texts = [
        text
        for text in _TEXT.findall(sql)
        if re.search(r"[a-z]", text) and not _TIME.match(text) and not text.startswith(("%", "+", "-", "start of"))
    ]
    if not texts:
        return None
    text = rng.choice(texts)
    changed = text.capitalize() if rng.random() < 0.6 else text.title()
    return Mistake("wrong case", sql.replace(f"'{text}'", f"'{changed}'"), "result", text) if changed != text else None


def forgotten_window(sql: str, rng: random.Random) -> Mistake | None:
    """Without the time that the question is about."""
    found = list(_WINDOW.finditer(sql))
    if not found:
        return None
    code = _WINDOW.sub("", sql)
    code = re.sub(r"\bWHERE\s+AND\b", "WHERE", code, flags=re.I)
    code = re.sub(r"\s+WHERE(?=\s*(?:\)|$|GROUP\b|ORDER\b|LIMIT\b))", "", code, flags=re.I)
    return Mistake("forgotten window", code, "result", found[0].group(2))


def syntax_error(sql: str, rng: random.Random) -> Mistake | None:
    """A slip of the keyboard."""
    slips = [lambda: sql.replace("SELECT", "SELCT", 1), lambda: re.sub(r"\bFROM\b", "FORM", sql, count=1)]
    if sql.count("(") > 1:
        slips.append(lambda: sql[: sql.rfind(")")] + sql[sql.rfind(")") + 1 :])
    if " BY " in sql:
        slips.append(lambda: sql.replace(" BY ", " ", 1))
    code = rng.choice(slips)()
    return Mistake("syntax error", code, "error", "the syntax") if code != sql else None


SQL: tuple[Maker, ...] = (wrong_column, wrong_table, wrong_case, forgotten_window, syntax_error)


def forgotten_unit(code: str, rng: random.Random) -> Mistake | None:
    """A value in the unit of the note, where the formula wants another."""
    found = [
        match
        for match in re.finditer(r"^(\w+) = (\(?-?[\d.]+(?: - [\d.]+\))?) [*/] [\d.]+$", code, re.M)
        if match.group(1) != "answer"
    ]
    if not found:
        return None
    one = rng.choice(found)
    value = one.group(2).strip("()").split(" - ")[0]
    changed = f"{code[: one.start()]}{one.group(1)} = {value}{code[one.end() :]}"
    return Mistake("forgotten unit", changed, "result", one.group(1))


def wrong_name(code: str, rng: random.Random) -> Mistake | None:
    """A variable that is used under another name than it was given."""
    names = re.findall(r"^([a-z]\w{3,}) = ", code, re.M)
    used = [name for name in names if name != "answer" and re.search(rf"^answer = .*={name}\b", code, re.M)]
    if not used:
        return None
    name = rng.choice(used)
    short = name.split("_")[0] if "_" in name else f"{name}s"
    changed = re.sub(rf"^(answer = .*=){name}\b", rf"\g<1>{short}", code, count=1, flags=re.M)
    return Mistake("wrong name", changed, "error", name) if changed != code else None


def slip(code: str, rng: random.Random) -> Mistake | None:
    """A bracket or a colon that is missing."""
    slips = []
    if re.search(r"^def .*:$", code, re.M):
        slips.append(re.sub(r"^(def .*):$", r"\1", code, count=1, flags=re.M))
    if re.search(r"^answer = .*\)$", code, re.M):
        slips.append(re.sub(r"^(answer = .*)\)$", r"\1", code, count=1, flags=re.M))
    return Mistake("syntax error", rng.choice(slips), "error", "the syntax") if slips else None


PYTHON: tuple[Maker, ...] = (forgotten_unit, wrong_name, slip)


def make(code: str, makers: tuple[Maker, ...], rng: random.Random) -> Mistake | None:
    """One mistake that the code offers a place for, drawn evenly; None where there is none."""
    for maker in rng.sample(makers, len(makers)):
        if (made := maker(code, rng)) is not None and made.code != code:
            return made
    return None
