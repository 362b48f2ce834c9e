"""Frames: what is packed comes back however it is cut, and what is not a frame is refused."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.wire import MAX_FRAME, Decoder, WireError, pack

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(codec="utf-8"))
values = st.recursive(scalars | text, lambda inner: st.lists(inner) | st.dictionaries(text, inner), max_leaves=10)
messages = st.dictionaries(text, values, max_size=5)


@given(st.lists(messages, max_size=3), st.data())
@settings(max_examples=40, deadline=None)
def test_messages_survive_any_cut(sent: list[dict[str, Any]], data: st.DataObject) -> None:
    stream = b"".join(pack(message) for message in sent)
    decoder, received = Decoder(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        received += decoder.feed(stream[:size])
        stream = stream[size:]
    assert received == sent


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_or_objects(data: bytes) -> None:
    try:
        for message in Decoder().feed(data):
            assert isinstance(message, dict)
    except WireError:
        pass


@given(st.binary(max_size=200))
def test_arbitrary_bodies_are_refused_or_objects(body: bytes) -> None:
    with suppress(WireError):
        assert all(isinstance(message, dict) for message in Decoder().feed(len(body).to_bytes(4, "big") + body))


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


@pytest.mark.parametrize(
    "data",
    [
        (0).to_bytes(4, "big"),
        (MAX_FRAME + 1).to_bytes(4, "big"),
        frame(b"[]"),
        frame(b'"text"'),
        frame(b"{'a': 1}"),
        frame(b'{"a": "\xff"}'),
        frame(b'{"a":' * 5000 + b"1" + b"}" * 5000),
        frame(b'{"a":' + b"[" * 17 + b"]" * 17 + b"}"),
        frame(b'{"a":[' + b"[]," * 200_000 + b"[]]}"),
        frame(b'{"a":' + b"9" * 5000 + b"}"),
        frame(b'"' + b'\\"' * 4_000_000),
    ],
)
def test_what_is_not_a_frame_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        Decoder().feed(data)


def test_brackets_and_commas_inside_texts_are_no_structure() -> None:
    message = {"text": '[{,"\\' * 100_000, "json": json.dumps([[[1, "a\\"]]] * 10_000)}
    assert Decoder().feed(pack(message)) == [message]


def test_a_lone_surrogate_travels() -> None:
    assert Decoder().feed(pack({"code": "\ud800"})) == [{"code": "\ud800"}]


@pytest.mark.parametrize("message", [{"a": float("nan")}, {"a": {1, 2}}, {"a": "x" * MAX_FRAME}])
def test_what_cannot_be_framed_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        pack(message)
