"""The words of the environment: what an agent may see (Task), what only the server knows (Truth), and a verdict.

`Task` and `Truth` are separate models in separate stores: nothing that holds a Task can reach its Truth but through
`tasks.registry.Registry.truth`, which only server-side code calls.
"""

import hashlib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Split = Literal["train", "test"]
Tool = Literal["request_info", "execute_code", "run_terminal", "debug_code", "read_output"]
ALL_TOOLS: tuple[Tool, ...] = ("request_info", "execute_code", "run_terminal", "debug_code", "read_output")


class Frozen(BaseModel):
    """Base of the wire types: immutable, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Spec(Frozen):
    abstain: bool = False
    """Whether `null` is a legal answer, meaning "this cannot be answered from the data"."""


class NumberSpec(_Spec):
    """A real number. The tolerance belongs to the truth and is not told."""

    kind: Literal["number"] = "number"
    unit: str | None = None


class IntegerSpec(_Spec):
    """A whole number; 3.0 and "3" are accepted as 3."""

    kind: Literal["integer"] = "integer"
    unit: str | None = None


class DateSpec(_Spec):
    """A calendar date, given as YYYY-MM-DD or MM/DD/YYYY."""

    kind: Literal["date"] = "date"


class DurationSpec(_Spec):
    """A duration as whole units, largest first, for example ("weeks", "days") for [39, 2]."""

    kind: Literal["duration"] = "duration"
    units: tuple[str, ...] = ("weeks", "days")


class TextSpec(_Spec):
    """A text, compared without regard to case and surrounding blanks."""

    kind: Literal["text"] = "text"


class BooleanSpec(_Spec):
    """true or false."""

    kind: Literal["boolean"] = "boolean"


class RowsSpec(_Spec):
    """A result table as a list of rows, each a list of JSON scalars with `width` cells.

    Rows are compared as a multiset, or in order where `ordered`. Numbers are equal to `decimals` places. A single
    column may be given as a flat list of scalars; a single cell as a scalar.
    """

    kind: Literal["rows"] = "rows"
    width: int = 1
    ordered: bool = False
    decimals: int = 3


class SetSpec(_Spec):
    """An unordered list of distinct scalars."""

    kind: Literal["set"] = "set"


class CodeSpec(_Spec):
    """Source text that defines `entry_point`; hidden tests run it in a fresh sandbox."""

    kind: Literal["code"] = "code"
    entry_point: str
    language: Literal["python"] = "python"


class PredictionsSpec(_Spec):
    """A table of predictions: the key columns and the value columns, one row for each key asked for."""

    kind: Literal["predictions"] = "predictions"
    keys: tuple[str, ...]
    values: tuple[str, ...]
    metric: str


class FhirSpec(_Spec):
    """A list of values; the server's state is graded beside it."""

    kind: Literal["fhir"] = "fhir"


AnswerSpec = Annotated[
    NumberSpec
    | IntegerSpec
    | DateSpec
    | DurationSpec
    | TextSpec
    | BooleanSpec
    | RowsSpec
    | SetSpec
    | CodeSpec
    | PredictionsSpec
    | FhirSpec,
    Field(discriminator="kind"),
]


class DataFile(Frozen):
    """A file the agent may open. `path` is inside the sandbox; `open_with` is a line of Python that opens it."""

    path: str
    kind: Literal["sqlite", "csv", "json", "text"]
    description: str
    open_with: str


class Task(Frozen):
    """What an agent is told. `dataset` names the registered dataset it came from (and so its data and its truth).

    `cluster` groups tasks that are not independent (same patient, note, template or calculator) for statistics.
    `id` is `<dataset>/<local id>`, at most 200 characters of [A-Za-z0-9._/-].
    """

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$")
    family: str
    dataset: str
    split: Split
    category: str
    cluster: str
    version: str = "1"
    problem: str
    answer: AnswerSpec
    data: tuple[DataFile, ...] = ()
    database: str | None = None
    tools: tuple[Tool, ...] = ALL_TOOLS
    missing: str | None = None
    """Why the task cannot be started here (data_missing), with the remedy; None when it can."""

    def digest(self) -> str:
        """sha256 (hex) of the canonical JSON of the task."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class Limit(Frozen):
    """Inclusive numeric limits of a right answer."""

    lower: float
    upper: float


class Truth(Frozen):
    """What only the server knows.

    `value` is the right answer as JSON in the form of the task's spec (null = abstain). `limit` are the inclusive
    limits of a number. `oracle` is Python that an agent could have written and that leaves the answer in the
    variable `answer`. `canary` is a random token that must never be seen outside the truth store. `extra` is the
    family's own (released label, SQL, hidden tests, seed, ...).
    """

    task_id: str
    value: Any
    limit: Limit | None = None
    oracle: str
    canary: str
    extra: dict[str, Any] = Field(default_factory=dict)


class Submission(Frozen):
    """What the agent handed in; `value` is the JSON that was graded, already read from a variable or a file."""

    kind: Literal["value", "variable", "file"] = "value"
    value: Any = None


class Grade(Frozen):
    """A verdict. `score` is in [0, 1]; `correct` is score == 1 where the family has no other rule."""

    grader: str
    version: str
    correct: bool
    score: float = Field(ge=0, le=1)
    parts: dict[str, float] = Field(default_factory=dict)
    detail: str = ""


Outcome = Literal["graded", "abandoned", "limit", "infra_error", "data_missing"]
