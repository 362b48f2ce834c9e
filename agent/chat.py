"""Tool calls as text: the form in which Qwen and Hermes models write them, and the paper's JSON scaffold.

What cannot be understood is an ordinary event: it comes back as a text for the model to read, never as an exception.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from agent.models import ToolSchema
from tasks.attempt import FunctionCall

ACTIONS = {"code_execution": "execute_code", "terminal": "run_terminal", "debugging": "debug_code"}
"""The paper's names of actions that our tools call otherwise."""

_CALL = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.S)
_THINK = re.compile(r"\A\s*(?:<think>)?(.*?)</think>", re.S)
_FENCE = re.compile(r"\A```(?:json)?\s*(.*?)\s*```\Z", re.S)
_MOST = 8
"""Calls of one turn that are read; a model that repeats itself writes hundreds."""


@dataclass(frozen=True)
class Parsed:
    """A turn: what it says, its reasoning, its calls; `malformed` is what the model is told where a call is unusable,
    and then there are no calls and `content` is the whole text."""

    content: str | None
    reasoning: str | None = None
    calls: tuple[FunctionCall, ...] = ()
    malformed: str | None = None


def parse_calls(text: str) -> Parsed:
    """Read `<tool_call>{"name": ..., "arguments": {...}}</tool_call>` and `<think>...</think>` out of a turn."""
    reasoning = None
    rest = text
    if found := _THINK.match(text):
        reasoning, rest = found.group(1).strip() or None, text[found.end() :]
    calls = []
    for block in _CALL.findall(rest)[:_MOST]:
        call = _function(block, "name", "arguments")
        if isinstance(call, str):
            form = '<tool_call>\n{"name": <tool>, "arguments": {...}}\n</tool_call>'
            return Parsed(text, malformed=f"That tool call cannot be read: {call}. The form is:\n{form}")
        calls.append(call)
    return Parsed(_CALL.sub("", rest).strip() or None, reasoning, tuple(calls))


def parse_action(text: str) -> Parsed:
    """Read the scaffold's `{"action": ..., "params": {...}}`; words before it are kept as content."""
    reasoning = None
    rest = text.strip()
    if found := _THINK.match(text):
        reasoning, rest = found.group(1).strip() or None, text[found.end() :].strip()
    start = rest.find("{")
    said, block = (rest[:start], rest[start:]) if start >= 0 else (rest, "")
    said = re.sub(r"```(?:json)?\s*\Z", "", said).strip()
    call: FunctionCall | str = "there is no JSON object in it"
    if block:
        call = _function(block, "action", "params", loose=True)
    if isinstance(call, str):
        form = '{"action": <tool>, "params": {...}}'
        return Parsed(
            text, malformed=f"That was not an action: {call}. Answer with one JSON object and no more: {form}"
        )
    return Parsed(said or None, reasoning, (call,))


def action_text(call: FunctionCall) -> str:
    """A call as the scaffold writes it."""
    return json.dumps({"action": call.name, "params": call.arguments}, ensure_ascii=False)


def tools_text(tools: Sequence[ToolSchema]) -> str:
    """The tools, and how to call them, for the prompt of a model that has no tool calls."""
    lines = ["You act by calling tools. Answer every time with one JSON object and no more:"]
    lines += ['{"action": "<tool>", "params": {"<parameter>": <value>}}', "", "The tools:"]
    for tool in tools:
        function = tool["function"]
        properties = function["parameters"].get("properties", {})
        required = function["parameters"].get("required", ())
        takes = ", ".join(name if name in required else f"{name}?" for name in properties)
        lines.append(f"- {function['name']}({takes}): {function['description']}")
    return "\n".join(lines)


def loads(text: str) -> Any:
    """Decode JSON as models write it: raw line breaks inside texts are let pass, NaN is not. Raises ValueError."""
    return json.loads(text, strict=False, parse_constant=_refuse)


def _function(block: str, name: str, arguments: str, *, loose: bool = False) -> FunctionCall | str:
    """The call in a block, or what is wrong with it. `loose` lets something stand behind the object."""
    text = block.strip()
    if found := _FENCE.match(text):
        text = found.group(1)
    try:
        if loose:
            value, _ = json.JSONDecoder(strict=False, parse_constant=_refuse).raw_decode(text)
        else:
            value = loads(text)
    except RecursionError:
        return "it is nested too deeply"
    except ValueError as error:
        return f"not valid JSON ({error})"
    if not isinstance(value, dict) or not isinstance(value.get(name), str):
        return f'it is no object with a text "{name}"'
    given = value.get(arguments, {})
    if given is None:
        given = {}
    if not isinstance(given, dict):
        return f'"{arguments}" is no object'
    tool: str = value[name]
    return FunctionCall(name=ACTIONS.get(tool, tool), arguments=given)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
