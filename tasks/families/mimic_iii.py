"""mimic_iii: EHRSQL's questions over a MIMIC-III database, answered with the rows of a result table.

Imports a folder of MIMIC-III CSV files together with EHRSQL's questions (`options.questions`). The database is built
by EHRSQL's conventions; questions are kept as asked where they have an answer in it, and re-grounded: asked again
about patients, drugs, tests and times of the database at hand.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

from tasks.data import DatasetWriter
from tasks.ehrsql.cheats import cheats
from tasks.ehrsql.importer import Plan, add_tasks
from tasks.ehrsql.make import MIMIC_DATABASE
from tasks.ehrsql.schema import CATEGORIES, CURRENT_TIME
from tasks.ehrsql.slots import MIMIC_III_SOURCES, MIMIC_III_TIMES
from tasks.errors import DataError
from tasks.family import Attempt, FamilyBase, GenerateOptions, ImportOptions, ImportReport, Progress
from tasks.task import Task, Truth

_PROMPT = f"""\
You answer questions about the patients of a hospital from its database, a SQLite file with the tables of MIMIC-III.
Find out which tables, columns and values there are before you query; then compute the answer with SQL or Python and
submit it as a table: a list of rows that holds just the columns asked for.

What to know about this database:
- The current time is {CURRENT_TIME}. "Today", "this month", "last year" and "3 years ago" are relative to it. Who has
  no discharge time is in hospital now; who has no out-time in a row of ICUSTAYS is on that unit now.
- All texts are in lower case; times are texts like 2105-12-31 23:59:00.
- A patient number is a SUBJECT_ID; a hospital visit is a HADM_ID (ADMISSIONS), an ICU visit an ICUSTAY_ID (ICUSTAYS).
- Diagnoses and procedures are called by the SHORT_TITLE (some by the LONG_TITLE) of their dictionary, lab tests by the
  LABEL in D_LABITEMS, vital signs, intake and output by that in D_ITEMS ("admit wt" is weight, "admit ht" height).
- A diagnosis has the time of admission and a procedure that of discharge. COST holds one row for each diagnosis,
  procedure, lab result and prescription; EVENT_TYPE and EVENT_ID lead to the table and its ROW_ID.
- Lengths and elapsed times are differences of Julian days, not rounded, or 24 times that for hours; a year has 365
  days.
- "The top n" includes all that share rank n, by dense rank. Rates in percent use whole-number division.
- Normal ranges: temperature 35.5-38.1, sao2 95-100, heart rate 60-100, respiration 12-18, systolic blood pressure
  90-120, diastolic 60-90, mean 60-110.
- A question with yes or no for an answer wants 1 or 0."""


class MimicIII(FamilyBase):
    """EHRSQL over MIMIC-III. See the module's docstring."""

    name: ClassVar[str] = "mimic_iii"
    title: ClassVar[str] = "EHRSQL questions over MIMIC-III"
    licence: ClassVar[str] = "PhysioNet Credentialed Health Data License 1.5.0 (open demo: ODbL 1.0); EHRSQL CC-BY-4.0"
    restricted: ClassVar[bool] = True
    categories: ClassVar[tuple[str, ...]] = CATEGORIES
    system_prompt: ClassVar[str] = _PROMPT

    def import_release(
        self, source: Path, writer: DatasetWriter, options: ImportOptions, progress: Progress
    ) -> ImportReport:
        """Raises DataError when a file or a column is missing or malformed."""
        from tasks.ehrsql import mimic
        from tasks.ehrsql.questions import load_questions

        if options.questions is None:
            raise DataError(
                "mimic_iii needs the questions beside the data: add --questions FILE "
                "(EHRSQL's train, valid or test.json, or MedAgentGym's JSON lines)."
            )
        if options.per_template < 1:
            raise DataError("per_template must be at least 1.")
        report = ImportReport()
        file = load_questions(options.questions)
        if file.unanswerable:
            report.leave_out("unanswerable in EHRSQL", file.unanswerable)
        with TemporaryDirectory(dir=writer.public.parent) as scratch:
            built = mimic.build(
                source, writer.public / MIMIC_DATABASE, seed=options.seed, progress=progress, scratch=Path(scratch)
            )
        for table, reason in built.missing.items():
            report.notes.append(f"{table} is empty: {reason}")
        plan = Plan(
            database=MIMIC_DATABASE,
            description="A hospital: MIMIC-III in EHRSQL's form (SQLite).",
            sources=MIMIC_III_SOURCES,
            times=MIMIC_III_TIMES,
            missing=built.missing,
            seed=options.seed,
            per_template=options.per_template,
        )
        add_tasks(writer, file.questions, plan, report, progress)
        return report

    def generate(self, writer: DatasetWriter, options: GenerateOptions, progress: Progress) -> ImportReport:
        """A synthetic hospital with questions of our own."""
        from tasks.hospital.dataset import generate_mimic

        return generate_mimic(writer, options, progress)

    def cheats(self, task: Task, truth: Truth) -> list[Attempt]:
        return cheats(task, truth)
