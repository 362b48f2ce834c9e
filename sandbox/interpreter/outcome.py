"""What one call came to, before it is put in a reply."""

from dataclasses import dataclass
from typing import Any


@dataclass
class Outcome:
    """`error` holds the fields of `CodeError` as a dict; None means that the code did not fail."""

    value: str | None = None
    value_truncated: bool = False
    error: dict[str, Any] | None = None
    exit_code: int | None = None


@dataclass(frozen=True)
class Setting:
    """Where the session's things are, and how many characters one text may have.

    `changing`: the folders of the search path for modules that the agent can write to.
    """

    work: str
    data: str
    database: str | None
    output: int
    changing: tuple[str, ...]


def plain_error(kind: str, message: str, **more: Any) -> dict[str, Any]:
    """The facts of an error that has no traceback."""
    facts: dict[str, Any] = {"type": kind, "message": message, "traceback": "", "line": None, "source": None}
    return {**facts, "names": {}, "missing": None, "candidates": [], **more}
