"""Rules for what was looked for and not found: names, keys, columns, attributes, modules and files."""

import keyword
import re
from collections.abc import Callable
from pathlib import PurePosixPath

from mcp_server.feedback_base import Facts, Finding, folded, listed, nearest, replace_fixes, shown
from mcp_server.feedback_packages import install_fix, remedy

_ALIASES = {
    "pd": "import pandas as pd",
    "np": "import numpy as np",
    "plt": "import matplotlib.pyplot as plt",
    "sns": "import seaborn as sns",
    "sm": "import statsmodels.api as sm",
    "smf": "import statsmodels.formula.api as smf",
    "datetime": "from datetime import datetime",
    "timedelta": "from datetime import timedelta",
    "date": "from datetime import date",
    "Counter": "from collections import Counter",
    "defaultdict": "from collections import defaultdict",
    "Path": "from pathlib import Path",
    "stats": "from scipy import stats",
}
_MODULES = (
    "pandas",
    "numpy",
    "scipy",
    "statsmodels",
    "sklearn",
    "lifelines",
    "Bio",
    "matplotlib",
    "sqlite3",
    "json",
    "re",
    "os",
    "sys",
    "math",
    "csv",
    "random",
    "statistics",
    "itertools",
    "functools",
    "collections",
    "string",
    "time",
    "glob",
    "gzip",
    "pickle",
    "io",
    "warnings",
)
_COMMANDS = ("ls", "cat", "head", "tail", "cd", "pwd", "grep", "wc", "pip", "find", "awk", "sed", "du", "sqlite3")
_CONSTANTS = {
    "true": "True",
    "false": "False",
    "null": "None",
    "none": "None",
    "nil": "None",
    "NULL": "None",
    "nan": "float('nan')",
    "NaN": "float('nan')",
    "inf": "float('inf')",
}
_PACKAGES = {
    "scikit-learn": "sklearn",
    "scikit_learn": "sklearn",
    "biopython": "Bio",
    "bio": "Bio",
    "biotite": "Bio",
    "sqlite": "sqlite3",
    "pysqlite3": "sqlite3",
    "dateutils": "dateutil",
    "ConfigParser": "configparser",
    "StringIO": "io",
    "cPickle": "pickle",
}
_INSTEAD = {
    "duckdb": "sqlite3 with pandas.read_sql_query",
    "polars": "pandas",
    "sqlalchemy": "sqlite3: pandas.read_sql_query takes its connection",
    "pandasql": "sqlite3 with pandas.read_sql_query",
    "seaborn": "matplotlib.pyplot",
    "plotly": "matplotlib.pyplot",
    "requests": "the files in /data: there is no network",
    "httpx": "the files in /data: there is no network",
    "psycopg2": "sqlite3",
    "pymysql": "sqlite3",
    "xgboost": "sklearn.ensemble.GradientBoostingClassifier",
    "lightgbm": "sklearn.ensemble.HistGradientBoostingClassifier",
}
_REMOVED = {
    "append": "pd.concat([first, second]) (append was removed from pandas 2)",
    "iteritems": "items()",
    "ix": "loc (labels) or iloc (positions)",
    "as_matrix": "to_numpy()",
    "get_value": "at[row, column]",
    "sort": "sort_values(by=...)",
    "mad": "(s - s.mean()).abs().mean()",
    "has_key": "key in mapping",
}
_TEXT_METHODS = {
    "lower",
    "upper",
    "strip",
    "split",
    "contains",
    "startswith",
    "endswith",
    "replace",
    "title",
    "extract",
}
_TIME_PARTS = {"year", "month", "day", "hour", "days", "total_seconds", "date", "strftime", "weekday", "dayofweek"}


def find(facts: Facts) -> Finding | None:
    rule = _RULES.get(facts.type)
    return rule(facts) if rule else None


def _name(facts: Facts) -> Finding | None:
    match = re.search(r"name '([^']{1,200})' is not defined", facts.message)
    name = facts.missing or (match[1] if match else None)
    if name is None:
        return None
    fixes: list[str] = []
    if name in _CONSTANTS:
        fixes.append(f"Write {_CONSTANTS[name]}: {name!r} is not Python.")
    if re.match(rf"\s*{re.escape(name)} [^=(]*$", facts.source or "") and name in _COMMANDS:
        fixes.append("This is a shell command: call run_terminal.")
    near = nearest(name, [*facts.candidates, *(word for word in keyword.kwlist if len(word) > 3)])
    imports = _ALIASES.get(name) or (f"import {name}" if name in _MODULES else None)
    if imports and not (near and folded(near[0]) == folded(name)):
        fixes.append(f"{imports}")
    fixes += replace_fixes(name, near)
    if any(folded(table.name) == folded(name) for table in facts.catalog.tables()) if facts.catalog else False:
        fixes.append(f"{name} is a table of the database: read it first, with pandas.read_sql_query.")
    fixes.append("Set it before it is used: a call that failed has set nothing after the failing line.")
    return Finding(f"The name {shown(name)!r} is not known.", tuple(fixes), missing=name)


def _unbound(facts: Facts) -> Finding:
    match = re.search(r"variable '([^']{1,200})'", facts.message)
    name = match[1] if match else facts.missing
    fix = f"Set {shown(name or 'it')} on every path before it is read, pass it as an argument, or declare it global."
    return Finding(f"The local variable {shown(name or '')!r} is read before it is set.", (fix,), missing=name)


def _key(facts: Facts) -> Finding:
    wanted = _wanted_keys(facts)
    frame = next((text for text in facts.names.values() if text.startswith("DataFrame")), None)
    known = facts.candidates or _columns(frame)
    if not wanted:
        return Finding(f"A key was not found: {shown(facts.message, 300)}.", _known_fix(known, frame))
    what = "column" if frame or "columns" in facts.message or "not in index" in facts.message else "key"
    fixes: list[str] = []
    for key in wanted[:3]:
        fixes += replace_fixes(key, nearest(key, known))
    bare = facts.message.strip()
    if re.fullmatch(r"-?\d+(\.\d+)?", bare) and any(f"'{bare}'" in text for text in facts.names.values()):
        fixes.insert(0, f"The key is a number here and a text there: use {bare!r}.")
    elif not fixes and re.fullmatch(r"-?\d+", bare):
        fixes.append("For a position use .iloc[...]; labels are looked up with [...] and .loc[...].")
    fixes += _known_fix(known, frame)
    if what == "key":
        fixes.append("Where a key may be absent, use .get(key) or test `key in mapping` first.")
    elif facts.catalog is not None:
        fixes += _elsewhere(facts, wanted[0])
    cause = f"There is no {what} {shown(wanted[0])!r}."
    if len(wanted) > 1:
        cause = f"There are no {what}s {listed(wanted, 6)}."
    return Finding(cause, tuple(fixes), missing=", ".join(wanted[:6]))


def _wanted_keys(facts: Facts) -> list[str]:
    message = facts.message.strip().strip('"')
    if several := re.search(r"\[(.{1,1000}?)\](?:, dtype=\S{1,40})?\)? (?:are in the|not in index|not found)", message):
        found = re.findall(r"'([^']{1,200})'", several[1])
        if found:
            return found
    if facts.missing:
        return [facts.missing]
    single = re.fullmatch(r"'(.{1,300})'|(-?[\w.]{1,100})", message, re.DOTALL)
    if single:
        return [single[1] or single[2]]
    quoted = re.search(r"'([^'\n]{1,200})'", message)
    return [quoted[1]] if quoted else []


def _columns(frame: str | None) -> tuple[str, ...]:
    _, found, names = (frame or "").partition("columns: ")
    return tuple(name.strip().rstrip(".") for name in names.split(",")) if found else ()


def _known_fix(known: tuple[str, ...], frame: str | None) -> tuple[str, ...]:
    if not known:
        return ()
    return (f"{'Columns' if frame else 'Known here'}: {listed(known, 30)}.",)


def _elsewhere(facts: Facts, name: str) -> list[str]:
    """The tables of the database that have such a column."""
    if facts.catalog is None:
        return []
    tables = [
        table.name
        for table in facts.catalog.tables()
        if any(column.name.casefold() == name.casefold() for column in facts.catalog.columns(table.name))
    ]
    return [f"The database has {shown(name)!r} in {listed(tables, 8)}."] if tables else []


def _attribute(facts: Facts) -> Finding:
    match = re.search(
        r"(?:'([^']{1,100})' object|module '([^']{1,100})'|type object '([^']{1,100})')"
        r" has no attribute '([^']{1,200})'",
        facts.message,
    )
    if accessor := re.search(r"Can only use \.(\w{1,20}) accessor", facts.message):
        conversions = {
            "dt": "Convert first: df['column'] = pd.to_datetime(df['column']).",
            "str": "Convert first: df['column'].astype(str).str...; numbers need no .str.",
            "cat": "Convert first: df['column'].astype('category').",
        }
        fix = conversions.get(accessor[1], "Convert the column first with .astype(...).")
        return Finding(f".{accessor[1]} does not work on a column of this type.", (fix,))
    if not match:
        return Finding(f"An attribute was not found: {shown(facts.message, 300)}.", missing=facts.missing)
    owner, name = match[1] or match[2] or match[3], match[4]
    fixes: list[str] = []
    if owner == "NoneType":
        fixes.append("Test for None before: a search, .get(...) or fetchone() found nothing, or a method that")
        fixes[-1] += " changes in place (sort, append, inplace=True) returned None."
        return Finding(f"The value is None, so it has no {shown(name)!r}.", tuple(fixes), missing=name)
    near = nearest(name, facts.candidates)
    if owner in ("Series", "DataFrame") and name in _REMOVED:
        fixes.append(f"Use {_REMOVED[name]} instead of .{name}.")
    elif owner == "Series" and name in _TEXT_METHODS:
        fixes.append(f"Text methods of a column are under .str: column.str.{name}(...).")
    elif owner == "Series" and name in _TIME_PARTS:
        fixes.append(f"Parts of a date column are under .dt: pd.to_datetime(column).dt.{name}.")
    elif owner == "str" and name in _TIME_PARTS:
        fixes.append(f"The date is a text still: pd.to_datetime(value).{name}, or datetime.fromisoformat(value).")
    elif owner in ("Timedelta", "timedelta") and name in ("hours", "minutes", "years", "weeks", "months"):
        fixes.append("A time difference has .days and .total_seconds(): hours = d.total_seconds() / 3600.")
    elif owner == "dict" and name == "has_key":
        fixes.append("Write `key in mapping`.")
    fixes += replace_fixes(name, near)
    if owner == "DataFrame" and facts.candidates:
        fixes.append("A column whose name has blanks or is a method's name is read with df['name'].")
    if owner == "list":
        fixes.append("This is a list: take an element first, or make it a DataFrame or Series.")
    kind = f"module {shown(owner)!r}" if match[2] else f"{shown(owner)} object"
    return Finding(f"The {kind} has no attribute {shown(name)!r}.", tuple(fixes), missing=name)


def _module(facts: Facts) -> Finding:
    if part := re.search(r"cannot import name '([^']{1,200})' from '([^']{1,200})'", facts.message):
        fixes = replace_fixes(part[1], nearest(part[1], facts.candidates))
        fixes.append(f"See what there is: import {shown(part[2])}; print(dir({shown(part[2])})).")
        return Finding(f"The module {shown(part[2])!r} has no {shown(part[1])!r}.", tuple(fixes), missing=part[1])
    match = re.search(r"No module named '([^']{1,200})'", facts.message)
    name = facts.missing or (match[1] if match else None)
    if name is None:
        return Finding(f"An import failed: {shown(facts.message, 300)}.")
    top = name.partition(".")[0]
    fixes = []
    if fix := install_fix(top, facts.offered):
        fixes.append(fix)
    if top in _PACKAGES:
        fixes.append(f"import {_PACKAGES[top]} (that is how the package {top} is imported).")
    fixes += replace_fixes(name, nearest(name, facts.candidates or tuple(_MODULES)))
    if top in _INSTEAD:
        fixes.append(f"Use {_INSTEAD[top]}.")
    if facts.candidates:
        fixes.append(f"Installed: {listed(facts.candidates, 40)}.")
    fixes.append(remedy(facts.offered))
    return Finding(f"The module {shown(name)!r} is not installed here.", tuple(fixes), missing=name)


def _file(facts: Facts) -> Finding:
    match = re.search(
        r"(?:No such file or directory|does not exist)[^'\"]{0,20}['\"]([^'\"\n]{1,300})['\"]", facts.message
    )
    match = match or re.search(r"File ([^\s'\"]{1,300}) does not exist", facts.message)
    path = facts.missing or (match[1] if match else None)
    if path is None:
        return Finding(f"A file was not found: {shown(facts.message, 300)}.", ("The data are in /data.",))
    fixes: list[str] = []
    by_name = {other: PurePosixPath(other).name for other in facts.candidates}
    name = PurePosixPath(path).name
    same = [other for other, last in by_name.items() if last.casefold() == name.casefold() and other != path]
    close = nearest(name, list(by_name.values()))
    near = same or [other for last in close for other, one in by_name.items() if one == last]
    fixes += replace_fixes(path, near[:3])
    if facts.candidates:
        fixes.append(f"Files here: {listed(facts.candidates, 30, 200)}.")
    fixes.append("The task's data are in /data (read-only); what you write is in /work, the current folder.")
    return Finding(f"There is no file {shown(path)!r}.", tuple(fixes), missing=path)


_RULES: dict[str, Callable[[Facts], Finding | None]] = {
    "NameError": _name,
    "UnboundLocalError": _unbound,
    "KeyError": _key,
    "AttributeError": _attribute,
    "ModuleNotFoundError": _module,
    "ImportError": _module,
    "FileNotFoundError": _file,
}
