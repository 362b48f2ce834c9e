"""Short descriptions of values, in bounded time: no `repr` of the agent's own classes, no walk through large data."""

import datetime
import decimal
import reprlib
import sys
from collections.abc import Mapping
from itertools import islice
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from .text import shorten

_TIMES = (datetime.date, datetime.time, datetime.timedelta)
_PLAIN = (bool, int, float, complex, str, bytes, type(None), decimal.Decimal, *_TIMES)
_CONTAINERS = (list, tuple, set, frozenset, dict)


class _Short(reprlib.Repr):
    def repr_instance(self, x: Any, level: int) -> str:
        return repr(x) if isinstance(x, _PLAIN) else f"<{type_name(x)}>"


_SHORT = _Short()
_SHORT.maxstring = 80
_SHORT.maxlong = 60
_SHORT.maxlevel = 3


def type_name(value: Any) -> str:
    """The bare name of a value's class."""
    try:
        return shorten(type.__dict__["__name__"].__get__(type(value)), 80)
    except Exception:
        return "object"


def pandas_class(name: str) -> type[Any] | tuple[()]:
    """A class of pandas for `isinstance`, without importing pandas."""
    found = getattr(sys.modules.get("pandas"), name, ())
    return found if isinstance(found, type) else ()


def numpy_class(name: str) -> type[Any] | tuple[()]:
    """A class of numpy for `isinstance`, without importing numpy."""
    found = getattr(sys.modules.get("numpy"), name, ())
    return found if isinstance(found, type) else ()


def describe(value: Any, limit: int = 300) -> str:
    """What a value is, in at most `limit` characters, e.g. "DataFrame 3x2, columns: a, b" or "list of 3: [1, 2, 3]"."""
    try:
        return shorten(_describe(value), limit)
    except BaseException:
        return shorten(type_name(value), limit)


def _describe(value: Any) -> str:
    if isinstance(value, pandas_class("DataFrame")):
        columns = ", ".join(shorten(str(column), 60) for column in value.columns[:60])
        return f"DataFrame {value.shape[0]}x{value.shape[1]}, columns: {columns}"
    if isinstance(value, pandas_class("Series")):
        head = ", ".join(_SHORT.repr(item) for item in value.iloc[:4].tolist())
        return f"Series of {len(value)}, name {value.name!r}, dtype {value.dtype}: {head}"
    if isinstance(value, pandas_class("Index")):
        head = ", ".join(_SHORT.repr(item) for item in value[:6].tolist())
        return f"{type_name(value)} of {len(value)}: {head}"
    if isinstance(value, numpy_class("ndarray")):
        head = ", ".join(_SHORT.repr(item) for item in value.ravel()[:4].tolist())
        return f"ndarray of shape {value.shape}, dtype {value.dtype}: {head}"
    if isinstance(value, numpy_class("generic")):
        return f"{value.item()!r} ({type_name(value)})"
    if isinstance(value, int) and value.bit_length() > 512:
        return f"int of {value.bit_length()} bits"
    if isinstance(value, str) and len(value) > 200:
        return f"str of {len(value)} characters: {value[:120]!r}..."
    if isinstance(value, bytes) and len(value) > 200:
        return f"bytes of {len(value)}: {value[:60]!r}..."
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, (*_CONTAINERS, Mapping)):
        if type(value) in _CONTAINERS:
            # Only a few items: reprlib sorts all keys of a dict or a set.
            items: Any = value
            few = type(items)(islice(items.items() if type(items) is dict else items, 8))
            return f"{type_name(value)} of {len(value)}: {_SHORT.repr(few)}"
        return f"{type_name(value)} of {len(value)}"
    if isinstance(value, ModuleType):
        return f"module {value.__name__}"
    if isinstance(value, type):
        return f"class {value.__name__}"
    if isinstance(value, FunctionType | BuiltinFunctionType | MethodType):
        return f"function {value.__name__}"
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict) and attributes:
        return f"{type_name(value)} object with attributes: {', '.join(str(name) for name in list(attributes)[:30])}"
    return f"{type_name(value)} object"
