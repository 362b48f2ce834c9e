"""What the rules of error grounding share: the facts of an error, a finding, and the search for the nearest names."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sandbox.base import Language
from tasks.catalog import Catalog

MAX_NAME = 120
"""Characters of a name or value that are shown."""
_MAX_COMPARED = 5_000
_CUTOFF = 60.0
"""Least likeness (0 to 100) of a name that is worth offering."""
_SEPARATORS = re.compile(r"[\s_\-.]+")


@dataclass(frozen=True)
class Facts:
    """An error as the rules see it. `type` is the bare class name; all texts come from the session: untrusted, cut.

    `offered`: the packages of the operator's wheelhouse; None where there is none.
    """

    type: str
    message: str
    language: Language
    code: str | None = None
    line: int | None = None
    source: str | None = None
    names: dict[str, str] = field(default_factory=dict)
    missing: str | None = None
    candidates: tuple[str, ...] = ()
    traceback: str = ""
    catalog: Catalog | None = None
    offered: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Finding:
    """What a rule found. `at` is (line, column, length), from 1, 0 and 1, of the spot that a caret should mark."""

    cause: str
    fixes: tuple[str, ...] = ()
    missing: str | None = None
    at: tuple[int, int, int] | None = None


def shown(text: object, limit: int = MAX_NAME) -> str:
    """A text on one line, cut."""
    flat = " ".join(str(text).split())
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"


def listed(names: Iterable[str], limit: int = 20, length: int = 60) -> str:
    """Names with commas, each of at most `length` characters, the count of what was left out at the end."""
    found = [shown(name, length) for name in names]
    more = f" and {len(found) - limit} more" if len(found) > limit else ""
    return ", ".join(found[:limit]) + more


def folded(name: str) -> str:
    return _SEPARATORS.sub("", name.casefold())


def nearest(word: str, candidates: Sequence[str], limit: int = 3) -> list[str]:
    """The candidates spelled most like `word`: first those that differ only in case, blanks and underscores."""
    from rapidfuzz import fuzz

    wanted = folded(word[:200])
    if not wanted:
        return []
    scored: list[tuple[float, int, str]] = []
    for place, name in enumerate(dict.fromkeys(candidates[:_MAX_COMPARED])):
        if name == word:
            continue
        other = folded(name[:200])
        if other == wanted:
            score = 101.0
        else:
            score = fuzz.ratio(wanted, other)
            if min(len(wanted), len(other)) >= 4:
                score = max(score, 0.85 * fuzz.partial_ratio(wanted, other), 0.9 * _same_words(word, name))
        if score >= _CUTOFF:
            scored.append((-score, place, name))
    return [name for _, _, name in sorted(scored)[:limit]]


def _same_words(left: str, right: str) -> float:
    from rapidfuzz import fuzz

    return float(fuzz.token_sort_ratio(*(_SEPARATORS.sub(" ", text[:200].casefold()) for text in (left, right))))


def replace_fixes(word: str, names: Sequence[str]) -> list[str]:
    """One fix for each near name, nearest first."""
    return [f"Use {shown(name)!r} instead of {shown(word)!r}." for name in names]
