"""The synthetic hospital as a dataset of the family mimic_iii: the database, and questions with their truth.

Equal seed, patients and per_category give an equal database and equal tasks; only canaries differ. Train and test
share no template and no patient that a question names (`questions.py` says how the sides are drawn).
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tasks.data import DatasetWriter
from tasks.ehrsql.make import sql_task
from tasks.errors import DataError
from tasks.family import GenerateOptions, ImportReport, Progress
from tasks.hospital.mimic import FILE_NAME, write_mimic
from tasks.hospital.pools import Pools
from tasks.hospital.population import make_patients
from tasks.hospital.questions import Question, draw_questions
from tasks.hospital.records import Patient
from tasks.hospital.template import CATEGORIES

DESCRIPTION = (
    "A synthetic hospital in the MIMIC-III schema (SQLite). Text is in lower case, times are texts "
    "'YYYY-MM-DD HH:MM:SS'; the present is 2105-12-31 23:59:00, and what is not over has no end. "
    "Questions name diagnoses and procedures by LONG_TITLE."
)


def generate_mimic(writer: DatasetWriter, options: GenerateOptions, progress: Progress) -> ImportReport:
    """Write the database and `options.per_category` tasks of each category. Raises DataError for impossible options."""
    report = ImportReport()
    if options.per_category < 1:
        raise DataError("The number of tasks per category must be at least 1.")
    try:
        patients = make_patients(options.seed, options.patients)
    except ValueError as error:
        raise DataError(str(error)) from None
    path = writer.public / FILE_NAME
    write_mimic(_counted(patients, options.patients, progress), path)
    with closing(_read_only(path)) as database:
        pools = Pools(database)
        for done, category in enumerate(CATEGORIES):
            progress(f"{category} questions", done, len(CATEGORIES))
            for question in draw_questions(database, options.seed, category, options.per_category, pools, report):
                _add(writer, question, options.seed)
                report.tasks += 1
    progress("questions", len(CATEGORIES), len(CATEGORIES))
    return report


def _add(writer: DatasetWriter, question: Question, seed: int) -> None:
    template = question.template
    task, truth = sql_task(
        writer,
        f"{template.name}.{question.number}",
        question=question.text,
        sql=question.sql,
        rows=question.rows,
        width=len(template.columns),
        category=template.category,
        cluster=template.name,
        split=template.split,
        database=FILE_NAME,
        description=DESCRIPTION,
        ordered=template.ordered,
        extra={"template": template.name, "level": template.level, "slots": question.slots, "seed": seed},
    )
    writer.add(task, truth)


def _counted(patients: Iterator[Patient], total: int, progress: Progress) -> Iterator[Patient]:
    for done, patient in enumerate(patients):
        if done % 50 == 0:
            progress("patients", done, total)
        yield patient
    progress("patients", total, total)


def _read_only(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    database.execute("PRAGMA temp_store = MEMORY")
    return database
