"""Sampling as TRL's GRPO does without vLLM: `generate` over all conversations, padded on the left, prompts read anew,
and no row leaves before the longest turn is over. The tokens are dictated, as in `bench.pupil`."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio

from agent.decoding import Sampled
from bench.pupil import Pupil

if TYPE_CHECKING:
    from bench.lockstep import Batch


class Padded:
    """Stands in for a pupil's decoder. All that are live in `batch` ask, before one is answered."""

    script: list[int]

    def __init__(self, pupil: Pupil, batch: "Batch") -> None:
        self.model, self.stop, self._batch = pupil.decoder.model, pupil.decoder.stop, batch
        self._end: int = pupil.tokenizer.eos_token_id
        self._asked: list[tuple[list[int], list[int], asyncio.Future[Sampled]]] = []

    async def sample(self, prompt: Sequence[int], *, temperature: float, max_tokens: int, **options: Any) -> Sampled:
        future: asyncio.Future[Sampled] = asyncio.get_running_loop().create_future()
        self._asked.append((list(prompt), self.script, future))
        if len(self._asked) == self._batch.live:
            asked, self._asked = self._asked, []
            await anyio.to_thread.run_sync(self._generate, asked, temperature, max_tokens)
            for _, script, waiting in asked:
                waiting.set_result(Sampled(tuple(script), (0.0,) * len(script), True, 0, 0))
        return await future

    def close(self) -> None: ...

    def _generate(self, asked: Sequence[tuple[list[int], list[int], Any]], temperature: float, most: int) -> None:
        import torch
        from transformers import LogitsProcessor, LogitsProcessorList

        width = max(len(prompt) for prompt, _, _ in asked)
        ids = torch.tensor([[self._end] * (width - len(prompt)) + prompt for prompt, _, _ in asked])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt, _, _ in asked])

        class Dictate(LogitsProcessor):
            def __call__(self, input_ids: Any, scores: Any) -> Any:
                place = input_ids.shape[1] - width
                forced = torch.full_like(scores, -torch.inf)
                for number, (_, script, _) in enumerate(asked):
                    forced[number, script[min(place, len(script) - 1)]] = 0
                return forced

        made = self.model.generate(
            input_ids=ids, attention_mask=mask, do_sample=True, temperature=temperature, top_k=0, max_new_tokens=most,
            logits_processor=LogitsProcessorList([Dictate()]), eos_token_id=list(self.stop), pad_token_id=self._end,
        )  # fmt: skip
        for row, (_, script, _) in zip(made[:, width:].tolist(), asked, strict=True):
            if row[: len(script)] != script:
                raise RuntimeError("What was sampled is not what was dictated.")
