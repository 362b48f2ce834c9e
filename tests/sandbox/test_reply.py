"""Replies of an untrusted interpreter: typed results, or SandboxFailure, and never anything else."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.base import Chunk, CodeError, Execution, Limits, Output
from sandbox.errors import SandboxError, SandboxFailure, TransferError
from sandbox.reply import chunk, execution, variable

LIMITS = Limits(output=100)

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


def reply(**changes: Any) -> dict[str, Any]:
    stream = {"text": "", "truncated": False, "total_chars": 0}
    fields = {"status": "ok", "stdout": stream, "stderr": stream, "value": None, "value_truncated": False}
    return {"id": 1, **fields, "error": None, "exit_code": None, **changes}


def facts(**changes: Any) -> dict[str, Any]:
    error = {"type": "KeyError", "message": "'a'", "traceback": "T", "line": 1, "source": "x['a']"}
    return {**error, "names": {"x": "dict of 0: {}"}, "missing": "a", "candidates": ["b"], **changes}


def test_a_good_reply() -> None:
    out = {"text": "hi\n", "truncated": False, "total_chars": 3}
    error = CodeError("KeyError", "'a'", "T", 1, "x['a']", {"x": "dict of 0: {}"}, "a", ("b",))
    expected = Execution("error", Output("hi\n", False, 3), Output(), "2", False, error, 3, 0.5)
    assert execution(reply(status="error", stdout=out, value="2", error=facts(), exit_code=3), 0.5, LIMITS) == expected


@pytest.mark.parametrize(
    "changes",
    [
        *({"status": status} for status in ("timeout", "memory", "killed", "OK", None, 1, ["ok"])),
        *({"stdout": value} for value in (None, "text", {}, {"text": 1, "truncated": False, "total_chars": 0})),
        {"stderr": {"text": "", "truncated": False, "total_chars": -1}},
        {"stderr": {"text": "", "truncated": 0, "total_chars": 0}},
        {"stderr": {"text": "", "truncated": False, "total_chars": True}},
        {"value": 1},
        {"value_truncated": "no"},
        {"exit_code": "0"},
        {"exit_code": 1 << 70},
        {"error": "text"},
        {"error": {}},
        {"error": facts(type=None)},
        {"error": facts(line="1")},
        {"error": facts(names=[])},
        {"error": facts(names={"a": 1})},
        {"error": facts(candidates="abc")},
        {"error": facts(candidates=[1])},
    ],
)
def test_a_malformed_reply_is_a_failure(changes: dict[str, Any]) -> None:
    with pytest.raises(SandboxFailure, match="malformed"):
        execution(reply(**changes), 0.0, LIMITS)


def test_texts_are_cut_to_the_limits() -> None:
    long = "é" * 5000
    many = {f"n{number}": long for number in range(50)}
    error = facts(
        type=long, message=long, traceback=long, source=long, names=many, missing=long, candidates=[long] * 999
    )
    out = {"text": long, "truncated": False, "total_chars": 7}
    result = execution(reply(status="error", stdout=out, value=long, error=error), 0.0, LIMITS)
    assert (len(result.stdout.text), result.stdout.truncated) == (100, True)
    assert result.stdout.total_chars >= 100
    assert (result.value, result.value_truncated) == ("é" * 100, True)
    assert result.error is not None
    assert len(result.error.traceback) == len(result.error.message) == 100
    assert len(result.error.names) == 12
    assert len(result.error.candidates) == 200
    assert max(map(len, [*result.error.names.values(), *result.error.candidates, result.error.type])) == 500


def test_lone_surrogates_become_escapes() -> None:
    assert execution(reply(value="a\ud800"), 0.0, LIMITS).value == "a\\ud800"


@given(st.dictionaries(st.sampled_from(list(reply())), values))
def test_arbitrary_replies(changes: dict[str, Any]) -> None:
    try:
        result = execution(reply(**changes), 0.0, LIMITS)
    except SandboxFailure:
        return
    assert result.status in ("ok", "error", "running")
    for text in (result.stdout.text, result.stderr.text, result.value or ""):
        assert len(text) <= LIMITS.output
        text.encode()


@given(st.dictionaries(st.sampled_from(list(facts())), values))
def test_arbitrary_facts(changes: dict[str, Any]) -> None:
    try:
        error = execution(reply(status="error", error=facts(**changes)), 0.0, LIMITS).error
    except SandboxFailure:
        return
    assert error is not None
    for text in (
        error.type,
        error.message,
        error.missing or "",
        *error.names,
        *error.names.values(),
        *error.candidates,
    ):
        assert len(text) <= 500
        text.encode()


def test_a_good_chunk() -> None:
    message = {"id": 1, "text": "é", "offset": 3, "next_offset": 4, "total_chars": 9, "done": False}
    assert chunk(message) == Chunk("é", 3, 4, 9, False)


@given(st.dictionaries(st.sampled_from(["text", "offset", "next_offset", "total_chars", "done"]), values))
def test_arbitrary_chunks(message: dict[str, Any]) -> None:
    try:
        part = chunk({"text": "", "offset": 0, "next_offset": 0, "total_chars": 0, "done": True, **message})
    except SandboxFailure:
        return
    assert 0 <= part.offset <= part.next_offset <= part.total_chars


@given(values)
def test_arbitrary_variables_are_strict_json_or_refused(value: Any) -> None:
    text = json.dumps(value)
    try:
        result = variable({"json": text}, 10_000)
    except TransferError:
        return
    assert json.loads(json.dumps(result, allow_nan=False)) == value


@given(st.text(st.characters()))
def test_arbitrary_texts_as_json(text: str) -> None:
    try:
        result = variable({"json": text}, 10_000)
    except TransferError:
        return
    json.dumps(result, allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "[Infinity]",
        "-Infinity",
        "1e999",
        '{"a": 1, "a": 2}',
        "[" * 33 + "]" * 33,
        "[" * 100_000,
        '"\\ud800"',
        '{"\\ud800": 1}',
        "9" * 5000,
        "[1] [2]",
        '"' + '\\"' * 4_000_000,
        "",
        "[" + "0," * 2_000_001 + "0]",
    ],
)
def test_json_that_is_not_strict_is_refused(text: str) -> None:
    with pytest.raises(TransferError):
        variable({"json": text}, 10_000_000)


def test_json_within_the_limits() -> None:
    assert variable({"json": "[" * 32 + "]" * 32}, 64) is not None
    assert math.isclose(float(str(variable({"json": "1.5"}, 3))), 1.5)
    with pytest.raises(TransferError, match="longer than 3 bytes"):
        variable({"json": '"é"'}, 3)


@pytest.mark.parametrize("message", [{}, {"json": 1}, {"json": None}, {"transfer_error": 1}, {"transfer_error": []}])
def test_a_malformed_variable_is_a_failure(message: dict[str, Any]) -> None:
    with pytest.raises(SandboxFailure):
        variable(message, 100)


def test_the_refusal_of_the_session_reaches_the_agent() -> None:
    with pytest.raises(TransferError, match="is NaN"):
        variable({"transfer_error": "answer[3] is NaN"}, 100)
    with pytest.raises(SandboxError) as caught:
        variable({"transfer_error": "x" * 10_000}, 100)
    assert len(str(caught.value)) == 2000
