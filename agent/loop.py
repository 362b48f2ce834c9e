"""The agent: asks a model for a turn, carries out its tool calls over MCP, and stops at the limits.

One linear history that only grows. A step ends by returning, by a `Correction` (its messages are appended, and the
model is asked again) or by an `EpisodeOver`. Whatever happens, the trajectory is saved in `finally`.
"""

import time
from collections.abc import Callable
from typing import Any

import anyio

from agent import prompts
from agent.client import Environment
from agent.errors import ContextOverflow, Correction, EnvironmentLost, EpisodeOver, ModelFailed, ToolFailed
from agent.models import Completion, Model
from agent.trajectory import AgentLimits, Trajectory
from tasks.attempt import AttemptRecord, Message, ToolCall
from tasks.record import plain
from tasks.task import Grade

Save = Callable[[AttemptRecord], None]


class Agent:
    """Works on tasks of `environment` with `model`. Holds nothing of an attempt: several may run at once."""

    def __init__(self, environment: Environment, model: Model, limits: AgentLimits | None = None) -> None:
        self.environment, self.model, self.limits = environment, model, limits or AgentLimits()

    async def attempt(
        self,
        task_id: str,
        *,
        number: int = 1,
        temperature: float = 0.0,
        seed: int | None = None,
        run_id: str | None = None,
        save: Save | None = None,
    ) -> AttemptRecord:
        """One attempt at a task; its record, which `save` is given also when the attempt is cancelled.

        A failure of the server or of the model ends in a record of outcome infra_error. Raises ToolFailed when there
        is no such task.
        """
        task = await self.environment.task(task_id)
        trajectory = Trajectory(task, self.model.name, self.limits, temperature, number, seed, run_id)
        try:
            await self._play(trajectory)
        except EnvironmentLost as error:
            trajectory.over = EpisodeOver("infra_error", "environment_lost", str(error))
        except ModelFailed as error:
            trajectory.over = EpisodeOver("infra_error", type(error).__name__, str(error))
        except anyio.get_cancelled_exc_class():
            trajectory.over = EpisodeOver("infra_error", "cancelled", "The attempt was cancelled.")
            raise
        except Exception as error:
            trajectory.over = EpisodeOver("infra_error", type(error).__name__, str(error))
            raise
        finally:
            await self._close(trajectory)
            record = trajectory.record()
            if save is not None:
                save(record)
        return record

    async def _play(self, trajectory: Trajectory) -> None:
        bad = 0
        try:
            await self._start(trajectory)
            for _ in range(self.limits.turns):
                if trajectory.seconds_left <= 0:
                    raise EpisodeOver("limit", "seconds", f"{self.limits.seconds:g} s were up.")
                try:
                    await self._step(trajectory)
                    bad = 0
                except Correction as correction:
                    trajectory.messages += correction.messages
                    bad += 1
                    if bad >= self.limits.malformed:
                        raise EpisodeOver("limit", "malformed", f"{bad} turns in a row held no usable call.") from None
            raise EpisodeOver("limit", "turns", f"The model was asked {self.limits.turns} times.")
        except EpisodeOver as over:
            trajectory.over = over

    async def _start(self, trajectory: Trajectory) -> None:
        try:
            started = await self._call(trajectory, "start_task", task_id=trajectory.task.id)
        except ToolFailed as error:
            missing = trajectory.task.missing is not None
            raise EpisodeOver("data_missing" if missing else "infra_error", "start_task", str(error)) from error
        trajectory.episode_id = started["episode_id"]
        trajectory.tools = prompts.offered(await self.environment.tools(), started["tools"])
        trajectory.messages += [
            Message(role="system", content=prompts.system_prompt(started)),
            Message(role="user", content=prompts.problem_text(started)),
        ]
        trajectory.began = time.monotonic()

    async def _step(self, trajectory: Trajectory) -> None:
        """One turn of the model and what follows from it."""
        completion = await self._ask(trajectory)
        trajectory.add(completion)
        if completion.malformed is not None:
            raise Correction([Message(role="user", content=completion.malformed)])
        calls = completion.message.tool_calls or ()
        if not calls:
            raise Correction([Message(role="user", content=prompts.NO_CALL)])
        known = {tool["function"]["name"] for tool in trajectory.tools}
        if wrong := next((one for one in calls if one.function.name not in known), None):
            text = f"There is no tool {wrong.function.name[:100]!r} here. The tools are: {', '.join(sorted(known))}."
            raise Correction([prompts.tool_message(text, one.id, one.function.name) for one in calls])
        for one in calls:
            await self._act(trajectory, one)

    async def _ask(self, trajectory: Trajectory) -> Completion:
        """A turn of the model, with as much of the history as its context holds."""
        limits = trajectory.limits
        room = min(limits.call_tokens, limits.tokens - trajectory.sampled)
        if room <= 0:
            raise EpisodeOver("limit", "tokens", f"{trajectory.sampled} tokens were sampled.")
        while (messages := prompts.trimmed(trajectory.messages, trajectory.level)) is not None:
            # Only what can be trimmed is held against our own estimate: a long task must still be tried.
            more = prompts.trimmed(trajectory.messages, trajectory.level + 1) is not None
            size = prompts.characters(messages)
            if not more or trajectory.estimate(size) <= limits.context_tokens:
                try:
                    # A limit of its own: who does not answer has failed, and the time of the episode is no verdict.
                    with anyio.fail_after(limits.call_seconds):
                        completion = await self.model.complete(
                            messages, trajectory.tools, temperature=trajectory.temperature, max_tokens=room
                        )
                    if completion.usage.prompt_tokens:
                        trajectory.counted = size, completion.usage.prompt_tokens
                    return completion
                except ContextOverflow:
                    pass
                except TimeoutError:
                    raise ModelFailed(
                        f"The model did not answer in {limits.call_seconds:g} s (call_seconds)."
                    ) from None
            trajectory.level += 1
        raise EpisodeOver("limit", "context", "The task and the last turn alone do not fit the model's context.")

    async def _act(self, trajectory: Trajectory, call: ToolCall) -> None:
        """Carry out one tool call and append what came of it."""
        name, repeats = call.function.name, trajectory.repeats(call)
        polls = name == "read_output"
        if repeats >= trajectory.limits.repeats and not polls:
            raise EpisodeOver("limit", "loop", f"The same call of {name} was made {repeats} times in a row.")
        remark = f"\n{prompts.REPEATED}" if repeats > 1 and not polls else ""
        # A model may write what JSON or UTF-8 cannot carry.
        arguments = {**plain(call.function.arguments), prompts.HIDDEN: trajectory.episode_id}
        if name == "submit_answer":
            trajectory.submitted(call)
        try:
            result = await self._call(trajectory, name, **arguments)
        except ToolFailed as error:
            trajectory.messages.append(prompts.tool_message(f"error: {error}{remark}", call.id, name))
            state = await self.environment.state(str(trajectory.episode_id))
            if state["state"] == "ended":
                raise EpisodeOver(state["outcome"], state["kind"] or name, str(error)) from error
            return
        text = prompts.observation(result)
        trajectory.messages.append(prompts.tool_message(f"{text}{remark}", call.id, name))
        if name == "submit_answer" or result.get("solved"):
            raise EpisodeOver("graded", grade=_grade(result))
        if name == "close_episode":
            raise EpisodeOver("abandoned", "closed", "The agent gave up.")
        if result.get("turns_left") == 0 and not polls:
            raise EpisodeOver("limit", "turns", "The turns of the episode were used up.")

    async def _call(self, trajectory: Trajectory, tool: str, /, **arguments: Any) -> dict[str, Any]:
        began = time.perf_counter()
        try:
            return await self.environment.call(tool, **arguments)
        finally:
            trajectory.tool_seconds += time.perf_counter() - began

    async def _close(self, trajectory: Trajectory) -> None:
        """Free the sandbox of an episode that the server may still hold open."""
        over = trajectory.over
        open_still = over is None or over.outcome in ("limit", "infra_error")
        if trajectory.episode_id is not None and open_still and getattr(over, "kind", "") != "environment_lost":
            with anyio.move_on_after(5, shield=True):
                try:
                    await self.environment.call("close_episode", episode_id=trajectory.episode_id)
                except (ToolFailed, EnvironmentLost):
                    return


def _grade(result: dict[str, Any]) -> Grade | None:
    """The verdict that the server shows, if it shows one."""
    correct, score = (True, 1.0) if result.get("solved") else (result.get("correct"), result.get("score"))
    if correct is None or score is None:
        return None
    return Grade(grader="server", version="1", correct=correct, score=score)
