"""Resources and the prompt: the families, a task, one's own episode; completion of task ids."""

from collections.abc import Callable
from typing import Any, TypeVar

import anyio.to_thread
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    ResourceTemplateReference,
)

from mcp_server.environment import LazyRegistry
from mcp_server.episodes import EpisodeManager
from mcp_server.errors import EpisodeError
from mcp_server.results import compact, dump
from tasks.answers import describe_form
from tasks.errors import TaskError
from tasks.registry import Registry

T = TypeVar("T")

_TASK = "medagentgym://task/{+task_id}"
_PROMPT = """\
Solve the task {task_id} with the tools of the med-copilot server.

1. Call start_task with task_id "{task_id}"; pass the episode_id that it returns to every other call.
2. Look at the data (request_info), write code (execute_code), explain errors (debug_code).
3. Check the result, then call submit_answer once.

The problem:
{problem}

The answer: {form}
"""


def add_resources(server: MCPServer[EpisodeManager], registry: LazyRegistry) -> None:
    async def read(look: Callable[[Registry], T]) -> T:
        try:
            return await anyio.to_thread.run_sync(lambda: look(registry.get()))
        except TaskError as error:
            raise ResourceNotFoundError(str(error)) from None

    @server.resource(
        "medagentgym://families",
        name="families",
        title="Families of tasks",
        description="Every family that is registered here, with its datasets, splits and categories.",
        mime_type="application/json",
    )
    async def families() -> str:
        return compact([dump(one) for one in await read(lambda tasks: tasks.families())])

    @server.resource(
        _TASK,
        name="task",
        title="A task",
        description="One task as an agent may see it.",
        mime_type="application/json",
    )
    async def task(task_id: str) -> str:
        return (await read(lambda tasks: tasks.get(task_id))).model_dump_json()

    @server.resource(
        "medagentgym://episode/{+episode_id}",
        name="episode",
        title="An episode of yours",
        description="Where an episode stands and, while it is open, its messages so far.",
        mime_type="application/json",
    )
    async def episode(episode_id: str, ctx: Context[EpisodeManager, Any]) -> str:
        try:
            state, messages = ctx.request_context.lifespan_context.state(episode_id)
        except EpisodeError as error:
            raise ResourceNotFoundError(str(error)) from None
        return compact({**dump(state), "messages": messages})

    @server.prompt(title="Solve a task", description="Asks an agent to work on one task from start to submission.")
    async def solve_task(task_id: str) -> str:
        try:
            found = await anyio.to_thread.run_sync(lambda: registry.get().get(task_id))
        except TaskError as error:
            raise MCPError(code=INVALID_PARAMS, message=str(error)) from None
        return _PROMPT.format(task_id=found.id, problem=found.problem, form=describe_form(found.answer))

    async def complete(
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion | None:
        of_task = ref.name == "solve_task" if isinstance(ref, PromptReference) else ref.uri == _TASK
        if not of_task or argument.name != "task_id":
            return None
        ids = await anyio.to_thread.run_sync(lambda: registry.get().complete(argument.value, 101))
        return Completion(values=ids[:100], has_more=len(ids) > 100)

    register = server.completion()  # type: ignore[no-untyped-call]
    register(complete)
