"""A tiny real family: one SQLite database and a task of each kind that the tests need."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

from tasks.data import DataRoot, DatasetWriter
from tasks.errors import DataError
from tasks.families import FAMILIES
from tasks.family import Attempt, FamilyBase, GenerateOptions, GradingContext, ImportOptions, ImportReport, Progress
from tasks.task import (
    AnswerSpec,
    DataFile,
    FhirSpec,
    Grade,
    Limit,
    NumberSpec,
    RowsSpec,
    Submission,
    Task,
    TextSpec,
    Tool,
    Truth,
)

FAMILY = "clinic"
DATASET = "clinic"
PATIENTS = [(1, "Ada", 36.6), (2, "Grace", 38.9), (3, "Edsger", 37.2), (4, "Barbara", 39.4)]

ROWS, NUMBER, ABSTAIN, TEXT, BROKEN, MISSING, FEW, PLAIN = (
    f"{DATASET}/{name}" for name in ("rows", "number", "abstain", "text", "broken", "missing", "few", "plain")
)


class Clinic(FamilyBase):
    """Questions about four patients."""

    name: ClassVar[str] = FAMILY
    title: ClassVar[str] = "Clinic"
    categories: ClassVar[tuple[str, ...]] = ("simple",)
    system_prompt: ClassVar[str] = "You answer questions about a clinic."

    def import_release(
        self, source: Path, writer: DatasetWriter, options: ImportOptions, progress: Progress
    ) -> ImportReport:
        raise DataError("there is no release")

    def generate(self, writer: DatasetWriter, options: GenerateOptions, progress: Progress) -> ImportReport:
        raise DataError("there is no generator")

    def cheats(self, task: Task, truth: Truth) -> list[Attempt]:
        return [Attempt("everything", value=[])]

    async def grade(self, task: Task, truth: Truth, submission: Submission, context: GradingContext) -> Grade:
        if task.id == BROKEN:
            raise RuntimeError(f"the grader broke over {truth.value!r} {truth.canary}")
        return await super().grade(task, truth, submission, context)


def register() -> Callable[[], None]:
    """Make the family known; the function that is returned undoes it."""
    FAMILIES[FAMILY] = "tests.mcp_server.clinic:Clinic"

    def forget() -> None:
        FAMILIES.pop(FAMILY, None)

    return forget


def build(folder: Path) -> DataRoot:
    """A data root with the clinic's tasks."""
    root = DataRoot(folder)
    hot = [[name, heat] for _, name, heat in PATIENTS if heat > 38]
    specs: list[tuple[str, AnswerSpec, Any, dict[str, Any]]] = [
        (ROWS, RowsSpec(width=2, abstain=True), hot, {}),
        (NUMBER, NumberSpec(unit="°C"), 38.025, {"limit": Limit(lower=38.0, upper=38.05)}),
        (ABSTAIN, NumberSpec(abstain=True), None, {}),
        (TEXT, TextSpec(), "null", {}),
        (BROKEN, FhirSpec(), "secret-truth-value", {}),
        (MISSING, NumberSpec(), 1, {}),
        (FEW, NumberSpec(), 1, {}),
        (PLAIN, NumberSpec(), 1, {}),
    ]
    with root.writer(
        DATASET, family=FAMILY, title="Clinic", source="made here", version="1", licence="Apache-2.0", restricted=False
    ) as writer:
        with closing(sqlite3.connect(writer.public / "clinic.sqlite")) as db:
            db.execute("CREATE TABLE patients (id INTEGER PRIMARY KEY, name TEXT, temperature REAL)")
            db.executemany("INSERT INTO patients VALUES (?, ?, ?)", PATIENTS)
            db.commit()
        for identity, spec, value, extra in specs:
            writer.add(_task(identity, spec), _truth(identity, value, writer.new_canary(), **extra))
    return root


def _task(identity: str, spec: AnswerSpec) -> Task:
    tools: dict[str, tuple[Tool, ...]] = {FEW: ("execute_code",)}
    database = DataFile(
        path="/data/clinic.sqlite",
        kind="sqlite",
        description="The clinic.",
        open_with="sqlite3.connect('file:/data/clinic.sqlite?mode=ro', uri=True)",
    )
    fields: dict[str, Any] = {"tools": tools[identity]} if identity in tools else {}
    if identity != PLAIN:
        fields |= {"data": (database,), "database": "clinic.sqlite"}
    return Task(
        id=identity,
        family=FAMILY,
        dataset=DATASET,
        split="test",
        category="simple",
        cluster=identity,
        problem=f"A question about {identity.split('/')[1]}.",
        answer=spec,
        missing="table fever is not here; run med-copilot data add" if identity == MISSING else None,
        **fields,
    )


def _truth(identity: str, value: Any, canary: str, limit: Limit | None = None) -> Truth:
    return Truth(
        task_id=identity, value=value, limit=limit, oracle=f"answer = {value!r}", canary=canary, extra={"note": canary}
    )
