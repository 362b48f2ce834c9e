"""The reward of an episode, computed from its record alone: correctness and form (the paper's), and more by weight."""

import re
from typing import Any

from tasks.attempt import AttemptRecord
from training.config import RewardSection
from training.data import as_seen

_STATUS = re.compile(r"status: (\w+)")
_REFUSED = ("error: ", "There is no tool ")


def reward_of(record: AttemptRecord, weights: RewardSection) -> float | None:
    """The weighted sum that `RewardSection` describes; None where the episode says nothing about the agent."""
    if record.reward is None:
        return None
    correct = record.reward if weights.grading == "score" else float(record.reward >= 1)
    total = weights.correct * correct + weights.format * form(record)
    if weights.executed:
        total += weights.executed * executed(record)
    return total - weights.tool_error * tool_errors(record)


def form(record: AttemptRecord) -> float:
    """The share of the model's turns that are well formed: a call of a tool that there is, with the arguments that it
    requires and no others. The paper's format reward asks for code blocks; here code comes as an argument."""
    schemas = {tool["function"]["name"]: tool["function"].get("parameters", {}) for tool in record.tools}
    turns = [message for message in record.messages if message.role == "assistant"]
    if not turns:
        return 0.0
    good = 0
    for turn in turns:
        calls = turn.tool_calls or ()
        good += bool(calls) and all(_fits(schemas.get(call.function.name), call.function.arguments) for call in calls)
    return good / len(turns)


def executed(record: AttemptRecord) -> float:
    """The share of executions that ended without an error; 0 where there was none."""
    found = [_STATUS.match(text) for text in _results(record)]
    states = [match.group(1) for match in found if match]
    return sum(state == "ok" for state in states) / len(states) if states else 0.0


def tool_errors(record: AttemptRecord) -> int:
    """Turns whose call failed as a call: no call in it, malformed text, a tool that there is not, wrong arguments."""
    refused = sum(text.startswith(_REFUSED) for text in _results(record))
    # After the task's text, our agent speaks as the user only where a turn held no usable call.
    return refused + max(0, sum(message.role == "user" for message in record.messages) - 1)


def _fits(schema: dict[str, Any] | None, arguments: dict[str, Any]) -> bool:
    if schema is None:
        return False
    known = schema.get("properties", {})
    return all(name in arguments for name in schema.get("required", ())) and all(name in known for name in arguments)


def _results(record: AttemptRecord) -> list[str]:
    return [message.content or "" for message in as_seen(record).messages if message.role == "tool"]
