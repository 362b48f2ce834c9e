"""Answers to the hospital's questions computed with pandas, apart from the SQL that gives the truth.

Each function takes the tables (lower-case names and columns, times parsed) and the slots, and returns rows.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd

Frames = dict[str, pd.DataFrame]
Slots = dict[str, Any]
Rows = list[list[Any]]


def read_tables(path: Path) -> Frames:
    tables: Frames = {}
    with closing(sqlite3.connect(path)) as database:
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in names:
            if name.startswith("sqlite_"):
                continue
            frame = pd.read_sql_query(f"SELECT * FROM {name}", database)
            frame.columns = [column.lower() for column in frame.columns]
            for column in frame.columns:
                if column.endswith(("time", "date")) or column in ("dob", "dod"):
                    frame[column] = pd.to_datetime(frame[column])
            tables[name.lower()] = frame
    return tables


def _of(frame: pd.DataFrame, **equal: Any) -> pd.DataFrame:
    for column, value in equal.items():
        frame = frame[frame[column] == value]
    return frame


def _between(frame: pd.DataFrame, column: str, slots: Slots) -> pd.DataFrame:
    return frame[(frame[column] >= pd.Timestamp(slots["start"])) & (frame[column] < pd.Timestamp(slots["stop"]))]


def _last(t: Frames, patient: int, *, first: bool = False) -> Any:
    stays = _of(t["admissions"], subject_id=patient).sort_values("admittime")
    return stays.iloc[0 if first else -1]["hadm_id"]


def _icu(t: Frames, patient: int, *, first: bool = False) -> Any:
    stays = _of(t["icustays"], subject_id=patient).sort_values("intime")
    return stays.iloc[0 if first else -1]["icustay_id"]


def _named(t: Frames, events: str, names: str, key: str) -> pd.DataFrame:
    return t[events].merge(t[names].drop(columns="row_id"), on=key)


def _diagnoses(t: Frames) -> pd.DataFrame:
    return _named(t, "diagnoses_icd", "d_icd_diagnoses", "icd9_code")


def _procedures(t: Frames) -> pd.DataFrame:
    return _named(t, "procedures_icd", "d_icd_procedures", "icd9_code")


def _labs(t: Frames) -> pd.DataFrame:
    return _named(t, "labevents", "d_labitems", "itemid")


def _items(t: Frames, table: str) -> pd.DataFrame:
    return _named(t, table, "d_items", "itemid")


def _with_diagnosis(t: Frames, title: str) -> set[int]:
    return set(_of(_diagnoses(t), long_title=title)["hadm_id"])


def _with_procedure(t: Frames, title: str) -> set[int]:
    return set(_of(_procedures(t), long_title=title)["hadm_id"])


def _column(values: Any) -> Rows:
    return [[value] for value in dict.fromkeys(values)]


def _top(counts: Any, n: int) -> Rows:
    return [[name] for name in counts.sort_values(ascending=False).index[:n]]


def _text(time: Any) -> str:
    return str(pd.Timestamp(time).strftime("%Y-%m-%d %H:%M:%S"))


def _days(delta: Any) -> float:
    return float(pd.Timedelta(delta).total_seconds()) / 86_400


def _length(frame: pd.DataFrame) -> pd.Series:
    return (frame["dischtime"] - frame["admittime"]).dt.total_seconds() / 86_400


def first_age(t: Frames, s: Slots) -> Rows:
    return [[int(_of(t["admissions"], subject_id=s["patient"]).sort_values("admittime").iloc[0]["age"])]]


def mean_age(t: Frames, s: Slots) -> Rows:
    frame = t["admissions"].merge(t["patients"][["subject_id", "gender"]], on="subject_id")
    return [[float(_between(_of(frame, gender=s["sex"]), "admittime", s)["age"].mean())]]


def marital(t: Frames, s: Slots) -> Rows:
    frame = _between(_of(t["admissions"], admission_type=s["kind"]), "admittime", s)
    return [[name, int(n)] for name, n in frame["marital_status"].value_counts().items()]


def survival(t: Frames, s: Slots) -> Rows:
    died = _of(t["patients"], subject_id=s["patient"]).iloc[0]["dod"]
    left = _of(t["admissions"], subject_id=s["patient"])["dischtime"].max()
    return [[(died.normalize() - left.normalize()).days]]


def returned(t: Frames, s: Slots) -> Rows:
    return [[int((_between(t["admissions"], "admittime", s)["subject_id"].value_counts() > 1).sum())]]


def longest(t: Frames, s: Slots) -> Rows:
    return [[float(_length(_of(t["admissions"], subject_id=s["patient"])).max())]]


def interval(t: Frames, s: Slots) -> Rows:
    stays = _of(t["admissions"], subject_id=s["patient"]).sort_values("admittime")
    return [[_days(stays.iloc[1]["admittime"] - stays.iloc[0]["dischtime"])]]


def icu_hours(t: Frames, s: Slots) -> Rows:
    stays = _of(t["icustays"], subject_id=s["patient"]).dropna(subset="outtime")
    return [[sum(_days(out - begin) * 24 for begin, out in zip(stays["intime"], stays["outtime"], strict=True))]]


def first_diagnoses(t: Frames, s: Slots) -> Rows:
    return _column(_of(_diagnoses(t), hadm_id=_last(t, s["patient"], first=True))["long_title"])


def diagnosis_count(t: Frames, s: Slots) -> Rows:
    frame = _between(_of(_diagnoses(t), long_title=s["diagnosis"]), "charttime", s)
    return [[frame["subject_id"].nunique()]]


def top_by_age(t: Frames, s: Slots) -> Rows:
    old = set(t["admissions"][t["admissions"]["age"] >= s["age"]]["hadm_id"])
    frame = _diagnoses(t)
    return _top(frame[frame["hadm_id"].isin(old)].groupby("long_title")["hadm_id"].nunique(), s["n"])


def both_diagnoses(t: Frames, s: Slots) -> Rows:
    return [[len(_with_diagnosis(t, s["diagnosis"]) & _with_diagnosis(t, s["other"]))]]


def mortality(t: Frames, s: Slots) -> Rows:
    frame = t["admissions"].dropna(subset="dischtime")
    frame = frame[frame["hadm_id"].isin(_with_diagnosis(t, s["diagnosis"]))]
    return [[100 * float((frame["discharge_location"] == "dead/expired").mean())]]


def new_diagnoses(t: Frames, s: Slots) -> Rows:
    mine = _of(_diagnoses(t), subject_id=s["patient"])
    last = mine["hadm_id"] == _last(t, s["patient"])
    return _column(set(mine[last]["long_title"]) - set(mine[~last]["long_title"]))


def stay_of_procedure(t: Frames, s: Slots) -> Rows:
    stays = t["admissions"][t["admissions"]["hadm_id"].isin(_with_procedure(t, s["procedure"]))]
    return [[float(_length(stays).mean())]]


def last_procedure(t: Frames, s: Slots) -> Rows:
    frame = _of(_procedures(t), subject_id=s["patient"], long_title=s["procedure"])
    return [[_text(frame["charttime"].max())]]


def procedure_share(t: Frames, s: Slots) -> Rows:
    over = set(t["admissions"].dropna(subset="dischtime")["hadm_id"]) & _with_diagnosis(t, s["diagnosis"])
    return [[100 * len(over & _with_procedure(t, s["procedure"])) / len(over)]]


def top_procedures(t: Frames, s: Slots) -> Rows:
    frame = _procedures(t)
    frame = frame[frame["hadm_id"].isin(_with_diagnosis(t, s["diagnosis"]))]
    return _top(frame["long_title"].value_counts(), s["n"])


def last_lab(t: Frames, s: Slots) -> Rows:
    frame = _of(_labs(t), subject_id=s["patient"], label=s["lab"]).sort_values("charttime")
    return [[float(frame.iloc[-1]["valuenum"]), frame.iloc[-1]["valueuom"]]]


def lab_change(t: Frames, s: Slots) -> Rows:
    frame = _of(_labs(t), hadm_id=_last(t, s["patient"]), label=s["lab"]).sort_values("charttime")
    return [[float(frame.iloc[-1]["valuenum"] - frame.iloc[0]["valuenum"])]]


def lab_daily(t: Frames, s: Slots) -> Rows:
    frame = _of(_labs(t), hadm_id=_last(t, s["patient"], first=True), label=s["lab"])
    means = frame.groupby(frame["charttime"].dt.strftime("%Y-%m-%d"))["valuenum"].mean()
    return [[day, float(mean)] for day, mean in means.items()]


def first_above(t: Frames, s: Slots) -> Rows:
    first = _of(_labs(t), label=s["lab"]).sort_values("charttime").groupby("subject_id")["valuenum"].first()
    return [[int((first > s["limit"]).sum())]]


def repeated(t: Frames, s: Slots) -> Rows:
    counts = _between(_of(_labs(t), label=s["lab"]), "charttime", s)["subject_id"].value_counts()
    return [[int((counts >= s["repeats"]).sum())]]


def first_day_labs(t: Frames, s: Slots) -> Rows:
    stay = _last(t, s["patient"])
    begin = _of(t["admissions"], hadm_id=stay).iloc[0]["admittime"]
    frame = _of(_labs(t), hadm_id=stay)
    return _column(frame[frame["charttime"] <= begin + pd.Timedelta(hours=24)]["label"])


def widest(t: Frames, s: Slots) -> Rows:
    groups = _of(_labs(t), subject_id=s["patient"]).groupby("label")["valuenum"]
    spread = (groups.max() - groups.min()).sort_values(ascending=False)
    return [[name, float(value)] for name, value in spread.head(s["n"]).items()]


def drug_days(t: Frames, s: Slots) -> Rows:
    frame = _of(t["prescriptions"], subject_id=s["patient"], drug=s["drug"]).dropna(subset="enddate")
    return [[int(((frame["enddate"] - frame["startdate"]).dt.days + 1).sum())]]


def first_day_drugs(t: Frames, s: Slots) -> Rows:
    stay = _last(t, s["patient"])
    day = _of(t["admissions"], hadm_id=stay).iloc[0]["admittime"].normalize()
    return _column(_of(t["prescriptions"], hadm_id=stay, startdate=day)["drug"])


def both_drugs(t: Frames, s: Slots) -> Rows:
    frame = t["prescriptions"]
    stays = set(_of(frame, drug=s["drug"])["hadm_id"]) & set(_of(frame, drug=s["other"])["hadm_id"])
    return [[t["admissions"][t["admissions"]["hadm_id"].isin(stays)]["subject_id"].nunique()]]


def new_drugs(t: Frames, s: Slots) -> Rows:
    mine = _of(t["prescriptions"], subject_id=s["patient"])
    last = mine["hadm_id"] == _last(t, s["patient"])
    return _column(set(mine[last]["drug"]) - set(mine[~last]["drug"]))


def mean_vital(t: Frames, s: Slots) -> Rows:
    frame = _of(_items(t, "chartevents"), icustay_id=_icu(t, s["patient"]), label=s["vital"])
    return [[float(frame["valuenum"].mean())]]


def body_mass_index(t: Frames, s: Slots) -> Rows:
    frame = _of(_items(t, "chartevents"), icustay_id=_icu(t, s["patient"], first=True)).set_index("label")["valuenum"]
    return [[float(frame["admit wt"] / (frame["admit ht"] / 100) ** 2)]]


def pulse_pressure(t: Frames, s: Slots) -> Rows:
    frame = _of(_items(t, "chartevents"), icustay_id=_icu(t, s["patient"]))
    wide = frame.pivot_table(index="charttime", columns="label", values="valuenum")
    return [[float((wide["arterial bp [systolic]"] - wide["arterial bp [diastolic]"]).mean())]]


def weight_change(t: Frames, s: Slots) -> Rows:
    frame = _of(_items(t, "chartevents"), label="admit wt").set_index("icustay_id")["valuenum"]
    return [[float(frame[_icu(t, s["patient"])] - frame[_icu(t, s["patient"], first=True)])]]


def balance(t: Frames, s: Slots) -> Rows:
    stay = _icu(t, s["patient"], first=True)
    into = _of(t["inputevents_cv"], icustay_id=stay)["amount"].sum()
    return [[float(into - _of(t["outputevents"], icustay_id=stay)["value"].sum())]]


def daily_out(t: Frames, s: Slots) -> Rows:
    frame = _of(_items(t, "outputevents"), icustay_id=_icu(t, s["patient"], first=True), label=s["output"])
    sums = frame.groupby(frame["charttime"].dt.strftime("%Y-%m-%d"))["value"].sum()
    return [[day, float(total)] for day, total in sums.items()]


def mean_per_stay(t: Frames, s: Slots) -> Rows:
    frame = _of(_items(t, "outputevents"), label=s["output"])
    return [[float(frame.groupby("icustay_id")["value"].sum().mean())]]


def growth(t: Frames, s: Slots) -> Rows:
    frame = _between(_of(t["microbiologyevents"], spec_type_desc=s["specimen"]), "charttime", s)
    return [[100 * float(frame["org_name"].notna().mean())]]


def treated(t: Frames, s: Slots) -> Rows:
    grown = set(_of(t["microbiologyevents"], org_name=s["organism"])["hadm_id"])
    frame = _of(t["prescriptions"], drug=s["drug"])
    return [[frame[frame["hadm_id"].isin(grown)]["subject_id"].nunique()]]


def delay(t: Frames, s: Slots) -> Rows:
    frame = _of(t["microbiologyevents"], subject_id=s["patient"]).merge(t["admissions"], on="hadm_id")
    last = frame[frame["admittime"] == frame["admittime"].max()]
    return [[_days(last["charttime"].min() - last["admittime"].iloc[0]) * 24]]


def drug_cost(t: Frames, s: Slots) -> Rows:
    rows = set(_of(t["prescriptions"], subject_id=s["patient"], drug=s["drug"])["row_id"])
    frame = _of(t["cost"], event_type="prescriptions")
    return [[float(frame[frame["event_id"].isin(rows)]["cost"].sum())]]


def procedure_cost(t: Frames, s: Slots) -> Rows:
    rows = set(_of(_procedures(t), long_title=s["procedure"])["row_id"])
    frame = _of(t["cost"], event_type="procedures_icd")
    return [[float(frame[frame["event_id"].isin(rows)]["cost"].mean())]]


def top_admissions(t: Frames, s: Slots) -> Rows:
    stays = set(_between(t["admissions"], "admittime", s)["hadm_id"])
    sums = t["cost"][t["cost"]["hadm_id"].isin(stays)].groupby("hadm_id")["cost"].sum()
    return [[int(str(n)), float(c)] for n, c in sums.sort_values(ascending=False).head(s["n"]).items()]


def cost_by_type(t: Frames, s: Slots) -> Rows:
    sums = _of(t["cost"], hadm_id=s["admission"]).groupby("event_type")["cost"].sum().sort_values(ascending=False)
    return [[name, float(total)] for name, total in sums.items()]


def lab_share(t: Frames, s: Slots) -> Rows:
    mine = _of(t["cost"], subject_id=s["patient"])
    return [[100 * float(_of(mine, event_type="labevents")["cost"].sum() / mine["cost"].sum())]]


def mean_cost(t: Frames, s: Slots) -> Rows:
    frame = t["cost"][t["cost"]["hadm_id"].isin(_with_diagnosis(t, s["diagnosis"]))]
    return [[float(frame.groupby("hadm_id")["cost"].sum().mean())]]


ANSWERS: dict[str, Callable[[Frames, Slots], Rows]] = {
    "demographics.first_age": first_age,
    "demographics.mean_age": mean_age,
    "demographics.marital": marital,
    "demographics.survival": survival,
    "demographics.returned": returned,
    "demographics.longest": longest,
    "demographics.interval": interval,
    "demographics.icu_hours": icu_hours,
    "diagnosis.first_admission": first_diagnoses,
    "diagnosis.count": diagnosis_count,
    "diagnosis.top_by_age": top_by_age,
    "diagnosis.both": both_diagnoses,
    "diagnosis.mortality": mortality,
    "diagnosis.new": new_diagnoses,
    "procedure.stay": stay_of_procedure,
    "procedure.last_time": last_procedure,
    "procedure.share": procedure_share,
    "procedure.top_of_diagnosis": top_procedures,
    "laboratory.last": last_lab,
    "laboratory.change": lab_change,
    "laboratory.daily": lab_daily,
    "laboratory.first_above": first_above,
    "laboratory.repeated": repeated,
    "laboratory.first_day": first_day_labs,
    "laboratory.widest": widest,
    "prescription.days": drug_days,
    "prescription.first_day": first_day_drugs,
    "prescription.both": both_drugs,
    "prescription.new": new_drugs,
    "vital_signs.mean": mean_vital,
    "vital_signs.body_mass_index": body_mass_index,
    "vital_signs.pulse_pressure": pulse_pressure,
    "vital_signs.weight_change": weight_change,
    "intake_output.balance": balance,
    "intake_output.daily_out": daily_out,
    "intake_output.mean_per_stay": mean_per_stay,
    "microbiology.growth": growth,
    "microbiology.treated": treated,
    "microbiology.delay": delay,
    "cost.drug": drug_cost,
    "cost.procedure": procedure_cost,
    "cost.top_admissions": top_admissions,
    "cost.by_type": cost_by_type,
    "cost.lab_share": lab_share,
    "cost.mean_of_diagnosis": mean_cost,
}
