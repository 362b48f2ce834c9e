"""What a patient of the synthetic hospital is, apart from any schema.

Times are whole minutes since 2100-01-01 00:00. `END` is the present of the hospital: nothing is later, and what is
not yet over (a stay, a prescription, a life) has no end. Money is in dollars, volumes in ml, doses are texts as
prescribed. Events carry their cost where the hospital charges for them.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

EPOCH = datetime(2100, 1, 1)
NOW = datetime(2105, 12, 31, 23, 59)
END = int((NOW - EPOCH).total_seconds()) // 60
DAY = 24 * 60


def moment(minute: int) -> datetime:
    return EPOCH + timedelta(minutes=minute)


class Diagnosis(NamedTuple):
    """In order of importance: the first one is why the patient came."""

    code: str
    cost: float


class ProcedureDone(NamedTuple):
    code: str
    time: int
    cost: float


class Prescription(NamedTuple):
    """`start` and `end` are midnights of the first and last day; no end while it is still given."""

    drug: str
    dose: str
    unit: str
    route: str
    start: int
    end: int | None
    cost: float


class LabResult(NamedTuple):
    """At most one result of a test at one time in an admission."""

    name: str
    time: int
    value: float
    cost: float


class VitalSign(NamedTuple):
    """At most one value of a vital sign at one time in an ICU stay."""

    name: str
    time: int
    value: float


class FluidRecord(NamedTuple):
    name: str
    time: int
    amount: float


class Culture(NamedTuple):
    """What grew in a specimen; no organism = no growth. Two organisms in one specimen are two records."""

    specimen: str
    time: int
    organism: str | None


class Movement(NamedTuple):
    """A place where the patient was. `unit` is None on an ordinary ward; `stay` is the index of the ICU stay."""

    kind: Literal["admit", "transfer", "discharge"]
    unit: str | None
    ward: int | None
    start: int
    end: int | None
    stay: int | None


@dataclass(frozen=True, slots=True)
class IcuStay:
    number: int
    first_unit: str
    last_unit: str
    first_ward: int
    last_ward: int
    start: int
    end: int | None
    vitals: tuple[VitalSign, ...]
    intake: tuple[FluidRecord, ...]
    output: tuple[FluidRecord, ...]


@dataclass(frozen=True, slots=True)
class Admission:
    """One stay in hospital. `number` is unique in the hospital; `discharged` is None for who is still there."""

    number: int
    admitted: int
    discharged: int | None
    kind: str
    source: str
    destination: str | None
    insurance: str
    marital: str | None
    age: int
    died: bool
    diagnoses: tuple[Diagnosis, ...]
    procedures: tuple[ProcedureDone, ...]
    prescriptions: tuple[Prescription, ...]
    labs: tuple[LabResult, ...]
    cultures: tuple[Culture, ...]
    movements: tuple[Movement, ...]
    stays: tuple[IcuStay, ...]


@dataclass(frozen=True, slots=True)
class Patient:
    """`index` counts from 0 in the population, `number` is what the hospital calls them; `death` is a midnight."""

    index: int
    number: int
    sex: Literal["f", "m"]
    birth: datetime
    death: int | None
    ethnicity: str
    language: str | None
    chronic: tuple[str, ...]
    admissions: tuple[Admission, ...]
