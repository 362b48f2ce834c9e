"""Typed results from what a session's interpreter sent.

The interpreter belongs to the agent, so a reply may be anything. A reply of the wrong form raises SandboxFailure;
texts are cut to the session's limits; what a variable holds is checked as strict JSON, and where it is not, the agent
is told (TransferError), because a session that forges replies must not count as a failure of the backend.
"""

import json
import math
import re
from typing import Any, NoReturn

from sandbox.base import Chunk, CodeError, Execution, JSONValue, Limits, Output, Status
from sandbox.errors import SandboxFailure, TransferError

MAX_DEPTH = 32
MAX_VALUES = 2_000_000
MALFORMED = "the session's interpreter sent a malformed reply"

_STATUS: dict[str, Status] = {"ok": "ok", "error": "error", "running": "running"}
_NAMES, _CANDIDATES, _SHORT, _LONG = 12, 200, 500, 10_000
_MAX_INT = 1 << 53
# The closing quote is optional so that a text without one is passed over once, not from each of its quotes.
_STRINGS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")


def execution(message: dict[str, Any], seconds: float, limits: Limits) -> Execution:
    """The result of an `execute` request. Raises SandboxFailure."""
    status = message.get("status")
    if not isinstance(status, str) or status not in _STATUS:
        raise SandboxFailure(MALFORMED)
    value = _optional_text(message.get("value"))
    value_cut = False
    if value is not None:
        value, value_cut = _cut(value, limits.output)
    return Execution(
        status=_STATUS[status],
        stdout=_output(message.get("stdout"), limits),
        stderr=_output(message.get("stderr"), limits),
        value=value,
        value_truncated=_boolean(message.get("value_truncated", False)) or value_cut,
        error=_error(message.get("error"), limits),
        exit_code=None if message.get("exit_code") is None else _integer(message["exit_code"], -_MAX_INT),
        seconds=seconds,
    )


def chunk(message: dict[str, Any], limit: int = _MAX_INT) -> Chunk:
    """The result of an `output` request for at most `limit` characters. Raises SandboxFailure."""
    offset, total = _integer(message.get("offset")), _integer(message.get("total_chars"))
    following = _integer(message.get("next_offset"))
    text = _clean(_text(message.get("text")))
    if not offset <= following <= total or len(text) > limit:
        raise SandboxFailure(MALFORMED)
    return Chunk(text, offset, following, total, _boolean(message.get("done")))


def variable(message: dict[str, Any], max_bytes: int) -> JSONValue:
    """The value that a `variable` request brought. Raises TransferError, and SandboxFailure for a malformed reply."""
    refused = message.get("transfer_error")
    if refused is not None:
        raise TransferError(_cut(_text(refused), 2000)[0])
    text = _text(message.get("json"))
    if len(text) > max_bytes or len(text.encode("utf-8", "surrogatepass")) > max_bytes:
        raise TransferError(f"the variable is longer than {max_bytes} bytes of JSON")
    structure = _STRINGS.sub("", text)
    if structure.count(",") + structure.count("[") + structure.count("{") > MAX_VALUES:
        raise TransferError(f"the variable holds more than {MAX_VALUES} values")
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_no_duplicates)
    except TransferError:
        raise
    except (ValueError, RecursionError) as error:
        raise TransferError("the variable is not JSON") from error
    _check(value)
    return value  # type: ignore[no-any-return]


# ---- parts of a reply


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise SandboxFailure(MALFORMED)
    return value


def _optional_text(value: Any) -> str | None:
    return None if value is None else _text(value)


def _optional_short(value: Any) -> str | None:
    return None if value is None else _cut(_text(value), _SHORT)[0]


def _integer(value: Any, least: int = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _MAX_INT:
        raise SandboxFailure(MALFORMED)
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise SandboxFailure(MALFORMED)
    return value


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SandboxFailure(MALFORMED)
    return value


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _cut(text: str, limit: int) -> tuple[str, bool]:
    cleaned = _clean(text[: limit + 1])
    return cleaned[:limit], len(cleaned) > limit


def _output(value: Any, limits: Limits) -> Output:
    part = _dict(value)
    text, cut = _cut(_text(part.get("text")), limits.output)
    total = _integer(part.get("total_chars"))
    return Output(text, _boolean(part.get("truncated")) or cut, max(total, len(text)))


def _error(value: Any, limits: Limits) -> CodeError | None:
    if value is None:
        return None
    part = _dict(value)
    names, candidates, line = _dict(part.get("names", {})), part.get("candidates", []), part.get("line")
    if not isinstance(candidates, list):
        raise SandboxFailure(MALFORMED)
    return CodeError(
        type=_cut(_text(part.get("type")), _SHORT)[0],
        message=_cut(_text(part.get("message")), min(_LONG, limits.output))[0],
        traceback=_cut(_text(part.get("traceback", "")), limits.output)[0],
        line=None if line is None else _integer(line),
        source=_optional_short(part.get("source")),
        names={_cut(name, _SHORT)[0]: _cut(_text(text), _SHORT)[0] for name, text in list(names.items())[:_NAMES]},
        missing=_optional_short(part.get("missing")),
        candidates=tuple(_cut(_text(name), _SHORT)[0] for name in candidates[:_CANDIDATES]),
    )


# ---- strict JSON


def _no_constant(name: str) -> NoReturn:
    raise TransferError(f"the variable holds {name}, which JSON does not have")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise TransferError("the variable holds a number that is too large")
    return number


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise TransferError("an object in the variable has the same key twice")
    return result


def _check(value: Any) -> None:
    """Depth and valid text, without recursion."""
    level, depth = [value], 0
    while level:
        depth += 1
        following: list[Any] = []
        for item in level:
            if isinstance(item, str):
                if _SURROGATE.search(item):
                    raise TransferError("the variable holds a lone surrogate, which is not valid text")
            elif isinstance(item, dict):
                following += item.keys()
                following += item.values()
            elif isinstance(item, list):
                following += item
        if depth > MAX_DEPTH and any(isinstance(item, list | dict) for item in level):
            raise TransferError(f"the variable is nested deeper than {MAX_DEPTH}")
        level = following
