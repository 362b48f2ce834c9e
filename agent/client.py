"""A connection to a Med-Copilot server: an MCP client like any other, and the agent's only door to the environment."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
from mcp import Client, MCPError, StdioServerParameters
from mcp.types import Implementation, TextContent, TextResourceContents

from agent.errors import AgentError, EnvironmentLost, ToolFailed
from tasks.task import Task

__all__ = ["Environment", "EnvironmentLost", "ToolFailed", "connect"]

_GONE = (MCPError, OSError, anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream)


class Environment:
    """The tools of a connected server. Results are the structured content, as dictionaries."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._schemas: dict[str, dict[str, Any]] | None = None
        self._tasks: dict[str, Task] = {}

    async def call(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool. Raises ToolFailed with the server's text, EnvironmentLost."""
        try:
            result = await self.client.call_tool(tool, arguments)
        except _GONE as error:
            raise EnvironmentLost(_why(error)) from error
        text = "\n".join(part.text for part in result.content if isinstance(part, TextContent))
        if result.is_error:
            raise ToolFailed(text)
        content = result.structured_content
        return content if content is not None else json.loads(text)  # type: ignore[no-any-return]

    async def tools(self) -> dict[str, dict[str, Any]]:
        """OpenAI function schemas of the server's tools, by name, in the server's order. Raises EnvironmentLost."""
        if self._schemas is None:
            try:
                listed = (await self.client.list_tools()).tools
            except _GONE as error:
                raise EnvironmentLost(_why(error)) from error
            self._schemas = {
                tool.name: {
                    "type": "function",
                    "function": {
                        "name": tool.name,
                        "description": tool.description or "",
                        "parameters": tool.input_schema,
                    },
                }
                for tool in listed
            }
        return self._schemas

    async def task(self, task_id: str) -> Task:
        """A task as an agent may see it. Raises ToolFailed where there is no such task, EnvironmentLost."""
        if task_id not in self._tasks:
            self._tasks[task_id] = Task.model_validate_json(await self._read(f"medagentgym://task/{task_id}"))
        return self._tasks[task_id]

    async def state(self, episode_id: str) -> dict[str, Any]:
        """Where an episode stands. Raises EnvironmentLost, also where the server does not know the episode."""
        try:
            return json.loads(await self._read(f"medagentgym://episode/{episode_id}"))  # type: ignore[no-any-return]
        except ToolFailed as error:
            raise EnvironmentLost(str(error)) from error

    async def _read(self, uri: str) -> str:
        try:
            contents = (await self.client.read_resource(uri, cache_mode="bypass")).contents
        except MCPError as error:
            # The server is there and says what it does not have: INVALID_PARAMS, or RESOURCE_NOT_FOUND of old.
            if error.code in (-32602, -32002):
                raise ToolFailed(str(error)) from error
            raise EnvironmentLost(_why(error)) from error
        except _GONE as error:
            raise EnvironmentLost(_why(error)) from error
        return "".join(one.text for one in contents if isinstance(one, TextResourceContents))


@asynccontextmanager
async def connect(
    server: str | Sequence[str] | Any, *, mode: str = "auto", timeout: float = 200.0
) -> AsyncIterator[Environment]:
    """Connect to `server`: a URL (streamable HTTP), or a command line that serves over stdio and ends with the block.

    Anything else is handed to the SDK's client as it is (a server in this process, a transport). `mode` is the SDK's:
    "auto" (newest revision), "legacy" (the handshake of 2025-11-25 and before). Raises EnvironmentLost when the
    server cannot be reached.
    """
    target: Any = server
    if isinstance(server, Sequence) and not isinstance(server, str):
        target = StdioServerParameters(command=server[0], args=list(server[1:]))
    client = Client(
        target, mode=mode, read_timeout_seconds=timeout, client_info=Implementation(name="med-copilot", version="1")
    )
    connected, own = False, None
    try:
        async with client:
            connected = True
            try:
                yield Environment(client)
            except Exception as error:
                own = _leaf(error)
                raise
    except Exception as error:
        # The SDK's task groups wrap what happens inside them, and a dead HTTP server ends the block from there.
        leaf = _leaf(error)
        # An OSError of the block is of its own files: `Environment` makes EnvironmentLost of the connection's.
        if not connected or (_is_transport(leaf) and not (leaf is own and isinstance(own, OSError))):
            raise EnvironmentLost(_why(leaf)) from error
        raise leaf if isinstance(leaf, AgentError) else error from None


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _is_transport(error: BaseException) -> bool:
    # By name: which HTTP library the SDK uses is its own affair.
    return isinstance(error, _GONE) or any(kind.__name__ == "HTTPError" for kind in type(error).__mro__)


def _why(error: BaseException) -> str:
    return f"The connection to the server failed: {str(error) or type(error).__name__}"
