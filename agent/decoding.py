"""Sampling from a causal language model for many conversations at once: one thread, one batch, keys and values kept.

Conversations join and leave the batch between two tokens, so a long turn holds nobody up. A prompt is read alone,
without padding (and without what is still held of it from the turn before); then all go on together, padded on the
left. Log-probabilities are in nats, float32, under the very distribution that was sampled from: logits / temperature,
without top-k or top-p; for temperature 0 (greedy) under the plain logits.

Left out: beams, penalties, paged memory, draft models. Where those matter, serve the model with vLLM.
"""

import asyncio
import itertools
import queue
import random
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.errors import ModelFailed

if TYPE_CHECKING:
    from torch import Tensor

    from agent.batch import Both


@dataclass(frozen=True)
class Sampled:
    """What was sampled. `stopped`: the last id ends the turn. `reused`: tokens of the prompt that were not read again.
    `key` goes with the next prompt of the same conversation."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    stopped: bool
    reused: int
    key: int


@dataclass(eq=False)
class _Row:
    prompt: list[int]
    temperature: float
    max_tokens: int
    key: int
    draws: random.Random
    done: "Future[Sampled]" = field(default_factory=Future)
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    reused: int = 0

    @property
    def held(self) -> int:
        """Tokens whose keys and values there are: all but the last one sampled."""
        return len(self.prompt) + len(self.ids) - 1


class Decoder:
    """Samples for `model` in a thread of its own, which begins with the first request.

    `stop`: ids that end a turn. `batch`: conversations under way at once. `kept_tokens`: of ended turns, whose keys
    and values are held for the next turn, the oldest going first.
    """

    def __init__(self, model: Any, *, stop: frozenset[int], batch: int, seed: int, kept_tokens: int) -> None:
        self.model, self.stop, self.batch, self.kept_tokens = model, stop, max(1, batch), kept_tokens
        from agent.batch import Batch

        self._seed = seed
        self._waiting: queue.Queue[_Row | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._kept: OrderedDict[int, tuple[int, list[Both]]] = OrderedDict()
        self._lock = threading.Lock()
        self._keys, self._requests = itertools.count(1), itertools.count()
        self._rows: list[_Row] = []
        self._batch = Batch()
        self._closed = False
        self.steps = 0
        """Forward passes of the batch so far, and the tokens that they gave in `sampled`."""
        self.sampled = 0

    async def sample(
        self, prompt: Sequence[int], *, temperature: float, max_tokens: int, key: int = 0, seed: str | None = None
    ) -> Sampled:
        """Sample until a stop id or `max_tokens`. Raises ModelFailed. Cancelling takes the row out of the batch.

        `seed`: of the random choices; by default they follow from the decoder's and the number of the request.
        """
        draws = random.Random(f"{self._seed} {next(self._requests)}" if seed is None else seed)
        row = _Row(list(prompt), temperature, max_tokens, key, draws)
        with self._lock:
            if self._closed:
                raise ModelFailed("The model was closed.")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="decoder", daemon=True)
                self._thread.start()
            self._waiting.put(row)
        return await asyncio.wrap_future(row.done)

    def forget(self) -> None:
        """Drop what is held of ended turns."""
        with self._lock:
            self._kept.clear()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            self._waiting.put(None)
            thread.join()
        self.forget()

    # In the thread

    def _run(self) -> None:
        import torch

        with torch.no_grad():
            while True:
                try:
                    if not self._take():
                        break
                    if self._rows:
                        self._step()
                except Exception as error:
                    self._fail(f"Sampling failed: {type(error).__name__}: {error}")
        while not self._waiting.empty():
            if (row := self._waiting.get()) is not None:
                self._rows.append(row)
        self._fail("The model was closed.")

    def _fail(self, why: str) -> None:
        rows, self._rows = self._rows, []
        self._batch.clear()
        for row in rows:
            _settle(row, error=ModelFailed(why))

    def _take(self) -> bool:
        """Let waiting rows join; waits while there is nothing to do. False when the decoder was closed."""
        joined: list[tuple[_Row, list[Both]]] = []
        if self._closed:
            return False
        while len(self._rows) + len(joined) < self.batch:
            try:
                row = self._waiting.get(block=not self._rows and not joined)
            except queue.Empty:
                break
            if row is None:
                for other, _ in joined:
                    _settle(other, error=ModelFailed("The model was closed."))
                return False
            try:
                if not row.done.cancelled() and (held := self._read(row)) is not None:
                    joined.append((row, held))
            except Exception as error:
                _settle(row, error=ModelFailed(f"Reading the prompt failed: {type(error).__name__}: {error}"))
        if joined:
            self._rows += [row for row, _ in joined]
            self._batch.join([held for _, held in joined])
        return True

    def _read(self, row: _Row) -> "list[Both] | None":
        """Read a prompt and sample its first token; None where that ended the turn."""
        import torch
        from transformers import DynamicCache

        with self._lock:
            kept = self._kept.pop(row.key, None)
        held = DynamicCache()
        if kept is not None and 0 < kept[0] < len(row.prompt):
            row.reused = kept[0]
            for layer, (keys, values) in enumerate(kept[1]):
                held.update(keys, values, layer)
        device = next(self.model.parameters()).device
        ids = torch.tensor([row.prompt[row.reused :]], device=device)
        places = torch.arange(row.reused, len(row.prompt), device=device)[None]
        out = self.model(input_ids=ids, position_ids=places, past_key_values=held, use_cache=True, logits_to_keep=1)
        self._draw([row], out.logits[:, -1])
        layers: list[Any] = list(held.layers)
        read = [(layer.keys, layer.values) for layer in layers]
        if self._ended(row):
            self._keep(row, read)
            return None
        return read

    def _step(self) -> None:
        """One token for every row."""
        import torch

        rows, device = self._rows, next(self.model.parameters()).device
        ids = torch.tensor([[row.ids[-1]] for row in rows], device=device)
        places = torch.tensor([[row.held] for row in rows], device=device)
        width = self._batch.width
        columns = torch.arange(width + 1, device=device)[None]
        mask = (columns >= width - places).long()
        out = self.model(
            input_ids=ids, attention_mask=mask, position_ids=places, past_key_values=self._batch.cache, use_cache=True
        )
        self._batch.advance()
        self.steps += 1
        self._draw(rows, out.logits[:, -1])
        # From the end: the last row takes the place of one that leaves.
        for number in reversed(range(len(rows))):
            row = rows[number]
            if row.done.cancelled() or self._ended(row):
                held = self._batch.leave(number)
                rows[number] = rows[-1]
                rows.pop()
                self._keep(row, held)

    def _draw(self, rows: Sequence[_Row], logits: "Tensor") -> None:
        import torch

        heat = torch.tensor([row.temperature or 1.0 for row in rows], device=logits.device)
        logs = torch.log_softmax(logits.float() / heat[:, None], dim=-1)
        # By the inverse of the distribution: `multinomial` draws a number for each word of the vocabulary.
        sums = logs.exp().cumsum(dim=-1, dtype=torch.float64)
        drawn = torch.tensor([[row.draws.random()] for row in rows], dtype=sums.dtype, device=sums.device)
        place = drawn * sums[:, -1:]
        chosen = torch.searchsorted(sums, place, right=True)[:, 0].clamp(max=logs.shape[1] - 1)
        greedy = [number for number, row in enumerate(rows) if row.temperature == 0]
        if greedy:
            chosen[greedy] = logs[greedy].argmax(dim=-1)
        taken = logs.gather(1, chosen[:, None])[:, 0].tolist()
        for row, one, log in zip(rows, chosen.tolist(), taken, strict=True):
            row.ids.append(one)
            row.logprobs.append(log)
        self.sampled += len(rows)

    def _ended(self, row: _Row) -> bool:
        return row.ids[-1] in self.stop or len(row.ids) >= row.max_tokens

    def _keep(self, row: _Row, held: "list[Both]") -> None:
        """Hold what was computed, then hand the turn over."""
        key = next(self._keys)
        if not row.done.cancelled():
            with self._lock:
                self._kept[key] = (row.held, held)
                total = sum(length for length, _ in self._kept.values())
                while self._kept and total > self.kept_tokens:
                    total -= self._kept.popitem(last=False)[1][0]
        sampled = Sampled(tuple(row.ids), tuple(row.logprobs), row.ids[-1] in self.stop, row.reused, key)
        _settle(row, sampled)


def _settle(row: _Row, sampled: Sampled | None = None, *, error: Exception | None = None) -> None:
    if not row.done.set_running_or_notify_cancel():
        return
    if error is not None:
        row.done.set_exception(error)
    else:
        row.done.set_result(sampled)  # type: ignore[arg-type]
