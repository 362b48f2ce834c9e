"""The synthetic population: the same from the same seed, whole, and clinically plausible."""

import statistics
from collections import defaultdict
from itertools import pairwise

import pytest

from tasks.hospital.conditions import ACUTE, CHRONIC, COMPLICATIONS, CONDITIONS, PROCEDURES, ROUTINE_DRUGS
from tasks.hospital.population import MAX_PATIENTS, _scatter, make_patient, make_patients, make_population
from tasks.hospital.records import DAY, END, Admission, Patient, moment
from tasks.hospital.vocabulary import CARE_UNITS, DRUGS, INTAKE, LABS, OUTPUT, PANELS, SPECIMENS, VITALS

PATIENTS = 150


@pytest.fixture(scope="module")
def population() -> tuple[Patient, ...]:
    return make_population(3, PATIENTS)


@pytest.fixture(scope="module")
def admissions(population: tuple[Patient, ...]) -> list[tuple[Patient, Admission]]:
    return [(patient, admission) for patient in population for admission in patient.admissions]


def test_a_patient_is_the_same_in_any_population_of_the_seed(population: tuple[Patient, ...]) -> None:
    assert make_population(3, 40) == population[:40]
    assert make_patient(3, PATIENTS - 1) == population[-1]
    assert make_patient(4, 0) != population[0]


@pytest.mark.parametrize("patients", [0, -1, MAX_PATIENTS + 1])
def test_an_impossible_number_of_patients_is_refused(patients: int) -> None:
    with pytest.raises(ValueError, match="number of patients"):
        make_patients(0, patients)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed"):
        make_patients(-1, 10)


def test_numbers_do_not_collide_up_to_the_largest_population() -> None:
    assert len({_scatter(i, 999_983) for i in range(MAX_PATIENTS)}) == MAX_PATIENTS
    assert len({_scatter(i, 999_983) for i in range(8 * MAX_PATIENTS)}) == 8 * MAX_PATIENTS
    assert len({_scatter(i, 1_999_993) for i in range(16 * MAX_PATIENTS)}) == 16 * MAX_PATIENTS


def test_the_vocabulary_is_closed() -> None:
    vitals = {name for c in (*ACUTE, *CHRONIC, *COMPLICATIONS) for name in c.vitals}
    assert vitals <= VITALS.keys()
    for condition in (*ACUTE, *CHRONIC, *COMPLICATIONS):
        assert condition.labs.keys() <= LABS.keys(), condition.code
        assert condition.drugs.keys() <= DRUGS.keys(), condition.code
        assert condition.procedures.keys() <= PROCEDURES.keys(), condition.code
        assert condition.cultures.keys() <= SPECIMENS.keys(), condition.code
        assert set(condition.panels) <= PANELS.keys(), condition.code
        assert condition.unit in CARE_UNITS
        known = CONDITIONS[condition.code]
        assert (known.short, known.long) == (condition.short, condition.long)
    assert ROUTINE_DRUGS.keys() <= DRUGS.keys()
    assert len({c.long for c in CONDITIONS.values()}) == len(CONDITIONS)
    assert len({p.long for p in PROCEDURES.values()}) == len(PROCEDURES)
    items = [v.item for v in VITALS.values()] + [f.item for f in (*INTAKE.values(), *OUTPUT.values())]
    assert len(set(items)) == len(items)
    assert len({lab.item for lab in LABS.values()}) == len(LABS)
    for name in (*CONDITIONS, *DRUGS, *LABS, *SPECIMENS):
        assert name == name.lower()


def test_nothing_is_later_than_the_present_and_all_is_within_the_stay(
    admissions: list[tuple[Patient, Admission]],
) -> None:
    for patient, admission in admissions:
        end = END if admission.discharged is None else admission.discharged
        assert 0 <= admission.admitted < end <= END
        times = [r.time for r in admission.labs] + [c.time for c in admission.cultures]
        assert all(admission.admitted <= t <= end for t in times + [p.time for p in admission.procedures])
        for drug in admission.prescriptions:
            assert admission.admitted - DAY < drug.start <= end
            assert drug.end is None or drug.start <= drug.end <= end
            assert drug.end is not None or admission.discharged is None
            assert drug.dose in DRUGS[drug.drug].doses
        for stay in admission.stays:
            out = END if stay.end is None else stay.end
            assert admission.admitted <= stay.start < out <= end
            times = [v.time for v in stay.vitals] + [f.time for f in (*stay.intake, *stay.output)]
            assert all(stay.start <= t <= out for t in times)
        if patient.death is not None:
            assert patient.death + DAY > end


def test_admissions_follow_each_other_and_age_is_that_of_the_day(population: tuple[Patient, ...]) -> None:
    for patient in population:
        assert patient.admissions
        for earlier, later in pairwise(patient.admissions):
            assert earlier.discharged is not None
            assert not earlier.died
            assert later.admitted - earlier.discharged >= 5 * DAY
        for admission in patient.admissions:
            day = moment(admission.admitted)
            birthday = (patient.birth.month, patient.birth.day)
            assert admission.age == day.year - patient.birth.year - ((day.month, day.day) < birthday)
            assert 10 < admission.age < 90
        if patient.admissions[-1].died:
            assert patient.death is not None


def test_the_movements_of_an_admission_are_gapless(admissions: list[tuple[Patient, Admission]]) -> None:
    for _, admission in admissions:
        moves = admission.movements
        assert moves[0].kind == "admit"
        assert moves[0].start == admission.admitted
        assert all(earlier.end == later.start for earlier, later in pairwise(moves))
        if admission.discharged is None:
            assert moves[-1].kind != "discharge"
            assert moves[-1].end is None
        else:
            assert moves[-1].kind == "discharge"
            assert moves[-1].start == admission.discharged
        assert {m.stay for m in moves} - {None} == set(range(len(admission.stays)))


def test_a_measure_has_one_value_at_one_time(admissions: list[tuple[Patient, Admission]]) -> None:
    for _, admission in admissions:
        assert len({(r.name, r.time) for r in admission.labs}) == len(admission.labs)
        for stay in admission.stays:
            for records in (stay.vitals, stay.intake, stay.output):
                assert len({(r.name, r.time) for r in records}) == len(records)


def test_values_are_possible_and_mostly_near_normal(admissions: list[tuple[Patient, Admission]]) -> None:
    values: dict[str, list[float]] = defaultdict(list)
    for _, admission in admissions:
        for result in admission.labs:
            values[result.name].append(result.value)
        for stay in admission.stays:
            for sign in stay.vitals:
                values[sign.name].append(sign.value)
            assert all(record.amount > 0 for record in (*stay.intake, *stay.output))
    assert values.keys() == LABS.keys() | VITALS.keys()
    for name, vital in VITALS.items():
        assert vital.low <= min(values[name])
        assert max(values[name]) <= vital.high
    for name in ("sodium", "chloride", "potassium", "calcium, total", "magnesium", "ph", "mcv"):
        width = LABS[name].high - LABS[name].low
        assert LABS[name].low - width < statistics.median(values[name]) < LABS[name].high + width
    assert min(values["sodium"]) > 110
    assert max(values["sodium"]) < 170
    assert min(values["ph"]) >= 6.8
    assert max(values["ph"]) <= 7.7
    assert min(value for series in values.values() for value in series) >= 0


def test_values_that_follow_from_others_agree_with_them(admissions: list[tuple[Patient, Admission]]) -> None:
    gaps = pressures = 0
    for _, admission in admissions:
        at: dict[int, dict[str, float]] = defaultdict(dict)
        for result in admission.labs:
            at[result.time][result.name] = result.value
        for values in at.values():
            if "anion gap" in values:
                gaps += 1
                assert values["anion gap"] == values["sodium"] - values["chloride"] - values["bicarbonate"] >= 4
            if "hematocrit" in values:
                assert 2.2 < values["hematocrit"] / values["hemoglobin"] < 3.7
        for stay in admission.stays:
            signs: dict[int, dict[str, float]] = defaultdict(dict)
            for sign in stay.vitals:
                signs[sign.time][sign.name] = sign.value
            for v in signs.values():
                low, high = v.get("arterial bp [diastolic]"), v.get("arterial bp [systolic]")
                if low is not None and high is not None and "arterial bp mean" in v:
                    pressures += 1
                    assert low < v["arterial bp mean"] < high
    assert gaps > 500
    assert pressures > 500


def test_conditions_drive_labs_drugs_cost_and_mortality() -> None:
    admissions = [a for patient in make_population(11, 500) for a in patient.admissions]

    def having(code: str) -> tuple[list[Admission], list[Admission]]:
        ill = [a for a in admissions if code in {d.code for d in a.diagnoses}]
        return ill, [a for a in admissions if code not in {d.code for d in a.diagnoses}]

    def mean_lab(group: list[Admission], name: str) -> float:
        return statistics.mean(r.value for a in group for r in a.labs if r.name == name)

    def share(group: list[Admission], drug: str) -> float:
        return sum(drug in {p.drug for p in a.prescriptions} for a in group) / len(group)

    def cost(admission: Admission) -> float:
        parts = (admission.diagnoses, admission.procedures, admission.labs, admission.prescriptions)
        return sum(event.cost for part in parts for event in part)

    for code, lab, drug, factor in (
        ("5856", "creatinine", "sevelamer", 1.8),
        ("25000", "glucose", "insulin", 1.2),
        ("0389", "lactate", "vancomycin", 1.2),
        ("42833", "ntprobnp", "furosemide", 1.2),
        ("2449", "thyroid stimulating hormone", "levothyroxine sodium", 1.1),
    ):
        ill, others = having(code)
        assert mean_lab(ill, lab) > factor * mean_lab(others, lab), code
        assert share(ill, drug) > share(others, drug) + 0.3, code
    septic, others = having("0389")
    assert sum(a.died for a in septic) / len(septic) > 1.3 * sum(a.died for a in others) / len(others)
    knees, others = having("71536")
    assert sum(a.died for a in knees) / len(knees) < sum(a.died for a in others) / len(others)
    in_icu = [cost(a) for a in admissions if a.stays]
    assert statistics.mean(in_icu) > 1.25 * statistics.mean(cost(a) for a in admissions if not a.stays)
    died = sum(a.died for a in admissions)
    assert 0.03 < died / len(admissions) < 0.25
    assert sum(a.discharged is None for a in admissions) >= 5
