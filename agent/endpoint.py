"""Models behind an OpenAI-compatible endpoint: hosted, vLLM, `transformers serve`, Ollama, llama.cpp.

Retries, back-off and `Retry-After` are the `openai` client's; beside it, at most so many requests are under way at
once. Token ids and log-probabilities are recorded where the server gives them (vLLM does, with
`return_token_ids`); they are never made up by tokenising again.
"""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio

from agent.chat import loads
from agent.errors import ContextOverflow, ModelFailed, ModelRefused
from agent.models import Completion, Model, Seeded, ToolSchema
from tasks.attempt import FunctionCall, Message, ToolCall, Usage

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion

_NEWER = "max_completion_tokens"
_TOO_LONG = (
    "context length",
    "context_length",
    "maximum context",
    "context window",
    "too many tokens",
    "prompt is too long",
    "max_model_len",
    "exceeds the available context",
)


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens."""

    prompt: float
    completion: float
    cached: float | None = None

    def cost(self, usage: Usage) -> float:
        """What a call cost, in US dollars."""
        cached = usage.cached_tokens or 0
        fresh = usage.prompt_tokens - cached
        rate = self.prompt if self.cached is None else self.cached
        return (fresh * self.prompt + cached * rate + usage.completion_tokens * self.completion) / 1e6


class Endpoint:
    """A Model at `base_url` (default: $OPENAI_BASE_URL, else the provider's own). An async context manager.

    `key` defaults to $OPENAI_API_KEY; a local server needs none. `logprobs` asks for log-probabilities of what is
    sampled, `token_ids` for token ids (vLLM). `timeout` is in seconds, of one request: what waits for an answer by a
    clock of its own gives that here.
    """

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        key: str | None = None,
        retries: int = 6,
        timeout: float = 600.0,
        concurrency: int = 32,
        price: Price | None = None,
        logprobs: bool = False,
        token_ids: bool = False,
    ) -> None:
        try:
            from openai import AsyncOpenAI, OpenAIError
        except ImportError as error:
            raise ModelRefused("Endpoints need the package openai: pip install 'med-copilot[agent]'") from error
        url = base_url or os.environ.get("OPENAI_BASE_URL") or None
        try:
            self._client = AsyncOpenAI(
                base_url=url,
                api_key=key or os.environ.get("OPENAI_API_KEY") or ("none" if url else None),
                max_retries=retries,
                timeout=timeout,
            )
        except OpenAIError as error:
            raise ModelRefused(str(error)) from None
        self._name, self._price = name, price
        self._logprobs, self._token_ids = logprobs, token_ids
        self._limit, self._seeds = "max_tokens", True
        self._slots = anyio.Semaphore(concurrency)

    @property
    def name(self) -> str:
        return self._name

    async def __aenter__(self) -> "Endpoint":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    def seeded(self, seed: int) -> Model:
        """This model for one attempt: a seed goes with each request, where the endpoint takes one. How far what it
        draws follows from that is the endpoint's affair."""
        return Seeded(self, seed)

    async def complete(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSchema],
        *,
        temperature: float,
        max_tokens: int,
        seed: int | None = None,
    ) -> Completion:
        """Raises ContextOverflow, ModelRefused (a key or a name that is wrong), ModelFailed."""
        import openai

        limit = self._limit
        options: dict[str, Any] = {limit: max_tokens}
        if tools:
            options["tools"] = list(tools)
        if seed is not None and self._seeds:
            options["seed"] = seed
        if self._logprobs:
            options["logprobs"] = True
        if self._token_ids:
            options["extra_body"] = {"return_token_ids": True}
        began = time.perf_counter()
        try:
            async with self._slots:
                began = time.perf_counter()
                reply: ChatCompletion = await self._client.chat.completions.create(
                    model=self._name,
                    messages=[_on_the_wire(message) for message in messages],  # type: ignore[misc]
                    temperature=temperature,
                    **options,
                )
        except openai.APIStatusError as error:
            text = f"{self._name}: {error.message}"
            if error.status_code == 400 and limit != _NEWER and _NEWER in text:
                # Reasoning models at OpenAI know the limit by its newer name only.
                self._limit = _NEWER
                return await self.complete(messages, tools, temperature=temperature, max_tokens=max_tokens, seed=seed)
            if error.status_code in (400, 413, 422) and any(word in str(error).lower() for word in _TOO_LONG):
                raise ContextOverflow(text) from error
            # There are models that have the word in their name.
            if (
                error.status_code in (400, 422)
                and "seed" in options
                and "seed" in error.message.replace(self._name, "")
            ):
                self._seeds = False
                return await self.complete(messages, tools, temperature=temperature, max_tokens=max_tokens)
            refused = error.status_code in (401, 403, 404)
            raise (ModelRefused(text) if refused else ModelFailed(text)) from error
        except (openai.OpenAIError, ValueError) as error:
            raise ModelFailed(f"{self._name}: {error}") from error
        return self._completion(reply, time.perf_counter() - began)

    def _completion(self, reply: "ChatCompletion", seconds: float) -> Completion:
        if isinstance(reply, str):
            raise ModelFailed(
                f"{self._name}: the answer is no JSON. Does the base URL end as the server wants it (/v1)?"
            )
        if not reply.choices:
            raise ModelFailed(f"{self._name}: the answer holds no choice.")
        choice = reply.choices[0]
        usage = _usage(reply)
        message, malformed = _read(choice.message)
        ids = getattr(choice, "token_ids", None)
        prompt = getattr(reply, "prompt_token_ids", None)
        sampled = choice.logprobs.content if choice.logprobs else None
        logprobs = tuple(one.logprob for one in sampled) if sampled else None
        return Completion(
            message=message,
            usage=usage,
            seconds=seconds,
            finish_reason=choice.finish_reason,
            cost_usd=self._price.cost(usage) if self._price else None,
            prompt_token_ids=tuple(prompt) if prompt else None,
            completion_token_ids=tuple(ids) if ids else None,
            logprobs=logprobs if logprobs is not None and (not ids or len(ids) == len(logprobs)) else None,
            malformed=malformed,
        )


def _on_the_wire(message: Message) -> dict[str, Any]:
    """As OpenAI's protocol has it: arguments are a text there."""
    fields = message.model_dump()
    fields.pop("reasoning_content", None)
    for call in fields.get("tool_calls") or ():
        call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
    return fields


def _usage(reply: "ChatCompletion") -> Usage:
    if reply.usage is None:
        return Usage(prompt_tokens=0, completion_tokens=0)
    details = reply.usage.prompt_tokens_details
    return Usage(
        prompt_tokens=reply.usage.prompt_tokens,
        completion_tokens=reply.usage.completion_tokens,
        cached_tokens=details.cached_tokens if details else None,
    )


def _read(message: Any) -> tuple[Message, str | None]:
    """The message in our words, and what to tell the model where a call cannot be read."""
    calls: list[ToolCall] = []
    broken = None
    for call in message.tool_calls or ():
        if call.type != "function":
            continue
        try:
            arguments = loads(call.function.arguments or "{}")
            if not isinstance(arguments, dict):
                raise ValueError("they are no object")
        except (ValueError, RecursionError) as error:
            broken = f"The arguments of {call.function.name} are not valid JSON: {error}. Call it again."
            break
        function = FunctionCall(name=call.function.name, arguments=arguments)
        calls.append(ToolCall(id=call.id or f"call_{len(calls)}", function=function))
    reasoning = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
    if broken is not None:
        # Half a call cannot stand in the history: its text does, for the model to see.
        written = "\n".join(f"{one.function.name}: {one.function.arguments}" for one in message.tool_calls)
        text = f"{message.content}\n{written}" if message.content else written
        return Message(role="assistant", content=text, reasoning_content=reasoning), broken
    content = message.content if message.content or calls else ""
    return Message(
        role="assistant", content=content, reasoning_content=reasoning, tool_calls=tuple(calls) or None
    ), None
