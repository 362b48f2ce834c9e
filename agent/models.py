"""What a model is to the agent, and the models that need no weights: scripted ones and the baselines.

`Model` is the one interface: messages and tool schemas in, one assistant message out. OpenAI-compatible endpoints are
in `agent.endpoint`, transformers in process in `agent.local`, the scripted analyst in `agent.expert`, and
`agent.scaffold` gives tool calls to models that have none.
"""

import random
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agent.errors import ModelFailed
from tasks.attempt import FunctionCall, Message, ToolCall, Usage

ToolSchema = dict[str, Any]
"""An OpenAI function schema: {"type": "function", "function": {"name", "description", "parameters"}}."""


@dataclass(frozen=True)
class Completion:
    """One turn of a model.

    `seconds` is wall time. Token ids and log-probabilities are given by models that sample here: `logprobs` belong to
    `completion_token_ids` one to one, in nats, under the distribution that was sampled from (logits / temperature;
    the plain logits where temperature is 0). `malformed` says, for the model to read, why a tool call in `message`
    could not be understood; the message then holds it as text.
    """

    message: Message
    usage: Usage
    seconds: float = 0.0
    finish_reason: str | None = None
    cost_usd: float | None = None
    prompt_token_ids: tuple[int, ...] | None = None
    completion_token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    malformed: str | None = None


class Model(Protocol):
    """Anything that can take the next turn of a conversation."""

    @property
    def name(self) -> str:
        """What records call the model."""

    async def complete(
        self, messages: Sequence[Message], tools: Sequence[ToolSchema], *, temperature: float, max_tokens: int
    ) -> Completion:
        """The next assistant message, of at most `max_tokens` tokens; temperature 0 is greedy.

        Raises ContextOverflow, ModelFailed.
        """


class Sampler(Model, Protocol):
    """A model whose draws follow from a seed."""

    async def complete(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSchema],
        *,
        temperature: float,
        max_tokens: int,
        seed: int | None = None,
    ) -> Completion: ...


class Seeded:
    """`inner` in one attempt. A call's seed (31 bits) follows from the attempt's and the number of the call: the same
    messages, asked again, are answered anew."""

    def __init__(self, inner: Sampler, seed: int) -> None:
        self._inner, self._seed, self._calls = inner, seed, 0

    @property
    def name(self) -> str:
        return self._inner.name

    async def complete(
        self, messages: Sequence[Message], tools: Sequence[ToolSchema], *, temperature: float, max_tokens: int
    ) -> Completion:
        self._calls += 1
        # Some endpoints have no room for more bits.
        seed = zlib.crc32(f"{self._seed} {self._calls}".encode()) & 0x7FFF_FFFF
        return await self._inner.complete(messages, tools, temperature=temperature, max_tokens=max_tokens, seed=seed)


def call(name: str, /, **arguments: Any) -> FunctionCall:
    """A tool call, as scripts write it."""
    return FunctionCall(name=name, arguments=arguments)


def assistant(content: str | None, calls: Iterable[FunctionCall] = (), *, before: Sequence[Message] = ()) -> Message:
    """An assistant message; the ids of its calls go on from those in the messages `before`."""
    first = 1 + sum(len(message.tool_calls or ()) for message in before)
    made = tuple(ToolCall(id=f"call_{number}", function=one) for number, one in enumerate(calls, first))
    return Message(role="assistant", content=content, tool_calls=made or None)


def without_tokens(message: Message) -> Completion:
    """A completion by something that has no tokens."""
    return Completion(message, Usage(prompt_tokens=0, completion_tokens=0), finish_reason="stop")


Turn = str | FunctionCall | tuple[str | None, FunctionCall] | Completion


class Scripted:
    """Plays a list of turns: a text, a tool call, both, or a whole completion. Raises ModelFailed past its end."""

    def __init__(self, turns: Iterable[Turn], name: str = "scripted") -> None:
        self._turns: Iterator[Turn] = iter(turns)
        self._name = name
        self.seen: list[tuple[Message, ...]] = []
        """What it was shown, turn by turn."""

    @property
    def name(self) -> str:
        return self._name

    async def complete(
        self, messages: Sequence[Message], tools: Sequence[ToolSchema], *, temperature: float, max_tokens: int
    ) -> Completion:
        self.seen.append(tuple(messages))
        turn = next(self._turns, None)
        if turn is None:
            raise ModelFailed("The script has no more turns.")
        if isinstance(turn, Completion):
            return turn
        if isinstance(turn, str):
            return without_tokens(assistant(turn))
        content, one = turn if isinstance(turn, tuple) else (None, turn)
        return without_tokens(assistant(content, [one], before=messages))


class Nothing:
    """The baseline that gives up at once."""

    name = "nothing"

    async def complete(
        self, messages: Sequence[Message], tools: Sequence[ToolSchema], *, temperature: float, max_tokens: int
    ) -> Completion:
        return without_tokens(assistant(None, [call("close_episode")], before=messages))


_ANSWERS = (0, [0], [[0, 0]], [[0, 0, 0]], [[0, 0, 0, 0]], "2000-01-01", [0, 0], True, "unknown", None)


class Constant:
    """The baseline that submits the same answer to every task: the first of `answers` that has the task's form."""

    name = "constant"

    def __init__(
        self, answers: Sequence[Any] = (0, [0], [[0, 0]], "2000-01-01", [0, 0], True, "unknown", None)
    ) -> None:
        self.answers = tuple(answers)

    async def complete(
        self, messages: Sequence[Message], tools: Sequence[ToolSchema], *, temperature: float, max_tokens: int
    ) -> Completion:
        refused = sum(message.role == "tool" for message in messages)
        if refused >= len(self.answers):
            return without_tokens(assistant(None, [call("close_episode")], before=messages))
        return without_tokens(assistant(None, [call("submit_answer", answer=self.answers[refused])], before=messages))


class Guess:
    """The baseline that guesses without looking at any data: a value of the form that the problem names. Seeded.

    Small whole numbers are the likeliest answers of counting questions and of scores, so these are drawn most.
    """

    name = "guess"

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    async def complete(
        self, messages: Sequence[Message], tools: Sequence[ToolSchema], *, temperature: float, max_tokens: int
    ) -> Completion:
        number = self._number()
        task = next((message.content or "" for message in messages if message.role == "user"), "")
        forms: list[Any] = [number, [number], self._date(), [self._random.randrange(40), 3], True, "unknown"]
        forms += [[[number] * width] for width in (2, 3, 4)]
        if "null" in task and self._random.random() < 0.1:
            forms.insert(0, None)
        refused = sum(message.role == "tool" for message in messages)
        made = call("submit_answer", answer=forms[refused]) if refused < len(forms) else call("close_episode")
        return without_tokens(assistant(None, [made], before=messages))

    def _number(self) -> int:
        return self._random.choice((0, 1, 1, 2, 2, 3, 4, 5, self._random.randrange(6, 200)))

    def _date(self) -> str:
        return (
            f"21{self._random.randrange(6):02d}-{self._random.randrange(1, 13):02d}-{self._random.randrange(1, 29):02d}"
        )
