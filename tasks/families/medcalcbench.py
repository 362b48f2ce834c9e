"""MedCalc-Bench: a patient note and a question for one of 55 medical calculators.

Of the release only the note and the question are public. Its entities and explanations stay in the truth store.
Where our own calculator, fed with the published entities, meets the label, the oracle is that computation; elsewhere
it is the label itself (`truth.extra["oracle"]` says which). Labels are never changed here; the corrected ones of the
audit (arXiv 2512.19691) come in as an overlay, with abstention where it found that nothing can be computed.
"""

from pathlib import Path
from typing import Any, ClassVar

from sandbox.base import JSONValue
from tasks.answers import grade_answer
from tasks.data import DatasetWriter
from tasks.errors import AnswerError, DataError
from tasks.family import Attempt, FamilyBase, GenerateOptions, ImportOptions, ImportReport, Progress, Step
from tasks.medcalc.calculators import BY_NAME
from tasks.medcalc.generate import generate
from tasks.medcalc.release import Row, rows
from tasks.medcalc.source import oracle
from tasks.task import (
    AnswerSpec,
    DateSpec,
    DurationSpec,
    IntegerSpec,
    NumberSpec,
    Submission,
    Task,
    Truth,
)


class MedCalcBench(FamilyBase):
    name: ClassVar[str] = "medcalcbench"
    title: ClassVar[str] = "MedCalc-Bench: medical calculators on patient notes"
    version: ClassVar[str] = "1"
    licence: ClassVar[str] = "CC-BY-SA-4.0"
    restricted: ClassVar[bool] = False
    categories: ClassVar[tuple[str, ...]] = tuple(BY_NAME)
    system_prompt: ClassVar[str] = (
        "You answer one question that a clinician has about one patient. The question asks for a result that a known "
        "medical calculator gives: an equation, a score, a date or an equivalent dose.\n"
        "Read the patient note and write down, in code, each value that the calculator needs, with its unit. Convert "
        "units where the formula wants others. Take the values that belong to the visit asked about, and no value "
        "that the note does not support. For a score, decide item by item from the note and add the points in code.\n"
        "Compute with Python instead of in your head, look at intermediate results, and check that the result is "
        "plausible before you submit it. Do not round until the end, and keep at least three significant digits. "
        "Submit the bare value in the form that the task states, without words or units around it. Where the form "
        "allows null and the note lacks what the calculation needs, null is the right answer; a guess is not."
    )

    def import_release(
        self, source: Path, writer: DatasetWriter, options: ImportOptions, progress: Progress
    ) -> ImportReport:
        """Import a CSV of the release, MedAgentGym's JSON lines, or a folder of them; every row or a reason.

        The split is taken from the file's name ("test", else train). `labels` "corrected" needs `overlay`, the file
        of corrected labels. Raises DataError.
        """
        corrected = options.labels == "corrected"
        if corrected and options.overlay is None:
            raise DataError("Corrected labels come from a file of their own: name it as the overlay.")
        if not corrected and options.overlay is not None:
            raise DataError("An overlay is only used with the corrected labels: ask for them, or leave it out.")
        report, computed = ImportReport(), 0
        for row in rows(source, options.overlay if corrected else None, report):
            task, truth = _imported(row, writer, corrected)
            writer.add(task, truth)
            report.tasks += 1
            computed += truth.extra["oracle"] == "calculator"
            progress("import medcalcbench", report.tasks, 0)
        report.notes.append(f"our own calculators meet {computed} of {report.tasks} labels from the published entities")
        return report

    def generate(self, writer: DatasetWriter, options: GenerateOptions, progress: Progress) -> ImportReport:
        """Synthetic notes and questions, `per_category` for each calculator. Deterministic by seed."""
        report, abstain, total = ImportReport(), 0, len(BY_NAME) * options.per_category
        for made in generate(options):
            task = Task(
                id=f"{writer.name}/{made.calculator.number:02d}-{made.index:05d}",
                family=self.name,
                dataset=writer.name,
                split=made.split,
                category=made.calculator.name,
                cluster=f"patient-{made.person.number:05d}",
                problem=made.problem,
                answer=made.calculator.spec(abstain=True),
            )
            extra = {"calculator": made.calculator.number, "oracle": "calculator", "missing": made.missing}
            writer.add(
                task,
                Truth(
                    task_id=task.id,
                    value=made.value,
                    limit=made.limit,
                    oracle=made.oracle,
                    canary=writer.new_canary(),
                    extra=extra,
                ),
            )
            report.tasks += 1
            abstain += made.missing is not None
            progress("generate medcalcbench", report.tasks, total)
        report.notes.append(f"{abstain} tasks lack a value that is needed: null is their answer")
        return report

    def cheats(self, task: Task, truth: Truth) -> list[Attempt]:
        """Attempts that must score 0. Those that happen to be right for this task are left out."""
        value = truth.value
        several: list[JSONValue] = [value, 0, 1, 123456]
        text = _as_text(value)
        values: dict[str, JSONValue] = {
            "any number": 123456,
            "zero": 0,
            "null": None,
            "true": True,
            "empty object": {},
            "empty list": [],
            "empty text": "",
            "a day": "2105-12-31",
            "NaN as text": "NaN",
            "infinity as text": "Infinity",
            "the right one in a sentence": f"the answer is {text}",
            "the right one in a traceback": f"Traceback (most recent call last):\n  line 1\nValueError: {text}",
            "the right one in an object": {"answer": value},
            "the right one in a list": several,
            "the right one in a text of several": f"{text} or {text}1",
            "list of candidates": list(range(60)),
        }
        attempts = [Attempt("nothing", submit="nothing")]
        for name, given in values.items():
            if not _is_right(task, truth, given):
                attempts.append(Attempt(name, value=given))
        everything = "answer = '\\n'.join(str(n) for n in range(10000))\nprint(answer)\n"
        attempts.append(Attempt("print everything", (Step(everything),), submit="nothing"))
        attempts.append(Attempt("everything as text", (Step(everything),), "variable", "answer"))
        return attempts


def _is_right(task: Task, truth: Truth, value: JSONValue) -> bool:
    try:
        submission = Submission(value=value)
        return grade_answer(task.answer, truth, submission, grader=task.family, version="1").correct
    except AnswerError:
        return False


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return f"({value[0]} weeks, {value[1]} days)"
    return "null" if value is None else str(value)


def _imported(row: Row, writer: DatasetWriter, corrected: bool) -> tuple[Task, Truth]:
    calculator, label = row.calculator, row.label
    task = Task(
        id=f"{writer.name}/{row.local_id}",
        family=writer.family,
        dataset=writer.name,
        split=row.split,
        category=calculator.name,
        cluster=row.cluster,
        problem=f"{row.note.strip()}\n\n{row.question}",
        answer=_spec(row, abstain=corrected),
    )
    truth = Truth(task_id=task.id, value=label.value, limit=label.limit, oracle="", canary=writer.new_canary())
    computed, code = _own_answer(row)
    met = computed is not None and label.value is not None and _is_right(task, truth, computed)
    extra = {
        "calculator": calculator.number,
        "oracle": "calculator" if met else "label",
        "row": row.number,
        "label": row.released,
        "computed": computed,
        "note_id": row.note_id,
        "entities": row.entities,
        "explanation": row.explanation,
    }
    written = code if met else f"answer = {label.value!r}\n"
    return task, truth.model_copy(update={"oracle": written, "extra": extra})


def _spec(row: Row, *, abstain: bool) -> AnswerSpec:
    match row.label.kind:
        case "number":
            return NumberSpec(unit=row.calculator.unit, abstain=abstain)
        case "integer":
            return IntegerSpec(unit="days" if row.calculator.kind == "duration" else None, abstain=abstain)
        case "date":
            return DateSpec(abstain=abstain)
        case "duration":
            return DurationSpec(abstain=abstain)


def _own_answer(row: Row) -> tuple[Any, str]:
    """What our calculator makes of the published entities, and as Python; (None, "") where they do not suffice."""
    if row.entities is None:
        return None, ""
    try:
        values, code = row.calculator.read(row.entities)
        answer = row.calculator.compute(values)
    except (DataError, ValueError, ArithmeticError, TypeError):  # TypeError: a negative base gives a complex power
        return None, ""
    written = oracle(row.calculator, code)
    if row.calculator.kind == "duration" and row.label.kind == "integer":
        return 7 * answer[0] + answer[1], f"{written}answer = 7 * answer[0] + answer[1]\n"
    return answer, written
