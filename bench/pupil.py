"""A model of random weights whose turns are dictated: it samples as it would, then the expert's token is taken.

Left to itself it would call no tool. So it costs what sampling costs, and its episodes are real ones.
"""

import json
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from agent.decoding import Decoder, Sampled
from agent.local import LocalModel
from agent.models import Completion, Model, ToolSchema
from tasks.attempt import Message

Teacher = Callable[[str], Model]
"""Who plays an episode, from the text of its task."""


class Dictation(Decoder):
    """A decoder that takes the tokens of `script` for the prompt that is sampled from next."""

    script: list[int]

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._scripts: dict[tuple[int, ...], list[int]] = {}
        self._rows_scripts: weakref.WeakKeyDictionary[Any, list[int]] = weakref.WeakKeyDictionary()

    async def sample(self, prompt: Sequence[int], **options: Any) -> Sampled:
        self._scripts[tuple(prompt)] = self.script
        return await super().sample(prompt, **options)

    def _draw(self, rows: Sequence[Any], logits: Any) -> None:
        super()._draw(rows, logits)
        for row in rows:
            script = self._rows_scripts.get(row)
            if script is None:
                script = self._rows_scripts[row] = self._scripts[tuple(row.prompt)]
            row.ids[-1] = script[len(row.ids) - 1]


class Pupil(LocalModel):
    """Samples from `actor` what teachers say. `decoder`: takes the tokens of its `script` for those it samples next."""

    def __init__(self, actor: Any, tokenizer: Any, teacher: Teacher, **options: Any) -> None:
        super().__init__(actor, tokenizer, **options)
        plain = self.decoder
        self.decoder: Any = Dictation(actor, stop=plain.stop, batch=plain.batch, seed=0, kept_tokens=plain.kept_tokens)
        self._teacher = teacher
        self._teachers: dict[int, tuple[Message, Model]] = {}

    async def complete(
        self, messages: Sequence[Message], tools: Sequence[ToolSchema], *, max_tokens: int, **options: Any
    ) -> Completion:
        # The message of the task is one and the same object as long as its episode lasts; kept, so that no other gets
        # its number.
        task = messages[1]
        if id(task) not in self._teachers:
            self._teachers[id(task)] = (task, self._teacher(task.content or ""))
        teacher = self._teachers[id(task)][1]
        said = (await teacher.complete(messages, tools, temperature=0, max_tokens=max_tokens)).message
        self.decoder.script = [*self._encode(written(said)), self.tokenizer.eos_token_id]
        return await super().complete(messages, tools, max_tokens=max_tokens, **options)


def written(message: Message) -> str:
    """A turn as Qwen writes it."""
    parts = [message.content] if message.content else []
    for call in message.tool_calls or ():
        told = json.dumps({"name": call.function.name, "arguments": call.function.arguments}, ensure_ascii=False)
        parts.append(f"<tool_call>\n{told}\n</tool_call>")
    return "\n".join(parts)
