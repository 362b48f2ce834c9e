"""What a calculator is, as importing and generating see it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from tasks.medcalc.inputs import Entities, Input, Person, canonical
from tasks.task import AnswerSpec, DateSpec, DurationSpec, IntegerSpec, NumberSpec

Kind = Literal["number", "integer", "date", "duration"]


def anyone(person: Person) -> bool:
    return True


def of_child_bearing_age(person: Person) -> bool:
    return person.sex == "female" and person.age <= 44


@dataclass(frozen=True)
class Calculator:
    """One of the 55. `number` and `name` are the benchmark's Calculator ID and Calculator Name.

    `question` may hold `{parameter}`. `least` is the magnitude below which the generator draws again: limits of 5%
    around a value near nothing would ask for more digits than a note gives. `fits` says for whom it is meant.
    """

    number: int
    name: str
    kind: Kind
    function: Callable[..., Any]
    inputs: tuple[Input, ...]
    question: str
    unit: str | None = None
    least: float = 0.0
    fits: Callable[[Person], bool] = anyone

    def spec(self, *, abstain: bool) -> AnswerSpec:
        """The form of the answer."""
        match self.kind:
            case "number":
                return NumberSpec(unit=self.unit, abstain=abstain)
            case "integer":
                return IntegerSpec(unit=self.unit, abstain=abstain)
            case "date":
                return DateSpec(abstain=abstain)
            case "duration":
                return DurationSpec(abstain=abstain)

    def read(self, entities: Entities) -> tuple[dict[str, Any], dict[str, str]]:
        """Arguments from published entities: as values and as Python expressions. Raises DataError."""
        values: dict[str, Any] = {}
        code: dict[str, str] = {}
        entities = {canonical(name): value for name, value in entities.items()}
        for one in self.inputs:
            more, more_code = one.read(entities)
            values |= more
            code |= more_code
        return values, code

    def compute(self, values: Mapping[str, Any]) -> Any:
        """The answer as JSON. Raises what the formula raises (ValueError, ZeroDivisionError) outside its domain."""
        result = self.function(**values)
        if isinstance(result, date):
            return result.isoformat()
        if isinstance(result, tuple):
            return list(result)
        return int(result) if self.kind == "integer" else float(result)
