"""A Python variable as strict JSON: what it converts, and a plain sentence with the place for what it refuses."""

import datetime
import decimal
import fractions
import json
import math
from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import Any

from .candidates import nearest_first
from .describe import numpy_class, pandas_class, type_name

MAX_DEPTH = 32
_SEQUENCES: tuple[type[Any], ...] = (list, tuple, deque, range, type({}.keys()), type({}.values()))

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Refused(Exception):
    """The value is not JSON. The agent reads the text."""


def to_json(namespace: dict[str, Any], name: str, max_bytes: int) -> str:
    """The JSON text of the variable `name`. Raises Refused."""
    if name not in namespace or name == "__builtins__":
        near = nearest_first(name, [known for known in namespace if not known.startswith("_")])[:5]
        more = f"; there are: {', '.join(near)}" if near else ""
        raise Refused(f"there is no variable {name!r} in the session{more}")
    converted = _Converter(max_bytes).convert(namespace[name], name, 1)
    try:
        text = _encode(converted)
    except ValueError as error:  # an int of more digits than Python writes
        raise Refused(f"{name} cannot be written as JSON: {error}") from None
    size = len(text.encode())
    if size > max_bytes:
        raise Refused(f"{name} is {size} bytes of JSON; at most {max_bytes} can be transferred")
    return text


class _Converter:
    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._left = max_bytes

    def _take(self, size: int, place: str) -> None:
        self._left -= size
        if self._left < 0:
            raise Refused(f"the value is too large at {place}: at most {self._max} bytes of JSON can be transferred")

    def convert(self, value: Any, place: str, depth: int) -> Any:
        self._take(1, place)
        if depth > MAX_DEPTH:
            raise Refused(f"{place} is nested deeper than {MAX_DEPTH} levels")
        if value is None or value is True or value is False:
            return value
        kind = type_name(value)
        if kind in ("NaTType", "NAType"):
            raise Refused(f"{place} is {'NaT' if kind == 'NaTType' else 'pandas.NA'}: {_NO_VALUE}")
        if isinstance(value, Enum):
            return self.convert(value.value, place, depth + 1)
        if isinstance(value, str):
            return self._text(str.__str__(value), place)
        if isinstance(value, int):
            return int.__int__(value)
        if isinstance(value, float):
            return _finite(float.__float__(value), place)
        if isinstance(value, decimal.Decimal):
            if not value.is_finite():
                return _finite(float("nan") if value.is_nan() else math.copysign(math.inf, value), place)
            return int(value) if value == value.to_integral_value() else _finite(float(value), place)
        if isinstance(value, fractions.Fraction):
            return int(value) if value.denominator == 1 else _finite(float(value), place)
        if isinstance(value, datetime.date | datetime.time):
            return value.isoformat()
        if isinstance(value, datetime.timedelta):
            raise Refused(f"{place} is a duration: convert it to a number, e.g. with .total_seconds()")
        if isinstance(value, bytes | bytearray | memoryview):
            raise Refused(f"{place} is bytes: decode it to text first")
        if isinstance(value, dict):
            return self._object(value, place, depth)
        if isinstance(value, set | frozenset):
            return self._items(_ordered(value), place, depth)
        if isinstance(value, _SEQUENCES):
            return self._items(value, place, depth, len(value))
        return self._array(value, place, depth)

    def _text(self, text: str, place: str) -> str:
        self._take(len(text), place)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Refused(f"{place} holds a lone surrogate: it is not valid text") from None
        return text

    def _object(self, value: dict[Any, Any], place: str, depth: int) -> dict[str, Any]:
        result = {}
        for key, item in dict.items(value):
            if not isinstance(key, str):
                raise Refused(f"{place} has the key {key!r:.80} of type {type_name(key)}: JSON keys must be text")
            text = self._text(str.__str__(key), place)
            result[text] = self.convert(item, f"{place}[{text[:80]!r}]", depth + 1)
        return result

    def _items(self, value: Iterable[Any], place: str, depth: int, size: int = 0) -> list[Any]:
        if size > self._left:
            self._take(size, place)
        return [self.convert(item, f"{place}[{number}]", depth + 1) for number, item in enumerate(value)]

    def _array(self, value: Any, place: str, depth: int) -> Any:
        if isinstance(value, pandas_class("DataFrame")):
            return self._items(value.itertuples(index=False, name=None), place, depth, value.size)
        if isinstance(value, (series := pandas_class("Series"), pandas_class("Index"))) and series:
            return self._items(value.tolist(), place, depth, len(value))
        if isinstance(value, numpy_class("ndarray")):
            if value.size > self._left:
                self._take(value.size, place)
            if value.dtype.kind in "mMV":
                return self._items(list(value), place, depth) if value.ndim else self.convert(value[()], place, depth)
            return self.convert(value.tolist(), place, depth)
        if isinstance(value, numpy_class("datetime64")):
            if str(value) == "NaT":
                raise Refused(f"{place} is NaT: {_NO_VALUE}")
            return str(value)
        if isinstance(value, numpy_class("timedelta64")):
            raise Refused(f"{place} is a duration: convert it to a number, e.g. value / np.timedelta64(1, 's')")
        if isinstance(value, numpy_class("generic")):
            return self.convert(value.item(), place, depth)
        if isinstance(value, pandas_class("Period")):
            return str(value)
        if hasattr(type(value), "__array__") and type(value).__module__.partition(".")[0] == "pandas":
            return self._items(value.tolist(), place, depth, len(value))  # Categorical and other extension arrays
        kind = type_name(value)
        raise Refused(f"{place} is a {kind}, which is not JSON: convert it to numbers, text, lists or dicts")


_NO_VALUE = "JSON has no such value; replace it by None or leave it out"


def _finite(value: float, place: str) -> float:
    if math.isfinite(value):
        return value
    kind = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    raise Refused(f"{place} is {kind}: {_NO_VALUE}")


def _ordered(value: set[Any] | frozenset[Any]) -> list[Any]:
    try:
        return sorted(value)
    except TypeError:
        return sorted(value, key=lambda item: (type_name(item), repr(item)))
