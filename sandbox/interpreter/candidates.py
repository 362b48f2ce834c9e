"""What was available where something was not found: names, keys, columns, attributes, modules, files, tables.

Raw material for grounding an error, nearest names first, at most `MOST` of them.
"""

import builtins
import os
import pkgutil
import re
import sqlite3
import sys
from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Any

from .describe import pandas_class
from .outcome import Setting
from .text import shorten

MOST = 200
_CONSIDERED = 3000
_FILES = 2000
_LIKE = 0.5


def nearest_first(missing: str | None, names: Iterable[str], paths: bool = False) -> list[str]:
    """The names without repeats, those like `missing` first, else in the order given; paths by their file name."""
    unique: dict[str, None] = {}
    for name in names:
        unique[shorten(str(name), 120)] = None
        if len(unique) >= _CONSIDERED:
            break
    if missing is None:
        return list(unique)[:MOST]
    wanted = (missing.rpartition("/")[2] if paths else missing)[:120].lower()
    matcher = SequenceMatcher(None, "", wanted, autojunk=False)
    scores: dict[str, float] = {}
    for name in unique:
        shown = (name.rpartition("/")[2] if paths else name).lower()
        matcher.set_seq1(shown)
        score = 0.0
        if matcher.real_quick_ratio() >= _LIKE and matcher.quick_ratio() >= _LIKE:
            score = matcher.ratio()
        if score < _LIKE and len(wanted) > 2 and (wanted in shown or (len(shown) > 2 and shown in wanted)):
            score = _LIKE
        scores[name] = score if score >= _LIKE else 0.0
    return sorted(unique, key=lambda name: -scores[name])[:MOST]


def scope_names(scopes: list[dict[str, Any]]) -> list[str]:
    """The names that code could have meant: its own first, then the built-in ones."""
    own = [name for scope in scopes for name in scope if isinstance(name, str) and not name.startswith(("__", "."))]
    return own + [name for name in dir(builtins) if not name.startswith("_")]


def keys_of(value: Any) -> list[str] | None:
    """The keys, columns or labels that a value can be asked for; None if it has none."""
    if isinstance(value, pandas_class("DataFrame")):
        return [_key(column) for column in value.columns[:_CONSIDERED]]
    if isinstance(value, pandas_class("Series")):
        return [_key(label) for label in value.index[:MOST]]
    if isinstance(value, dict):
        return [_key(key) for key in list(dict.keys(value))[:_CONSIDERED]]
    inner = getattr(value, "__dict__", {}).get("obj")  # a GroupBy, or an indexer such as df.loc
    if inner is not None and inner is not value:
        return keys_of(inner)
    return None


def _key(key: Any) -> str:
    return key if isinstance(key, str) else shorten(repr(key), 120)


def attributes_of(value: Any) -> list[str]:
    """The public attributes of a value."""
    return [name for name in dir(value) if isinstance(name, str) and not name.startswith("_")]


def modules(parent: str = "") -> list[str]:
    """The modules that can be imported, top-level (installed ones, then the standard library's) or inside a package."""
    if parent:
        path = getattr(sys.modules.get(parent), "__path__", [])
        return [module.name for module in pkgutil.iter_modules(path) if not module.name.startswith("_")]
    found = {module.name for module in pkgutil.iter_modules()}
    standard = set(sys.stdlib_module_names)
    public = {name for name in found - standard if not name.startswith("_")} - {__name__.partition(".")[0]}
    return sorted(public) + sorted(name for name in standard if not name.startswith("_"))


def files(setting: Setting) -> list[str]:
    """The files in the data folder and the working folder."""
    found: list[str] = []
    for root in (setting.data, setting.work):
        count = 0
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                found.append(os.path.join(folder, name))  # noqa: PTH118
                count += 1
            if count > _FILES:
                break
    return found


def missing_in_database(message: str, code: str, connection: Any) -> tuple[str | None, list[str]]:
    """For SQLite's "no such table" and "no such column": what was looked for, and what the database has."""
    match = re.search(r"no such (table|column): ([^\s)'\"]+)", message)
    if match is None:
        return None, []
    missing = match[2].rpartition(".")[2]
    if not isinstance(connection, sqlite3.Connection):
        return missing, []
    try:
        cursor = connection.cursor()
        cursor.row_factory = None
        rows = cursor.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')").fetchmany(_CONSIDERED)
        tables = [str(row[0]) for row in rows]
        if match[1] == "table":
            return missing, nearest_first(missing, tables)
        lower = code.lower()
        used = [table for table in tables if re.search(rf"(?<!\w){re.escape(table.lower())}(?!\w)", lower)] or tables
        columns: list[str] = []
        for table in used[:50]:
            quoted = table.replace('"', '""')
            columns += [str(row[1]) for row in cursor.execute(f'PRAGMA table_info("{quoted}")')]
        return missing, nearest_first(missing, columns)
    except sqlite3.Error:
        return missing, []
