"""From a conversation to tokens: the one place where text of foreign records becomes token ids.

A conversation is tokenised in pieces, cut where a model would have begun and ended to write: the prompt up to an
assistant's turn, what the assistant wrote up to its end-of-turn token, the text up to the next turn, and so on. That is
how our own agent builds its context (sampled ids are kept, only what is new is tokenised), so a record of a foreign
agent and one of ours give examples of one form. Templates that change earlier turns (they drop reasoning) break the
chain; the example then continues in a new segment, which is just what the model would have been shown.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError

from tasks.attempt import AttemptRecord, Message
from training.errors import ExampleError

COMPACT = (
    "{%- for message in messages %}"
    "{%- if message.role == 'assistant' %}"
    "{{- '<|im_start|>assistant\\n' }}{{- message.content or '' }}"
    "{%- if message.content and message.tool_calls %}{{- '\\n' }}{%- endif %}"
    "{%- for call in message.tool_calls or [] %}"
    "{%- set function = call.function or call %}"
    '{{- \'<tool_call>\\n{"name": "\' + function.name + \'", "arguments": \' }}{{- function.arguments | tojson }}'
    "{{- '}\\n</tool_call>' }}"
    "{%- endfor %}{{- '<|im_end|>\\n' }}"
    "{%- elif message.role != 'system' %}"
    "{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') + '<|im_end|>\\n' }}"
    "{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""ChatML without the system text and the tools: for small models, which learn them from the demonstrations. With
hundreds of tokens of schema in front, a model of a few million parameters stays at chance."""


@dataclass
class Segment:
    """A run of tokens that only grew: ids, which of them the model wrote, and the borders of its turns."""

    ids: list[int] = field(default_factory=list)
    mask: list[bool] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    turns: list[tuple[int, int]] = field(default_factory=list)

    def observe(self, ids: Sequence[int]) -> None:
        """Add tokens that the model was shown."""
        self.ids += ids
        self.mask += [False] * len(ids)
        self.logprobs += [0.0] * len(ids)

    def write(self, ids: Sequence[int], logprobs: Sequence[float] | None = None) -> None:
        """Add a turn of the model."""
        start = len(self.ids)
        self.ids += ids
        self.mask += [True] * len(ids)
        self.logprobs += logprobs if logprobs is not None else [0.0] * len(ids)
        self.turns.append((start, len(self.ids)))


class Renderer:
    """Renders with a tokenizer's chat template."""

    def __init__(self, tokenizer: Any) -> None:
        """Raises ExampleError where the tokenizer has no chat template or no end-of-turn token."""
        if not getattr(tokenizer, "chat_template", None):
            raise ExampleError("The tokenizer has no chat template; give one with model.template.")
        if tokenizer.eos_token is None:
            raise ExampleError("The tokenizer names no end-of-sequence token.")
        self.tokenizer = tokenizer

    def text(self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]], *, prompt: bool) -> str:
        """The conversation as text; with `prompt`, up to where the model begins to write.

        Raises ExampleError where the template refuses it or fails.
        """
        try:
            rendered = self.tokenizer.apply_chat_template(
                list(messages), tools=list(tools) or None, add_generation_prompt=prompt, tokenize=False
            )
        except TemplateError as error:
            raise ExampleError(f"The chat template cannot render this conversation: {error}") from None
        return str(rendered)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def segments(self, record: AttemptRecord) -> list[Segment]:
        """The tokens of a record that holds none. Raises ExampleError where the template cannot be cut into turns."""
        messages = [plain_message(message) for message in record.messages]
        found: list[Segment] = []
        shown = ""
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self.text(messages[:number], record.tools, prompt=True)
            if not found or not before.startswith(shown):
                found.append(Segment())
                shown = ""
            found[-1].observe(self.encode(before[len(shown) :]))
            written = self._turn(before, self.text(messages[: number + 1], record.tools, prompt=False))
            found[-1].write(self.encode(written))
            shown = before + written
        return found

    def _turn(self, before: str, after: str) -> str:
        """What the assistant wrote, with its end-of-turn token."""
        if not after.startswith(before):
            raise ExampleError("The chat template does not continue its own generation prompt.")
        written, end, _ = after[len(before) :].partition(self.tokenizer.eos_token)
        return written + (end or self.tokenizer.eos_token)


def plain_message(message: Message) -> dict[str, Any]:
    """The message as chat templates want it: no null content."""
    fields = message.model_dump()
    fields["content"] = fields["content"] or ""
    return fields


def sampled_segments(record: AttemptRecord) -> list[Segment] | None:
    """The tokens that our own agent saw and sampled, as they were; None where the record does not hold them all."""
    found: list[Segment] = []
    for call in record.calls:
        prompt, completion = call.prompt_token_ids, call.completion_token_ids
        if prompt is None or completion is None:
            return None
        known = len(found[-1].ids) if found else 0
        if not found or list(prompt[:known]) != found[-1].ids:
            found.append(Segment())
            known = 0
        found[-1].observe(prompt[known:])
        if call.logprobs is not None and len(call.logprobs) != len(completion):
            raise ExampleError(f"Record {record.id}: {len(completion)} sampled tokens, {len(call.logprobs)} log-probs.")
        found[-1].write(completion, call.logprobs)
    return found or None


def fingerprint(tokenizer: Any) -> str | None:
    """Equal for tokenizers that read ids the same way and render conversations the same way."""
    if tokenizer is None:
        return None
    text = json.dumps([sorted(tokenizer.get_vocab().items()), tokenizer.chat_template])
    return hashlib.sha256(text.encode()).hexdigest()


def load_tokenizer(name: str, template: str | None = None) -> Any:
    """The tokenizer of a model, with another template where one is given (a file, or "compact"). Raises ExampleError:
    there is none, or the template cannot be compiled."""
    from pathlib import Path

    from transformers import AutoTokenizer
    from transformers.utils.chat_template_utils import _compile_jinja_template

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ExampleError(f"No tokenizer at {name!r}: {str(error).splitlines()[0]}") from None
    if template == "compact":
        tokenizer.chat_template = COMPACT
    elif template is not None:
        try:
            tokenizer.chat_template = Path(template).read_text()
        except (OSError, UnicodeDecodeError):
            raise ExampleError(f"There is no chat template {template!r}.") from None
        try:
            # Private, but nothing else knows what transformers adds to Jinja.
            _compile_jinja_template(tokenizer.chat_template)
        except TemplateSyntaxError as error:
            raise ExampleError(f"{template!r} is no chat template: line {error.lineno}: {error.message}") from None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
