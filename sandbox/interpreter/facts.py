"""The facts of an exception in the agent's Python code: where, which values, and what was looked for.

Everything here may meet objects that fight back (a `__str__` that raises, a traceback of a million frames), so every
step is bounded and the whole falls back to the exception's type.
"""

import ast
import re
import sqlite3
import sys
import traceback
from itertools import islice
from pathlib import PurePath
from types import FrameType, TracebackType
from typing import Any

from .candidates import (
    attributes_of,
    files,
    keys_of,
    missing_in_database,
    modules,
    nearest_first,
    scope_names,
)
from .describe import describe, type_name
from .outcome import Setting, plain_error
from .text import clip, lines_of, shorten

_HERE = str(PurePath(__file__).parent)
_FRAMES = (12, 25)  # shown of one exception: the outermost and the innermost
_MOST_FRAMES = 2_000_000
_CHAIN = 4
_NAMES = 12
_VALUE = 300
_MESSAGE = 4000
_TRACEBACK = 10_000
_UNKNOWN = object()


def gather(error: BaseException, code: str, file: str, tree: ast.Module | None, setting: Setting) -> dict[str, Any]:
    """The fields of `CodeError` for `error`, raised by `code`, which was compiled as `file`."""
    try:
        facts = plain_error(type_name(error), clip(_message(error, file), _MESSAGE)[0])
    except BaseException:
        return plain_error(type_name(error), "")
    for step in (_add_traceback, _add_place, _add_missing):
        try:
            step(facts, error, code, file, tree, setting)
        except BaseException:  # noqa: S112 - what this step would have added is not there
            continue
    return facts


def _message(error: BaseException, file: str) -> str:
    if isinstance(error, SystemExit):
        status = error.code
        shown = "" if status is None else f" with {describe(status, 200)}"
        return f"sys.exit() was called{shown}; the session goes on"
    if isinstance(error, SyntaxError) and error.filename == file and isinstance(error.msg, str):
        return f"{error.msg} (line {error.lineno}, column {error.offset})"
    try:
        return str.__str__(str(error))
    except BaseException as again:
        return f"(its text could not be made: {type_name(again)})"


# ---- traceback -------------------------------------------------------------------------------------------------


def _agent_part(trace: TracebackType | None) -> TracebackType | None:
    ours = (_HERE, ast.__file__)
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(ours):
        trace = trace.tb_next
    return trace


def _links(trace: TracebackType | None) -> list[TracebackType]:
    links: list[TracebackType] = []
    while trace is not None and len(links) < _MOST_FRAMES:
        links.append(trace)
        trace = trace.tb_next
    return links


def _format_links(links: list[TracebackType]) -> str:
    chain: TracebackType | None = None
    for link in reversed(links):
        chain = TracebackType(chain, link.tb_frame, link.tb_lasti, link.tb_lineno)
    return "".join(traceback.format_tb(chain))


def _format_one(error: BaseException, file: str, message: str) -> str:
    links = _links(_agent_part(error.__traceback__))
    text = "Traceback (most recent call last):\n" if links else ""
    first, last = _FRAMES
    if len(links) > first + last:
        text += _format_links(links[:first])
        text += f"  [... {len(links) - first - last} frames left out ...]\n"
        text += _format_links(links[-last:])
    else:
        text += _format_links(links)
    if isinstance(error, SyntaxError):
        text += _format_syntax(error)
    else:
        text += f"{type_name(error)}: {message}\n" if message else f"{type_name(error)}\n"
    notes = getattr(error, "__notes__", None)
    if isinstance(notes, list):
        text += "".join(f"{shorten(note, 500)}\n" for note in notes[:10] if isinstance(note, str))
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions[:10]:
            text += f"  | {type_name(inner)}: {shorten(_message(inner, file), 500)}\n"
    return text


def _format_syntax(error: SyntaxError) -> str:
    bare = SyntaxError(error.msg)  # has no chain that could be a million long
    bare.filename, bare.lineno, bare.offset = error.filename, error.lineno, error.offset
    bare.end_lineno, bare.end_offset = error.end_lineno, error.end_offset
    bare.text = error.text[:2000] if isinstance(error.text, str) else None
    text = "".join(traceback.format_exception_only(type(bare), bare))
    return text.replace("SyntaxError", type_name(error), 1)


def _add_traceback(
    facts: dict[str, Any], error: BaseException, code: str, file: str, tree: ast.Module | None, setting: Setting
) -> None:
    text = _format_one(error, file, facts["message"])
    seen = {id(error)}
    current = error
    for _ in range(_CHAIN):
        if current.__cause__ is not None:
            current, joint = current.__cause__, "The above exception was the direct cause of the following exception:"
        elif current.__context__ is not None and not current.__suppress_context__:
            current = current.__context__
            joint = "During handling of the above exception, another exception occurred:"
        else:
            break
        if id(current) in seen:
            break
        seen.add(id(current))
        text = f"{_format_one(current, file, clip(_message(current, file), _MESSAGE)[0])}\n{joint}\n\n{text}"
    facts["traceback"] = clip(text, min(_TRACEBACK, setting.output))[0]


# ---- place -----------------------------------------------------------------------------------------------------


def _scopes(error: BaseException, file: str) -> tuple[int | None, list[dict[str, Any]]]:
    """The line of the deepest frame in `file`, and the variables that its code could see, innermost first."""
    deepest: TracebackType | None = None
    frames: list[FrameType] = []
    for link in _links(_agent_part(error.__traceback__)):
        if link.tb_frame.f_code.co_filename == file:
            deepest = link
            frames = [*frames[-10:], link.tb_frame]
    if deepest is None:
        return None, []
    scopes: list[dict[str, Any]] = [dict(frame.f_locals) for frame in reversed(frames)]
    return deepest.tb_lineno, [*scopes, deepest.tb_frame.f_globals]


def _statement(tree: ast.Module | None, line: int) -> ast.stmt | None:
    best: ast.stmt | None = None
    for node in ast.walk(tree) if tree is not None else ():
        inside = isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno)
        if inside and (best is None or node.lineno >= best.lineno):  # type: ignore[attr-defined]
            best = node  # type: ignore[assignment]
    return best


def _own_nodes(statement: ast.stmt | None) -> list[ast.expr]:
    """The expressions of a statement, without those of the statements inside it."""
    found: list[ast.expr] = []
    waiting: list[ast.AST] = [] if statement is None else [statement]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.expr):
            found.append(node)
        waiting += [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.stmt)]
    return found


def _look_up(name: str, scopes: list[dict[str, Any]]) -> Any:
    return next((scope[name] for scope in scopes if name in scope), _UNKNOWN)


def _value(node: ast.expr, scopes: list[dict[str, Any]]) -> Any:
    """The value of a simple expression, without running any code of the agent."""
    if isinstance(node, ast.Name):
        return _look_up(node.id, scopes)
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Attribute):
        base = _value(node.value, scopes)
        if base is _UNKNOWN:
            return _UNKNOWN
        if node.attr in ("loc", "at") and keys_of(base) is not None:
            return base
        inside = getattr(base, "__dict__", None)
        return inside.get(node.attr, _UNKNOWN) if isinstance(inside, dict) else _UNKNOWN
    if isinstance(node, ast.Subscript):
        base, key = _value(node.value, scopes), _value(node.slice, scopes)
        if type(base) is dict and type(key) in (str, int):
            return base.get(key, _UNKNOWN)
        if type(base) in (list, tuple) and type(key) is int and -len(base) <= key < len(base):
            return base[key]
    return _UNKNOWN


def _add_place(
    facts: dict[str, Any], error: BaseException, code: str, file: str, tree: ast.Module | None, setting: Setting
) -> None:
    lines = lines_of(code)
    if isinstance(error, SyntaxError) and error.filename == file:
        facts["line"] = error.lineno
    line, scopes = _scopes(error, file)
    facts["line"] = facts["line"] or line
    if isinstance(facts["line"], int) and 1 <= facts["line"] <= len(lines):
        facts["source"] = clip(lines[facts["line"] - 1], 500)[0]
    if line is None:
        return
    nodes = [node for node in _own_nodes(_statement(tree, line)) if isinstance(node, ast.Name)]
    nodes.sort(key=lambda node: (node.lineno != line, node.lineno, node.col_offset))
    for node in nodes:
        value = _look_up(node.id, scopes)
        if value is not _UNKNOWN and node.id not in facts["names"] and len(facts["names"]) < _NAMES:
            facts["names"][shorten(node.id, 100)] = describe(value, _VALUE)


# ---- what was looked for ---------------------------------------------------------------------------------------


def _add_missing(
    facts: dict[str, Any], error: BaseException, code: str, file: str, tree: ast.Module | None, setting: Setting
) -> None:
    line, scopes = _scopes(error, file)
    nodes = _own_nodes(_statement(tree, line)) if line is not None else []
    missing: str | None = None
    found: list[str] = []
    if isinstance(error, NameError):
        quoted = re.search("'([^']+)'", facts["message"])  # an UnboundLocalError carries no name
        missing, found = error.name or (quoted and quoted[1]), scope_names(scopes)
    elif isinstance(error, AttributeError):
        missing, found = _attribute(error, facts["message"], nodes, scopes)
    elif isinstance(error, KeyError):
        missing, found = _key(error, nodes, scopes)
    elif isinstance(error, ModuleNotFoundError):
        parent, _, missing = (error.name or "").rpartition(".")
        found = modules(parent)
    elif isinstance(error, ImportError):
        missing, found = _imported(facts["message"])
    elif isinstance(error, FileNotFoundError) and error.filename is not None:
        missing, found = shorten(str(error.filename), 500), files(setting)
    elif "no such " in facts["message"] and type_name(error).endswith(("DatabaseError", "OperationalError")):
        facts["missing"], facts["candidates"] = _database(facts["message"], code, nodes, scopes, setting)
        return
    facts["missing"] = None if missing is None else shorten(missing, 500)
    facts["candidates"] = nearest_first(missing, found, paths=isinstance(error, FileNotFoundError))


def _attribute(
    error: AttributeError, message: str, nodes: list[ast.expr], scopes: list[dict[str, Any]]
) -> tuple[str | None, list[str]]:
    match = re.search(r"has no attribute '([^']+)'", message)
    name = error.name if isinstance(error.name, str) else (match[1] if match else None)
    if name is None:
        return None, []
    if error.obj is not None or "'NoneType'" in message:
        return name, attributes_of(error.obj)
    for node in nodes:
        if isinstance(node, ast.Attribute) and node.attr == name:
            value = _value(node.value, scopes)
            if value is not _UNKNOWN:
                return name, attributes_of(value)
    return name, []


def _key(error: KeyError, nodes: list[ast.expr], scopes: list[dict[str, Any]]) -> tuple[str | None, list[str]]:
    key = error.args[0] if error.args else None
    missing = key if isinstance(key, str) else (None if key is None else describe(key, 200))
    bases = [_value(node.value, scopes) for node in nodes if isinstance(node, ast.Subscript)]
    bases += [_value(node, scopes) for node in nodes if isinstance(node, ast.Name)]
    # What the library was working on, for tables that have no name in the agent's code.
    inner = _links(error.__traceback__)[-_FRAMES[1] :]
    bases += [link.tb_frame.f_locals.get(name, _UNKNOWN) for link in inner for name in ("self", "obj")]
    found: list[str] = []
    for base in bases:
        keys = None if base is _UNKNOWN else keys_of(base)
        # A base that has the key is not where it was missed.
        if keys is not None and missing not in keys:
            found += [name for name in keys if name not in found] if len(found) < 500 else []
    if isinstance(key, str) and missing is not None:
        # pandas: "['a', 'b'] not in index", "None of [Index(['a'], dtype='object')] are in the [columns]"
        quoted = re.findall(r"'([^']*)'", key) if re.search(r"not (?:found )?in |None of |are in the", key) else []
        quoted += re.findall(r"Columns? not found: '?([^',]+)", key)
        missing = next((name for name in quoted if name not in found and name != "object"), missing)
    return missing, found


def _imported(message: str) -> tuple[str | None, list[str]]:
    match = re.search(r"cannot import name '([^']+)' from '([^']+)'", message)
    module = sys.modules.get(match[2]) if match else None
    return (match[1], attributes_of(module)) if match and module is not None else (None, [])


def _database(
    message: str, code: str, nodes: list[ast.expr], scopes: list[dict[str, Any]], setting: Setting
) -> tuple[str | None, list[str]]:
    values = [_value(node, scopes) for node in nodes]
    values += [value for scope in scopes for value in islice(scope.values(), 500)]
    for value in values:
        connection = value.connection if isinstance(value, sqlite3.Cursor) else value
        if isinstance(connection, sqlite3.Connection):
            missing, found = missing_in_database(message, f"{message} {code}", connection)
            if found:
                return missing, found
    if setting.database is None:
        return missing_in_database(message, code, None)
    own = sqlite3.connect(f"file:{setting.database}?mode=ro&immutable=1", uri=True)
    try:
        return missing_in_database(message, f"{message} {code}", own)
    finally:
        own.close()
