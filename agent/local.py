"""A transformers model in this process, on CPU or GPU: tokens in, tokens out.

The ids of a conversation only grow: what was sampled stays as it was sampled, and only what is new (observations,
corrections) is tokenised, so a record's `prompt_token_ids` begin with the prompt and the completion of the turn
before. Where the history was trimmed, the conversation is tokenised afresh from there.

`agent.decoding` does the sampling: many conversations in one batch, each keeping its keys and values from turn to turn.

Tool calls are read in the form `<tool_call>{"name", "arguments"}</tool_call>` that Qwen and Hermes write. Left out:
models that write calls otherwise (serve them with vLLM and use `agent.endpoint`, or use `agent.scaffold`), and
models whose memory is not keys and values of all tokens (state-space and hybrid ones).
"""

import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import PrivateAttr

from agent.chat import Parsed, parse_calls
from agent.decoding import Decoder, Sampled
from agent.errors import ContextOverflow, ModelRefused
from agent.models import Completion, Model, Seeded, ToolSchema, assistant
from tasks.attempt import Message, Usage

LEAST = 16
"""Tokens of room that a turn must have, to be worth sampling."""


_ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}
"""Kinds of layers that keep keys and values."""


class _Turn(Message):
    """A turn that was sampled here, with what is needed to go on from it."""

    _ids: tuple[int, ...] = PrivateAttr(())
    """The conversation up to and with this turn."""
    _before: tuple[Message, ...] = PrivateAttr(())
    """The messages that it answered."""
    _key: int = PrivateAttr(0)
    """Under which the decoder keeps its keys and values."""


class LocalModel:
    """A Model over a causal language model and its tokenizer. An async context manager; closing it ends its thread.

    `batch`: conversations that are sampled together. `context`: tokens that the model can read (default: its own
    limit). Raises ModelRefused where the tokenizer has no chat template or names no end of a turn.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str = "local",
        batch: int = 16,
        context: int | None = None,
        seed: int = 0,
        kept_tokens: int = 200_000,
    ) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise ModelRefused(f"The tokenizer of {name} has no chat template.")
        kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
        if getattr(model, "_is_stateful", False) or not kinds <= _ATTENTION:
            raise ModelRefused(
                f"{name} keeps more than keys and values of tokens: serve it, and name it as openai:NAME."
            )
        if tokenizer.eos_token_id is None:
            raise ModelRefused(f"The tokenizer of {name} names no token that ends a turn.")
        self._name, self.tokenizer = name, tokenizer
        own = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.context = int(context or own or 32_768)
        self.decoder = Decoder(model, stop=_stops(model, tokenizer), batch=batch, seed=seed, kept_tokens=kept_tokens)

    @classmethod
    def load(cls, path: str, *, device: str | None = None, dtype: str = "auto", **options: Any) -> "LocalModel":
        """From a folder or the hub's cache. `device`: default a GPU where there is one. Raises ModelRefused."""
        try:
            import torch
            from safetensors import SafetensorError
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ImportError as error:
            raise ModelRefused(
                "Models in this process need torch and transformers: pip install 'med-copilot[local]'"
            ) from error
        if (Path(path) / "adapter_config.json").is_file() and find_spec("peft") is None:
            raise ModelRefused(f"{path} holds adapters, which need peft: pip install 'med-copilot[train]'")
        try:
            tokenizer = AutoTokenizer.from_pretrained(path)
            model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelRefused(f"There is no model that transformers can load at {path}: {error}") from None
        model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
        return cls(model, tokenizer, **{"name": path, **options})

    @property
    def name(self) -> str:
        return self._name

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the sampling thread; what is under way fails. Idempotent."""
        self.decoder.close()

    def weights_changed(self) -> None:
        """Forget keys and values: to be called after the model was trained, while nothing is being sampled."""
        self.decoder.forget()

    def seeded(self, seed: int) -> Model:
        """This model for one attempt: what it draws there follows from the seed and the calls so far, whatever else is
        sampled beside it."""
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
        """The next turn, with its token ids and log-probabilities. Raises ContextOverflow, ModelFailed."""
        prompt, key = self._prompt(messages, tools)
        room = min(max_tokens, self.context - len(prompt))
        if room < min(LEAST, max_tokens):
            raise ContextOverflow(f"{len(prompt)} tokens do not fit a context of {self.context}.")
        began = time.perf_counter()
        sampled = await self.decoder.sample(
            prompt,
            temperature=temperature,
            max_tokens=room,
            key=key,
            seed=None if seed is None else str(seed),
        )
        parsed = self._parse(sampled)
        made = assistant(parsed.content, parsed.calls, before=messages)
        turn = _Turn(**{**made.model_dump(), "reasoning_content": parsed.reasoning})
        turn._ids, turn._before, turn._key = (*prompt, *sampled.ids), tuple(messages), sampled.key
        return Completion(
            message=turn,
            usage=Usage(prompt_tokens=len(prompt), completion_tokens=len(sampled.ids), cached_tokens=sampled.reused),
            seconds=time.perf_counter() - began,
            finish_reason="stop" if sampled.stopped else "length",
            prompt_token_ids=tuple(prompt),
            completion_token_ids=sampled.ids,
            logprobs=sampled.logprobs,
            malformed=parsed.malformed,
        )

    def _parse(self, sampled: Sampled) -> Parsed:
        ids = sampled.ids[:-1] if sampled.stopped else sampled.ids
        text = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return parse_calls(text)

    def _prompt(self, messages: Sequence[Message], tools: Sequence[ToolSchema]) -> tuple[list[int], int]:
        """The ids of the conversation, and the key of what the decoder may still hold of it."""
        full = self._render(messages, tools, prompt=True)
        place = max((number for number, one in enumerate(messages) if isinstance(one, _Turn)), default=None)
        if place is not None:
            turn = messages[place]
            assert isinstance(turn, _Turn)
            if len(turn._before) == place and all(map(_same, turn._before, messages)):
                rest = self._after(messages[: place + 1], tools, full)
                if rest is not None:
                    ended = turn._ids[-1] in self.decoder.stop
                    end = [] if ended else [self.tokenizer.eos_token_id]
                    return [*turn._ids, *end, *self._encode(rest)], turn._key
        return self._encode(full), 0

    def _after(self, messages: Sequence[Message], tools: Sequence[ToolSchema], full: str) -> str | None:
        """What the template puts behind the end of the last of `messages`, a turn; None where it cannot be told."""
        before = self._render(messages[:-1], tools, prompt=True)
        after = self._render(messages, tools, prompt=False)
        if not after.startswith(before):
            return None
        written, end, _ = after[len(before) :].partition(self.tokenizer.eos_token)
        shown = f"{before}{written}{end}"
        return full[len(shown) :] if end and full.startswith(shown) else None

    def _render(self, messages: Sequence[Message], tools: Sequence[ToolSchema], *, prompt: bool) -> str:
        plain = [{**message.model_dump(), "content": message.content or ""} for message in messages]
        rendered = self.tokenizer.apply_chat_template(
            plain, tools=list(tools) or None, add_generation_prompt=prompt, tokenize=False
        )
        return str(rendered)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def _same(one: Message, other: Message) -> bool:
    # A sampled turn is itself alone: equal texts may have been sampled as other tokens.
    return one is other or (type(one) is Message and type(other) is Message and one == other)


def _stops(model: Any, tokenizer: Any) -> frozenset[int]:
    """The ids that end a turn."""
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return frozenset(
        [tokenizer.eos_token_id, *(named if isinstance(named, list | tuple) else [] if named is None else [named])]
    )
