"""The MCP server: ten tools, each thin over the episode manager, in a fixed order.

What an agent may not do is not a tool: truth, grading, reset and aggregation are in the Python API and the command.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Annotated, Any, Literal

import anyio.to_thread
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import UnexpectedToolError
from mcp.types import CallToolResult, InputRequiredResult, ToolAnnotations
from pydantic import BeforeValidator, Field, ValidationError

from mcp_server import descriptions as text
from mcp_server.config import AppConfig
from mcp_server.environment import LazyRegistry
from mcp_server.episode import Episode
from mcp_server.episodes import EpisodeManager
from mcp_server.errors import Refused, ToolError, readable
from mcp_server.grading import Given
from mcp_server.resources import add_resources
from mcp_server.results import (
    Closed,
    DebugResult,
    EpisodeList,
    ExecutionResult,
    InfoResult,
    OutputResult,
    Started,
    SubmissionResult,
    compact,
    dump,
    reply,
)
from mcp_server.work import EpisodeWork, InfoKind
from sandbox.base import Stream
from tasks.errors import TaskError
from tasks.registry import TaskPage

Watch = Callable[[EpisodeManager], Coroutine[Any, Any, None]]
"""Runs beside a served manager; for the process that serves (signals, a sandbox that cannot start)."""

Ctx = Context[EpisodeManager, Any]

_sent: ContextVar[dict[str, Any]] = ContextVar("sent", default={})  # noqa: B039 - never mutated
"""The arguments of the current call as the client sent them."""


class EnvironmentServer(MCPServer[EpisodeManager]):
    """Adds to the SDK's server: arguments as they were sent, and argument errors that can be read and are logged."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[EpisodeManager, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        _sent.set(arguments)
        if name == "submit_answer" and "answer" in arguments:
            # The SDK decodes texts that look like JSON, and null could not be told from nothing.
            arguments = {**arguments, "answer": Given(arguments["answer"])}
        try:
            return await super().call_tool(name, arguments, context)
        except UnexpectedToolError:
            raise
        except ToolError as error:
            cause = error.__cause__
            if isinstance(cause, ValidationError):
                words = readable(name, cause, self._tool_input_schema(name) or {})
                if context is not None:
                    manager = context.request_context.lifespan_context
                    await manager.reject(arguments.get("episode_id"), name, _sent.get(), words)
                raise ToolError(words) from cause
            if isinstance(cause, ToolError):
                raise ToolError(str(cause)) from cause
            tools = ", ".join(tool.name for tool in await self.list_tools())
            raise ToolError(f"{error}. The tools are: {tools}.") from error


def _blank(value: Any) -> Any:
    return "" if value is None else value


# A plain `str`: the SDK decodes JSON in arguments of any other type, and Python code may look like JSON.
Optional = Annotated[str, BeforeValidator(_blank)]
EpisodeId = Annotated[str, Field(description=text.EPISODE_ID)]


def _hints(*, read_only: bool, destructive: bool = False, idempotent: bool = False) -> ToolAnnotations:
    return ToolAnnotations(
        read_only_hint=read_only, destructive_hint=destructive, idempotent_hint=idempotent, open_world_hint=False
    )


def create_server(config: AppConfig, *, watch: Watch | None = None) -> MCPServer[EpisodeManager]:
    """A server over `config`. Its lifespan starts the sandbox and ends everything; nothing happens before."""
    registry = LazyRegistry(config)

    @asynccontextmanager
    async def lifespan(server: MCPServer[EpisodeManager]) -> AsyncIterator[EpisodeManager]:
        async with EpisodeManager(config, registry) as manager:
            manager.schemas = {
                tool.name: {
                    "type": "function",
                    "function": {
                        "name": tool.name,
                        "description": tool.description,
                        "parameters": tool.input_schema,
                    },
                }
                for tool in await server.list_tools()
            }
            if watch is None:
                yield manager
                return
            async with anyio.create_task_group() as group:
                group.start_soon(watch, manager)
                yield manager
                group.cancel_scope.cancel()

    server = EnvironmentServer(
        "med-copilot",
        title="Med-Copilot",
        version=_version(),
        instructions=text.INSTRUCTIONS,
        lifespan=lifespan,
        log_level="WARNING",
    )
    _add_task_tools(server, registry)
    _add_episode_tools(server)
    add_resources(server, registry)
    return server


def _add_task_tools(server: MCPServer[EpisodeManager], registry: LazyRegistry) -> None:
    @server.tool(title="List tasks", description=text.LIST_TASKS, annotations=_hints(read_only=True, idempotent=True))
    async def list_tasks(
        family: Annotated[Optional, Field(description=text.FAMILY)] = "",
        split: Annotated[Optional, Field(description="train or test")] = "",
        category: Annotated[Optional, Field(description=text.CATEGORY)] = "",
        query: Annotated[Optional, Field(description=text.QUERY)] = "",
        cursor: Annotated[Optional, Field(description=text.CURSOR)] = "",
        limit: Annotated[int, Field(ge=1, le=200, description="Tasks of a page.")] = 20,
    ) -> Annotated[CallToolResult, TaskPage]:
        def page() -> TaskPage:
            return registry.get().list(
                family=family or None,
                split=split or None,
                category=category or None,
                query=query or None,
                cursor=cursor or None,
                limit=limit,
            )

        try:
            found = await anyio.to_thread.run_sync(page)
        except TaskError as error:
            raise Refused(str(error)) from None
        if found.total == 0 and not registry.get().families():
            raise Refused(text.NO_DATA)
        return reply(compact(dump(found)))

    @server.tool(title="Start a task", description=text.START_TASK, annotations=_hints(read_only=False))
    async def start_task(
        task_id: Annotated[str, Field(description="An id from list_tasks.")], ctx: Ctx
    ) -> Annotated[CallToolResult, Started]:
        started = await _manager(ctx).start(task_id, arguments=_sent.get(), agent=_agent(ctx))
        return reply(compact(dump(started)))


def _add_episode_tools(server: MCPServer[EpisodeManager]) -> None:
    @server.tool(
        title="Look at the data", description=text.REQUEST_INFO, annotations=_hints(read_only=True, idempotent=True)
    )
    async def request_info(
        episode_id: EpisodeId,
        kind: Annotated[InfoKind, Field(description="What to look at.")],
        ctx: Ctx,
        table: Annotated[Optional, Field(description="For columns and values.")] = "",
        column: Annotated[Optional, Field(description="For values.")] = "",
        term: Annotated[Optional, Field(description="For search; with values: only those that contain it.")] = "",
        limit: Annotated[int, Field(ge=1, le=200, description="Values or hits at most.")] = 30,
    ) -> Annotated[CallToolResult, InfoResult]:
        return await _call(
            ctx, "request_info", episode_id, lambda work, e: work.info(e, kind, table, column, term, limit)
        )

    @server.tool(
        title="Execute code", description=text.EXECUTE_CODE, annotations=_hints(read_only=False, destructive=False)
    )
    async def execute_code(
        episode_id: EpisodeId,
        code: Annotated[str, Field(description="At most 200,000 characters.")],
        ctx: Ctx,
        language: Annotated[Literal["python", "sql"], Field(description=text.LANGUAGE)] = "python",
        timeout_s: Annotated[float | None, Field(gt=0, description=text.TIMEOUT)] = None,
        background: Annotated[bool, Field(description=text.BACKGROUND)] = False,
    ) -> Annotated[CallToolResult, ExecutionResult]:
        return await _call(
            ctx, "execute_code", episode_id, lambda work, e: work.execute(e, code, language, timeout_s, background)
        )

    @server.tool(title="Run a shell command", description=text.RUN_TERMINAL, annotations=_hints(read_only=False))
    async def run_terminal(
        episode_id: EpisodeId,
        command: Annotated[str, Field(description="A command line for sh.")],
        ctx: Ctx,
        timeout_s: Annotated[float | None, Field(gt=0, description=text.TIMEOUT)] = None,
        background: Annotated[bool, Field(description=text.BACKGROUND)] = False,
    ) -> Annotated[CallToolResult, ExecutionResult]:
        return await _call(
            ctx, "run_terminal", episode_id, lambda work, e: work.execute(e, command, "shell", timeout_s, background)
        )

    @server.tool(title="Explain an error", description=text.DEBUG_CODE, annotations=_hints(read_only=False))
    async def debug_code(
        episode_id: EpisodeId,
        ctx: Ctx,
        code: Annotated[Optional, Field(description="Code to run; its error is explained.")] = "",
        error: Annotated[Optional, Field(description="The text of an error to explain; nothing is run.")] = "",
        language: Annotated[Literal["python", "sql"], Field(description="Of code.")] = "python",
    ) -> Annotated[CallToolResult, DebugResult]:
        return await _call(ctx, "debug_code", episode_id, lambda work, e: work.debug(e, code, error, language))

    @server.tool(
        title="Read more output", description=text.READ_OUTPUT, annotations=_hints(read_only=True, idempotent=True)
    )
    async def read_output(
        episode_id: EpisodeId,
        ctx: Ctx,
        stream: Annotated[Stream, Field(description="stdout or stderr")] = "stdout",
        offset: Annotated[int, Field(ge=0, description="Character to begin at; next_offset continues.")] = 0,
        limit: Annotated[int, Field(ge=1, le=50_000, description="Characters at most.")] = 20_000,
        wait_s: Annotated[float, Field(ge=0, le=40, description="Wait as long for something new.")] = 0,
    ) -> Annotated[CallToolResult, OutputResult]:
        return await _call(
            ctx, "read_output", episode_id, lambda work, e: work.output(e, stream, offset, limit, wait_s)
        )

    @server.tool(
        title="Submit the answer", description=text.SUBMIT_ANSWER, annotations=_hints(read_only=False, destructive=True)
    )
    async def submit_answer(
        episode_id: EpisodeId,
        ctx: Ctx,
        answer: Annotated[Any, Field(description=text.ANSWER)] = None,
        variable: Annotated[Optional, Field(description="Name of a Python variable that holds the answer.")] = "",
        file: Annotated[Optional, Field(description="Path in /work of a JSON file that holds the answer.")] = "",
    ) -> Annotated[CallToolResult, SubmissionResult]:
        given = answer if isinstance(answer, Given) else None
        return await _call(ctx, "submit_answer", episode_id, lambda work, e: work.submit(e, given, variable, file))

    @server.tool(
        title="Give up an episode",
        description=text.CLOSE_EPISODE,
        annotations=_hints(read_only=False, destructive=True),
    )
    async def close_episode(episode_id: EpisodeId, ctx: Ctx) -> Annotated[CallToolResult, Closed]:
        manager = _manager(ctx)
        return await manager.call(episode_id, "close_episode", _sent.get(), manager.close_episode)

    @server.tool(
        title="List episodes", description=text.LIST_EPISODES, annotations=_hints(read_only=True, idempotent=True)
    )
    async def list_episodes(ctx: Ctx) -> Annotated[CallToolResult, EpisodeList]:
        return reply(compact(dump(EpisodeList(episodes=tuple(_manager(ctx).states())))))


async def _call(
    ctx: Ctx, tool: str, episode_id: str, work: Callable[[EpisodeWork, Episode], Awaitable[Any]]
) -> CallToolResult:
    manager = _manager(ctx)
    works = EpisodeWork(manager.config.feedback, manager.log)
    return await manager.call(episode_id, tool, _sent.get(), lambda episode: work(works, episode))


def _manager(ctx: Ctx) -> EpisodeManager:
    return ctx.request_context.lifespan_context


def _agent(ctx: Ctx) -> dict[str, Any] | None:
    """What the client says that it is; a claim, not an identity."""
    params = ctx.session.client_params
    if params is None:
        return None
    return {"name": params.client_info.name[:200], "version": params.client_info.version[:100]}


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("med-copilot")
    except PackageNotFoundError:
        return "0+source"
