"""The families by name. A family's module is imported when it is first asked for, never before."""

from functools import cache
from importlib import import_module
from typing import cast

from tasks.errors import TaskError
from tasks.family import Family

FAMILIES: dict[str, str] = {
    "mimic_iii": "tasks.families.mimic_iii:MimicIII",
    "medcalcbench": "tasks.families.medcalcbench:MedCalcBench",
}
"""Name of the family -> "module:Class"."""


def family_names() -> list[str]:
    return list(FAMILIES)


@cache
def get_family(name: str) -> Family:
    """The family of that name, one instance per process. Raises TaskError naming the families there are."""
    try:
        module, _, attribute = FAMILIES[name].partition(":")
    except KeyError:
        raise TaskError(f"There is no family {name!r}. Families: {', '.join(FAMILIES)}.") from None
    return cast(Family, getattr(import_module(module), attribute)())
