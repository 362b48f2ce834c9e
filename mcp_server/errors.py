"""Errors that an agent reads: what was wrong, which values are right, which tool to call next.

ToolError (the SDK's: its text reaches the model)
└── EpisodeError
    ├── UnknownEpisode   no such episode of this caller
    ├── EpisodeEnded     the episode is over; the text says how
    ├── EpisodeBusy      another call of the episode did not end in time
    └── Refused          the call is not possible as it was made (a tool that is not allowed, too much code, ...)
"""

from typing import Any

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import ValidationError

__all__ = ["EpisodeBusy", "EpisodeEnded", "EpisodeError", "Refused", "ToolError", "UnknownEpisode", "readable"]


class EpisodeError(ToolError):
    """Base of what the episode manager raises for an agent to read."""


class UnknownEpisode(EpisodeError):
    """There is no such episode."""

    def __init__(self) -> None:
        super().__init__(
            "There is no episode of this id. Episode ids come from start_task and live until the episode ends or the "
            "server does; list_episodes shows yours. Call start_task to open one."
        )


class EpisodeEnded(EpisodeError):
    """The episode is over."""

    def __init__(self, how: str) -> None:
        super().__init__(f"This episode has ended ({how}). Call start_task to open another; list_tasks finds tasks.")


class EpisodeBusy(EpisodeError):
    """Another call holds the episode."""

    def __init__(self) -> None:
        super().__init__(
            "Another call on this episode is still running. Calls of one episode run one at a time: wait for that "
            "result, then call again. For long work use execute_code with background=true and poll read_output."
        )


class Refused(EpisodeError):
    """The call cannot be made like this."""


def readable(tool: str, error: ValidationError, schema: dict[str, Any]) -> str:
    """An SDK argument error in words: each argument with what is wrong, then all the tool takes. Values stay out."""
    lines = []
    for one in error.errors(include_url=False, include_input=False, include_context=False)[:8]:
        name = ".".join(str(part) for part in one["loc"]) or "arguments"
        text = "is missing" if one["type"] == "missing" else one["msg"].replace("Input should be", "should be")
        lines.append(f"{name}: {text[:300]}")
    required = set(schema.get("required", ()))
    takes = ", ".join(name if name in required else f"{name}?" for name in schema.get("properties", {}))
    return f"The arguments of {tool} are not as they should be. {'; '.join(lines)}. It takes: {takes}."
