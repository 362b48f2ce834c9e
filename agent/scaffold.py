"""Tool calls for models that have none: the paper's JSON text scaffold around any model.

The tools stand in the prompt, a turn is `{"action": ..., "params": {...}}`, and observations are user messages. A
turn that is not of that form is sampled again, as in the paper; when the last try fails too, the model is told. A
model that is asked greedily is told at once, since asking again would give the same. To the loop and in the records
it looks like native calling.
"""

from collections.abc import Sequence

from pydantic import PrivateAttr

from agent.chat import action_text, parse_action, tools_text
from agent.models import Completion, Model, ToolSchema, assistant
from tasks.attempt import Message, Usage

TRIES = 3


class _Turn(Message):
    """A turn of the inner model as the loop sees it; what the inner model wrote is kept beside it."""

    _inner: Message = PrivateAttr()


class Scaffold:
    """A Model around `inner`, which is given no tools. `tries`: samples of one turn, at most."""

    def __init__(self, inner: Model, tries: int = TRIES) -> None:
        self.inner, self.tries = inner, tries

    @property
    def name(self) -> str:
        return self.inner.name

    async def complete(
        self, messages: Sequence[Message], tools: Sequence[ToolSchema], *, temperature: float, max_tokens: int
    ) -> Completion:
        """The next turn; usage, cost and time are those of all its samples, token ids those of the last."""
        shown = [_as_text(message, tools) for message in messages]
        usage, seconds, cost = Usage(prompt_tokens=0, completion_tokens=0), 0.0, 0.0
        priced = False
        for left in reversed(range(self.tries if temperature > 0 else 1)):
            done = await self.inner.complete(
                shown, (), temperature=temperature, max_tokens=max_tokens - usage.completion_tokens
            )
            usage = Usage(
                prompt_tokens=usage.prompt_tokens + done.usage.prompt_tokens,
                completion_tokens=usage.completion_tokens + done.usage.completion_tokens,
                cached_tokens=done.usage.cached_tokens,
            )
            seconds, cost, priced = seconds + done.seconds, cost + (done.cost_usd or 0.0), done.cost_usd is not None
            parsed = parse_action(done.message.content or "")
            if parsed.malformed is None or not left or usage.completion_tokens >= max_tokens:
                break
        made = assistant(parsed.content, parsed.calls, before=messages)
        turn = _Turn(**{**made.model_dump(), "reasoning_content": parsed.reasoning or done.message.reasoning_content})
        turn._inner = done.message
        return Completion(
            turn,
            usage,
            seconds,
            done.finish_reason,
            cost if priced else None,
            done.prompt_token_ids,
            done.completion_token_ids,
            done.logprobs,
            parsed.malformed,
        )


def _as_text(message: Message, tools: Sequence[ToolSchema]) -> Message:
    match message.role:
        case "system":
            return Message(role="system", content=f"{message.content}\n\n{tools_text(tools)}")
        case "tool":
            return Message(role="user", content=f"Observation of {message.name}:\n{message.content}")
        case "assistant" if isinstance(message, _Turn):
            return message._inner
        case "assistant" if message.tool_calls:
            calls = "\n".join(action_text(call.function) for call in message.tool_calls)
            return Message(role="assistant", content=f"{message.content}\n{calls}" if message.content else calls)
    return message
