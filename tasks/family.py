"""What a dataset family is: one file in `tasks/families/` that says all about it.

A family imports its original release, may generate tasks of its own, and grades. Most need nothing but the default
`grade` (typed comparison of the submission with the truth); the rest override it and receive, in `GradingContext`,
what they may use: a fresh sandbox to run code in, the files that the agent left, the state of a service.
`docs/families.md` shows how one is added.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, Protocol

import anyio.to_thread

from sandbox.base import JSONValue, Language, Session, SessionSpec
from tasks.answers import grade_answer
from tasks.data import DatasetWriter
from tasks.task import Grade, Submission, Task, Truth

Progress = Callable[[str, int, int], None]
"""Called as progress(what, done, total); total 0 means unknown."""


@dataclass(frozen=True)
class ImportOptions:
    """Options of `data add`.

    `questions` is the question file where it is apart from the data; `labels` chooses one of the family's label sets
    (`overlay` is its file); `seed` drives every random choice; `per_template` bounds re-grounding.
    """

    questions: Path | None = None
    labels: Literal["released", "corrected"] = "released"
    overlay: Path | None = None
    seed: int = 0
    per_template: int = 8


@dataclass(frozen=True)
class GenerateOptions:
    """Options of `tasks generate`: a seeded synthetic population and how many tasks of each category."""

    seed: int = 0
    patients: int = 100
    per_category: int = 20


@dataclass
class ImportReport:
    """What an import or a generation did; shown to the operator. `left_out` maps a reason to how often."""

    tasks: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def leave_out(self, reason: str, count: int = 1) -> None:
        self.left_out[reason] = self.left_out.get(reason, 0) + count


@dataclass(frozen=True)
class Step:
    """One call of `execute_code` in an attempt."""

    code: str
    language: Language = "python"


@dataclass(frozen=True)
class Attempt:
    """A scripted attempt: calls, then one submission. What an oracle, a cheat and the do-nothing agent are.

    With `submit` "variable", `value` is a name; with "file" a path; with "value" the JSON itself; with "nothing" the
    attempt ends without a submission.
    """

    name: str
    steps: tuple[Step, ...] = ()
    submit: Literal["value", "variable", "file", "nothing"] = "value"
    value: JSONValue = None


@dataclass(frozen=True)
class GradingContext:
    """What a grader may use beside task, truth and submission. `open_session` opens a fresh sandbox session;
    `session` is the agent's own, for families that grade its files, or None when a stored submission is re-graded."""

    open_session: Callable[[SessionSpec], Awaitable[Session]]
    session: Session | None = None


class Family(Protocol):
    """The interface; `FamilyBase` holds the defaults."""

    name: ClassVar[str]
    title: ClassVar[str]
    version: ClassVar[str]
    licence: ClassVar[str]
    restricted: ClassVar[bool]
    categories: ClassVar[tuple[str, ...]]
    system_prompt: ClassVar[str]

    def import_release(
        self, source: Path, writer: DatasetWriter, options: ImportOptions, progress: Progress
    ) -> ImportReport: ...

    def generate(self, writer: DatasetWriter, options: GenerateOptions, progress: Progress) -> ImportReport: ...

    def oracle(self, task: Task, truth: Truth) -> Attempt: ...

    def cheats(self, task: Task, truth: Truth) -> list[Attempt]: ...

    async def grade(self, task: Task, truth: Truth, submission: Submission, context: GradingContext) -> Grade: ...


class FamilyBase:
    """Defaults shared by families whose answer is a typed value."""

    name: ClassVar[str]
    version: ClassVar[str] = "1"
    """Of the grader: raised when a verdict may change."""
    licence: ClassVar[str] = "unknown"
    """Of the original release; `restricted` says whether its rows may leave the machine only with permission."""
    restricted: ClassVar[bool] = True

    def oracle(self, task: Task, truth: Truth) -> Attempt:
        """Run the stored oracle, then submit its variable `answer`. Scores 1."""
        return Attempt("oracle", (Step(truth.oracle),), "variable", "answer")

    async def grade(self, task: Task, truth: Truth, submission: Submission, context: GradingContext) -> Grade:
        """Compare by type. Raises AnswerError when the submission has not the declared form."""
        grading = partial(grade_answer, task.answer, truth, submission, grader=self.name, version=self.version)
        # A large table takes a while; other episodes go on meanwhile.
        return await anyio.to_thread.run_sync(grading)
