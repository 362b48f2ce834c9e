"""Questions about patients and admissions, diagnoses and procedures."""

from tasks.hospital.template import (
    AGES,
    DIAGNOSED,
    FIRST_ADMISSION,
    LAST_ADMISSION,
    OPERATED,
    PERIODS,
    TOP,
    Rank,
    Template,
)

DEMOGRAPHICS: tuple[Template, ...] = (
    Template(
        "demographics.birth", "demographics", 1, "train",
        ("What sex is recorded for patient {patient}, and when were they born? Give gender, then date of birth.",
         "Look up gender and date of birth (in this order) of the person with patient number {patient}."),
        "patient", "SELECT gender, dob FROM patients WHERE subject_id = {patient}", ("gender", "dob"),
    ),
    Template(
        "demographics.group_size", "demographics", 2, "train",
        ("Count the patients of ethnicity '{ethnicity}' who had '{insurance}' insurance at one admission or more.",
         "With the insurance '{insurance}' recorded for at least one of their admissions and the ethnicity "
         "'{ethnicity}': how many different people is that?"),
        "insured", """SELECT COUNT(DISTINCT subject_id) AS patients FROM admissions
        WHERE ethnicity = {ethnicity} AND insurance = {insurance}""", ("patients",),
    ),
    Template(
        "demographics.first_age", "demographics", 1, "train",
        ("At what age did patient {patient} first come into hospital here?",
         "Give the age that was recorded at the earliest admission of patient {patient}."),
        "patient", "SELECT age, admittime FROM admissions WHERE subject_id = {patient}", ("age",),
        Rank("admittime", 1, False),
    ),
    Template(
        "demographics.mean_age", "demographics", 2, "train",
        ("What was the mean age at admission over all admissions of {women} patients {period}?",
         "Averaged over the admissions of {women} patients that began {period}, how old was the patient?"),
        "sex", """SELECT AVG(age) AS mean_age FROM admissions JOIN patients USING (subject_id)
        WHERE gender = {sex} AND admittime >= {start} AND admittime < {stop}""", ("mean_age",), extra=(PERIODS,),
    ),
    Template(
        "demographics.marital", "demographics", 2, "test",
        ("For admissions of the type '{kind}' {period}, how many were there of each known marital status? "
         "Give marital status and number of admissions.",
         "Break the '{kind}' admissions {period} down by marital status (leave out where it is unknown): status, "
         "count of admissions."),
        "kind", """SELECT marital_status, COUNT(*) AS admissions FROM admissions WHERE admission_type = {kind}
        AND marital_status IS NOT NULL AND admittime >= {start} AND admittime < {stop} GROUP BY marital_status""",
        ("marital_status", "admissions"), extra=(PERIODS,),
    ),
    Template(
        "demographics.survival", "demographics", 3, "test",
        ("From the last discharge of patient {patient} to their date of death, how many days passed? Count calendar "
         "days: date of death minus date of discharge.",
         "How many calendar days lie between the date on which patient {patient} last left the hospital and the "
         "date of death on record?"),
        "patient_dead", """SELECT CAST(julianday(date(dod)) - julianday(date(MAX(dischtime))) AS INTEGER) AS days
        FROM admissions JOIN patients USING (subject_id) WHERE subject_id = {patient} GROUP BY subject_id""",
        ("days",),
    ),
    Template(
        "demographics.returned", "demographics", 3, "train",
        ("How many patients were admitted two times or more {period}, counting only admissions of that time?",
         "Considering only admissions that began {period}, how many people had more than one?"),
        "hospital", """SELECT COUNT(*) AS patients FROM (SELECT subject_id FROM admissions
        WHERE admittime >= {start} AND admittime < {stop} GROUP BY subject_id HAVING COUNT(*) > 1)""",
        ("patients",), extra=(PERIODS,),
    ),
    Template(
        "demographics.longest", "demographics", 2, "test",
        ("How long, in days with decimals, was the longest completed hospital stay of patient {patient}?",
         "Of all stays of patient {patient} that have ended, take the longest: how many days (not rounded) did it "
         "last from admission to discharge?"),
        "patient", """SELECT MAX(julianday(dischtime) - julianday(admittime)) AS days FROM admissions
        WHERE subject_id = {patient} AND dischtime IS NOT NULL""", ("days",),
    ),
    Template(
        "demographics.destination", "demographics", 2, "train",
        ("Where did patient {patient} go after their most recent completed admission?",
         "What discharge location is on record for the latest stay of patient {patient} that is over?"),
        "patient", """SELECT discharge_location, dischtime FROM admissions
        WHERE subject_id = {patient} AND dischtime IS NOT NULL""", ("discharge_location",), Rank("dischtime"),
    ),
    Template(
        "demographics.stay_by_insurance", "demographics", 3, "test",
        ("Rank the kinds of insurance by the mean length, in days with decimals, of the completed stays that began "
         "{period}, longest first. Give insurance and mean length.",
         "Mean duration in days of finished admissions {period} for each insurance: list insurance and mean, from "
         "the longest to the shortest."),
        "hospital", """SELECT insurance, AVG(julianday(dischtime) - julianday(admittime)) AS days FROM admissions
        WHERE dischtime IS NOT NULL AND admittime >= {start} AND admittime < {stop} GROUP BY insurance""",
        ("insurance", "days"), Rank("days", 99), True, (PERIODS,),
    ),
    Template(
        "demographics.interval", "demographics", 4, "train",
        ("How many days (with decimals) was patient {patient} out of hospital between the end of the first admission "
         "and the start of the second?",
         "Take the first two admissions of patient {patient}. What time in days, not rounded, lies between "
         "discharge from the one and admission to the other?"),
        "patient_again", """SELECT julianday(admittime) - julianday(
        (SELECT MIN(dischtime) FROM admissions WHERE subject_id = {patient})) AS days FROM admissions
        WHERE subject_id = {patient} ORDER BY admittime LIMIT 1 OFFSET 1""", ("days",),
    ),
    Template(
        "demographics.icu_hours", "demographics", 3, "train",
        ("Sum up the hours that patient {patient} has spent in intensive care in all completed ICU stays.",
         "In total, for how many hours was patient {patient} in an ICU? Only stays that have ended count; do not "
         "round."),
        "patient_icu", """SELECT SUM(julianday(outtime) - julianday(intime)) * 24 AS hours FROM icustays
        WHERE subject_id = {patient} AND outtime IS NOT NULL""", ("hours",),
    ),
)  # fmt: skip

DIAGNOSIS: tuple[Template, ...] = (
    Template(
        "diagnosis.first_admission", "diagnosis", 2, "train",
        ("Which diagnoses, by their long titles, were coded for the first admission of patient {patient}?",
         "List the full names of all conditions recorded when patient {patient} was in hospital for the first time."),
        "patient", f"""SELECT DISTINCT long_title FROM diagnoses_icd JOIN d_icd_diagnoses USING (icd9_code)
        WHERE hadm_id = {FIRST_ADMISSION}""", ("long_title",),
    ),
    Template(
        "diagnosis.count", "diagnosis", 2, "train",
        ("How many different patients were diagnosed with '{diagnosis}' {period}?",
         "'{diagnosis}': in how many people was it recorded {period}?"),
        "diagnosis", """SELECT COUNT(DISTINCT subject_id) AS patients FROM diagnoses_icd
        JOIN d_icd_diagnoses USING (icd9_code) WHERE long_title = {diagnosis}
        AND charttime >= {start} AND charttime < {stop}""", ("patients",), extra=(PERIODS,),
    ),
    Template(
        "diagnosis.top_by_age", "diagnosis", 3, "train",
        ("Among admissions at an age of {age} or more, which {n} diagnoses (long titles) were coded in the most "
         "admissions? Most frequent first.",
         "Name the {n} commonest conditions, full titles in falling order of how many admissions have them, where "
         "the patient was at least {age} years old on admission."),
        "hospital", """SELECT long_title, COUNT(DISTINCT hadm_id) AS admissions FROM diagnoses_icd
        JOIN d_icd_diagnoses USING (icd9_code) JOIN admissions USING (hadm_id) WHERE age >= {age}
        GROUP BY long_title""", ("long_title",), Rank("admissions", "n"), True, (AGES, TOP),
    ),
    Template(
        "diagnosis.both", "diagnosis", 3, "train",
        ("In how many admissions were '{diagnosis}' and '{other}' both diagnosed?",
         "Count the hospital stays for which the codes of both '{diagnosis}' and '{other}' were recorded."),
        "diagnosis_pair", f"""SELECT COUNT(DISTINCT hadm_id) AS admissions FROM diagnoses_icd
        JOIN d_icd_diagnoses USING (icd9_code) WHERE long_title = {{other}} AND hadm_id IN {DIAGNOSED}""",
        ("admissions",),
    ),
    Template(
        "diagnosis.mortality", "diagnosis", 3, "test",
        ("What percentage (0 to 100, with decimals) of the completed admissions with '{diagnosis}' ended with the "
         "discharge location 'dead/expired'?",
         "Hospital mortality of '{diagnosis}': of the admissions with that diagnosis that are over, which percentage "
         "(with decimals) was discharged as 'dead/expired'?"),
        "diagnosis", f"""SELECT 100.0 * SUM(discharge_location = 'dead/expired') / COUNT(*) AS percent
        FROM admissions WHERE dischtime IS NOT NULL AND hadm_id IN {DIAGNOSED}""", ("percent",),
    ),
    Template(
        "diagnosis.first_time", "diagnosis", 1, "train",
        ("When was '{diagnosis}' recorded for patient {patient} for the first time?",
         "Give date and time of the earliest record of '{diagnosis}' in patient {patient}."),
        "patient_diagnosis", """SELECT MIN(charttime) AS first_time FROM diagnoses_icd
        JOIN d_icd_diagnoses USING (icd9_code) WHERE subject_id = {patient} AND long_title = {diagnosis}""",
        ("first_time",),
    ),
    Template(
        "diagnosis.new", "diagnosis", 4, "test",
        ("Which diagnoses (long titles) of the latest admission of patient {patient} had not been coded in any "
         "earlier admission of theirs?",
         "Compare the last stay of patient {patient} with all stays before it: which conditions, by full title, are "
         "new?"),
        "patient_again", f"""SELECT DISTINCT long_title FROM diagnoses_icd JOIN d_icd_diagnoses USING (icd9_code)
        WHERE hadm_id = {LAST_ADMISSION} AND icd9_code NOT IN (SELECT icd9_code FROM diagnoses_icd
        WHERE subject_id = {{patient}} AND hadm_id <> {LAST_ADMISSION})""", ("long_title",),
    ),
    Template(
        "diagnosis.mean_age", "diagnosis", 2, "train",
        ("How old were patients on average at the admissions with the diagnosis '{diagnosis}'?",
         "Take every admission that carries '{diagnosis}'. What is the mean of the age recorded for them?"),
        "diagnosis", f"SELECT AVG(age) AS mean_age FROM admissions WHERE hadm_id IN {DIAGNOSED}", ("mean_age",),
    ),
    Template(
        "diagnosis.per_admission", "diagnosis", 2, "test",
        ("For each admission of patient {patient}: how many different diagnosis codes does it have? Give admission "
         "number and count.",
         "List the hospital admission ids of patient {patient}, each with its number of distinct diagnoses."),
        "patient", """SELECT hadm_id, COUNT(DISTINCT icd9_code) AS diagnoses FROM diagnoses_icd
        WHERE subject_id = {patient} GROUP BY hadm_id""", ("hadm_id", "diagnoses"),
    ),
    Template(
        "diagnosis.with_unit", "diagnosis", 3, "train",
        ("Which {n} diagnoses (long titles) are found in the most admissions that passed through the {unit} (an "
         "intensive care unit)? Most frequent first.",
         "Of admissions with a transfer record in care unit '{unit}', name the {n} most common conditions by full "
         "title, in falling order of the number of admissions."),
        "unit", """SELECT long_title, COUNT(DISTINCT hadm_id) AS admissions FROM diagnoses_icd
        JOIN d_icd_diagnoses USING (icd9_code) WHERE hadm_id IN (SELECT hadm_id FROM transfers
        WHERE careunit = {unit}) GROUP BY long_title""", ("long_title",), Rank("admissions", "n"), True, (TOP,),
    ),
)  # fmt: skip

PROCEDURE: tuple[Template, ...] = (
    Template(
        "procedure.all", "procedure", 1, "train",
        ("Which procedures has patient {patient} had, by long title? Name each once.",
         "List, without repeats, the full titles of everything that was done to patient {patient} as a coded "
         "procedure."),
        "patient_operated", """SELECT DISTINCT long_title FROM procedures_icd JOIN d_icd_procedures USING (icd9_code)
        WHERE subject_id = {patient}""", ("long_title",),
    ),
    Template(
        "procedure.count", "procedure", 2, "train",
        ("How many different patients have a record of '{procedure}' {period}?",
         "Count the people for whom '{procedure}' was charted {period}."),
        "procedure", """SELECT COUNT(DISTINCT subject_id) AS patients FROM procedures_icd
        JOIN d_icd_procedures USING (icd9_code) WHERE long_title = {procedure}
        AND charttime >= {start} AND charttime < {stop}""", ("patients",), extra=(PERIODS,),
    ),
    Template(
        "procedure.top_of_diagnosis", "procedure", 3, "test",
        ("In admissions with '{diagnosis}', which {n} procedures (long titles) were recorded most often? Most often "
         "first; a procedure that was recorded twice counts twice.",
         "Name the {n} most recorded procedures, full titles in falling order of the number of records, of "
         "admissions with the diagnosis '{diagnosis}'."),
        "diagnosis", f"""SELECT long_title, COUNT(*) AS times FROM procedures_icd
        JOIN d_icd_procedures USING (icd9_code) WHERE hadm_id IN {DIAGNOSED} GROUP BY long_title""",
        ("long_title",), Rank("times", "n"), True, (TOP,),
    ),
    Template(
        "procedure.stay", "procedure", 3, "train",
        ("What is the mean length of stay, in days with decimals, of completed admissions with the procedure "
         "'{procedure}'? Each admission counts once.",
         "Averaged over finished admissions in which '{procedure}' was coded, how many days (not rounded) lie "
         "between admission and discharge?"),
        "procedure", f"""SELECT AVG(julianday(dischtime) - julianday(admittime)) AS days FROM admissions
        WHERE dischtime IS NOT NULL AND hadm_id IN {OPERATED}""", ("days",),
    ),
    Template(
        "procedure.last_time", "procedure", 1, "train",
        ("What is the time of the latest record of '{procedure}' for patient {patient}?",
         "When was '{procedure}' charted last for patient {patient}?"),
        "patient_procedure", """SELECT MAX(charttime) AS last_time FROM procedures_icd
        JOIN d_icd_procedures USING (icd9_code) WHERE subject_id = {patient} AND long_title = {procedure}""",
        ("last_time",),
    ),
    Template(
        "procedure.both", "procedure", 3, "train",
        ("How many patients had '{procedure}' and '{other}' within the same admission?",
         "Count the patients with an admission in which '{procedure}' as well as '{other}' was coded."),
        "procedure_pair", f"""SELECT COUNT(DISTINCT subject_id) AS patients FROM procedures_icd
        JOIN d_icd_procedures USING (icd9_code) WHERE long_title = {{other}} AND hadm_id IN {OPERATED}""",
        ("patients",),
    ),
    Template(
        "procedure.per_admission", "procedure", 2, "test",
        ("For every admission of patient {patient} that has procedures: how many procedure records are there? Give "
         "admission number and count.",
         "Tabulate, for patient {patient}, hospital admission id against the number of its procedure records; leave "
         "out admissions without any."),
        "patient_operated", """SELECT hadm_id, COUNT(*) AS procedures FROM procedures_icd
        WHERE subject_id = {patient} GROUP BY hadm_id""", ("hadm_id", "procedures"),
    ),
    Template(
        "procedure.share", "procedure", 4, "test",
        ("Of the completed admissions with '{diagnosis}', which percentage (0 to 100, with decimals) has the "
         "procedure '{procedure}'?",
         "How large, in percent with decimals, is the part of finished admissions with the diagnosis '{diagnosis}' in "
         "which '{procedure}' was coded as well?"),
        "diagnosis_procedure", f"""SELECT 100.0 * SUM(hadm_id IN {OPERATED}) / COUNT(*) AS percent FROM admissions
        WHERE dischtime IS NOT NULL AND hadm_id IN {DIAGNOSED}""", ("percent",),
    ),
    Template(
        "procedure.top_of_unit", "procedure", 3, "train",
        ("Which {n} procedures (long titles) were coded in the most admissions whose first care unit in an ICU stay "
         "was the {unit}? Most frequent first.",
         "For admissions with an ICU stay that began in the '{unit}', name the {n} procedures found in the most "
         "admissions, full titles in falling order."),
        "icu", """SELECT long_title, COUNT(DISTINCT hadm_id) AS admissions FROM procedures_icd
        JOIN d_icd_procedures USING (icd9_code) WHERE hadm_id IN (SELECT hadm_id FROM icustays
        WHERE first_careunit = {unit}) GROUP BY long_title""", ("long_title",), Rank("admissions", "n"), True, (TOP,),
    ),
    Template(
        "procedure.last_admission", "procedure", 2, "train",
        ("Which procedures (long titles, each once) belong to the most recent completed admission of patient "
         "{patient}?",
         "What was done, by full procedure title, in the latest stay of patient {patient} that has ended? Name each "
         "procedure once."),
        "patient_operated", """SELECT DISTINCT long_title FROM procedures_icd JOIN d_icd_procedures USING (icd9_code)
        WHERE hadm_id = (SELECT hadm_id FROM admissions WHERE subject_id = {patient} AND dischtime IS NOT NULL
        ORDER BY admittime DESC LIMIT 1)""", ("long_title",),
    ),
)  # fmt: skip
