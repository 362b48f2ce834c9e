"""What a model of ours reads: the start of an episode, tool schemas and observations, in their one spelling.

All are functions of what the server sent, so records of clients that are not ours can be read the same way: pass the
JSON of their messages through `problem_text` and `observation`, and their tools through `tool_schema`.

The model never sees an `episode_id`: the loop adds it. It is random, long, and says nothing.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from agent.models import ToolSchema
from tasks.attempt import Message

HIDDEN = "episode_id"
LEFT_OUT = "(left out to save room)"
NO_CALL = "That was no tool call. Go on with a tool; when the answer is found, call submit_answer."
REPEATED = "You have made this very call before. Do something else: look at the data, mend the code, or submit."

_SILENT = ("seconds", "kind", HIDDEN)
_FEW_TURNS = 3
"""From so many turns left on, the model is told."""
_STREAMS = ("stdout", "stderr")


def system_prompt(started: dict[str, Any]) -> str:
    """The system prompt of a family, from the result of start_task."""
    return str(started["instructions"]).strip()


def problem_text(started: dict[str, Any]) -> str:
    """The first message of an episode, from the result of start_task."""
    parts = [str(started["problem"]).strip(), f"Answer: {started['answer_form']}"]
    for file in started.get("data") or ():
        parts.append(f"Data: {file['path']}. {file['description']} Open with: {file['open_with']}")
    turns = (started.get("limits") or {}).get("turns")
    limit = f" You have {turns} calls." if turns else ""
    parts.append(f"Use the tools, then call submit_answer once.{limit}")
    return "\n\n".join(parts)


def tool_schema(schema: ToolSchema) -> ToolSchema:
    """A tool as the model sees it: without the episode id, and without the titles that pydantic adds.

    Keys are in one order, whatever wrote them down in between: to a model, another order is another text.
    """
    function = schema["function"]
    parameters = _plain_schema(function["parameters"])
    parameters["properties"] = {
        name: value for name, value in parameters.get("properties", {}).items() if name != HIDDEN
    }
    required = [name for name in parameters.get("required", ()) if name != HIDDEN]
    parameters.pop("required", None)
    if required:
        parameters["required"] = required
    return {
        "type": "function",
        "function": {
            "name": function["name"],
            "description": str(function.get("description") or "").strip(),
            "parameters": parameters,
        },
    }


def offered(schemas: dict[str, ToolSchema], names: Iterable[str]) -> tuple[ToolSchema, ...]:
    """The schemas of the tools that an episode offers, in the episode's order."""
    return tuple(tool_schema(schemas[name]) for name in names if name in schemas)


def observation(result: dict[str, Any]) -> str:
    """A tool's result as text: one line per field that says something, lists one item per line."""
    silent = (*_SILENT, "turns_left") if (result.get("turns_left") or 0) > _FEW_TURNS else _SILENT
    lines = [line for name, value in result.items() if name not in silent for line in _field(name, value)]
    return "\n".join(lines) or "done"


def tool_message(text: str, call_id: str, name: str) -> Message:
    return Message(role="tool", content=text, tool_call_id=call_id, name=name)


def trimmed(messages: Sequence[Message], level: int) -> tuple[Message, ...] | None:
    """The messages with less in them, more so at each level; None where nothing more can go.

    The first two messages (instructions and task) always stay whole. Level n leaves out the n oldest observations;
    then all turns but the last go; then the last observation is cut to its beginning and end.
    """
    if level <= 0:
        return tuple(messages)
    start = next((place for place, message in enumerate(messages) if message.role == "user"), 0) + 1
    head, tail = tuple(messages[:start]), list(messages[start:])
    seen = [place for place, message in enumerate(tail) if message.role == "tool"]
    last = max((place for place, message in enumerate(tail) if message.role == "assistant"), default=0)
    old = [place for place in seen if place < last]
    if level <= len(old):
        for place in old[:level]:
            if len(tail[place].content or "") > len(LEFT_OUT):
                tail[place] = tail[place].model_copy(update={"content": LEFT_OUT})
        return (*head, *tail)
    if level == len(old) + 1 and last > 0:
        return (*head, *tail[last:])
    if level <= len(old) + 2 and tail:
        return (*head, *(_cut(message) for message in tail[last:]))
    return None


def characters(messages: Sequence[Message]) -> int:
    """How much there is to read."""
    calls = [one for message in messages for one in message.tool_calls or ()]
    return sum(len(one.content or "") for one in messages) + sum(len(str(one.function.arguments)) for one in calls)


def _cut(message: Message, size: int = 1_000) -> Message:
    text = message.content or ""
    if message.role == "assistant" or len(text) <= size:
        return message
    half = size // 2
    return message.model_copy(update={"content": f"{text[:half]}\n{LEFT_OUT}\n{text[-half:]}"})


def _field(name: str, value: Any) -> list[str]:
    if name in _STREAMS and isinstance(value, dict):
        text = str(value.get("text") or "").rstrip("\n")
        cut = f" (cut: {value['total_chars']} characters in all)" if value.get("truncated") else ""
        return [f"{name}:{cut}\n{text}"] if text or cut else []
    value = _clean(value)
    if value is None:
        return []
    if name == "error" and isinstance(value, dict) and "type" in value:
        return _error(value)
    if isinstance(value, str):
        return [f"{name}:\n{value}" if "\n" in value else f"{name}: {value}"]
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return [f"{name}:", *(_json(item) for item in value)]
    if isinstance(value, dict):
        inner = [line for key, item in value.items() for line in _field(key, item)]
        return [f"{name}:", *inner]
    return [f"{name}: {_json(value)}"]


def _error(error: dict[str, Any]) -> list[str]:
    where = f" (line {error['line']}: {str(error.get('source') or '').strip()})" if "line" in error else ""
    return [f"error: {error['type']}: {error.get('message', '')}{where}"]


def _clean(value: Any) -> Any:
    """Without what says nothing: null, empty, false. None where nothing is left."""
    if isinstance(value, dict):
        kept = {name: cleaned for name, item in value.items() if (cleaned := _clean(item)) is not None}
        return kept or None
    if isinstance(value, list):
        # A null inside a list is data.
        return [item if (cleaned := _clean(item)) is None else cleaned for item in value] or None
    return None if value is None or value is False or value == "" else value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _plain_schema(value: Any) -> Any:
    if isinstance(value, dict):
        # A title may also be the name of a parameter: that one is a schema, not a text.
        return {
            name: _plain_schema(item)
            for name, item in sorted(value.items())
            if not (name == "title" and isinstance(item, str))
        }
    return [_plain_schema(item) for item in value] if isinstance(value, list) else value
