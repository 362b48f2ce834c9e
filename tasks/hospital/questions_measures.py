"""Questions about laboratory results, vital signs, fluids and cultures."""

from tasks.hospital.template import (
    DIAGNOSED,
    FIRST_ADMISSION,
    FIRST_STAY,
    INTAKE_ITEM,
    LAB_ITEM,
    LAST_ADMISSION,
    LAST_STAY,
    OUTPUT_ITEM,
    PERIODS,
    TOP,
    VITAL_ITEM,
    Rank,
    Slots,
    Template,
)

_REPEATS: tuple[Slots, ...] = ({"repeats": 3}, {"repeats": 5}, {"repeats": 8}, {"repeats": 12})

LABORATORY: tuple[Template, ...] = (
    Template(
        "laboratory.last", "laboratory", 1, "train",
        ("What is the most recent result of the lab test '{lab}' for patient {patient}? Give value and unit.",
         "Report value, then unit, of the latest '{lab}' measured in patient {patient}."),
        "patient_lab", f"""SELECT valuenum, valueuom, charttime FROM labevents
        WHERE subject_id = {{patient}} AND itemid = {LAB_ITEM}""", ("valuenum", "valueuom"), Rank("charttime"),
    ),
    Template(
        "laboratory.highest", "laboratory", 2, "train",
        ("How high did the lab value '{lab}' of patient {patient} get {period}?",
         "Give the maximum of all '{lab}' results of patient {patient} {period}."),
        "patient_lab", f"""SELECT MAX(valuenum) AS highest FROM labevents WHERE subject_id = {{patient}}
        AND itemid = {LAB_ITEM} AND charttime >= {{start}} AND charttime < {{stop}}""", ("highest",),
        extra=(PERIODS,),
    ),
    Template(
        "laboratory.change", "laboratory", 4, "train",
        ("By how much did '{lab}' of patient {patient} change over their last admission: last result minus first "
         "result of that admission?",
         "Within the latest admission of patient {patient}, subtract the first '{lab}' result from the final one. "
         "What is the difference?"),
        "patient_lab", f"""SELECT
        (SELECT valuenum FROM labevents WHERE hadm_id = {LAST_ADMISSION} AND itemid = {LAB_ITEM}
        ORDER BY charttime DESC LIMIT 1) -
        (SELECT valuenum FROM labevents WHERE hadm_id = {LAST_ADMISSION} AND itemid = {LAB_ITEM}
        ORDER BY charttime LIMIT 1) AS change""", ("change",),
    ),
    Template(
        "laboratory.above", "laboratory", 2, "train",
        ("How many '{lab}' results of patient {patient} were higher than {limit} {measure}?",
         "Count the '{lab}' measurements of patient {patient} that exceed {limit} {measure}."),
        "patient_lab", f"""SELECT COUNT(*) AS results FROM labevents WHERE subject_id = {{patient}}
        AND itemid = {LAB_ITEM} AND valuenum > {{limit}}""", ("results",),
    ),
    Template(
        "laboratory.mean_of_diagnosis", "laboratory", 3, "train",
        ("What is the mean of all '{lab}' results from admissions with the diagnosis '{diagnosis}'?",
         "Average every '{lab}' value measured during admissions for which '{diagnosis}' was coded."),
        "diagnosis_lab", f"""SELECT AVG(valuenum) AS mean_value FROM labevents WHERE itemid = {LAB_ITEM}
        AND hadm_id IN {DIAGNOSED}""", ("mean_value",),
    ),
    Template(
        "laboratory.daily", "laboratory", 3, "test",
        ("For each calendar day of the first admission of patient {patient} with a '{lab}' result: what is the mean "
         "'{lab}' of the day? Give date (YYYY-MM-DD) and mean.",
         "Tabulate the daily average of '{lab}' in the first hospital stay of patient {patient}: date as YYYY-MM-DD, "
         "average."),
        "patient_lab", f"""SELECT date(charttime) AS day, AVG(valuenum) AS mean_value FROM labevents
        WHERE hadm_id = {FIRST_ADMISSION} AND itemid = {LAB_ITEM} GROUP BY date(charttime)""", ("day", "mean_value"),
    ),
    Template(
        "laboratory.first_above", "laboratory", 4, "test",
        ("In how many patients was the very first '{lab}' result ever recorded above {limit} {measure}?",
         "Look only at the earliest '{lab}' value of each patient. How many of these exceed {limit} {measure}?"),
        "lab", f"""SELECT COUNT(*) AS patients FROM labevents AS one JOIN
        (SELECT subject_id, MIN(charttime) AS earliest FROM labevents WHERE itemid = {LAB_ITEM} GROUP BY subject_id)
        AS first ON first.subject_id = one.subject_id AND first.earliest = one.charttime
        WHERE one.itemid = {LAB_ITEM} AND one.valuenum > {{limit}}""", ("patients",),
    ),
    Template(
        "laboratory.repeated", "laboratory", 3, "train",
        ("How many patients had '{lab}' measured at least {repeats} times {period}?",
         "Count the people with {repeats} or more '{lab}' results {period}."),
        "lab", f"""SELECT COUNT(*) AS patients FROM (SELECT subject_id FROM labevents WHERE itemid = {LAB_ITEM}
        AND charttime >= {{start}} AND charttime < {{stop}} GROUP BY subject_id HAVING COUNT(*) >= {{repeats}})""",
        ("patients",), extra=(_REPEATS, PERIODS),
    ),
    Template(
        "laboratory.first_day", "laboratory", 3, "test",
        ("Which lab tests were done on patient {patient} within the first 24 hours after their latest admission "
         "(24 hours included)? Name each test once.",
         "Starting from the last time patient {patient} was admitted, list the different lab tests with a result no "
         "later than 24 hours after it."),
        "patient", f"""SELECT DISTINCT label FROM labevents JOIN d_labitems USING (itemid)
        JOIN admissions USING (hadm_id) WHERE hadm_id = {LAST_ADMISSION}
        AND charttime <= datetime(admittime, '+1 day')""", ("label",),
    ),
    Template(
        "laboratory.widest", "laboratory", 3, "train",
        ("For which {n} lab tests do the results of patient {patient} lie furthest apart (highest minus lowest value, "
         "units left aside)? Give test and difference, largest difference first.",
         "Subtract, for each lab test of patient {patient}, the smallest value from the largest. Name the {n} tests "
         "with the biggest differences, and these, in falling order."),
        "patient", """SELECT label, MAX(valuenum) - MIN(valuenum) AS difference FROM labevents
        JOIN d_labitems USING (itemid) WHERE subject_id = {patient} GROUP BY label""", ("label", "difference"),
        Rank("difference", "n"), True, (TOP,),
    ),
)  # fmt: skip

VITAL_SIGNS: tuple[Template, ...] = (
    Template(
        "vital_signs.mean", "vital_signs", 2, "train",
        ("What was the average '{vital}' of patient {patient} over their most recent ICU stay?",
         "Compute the mean of the '{vital}' readings of the last ICU stay of patient {patient}."),
        "patient_vital", f"""SELECT AVG(valuenum) AS mean_value FROM chartevents
        WHERE icustay_id = {LAST_STAY} AND itemid = {VITAL_ITEM}""", ("mean_value",),
    ),
    Template(
        "vital_signs.extremes", "vital_signs", 1, "train",
        ("Give the lowest and the highest '{vital}' ever charted for patient {patient}, in this order.",
         "Between which two values, smallest then largest, did '{vital}' of patient {patient} move in all records?"),
        "patient_vital", f"""SELECT MIN(valuenum) AS lowest, MAX(valuenum) AS highest FROM chartevents
        WHERE subject_id = {{patient}} AND itemid = {VITAL_ITEM}""", ("lowest", "highest"),
    ),
    Template(
        "vital_signs.above", "vital_signs", 2, "train",
        ("How often was a '{vital}' above {limit} {measure} charted for patient {patient}?",
         "Count the readings of '{vital}' that exceed {limit} {measure} in patient {patient}."),
        "patient_vital", f"""SELECT COUNT(*) AS readings FROM chartevents WHERE subject_id = {{patient}}
        AND itemid = {VITAL_ITEM} AND valuenum > {{limit}}""", ("readings",),
    ),
    Template(
        "vital_signs.last_of_first_stay", "vital_signs", 2, "train",
        ("What was the final '{vital}' reading of the first ICU stay of patient {patient}? Give time and value.",
         "Take the first ICU stay of patient {patient}: when was '{vital}' charted last in it, and what was it?"),
        "patient_vital", f"""SELECT charttime, valuenum FROM chartevents
        WHERE icustay_id = {FIRST_STAY} AND itemid = {VITAL_ITEM}""", ("charttime", "valuenum"), Rank("charttime"),
    ),
    Template(
        "vital_signs.weight_change", "vital_signs", 3, "train",
        ("Patient {patient} has been in intensive care more than once. What is the 'admit wt' of the last ICU stay "
         "minus that of the first, in kg?",
         "How did the admission weight ('admit wt') of patient {patient} differ between their last and their first "
         "ICU stay (last minus first)?"),
        "patient_icus", f"""SELECT (SELECT valuenum FROM chartevents WHERE icustay_id = {LAST_STAY} AND itemid = 762)
        - (SELECT valuenum FROM chartevents WHERE icustay_id = {FIRST_STAY} AND itemid = 762) AS change""",
        ("change",),
    ),
    Template(
        "vital_signs.body_mass_index", "vital_signs", 3, "test",
        ("Compute the body mass index (kg per square metre) of patient {patient} from 'admit wt' and 'admit ht' of "
         "their first ICU stay, without rounding.",
         "From the weight in kg ('admit wt') and height in cm ('admit ht') charted in the first ICU stay of patient "
         "{patient}, what is the BMI in kg/m2, not rounded?"),
        "patient_icu", f"""SELECT w.valuenum / ((h.valuenum / 100.0) * (h.valuenum / 100.0)) AS bmi
        FROM chartevents AS w JOIN chartevents AS h ON h.icustay_id = w.icustay_id AND h.itemid = 920
        WHERE w.itemid = 762 AND w.icustay_id = {FIRST_STAY}""", ("bmi",),
    ),
    Template(
        "vital_signs.pulse_pressure", "vital_signs", 4, "test",
        ("Over the last ICU stay of patient {patient}, what was the mean pulse pressure: arterial systolic minus "
         "diastolic pressure of the same time, where both were charted?",
         "Pair 'arterial bp [systolic]' and 'arterial bp [diastolic]' readings of equal time in the most recent ICU "
         "stay of patient {patient}. What is the mean difference?"),
        "patient_icu", f"""SELECT AVG(s.valuenum - d.valuenum) AS pulse_pressure FROM chartevents AS s
        JOIN chartevents AS d ON d.icustay_id = s.icustay_id AND d.charttime = s.charttime AND d.itemid = 8368
        WHERE s.itemid = 51 AND s.icustay_id = {LAST_STAY}""", ("pulse_pressure",),
    ),
    Template(
        "vital_signs.daily_range", "vital_signs", 3, "test",
        ("For each calendar day of the last ICU stay of patient {patient} on which '{vital}' was charted, give date "
         "(YYYY-MM-DD), lowest and highest value.",
         "Daily minimum and maximum of '{vital}' in the latest ICU stay of patient {patient}: date as YYYY-MM-DD, "
         "minimum, maximum."),
        "patient_vital", f"""SELECT date(charttime) AS day, MIN(valuenum) AS lowest, MAX(valuenum) AS highest
        FROM chartevents WHERE icustay_id = {LAST_STAY} AND itemid = {VITAL_ITEM} GROUP BY date(charttime)""",
        ("day", "lowest", "highest"),
    ),
    Template(
        "vital_signs.mean_of_unit", "vital_signs", 3, "train",
        ("What is the mean '{vital}' over all readings in ICU stays that began in the {unit} as first care unit?",
         "Average all '{vital}' records of ICU stays whose first care unit is '{unit}'."),
        "vital_unit", f"""SELECT AVG(valuenum) AS mean_value FROM chartevents WHERE itemid = {VITAL_ITEM}
        AND icustay_id IN (SELECT icustay_id FROM icustays WHERE first_careunit = {{unit}})""", ("mean_value",),
    ),
    Template(
        "vital_signs.patients_above", "vital_signs", 3, "train",
        ("In how many patients was a '{vital}' above {limit} {measure} charted {period}?",
         "Count the patients who had at least one '{vital}' reading of more than {limit} {measure} {period}."),
        "vital", f"""SELECT COUNT(DISTINCT subject_id) AS patients FROM chartevents WHERE itemid = {VITAL_ITEM}
        AND valuenum > {{limit}} AND charttime >= {{start}} AND charttime < {{stop}}""", ("patients",),
        extra=(PERIODS,),
    ),
)  # fmt: skip

INTAKE_OUTPUT: tuple[Template, ...] = (
    Template(
        "intake_output.total_in", "intake_output", 1, "train",
        ("How much '{intake}' in ml has patient {patient} received in total, over all ICU stays?",
         "Add up every recorded amount of '{intake}' that went into patient {patient}."),
        "patient_intake", f"""SELECT SUM(amount) AS total FROM inputevents_cv WHERE subject_id = {{patient}}
        AND itemid = {INTAKE_ITEM}""", ("total",),
    ),
    Template(
        "intake_output.total_out", "intake_output", 2, "train",
        ("What volume of '{output}' in ml was recorded for patient {patient} during their latest ICU stay?",
         "In the most recent ICU stay of patient {patient}, what do all amounts of '{output}' add up to?"),
        "patient_output", f"""SELECT SUM(value) AS total FROM outputevents WHERE icustay_id = {LAST_STAY}
        AND itemid = {OUTPUT_ITEM}""", ("total",),
    ),
    Template(
        "intake_output.balance", "intake_output", 4, "test",
        ("What was the fluid balance of patient {patient} in their first ICU stay: everything in minus everything "
         "out, in ml?",
         "Subtract the sum of all output from the sum of all intake of the first ICU stay of patient {patient} "
         "(ml)."),
        "patient_icu", f"""SELECT (SELECT SUM(amount) FROM inputevents_cv WHERE icustay_id = {FIRST_STAY})
        - (SELECT SUM(value) FROM outputevents WHERE icustay_id = {FIRST_STAY}) AS balance""", ("balance",),
    ),
    Template(
        "intake_output.patients", "intake_output", 2, "train",
        ("How many patients received '{intake}' as recorded intake {period}?",
         "Count the people with an intake record of '{intake}' {period}."),
        "intake", f"""SELECT COUNT(DISTINCT subject_id) AS patients FROM inputevents_cv WHERE itemid = {INTAKE_ITEM}
        AND charttime >= {{start}} AND charttime < {{stop}}""", ("patients",), extra=(PERIODS,),
    ),
    Template(
        "intake_output.last_in", "intake_output", 1, "train",
        ("When was the last '{intake}' recorded as intake of patient {patient}, and how many ml was it?",
         "Give time and amount of the final intake record of '{intake}' for patient {patient}."),
        "patient_intake", f"""SELECT charttime, amount FROM inputevents_cv WHERE subject_id = {{patient}}
        AND itemid = {INTAKE_ITEM}""", ("charttime", "amount"), Rank("charttime"),
    ),
    Template(
        "intake_output.daily_out", "intake_output", 3, "test",
        ("List for each calendar day the total '{output}' (ml) of patient {patient} in their first ICU stay: date "
         "(YYYY-MM-DD) and total; days without a record are left out.",
         "First ICU stay of patient {patient}: how much '{output}' in ml per day? Give date as YYYY-MM-DD and sum, "
         "only for days with records."),
        "patient_output", f"""SELECT date(charttime) AS day, SUM(value) AS total FROM outputevents
        WHERE icustay_id = {FIRST_STAY} AND itemid = {OUTPUT_ITEM} GROUP BY date(charttime)""", ("day", "total"),
    ),
    Template(
        "intake_output.top_of_unit", "intake_output", 3, "train",
        ("By total volume, which {n} kinds of intake were the largest in ICU stays with first care unit {unit}? "
         "Largest first; give name and total ml.",
         "Sum the amounts of each intake item over ICU stays that started in '{unit}' and list the {n} items with "
         "the highest sums, highest first, as name and sum."),
        "icu", """SELECT label, SUM(amount) AS total FROM inputevents_cv JOIN d_items USING (itemid)
        WHERE icustay_id IN (SELECT icustay_id FROM icustays WHERE first_careunit = {unit}) GROUP BY label""",
        ("label", "total"), Rank("total", "n"), True, (TOP,),
    ),
    Template(
        "intake_output.mean_per_stay", "intake_output", 3, "train",
        ("Taking ICU stays with any '{output}' record, what is the mean total of '{output}' per stay in ml?",
         "First sum '{output}' within each ICU stay that has it, then average these sums. What is the result?"),
        "output", f"""SELECT AVG(total) AS mean_total FROM (SELECT SUM(value) AS total FROM outputevents
        WHERE itemid = {OUTPUT_ITEM} GROUP BY icustay_id)""", ("mean_total",),
    ),
    Template(
        "intake_output.kinds", "intake_output", 1, "train",
        ("Which different kinds of intake are recorded for the last ICU stay of patient {patient}?",
         "Name, without repeats, everything that was recorded as intake during the latest ICU stay of patient "
         "{patient}."),
        "patient_icu", f"""SELECT DISTINCT label FROM inputevents_cv JOIN d_items USING (itemid)
        WHERE icustay_id = {LAST_STAY}""", ("label",),
    ),
    Template(
        "intake_output.largest_day", "intake_output", 4, "test",
        ("On which date (YYYY-MM-DD) was the total of all output of patient {patient} the largest, and how many ml "
         "was it?",
         "Sum all output of patient {patient} by calendar day. Which day (YYYY-MM-DD) has the highest sum, and what "
         "is the sum?"),
        "patient_icu", """SELECT date(charttime) AS day, SUM(value) AS total FROM outputevents
        WHERE subject_id = {patient} GROUP BY date(charttime)""", ("day", "total"), Rank("total"),
    ),
)  # fmt: skip

MICROBIOLOGY: tuple[Template, ...] = (
    Template(
        "microbiology.organisms", "microbiology", 1, "train",
        ("Which organisms, each named once, have grown in cultures of patient {patient}?",
         "List the different organisms found in any specimen of patient {patient}."),
        "patient_culture", """SELECT DISTINCT org_name FROM microbiologyevents WHERE subject_id = {patient}
        AND org_name IS NOT NULL""", ("org_name",),
    ),
    Template(
        "microbiology.patients", "microbiology", 2, "train",
        ("In how many patients was '{organism}' found {period}?",
         "Count the people with a culture that grew '{organism}' {period}."),
        "organism", """SELECT COUNT(DISTINCT subject_id) AS patients FROM microbiologyevents
        WHERE org_name = {organism} AND charttime >= {start} AND charttime < {stop}""", ("patients",),
        extra=(PERIODS,),
    ),
    Template(
        "microbiology.top_of_specimen", "microbiology", 2, "train",
        ("Which organisms were found most often in the specimen '{specimen}' {period}? Name the top {n}, most often "
         "first.",
         "Rank what grew in '{specimen}' specimens {period} by number of records and give the first {n} organisms."),
        "specimen", """SELECT org_name, COUNT(*) AS times FROM microbiologyevents WHERE spec_type_desc = {specimen}
        AND org_name IS NOT NULL AND charttime >= {start} AND charttime < {stop} GROUP BY org_name""", ("org_name",),
        Rank("times", "n"), True, (PERIODS, ({"n": 1}, *TOP)),
    ),
    Template(
        "microbiology.growth", "microbiology", 3, "test",
        ("Which percentage (0 to 100, with decimals) of the microbiology records of specimen '{specimen}' {period} "
         "names an organism?",
         "Of all records for '{specimen}' {period}, how many percent, with decimals, show growth, which means "
         "that an organism is named?"),
        "specimen", """SELECT 100.0 * COUNT(org_name) / COUNT(*) AS percent FROM microbiologyevents
        WHERE spec_type_desc = {specimen} AND charttime >= {start} AND charttime < {stop}""", ("percent",),
        extra=(PERIODS,),
    ),
    Template(
        "microbiology.first_time", "microbiology", 1, "train",
        ("When was the first '{specimen}' specimen of patient {patient} taken?",
         "Give the earliest chart time of a '{specimen}' in the microbiology records of patient {patient}."),
        "patient_specimen", """SELECT MIN(charttime) AS first_time FROM microbiologyevents
        WHERE subject_id = {patient} AND spec_type_desc = {specimen}""", ("first_time",),
    ),
    Template(
        "microbiology.per_specimen", "microbiology", 2, "test",
        ("How many microbiology records does patient {patient} have for each kind of specimen? Give specimen and "
         "count.",
         "Count the microbiology records of patient {patient} by specimen type: type, number."),
        "patient_culture", """SELECT spec_type_desc, COUNT(*) AS records FROM microbiologyevents
        WHERE subject_id = {patient} GROUP BY spec_type_desc""", ("spec_type_desc", "records"),
    ),
    Template(
        "microbiology.treated", "microbiology", 4, "train",
        ("How many patients were prescribed '{drug}' in the same admission in which '{organism}' was found?",
         "Count the patients with an admission that has both a culture with '{organism}' and a prescription of "
         "'{drug}'."),
        "organism_drug", """SELECT COUNT(DISTINCT subject_id) AS patients FROM prescriptions WHERE drug = {drug}
        AND hadm_id IN (SELECT hadm_id FROM microbiologyevents WHERE org_name = {organism})""", ("patients",),
    ),
    Template(
        "microbiology.delay", "microbiology", 3, "train",
        ("How many hours, with decimals, after admission was the first culture of the last admission with cultures "
         "of patient {patient} taken?",
         "Take the latest admission of patient {patient} that has microbiology records. What time in hours, not "
         "rounded, passed from admission to the first of them?"),
        "patient_culture", """SELECT (julianday(MIN(charttime)) - julianday(admittime)) * 24 AS hours
        FROM microbiologyevents JOIN admissions USING (hadm_id) WHERE hadm_id = (SELECT hadm_id FROM admissions
        WHERE subject_id = {patient} AND hadm_id IN (SELECT hadm_id FROM microbiologyevents)
        ORDER BY admittime DESC LIMIT 1) GROUP BY hadm_id""", ("hours",),
    ),
    Template(
        "microbiology.top_specimen", "microbiology", 3, "test",
        ("In admissions with '{diagnosis}', from which kind of specimen do most records with an organism come?",
         "Which specimen type has the most records that name an organism, looking only at admissions diagnosed with "
         "'{diagnosis}'?"),
        "diagnosis_culture", f"""SELECT spec_type_desc, COUNT(*) AS times FROM microbiologyevents
        WHERE org_name IS NOT NULL AND hadm_id IN {DIAGNOSED} GROUP BY spec_type_desc""", ("spec_type_desc",),
        Rank("times"),
    ),
    Template(
        "microbiology.of_diagnosis", "microbiology", 3, "train",
        ("Which different organisms grew in cultures of admissions with '{diagnosis}'?",
         "For admissions that carry the diagnosis '{diagnosis}', list every organism found, each once."),
        "diagnosis_culture", f"""SELECT DISTINCT org_name FROM microbiologyevents WHERE org_name IS NOT NULL
        AND hadm_id IN {DIAGNOSED}""", ("org_name",),
    ),
)  # fmt: skip
