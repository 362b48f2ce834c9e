"""A call of a calculator as Python that stands alone: the formula and what it uses, then `answer = formula(values)`.

It is built from the very functions that compute the truth, without annotations and docstrings, so that it can run
where this project is not installed.
"""

import ast
import inspect
import math
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from functools import cache
from textwrap import dedent
from types import CodeType, FunctionType
from typing import Any

from tasks.medcalc.catalogue import Calculator

_IMPORTS: dict[int, str] = {
    id(math): "import math",
    id(date): "from datetime import date",
    id(timedelta): "from datetime import timedelta",
}


def oracle(calculator: Calculator, code: Mapping[str, str]) -> str:
    """Python that leaves in `answer` what `calculator` gives for the arguments `code` (parameter -> expression)."""
    lines = [f"{name} = {text}" for name, text in code.items()]
    call = f"{calculator.function.__name__}({', '.join(f'{name}={name}' for name in code)})"
    needs_date = any(text.startswith("date(") for text in code.values())
    end = f"answer = {call}"
    if calculator.kind == "date":
        end += ".isoformat()"
    elif calculator.kind == "duration":
        end = f"answer = list({call})"
    return "\n".join([definitions(calculator.function, needs_date), *lines, end]) + "\n"


@cache
def definitions(function: Callable[..., Any], with_date: bool = False) -> str:
    """The source of `function` and of all of ours that it uses, callees first. Raises TypeError for a global that is
    neither a function of ours, a known import, nor plain data."""
    imports, constants, functions = set[str](), dict[str, str](), dict[str, str]()
    if with_date:
        imports.add(_IMPORTS[id(date)])
    _collect(function, imports, constants, functions)
    data = [f"{name} = {value}" for name, value in constants.items()]
    return "\n".join([*sorted(imports), *data, *functions.values()])


def _collect(
    function: Callable[..., Any], imports: set[str], constants: dict[str, str], functions: dict[str, str]
) -> None:
    if not isinstance(function, FunctionType):
        raise TypeError(f"{function!r} is not a plain function")
    for name in sorted(_names(function.__code__)):
        if name not in function.__globals__:
            continue
        value = function.__globals__[name]
        if id(value) in _IMPORTS:
            imports.add(_IMPORTS[id(value)])
        elif isinstance(value, FunctionType):
            if name not in functions:
                _collect(value, imports, constants, functions)
        elif isinstance(value, dict | tuple | list | str | int | float):
            constants[name] = repr(value)
        else:
            raise TypeError(f"{function.__name__} uses {name}, which cannot be written out")
    functions[function.__name__] = _bare(function)


def _names(code: CodeType) -> set[str]:
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*inner)


def _bare(function: FunctionType) -> str:
    tree = ast.parse(dedent(inspect.getsource(function)))
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.returns = None
    every = definition.args
    for argument in (*every.posonlyargs, *every.args, *every.kwonlyargs, every.vararg, every.kwarg):
        if argument is not None:
            argument.annotation = None
    if ast.get_docstring(definition) is not None:
        definition.body = definition.body[1:]
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign):
            raise TypeError(f"{function.__name__} annotates a variable, which would need its imports")
    return ast.unparse(tree)
