"""Variables as strict JSON: what is converted, and what is refused with its place."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.base import JSONValue
from sandbox.errors import TransferError
from sandbox.interpreter.transfer import Refused, to_json
from tests.sandbox.interpreter_child import Child

IMPORTS = """
import collections, datetime as dt, decimal, enum, fractions
import numpy as np
import pandas as pd
"""


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    with Child(tmp_path_factory.mktemp("variables")) as child:
        assert child.run(IMPORTS).error is None
        yield child


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("None", None),
        ("[True, 1, 1.5, 'é', None]", [True, 1, 1.5, "é", None]),
        ("{'a': (1, 2), 'b': {}}", {"a": [1, 2], "b": {}}),
        ("{3, 1, 2}", [1, 2, 3]),
        ("frozenset({1, 'a'})", [1, "a"]),
        ("[range(3), {'k': 1}.keys(), collections.deque([1])]", [[0, 1, 2], ["k"], [1]]),
        ("collections.Counter('aab')", {"a": 2, "b": 1}),
        ("collections.namedtuple('P', 'x y')(1, 2)", [1, 2]),
        ("enum.IntEnum('E', 'a b').b", 2),
        ("[decimal.Decimal('2'), decimal.Decimal('2.5'), fractions.Fraction(1, 4)]", [2, 2.5, 0.25]),
        ("[dt.date(2100, 1, 2), dt.datetime(2100, 1, 2, 3, 4)]", ["2100-01-02", "2100-01-02T03:04:00"]),
        ("[np.int64(3), np.float32(0.5), np.bool_(True), np.str_('a'), np.float64(1)]", [3, 0.5, True, "a", 1.0]),
        ("np.arange(4).reshape(2, 2)", [[0, 1], [2, 3]]),
        ("[np.array(5), np.array(['a', None], dtype=object)]", [5, ["a", None]]),
        ("np.array(['2100-01-02'], dtype='datetime64[D]')", ["2100-01-02"]),
        ("pd.Series([1, 2], index=['x', 'y'])", [1, 2]),
        ("pd.Index(['a'])", ["a"]),
        ("pd.Series(['a', 'b'], dtype='category')", ["a", "b"]),
        ("pd.Series([1, 2], dtype='Int64').array", [1, 2]),
        ("pd.DataFrame({'a': [1, 2], 'b': ['x', None]})", [[1, "x"], [2, None]]),
        ("pd.Timestamp('2100-01-02')", "2100-01-02T00:00:00"),
        ("pd.Series(pd.to_datetime(['2100-01-02']))", ["2100-01-02T00:00:00"]),
        ("pd.DataFrame({'a': []})", []),
    ],
)
def test_what_is_converted(child: Child, code: str, expected: JSONValue) -> None:
    assert child.run(f"answer = {code}").error is None
    assert child.variable("answer") == expected


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("[0, [1, float('nan')]]", r"answer\[1\]\[1\] is NaN: JSON has no such value"),
        ("{'a': float('-inf')}", r"answer\['a'\] is -Infinity"),
        ("np.array([1.0, np.inf])", r"answer\[1\] is Infinity"),
        ("pd.DataFrame({'a': [1, 2], 'b': [1.0, None]})", r"answer\[1\]\[1\] is NaN"),
        ("pd.Series([1, None], dtype='Int64')", r"answer\[1\] is pandas.NA"),
        ("pd.Series(pd.to_datetime(['2100-01-02', None]))", r"answer\[1\] is NaT"),
        ("np.datetime64('NaT')", "answer is NaT"),
        ("decimal.Decimal('NaN')", "answer is NaN"),
        ("{1: 'a'}", "answer has the key 1 of type int: JSON keys must be text"),
        ("b'a'", "answer is bytes: decode it"),
        ("[dt.timedelta(1)]", r"answer\[0\] is a duration"),
        ("pd.Timedelta('1d')", "answer is a duration"),
        ("np.timedelta64(1, 's')", "answer is a duration"),
        ("1j", "answer is a complex"),
        ("object()", "answer is a object, which is not JSON"),
        ("(x for x in [])", "answer is a generator"),
        ("'\\ud800'", "lone surrogate"),
        ("10 ** 5000", "cannot be written as JSON"),
        ("[0] * 10 ** 7", "too large"),
        ("np.zeros(10 ** 7)", "too large"),
        ("pd.DataFrame(np.zeros((10 ** 6, 3)))", "too large"),
        ("'x' * 10 ** 7", "too large"),
        ("['ééé' * 100] * 2000", "at most 1000000 can be transferred"),
        ("type('A', (list,), {'__len__': lambda self: 1 / 0})([1])", "could not be read: ZeroDivisionError"),
    ],
)
def test_what_is_refused(child: Child, code: str, text: str) -> None:
    assert child.run(f"answer = {code}").error is None
    with pytest.raises(TransferError, match=text):
        child.variable("answer")


def test_a_cycle_is_refused(child: Child) -> None:
    child.run("answer = []\nanswer.append(answer)")
    with pytest.raises(TransferError, match="nested deeper than 32"):
        child.variable("answer")


def test_an_unknown_name_is_refused_with_near_ones(child: Child) -> None:
    child.run("total_cost = 1")
    with pytest.raises(TransferError, match=r"no variable 'totl_cost' in the session; there are: total_cost"):
        child.variable("totl_cost")


def test_nothing_is_imported_for_it(tmp_path: Path) -> None:
    with Child(tmp_path) as child:
        child.run("import sys\nanswer = [1.5, {'a': (1,)}]")
        assert child.variable("answer") == [1.5, {"a": [1]}]
        assert child.run("'numpy' in sys.modules or 'pandas' in sys.modules").value == "False"


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=3) | st.decimals()
keys = st.text(max_size=5) | st.integers()
values = st.recursive(
    scalars | st.sets(st.integers() | st.text(max_size=3), max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=10,
)


@given(values)
@settings(deadline=None)
def test_any_value_is_strict_json_or_refused(value: Any) -> None:
    try:
        text = to_json({"answer": value}, "answer", 10_000)
    except Refused:
        return

    def refuse(name: str) -> None:
        raise AssertionError(name)

    json.loads(text, parse_constant=refuse)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(json_values)
@settings(deadline=None)
def test_json_stays_what_it_is(value: Any) -> None:
    assert json.loads(to_json({"answer": value}, "answer", 1_000_000)) == value
