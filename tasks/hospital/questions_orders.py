"""Questions about prescriptions and about cost."""

from tasks.hospital.template import DIAGNOSED, LAST_ADMISSION, OPERATED, PERIODS, TOP, Rank, Template

PRESCRIPTION: tuple[Template, ...] = (
    Template(
        "prescription.how", "prescription", 1, "train",
        ("In which doses and by which routes was '{drug}' prescribed to patient {patient}? Give dose, unit and route, "
         "each combination once.",
         "List the distinct combinations of dose value, dose unit and route of '{drug}' for patient {patient}."),
        "patient_drug", """SELECT DISTINCT dose_val_rx, dose_unit_rx, route FROM prescriptions
        WHERE subject_id = {patient} AND drug = {drug}""", ("dose_val_rx", "dose_unit_rx", "route"),
    ),
    Template(
        "prescription.count", "prescription", 2, "train",
        ("How many different patients were started on '{drug}' {period}?",
         "Count the people with a prescription of '{drug}' that starts {period}."),
        "drug", """SELECT COUNT(DISTINCT subject_id) AS patients FROM prescriptions WHERE drug = {drug}
        AND startdate >= {start} AND startdate < {stop}""", ("patients",), extra=(PERIODS,),
    ),
    Template(
        "prescription.top_of_diagnosis", "prescription", 3, "train",
        ("Which {n} drugs were given in the most admissions with '{diagnosis}'? Most admissions first.",
         "For admissions diagnosed with '{diagnosis}', name the {n} drugs prescribed in the largest number of them, "
         "in falling order."),
        "diagnosis", f"""SELECT drug, COUNT(DISTINCT hadm_id) AS admissions FROM prescriptions
        WHERE hadm_id IN {DIAGNOSED} GROUP BY drug""", ("drug",), Rank("admissions", "n"), True, (TOP,),
    ),
    Template(
        "prescription.first_day", "prescription", 3, "test",
        ("Which drugs were started on the calendar day on which patient {patient} was last admitted? Each once.",
         "Name the different drugs of the latest admission of patient {patient} whose prescription starts on the "
         "date of admission."),
        "patient", f"""SELECT DISTINCT drug FROM prescriptions JOIN admissions USING (hadm_id)
        WHERE hadm_id = {LAST_ADMISSION} AND date(startdate) = date(admittime)""", ("drug",),
    ),
    Template(
        "prescription.days", "prescription", 3, "train",
        ("For how many days in total was '{drug}' prescribed to patient {patient}? Count each prescription that has "
         "an end from its start date to its end date, both included.",
         "Add up the days of all ended '{drug}' prescriptions of patient {patient}, where first and last day both "
         "count."),
        "patient_drug", """SELECT CAST(SUM(julianday(enddate) - julianday(startdate) + 1) AS INTEGER) AS days
        FROM prescriptions WHERE subject_id = {patient} AND drug = {drug} AND enddate IS NOT NULL""", ("days",),
    ),
    Template(
        "prescription.by_route", "prescription", 2, "train",
        ("Name each drug that patient {patient} was ever given by the route '{route}'.",
         "Which different drugs were prescribed to patient {patient} with the route '{route}'?"),
        "patient_route", """SELECT DISTINCT drug FROM prescriptions WHERE subject_id = {patient} AND route = {route}""",
        ("drug",),
    ),
    Template(
        "prescription.both", "prescription", 3, "train",
        ("How many patients had both '{drug}' and '{other}' prescribed within the same admission?",
         "Count the people with an admission in which '{drug}' and also '{other}' was ordered."),
        "drug_pair", """SELECT COUNT(DISTINCT subject_id) AS patients FROM prescriptions WHERE drug = {drug}
        AND hadm_id IN (SELECT hadm_id FROM prescriptions WHERE drug = {other})""", ("patients",),
    ),
    Template(
        "prescription.new", "prescription", 4, "test",
        ("Which drugs were prescribed to patient {patient} in their latest admission but in none before it?",
         "Compare the last stay of patient {patient} with the earlier ones: list the drugs that appear in it for the "
         "first time."),
        "patient_again", f"""SELECT DISTINCT drug FROM prescriptions WHERE hadm_id = {LAST_ADMISSION}
        AND drug NOT IN (SELECT drug FROM prescriptions WHERE subject_id = {{patient}}
        AND hadm_id <> {LAST_ADMISSION})""", ("drug",),
    ),
    Template(
        "prescription.routes", "prescription", 2, "test",
        ("How many prescriptions of each route does the latest admission of patient {patient} have? Give route and "
         "number.",
         "Count the orders of the most recent stay of patient {patient} by route: route, number of prescriptions."),
        "patient", f"""SELECT route, COUNT(*) AS prescriptions FROM prescriptions
        WHERE hadm_id = {LAST_ADMISSION} GROUP BY route""", ("route", "prescriptions"),
    ),
    Template(
        "prescription.mean_drugs", "prescription", 3, "train",
        ("Averaged over the admissions that began {period}, how many different drugs does an admission with "
         "prescriptions have?",
         "Count the distinct drugs of every admission {period} that has any, then give the mean of these counts."),
        "hospital", """SELECT AVG(drugs) AS mean_drugs FROM (SELECT COUNT(DISTINCT drug) AS drugs FROM prescriptions
        JOIN admissions USING (hadm_id) WHERE admittime >= {start} AND admittime < {stop} GROUP BY hadm_id)""",
        ("mean_drugs",), extra=(PERIODS,),
    ),
)  # fmt: skip

COST: tuple[Template, ...] = (
    Template(
        "cost.last_admission", "cost", 2, "train",
        ("What did the latest admission of patient {patient} cost in total?",
         "Sum all costs that belong to the most recent hospital stay of patient {patient}."),
        "patient", f"SELECT SUM(cost) AS total FROM cost WHERE hadm_id = {LAST_ADMISSION}", ("total",),
    ),
    Template(
        "cost.drug", "cost", 3, "train",
        ("How much was charged for all prescriptions of '{drug}' to patient {patient}?",
         "Total the cost of every '{drug}' prescription that patient {patient} had."),
        "patient_drug", """SELECT SUM(cost) AS total FROM cost WHERE event_type = 'prescriptions' AND event_id IN
        (SELECT row_id FROM prescriptions WHERE subject_id = {patient} AND drug = {drug})""", ("total",),
    ),
    Template(
        "cost.procedure", "cost", 2, "train",
        ("What does one '{procedure}' cost on average?",
         "Give the mean of the costs charged for the individual records of '{procedure}'."),
        "procedure", """SELECT AVG(cost) AS mean_cost FROM cost WHERE event_type = 'procedures_icd' AND event_id IN
        (SELECT procedures_icd.row_id FROM procedures_icd JOIN d_icd_procedures USING (icd9_code)
        WHERE long_title = {procedure})""",
        ("mean_cost",),
    ),
    Template(
        "cost.top_admissions", "cost", 3, "test",
        ("Which {n} admissions of those that began {period} were the most expensive? Give admission number and "
         "total cost, most expensive first.",
         "List hospital admission id and total of all its costs for the {n} costliest admissions {period}, in "
         "falling order."),
        "hospital", """SELECT hadm_id, SUM(cost) AS total FROM cost JOIN admissions USING (hadm_id)
        WHERE admittime >= {start} AND admittime < {stop} GROUP BY hadm_id""", ("hadm_id", "total"),
        Rank("total", "n"), True, (PERIODS, TOP),
    ),
    Template(
        "cost.by_type", "cost", 2, "train",
        ("Split the cost of admission {admission} (patient {patient}) by event type: event type and total, highest "
         "total first.",
         "For the hospital stay {admission} of patient {patient}, give each event type with its summed cost, in "
         "falling order of cost."),
        "patient_admission", """SELECT event_type, SUM(cost) AS total FROM cost WHERE hadm_id = {admission}
        GROUP BY event_type""", ("event_type", "total"), Rank("total", 9), True,
    ),
    Template(
        "cost.labs_of_period", "cost", 2, "test",
        ("How much was charged for lab tests on patient {patient} {period}?",
         "Sum the cost of the laboratory events of patient {patient} with a charge time {period}."),
        "patient", """SELECT SUM(cost) AS total FROM cost WHERE subject_id = {patient} AND event_type = 'labevents'
        AND chargetime >= {start} AND chargetime < {stop}""", ("total",), extra=(PERIODS,),
    ),
    Template(
        "cost.dearest_day", "cost", 3, "train",
        ("On which calendar day (YYYY-MM-DD) was the most charged to patient {patient}, and how much was it?",
         "Sum the charges of patient {patient} by day. Give the day (YYYY-MM-DD) with the highest sum, and the sum."),
        "patient", """SELECT date(chargetime) AS day, SUM(cost) AS total FROM cost WHERE subject_id = {patient}
        GROUP BY date(chargetime)""", ("day", "total"), Rank("total"),
    ),
    Template(
        "cost.mean_of_diagnosis", "cost", 3, "train",
        ("What is the mean total cost of an admission with the diagnosis '{diagnosis}'?",
         "First add up the costs of each admission that has '{diagnosis}', then average over these admissions. What "
         "comes out?"),
        "diagnosis", f"""SELECT AVG(total) AS mean_total FROM (SELECT SUM(cost) AS total FROM cost
        WHERE hadm_id IN {DIAGNOSED} GROUP BY hadm_id)""", ("mean_total",),
    ),
    Template(
        "cost.mean_of_procedure", "cost", 3, "train",
        ("What is the mean total cost of an admission in which '{procedure}' was coded?",
         "Average the total cost per admission over all admissions with the procedure '{procedure}'."),
        "procedure", f"""SELECT AVG(total) AS mean_total FROM (SELECT SUM(cost) AS total FROM cost
        WHERE hadm_id IN {OPERATED} GROUP BY hadm_id)""", ("mean_total",),
    ),
    Template(
        "cost.lab_share", "cost", 4, "test",
        ("Which percentage (0 to 100, with decimals) of everything ever charged to patient {patient} was for lab "
         "tests?",
         "Divide the cost of the laboratory events of patient {patient} by the cost of all their events and give "
         "the result in percent, with decimals."),
        "patient", """SELECT 100.0 * SUM(CASE WHEN event_type = 'labevents' THEN cost ELSE 0 END) / SUM(cost)
        AS percent FROM cost WHERE subject_id = {patient}""", ("percent",),
    ),
    Template(
        "cost.top_labs", "cost", 4, "train",
        ("Which {n} lab tests cost patient {patient} the most in total? Give test and total, highest first.",
         "Sum the charges of each lab test over all its results for patient {patient} and list the {n} tests with "
         "the highest sums: name and sum, in falling order."),
        "patient", """SELECT label, SUM(cost) AS total FROM cost JOIN labevents ON labevents.row_id = event_id
        JOIN d_labitems USING (itemid) WHERE event_type = 'labevents' AND cost.subject_id = {patient}
        GROUP BY label""", ("label", "total"), Rank("total", "n"), True, (TOP,),
    ),
)  # fmt: skip
