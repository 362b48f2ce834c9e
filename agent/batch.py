"""Keys and values of a batch whose rows come and go between two tokens.

All rows end in the same column, so their distances are true and the padding lies on the left. A row that joins is
written there, and one that leaves is replaced by the last; the rest moves only when the room is used up.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

_ROOM = 64
"""Columns that are free on either side of a batch that was moved."""

Both = tuple[Tensor, Tensor]
"""Keys and values of one layer, [rows, heads, tokens, size]."""


class Batch:
    """`cache` is for a pass of the model over one token of every row; `advance` then counts these tokens to the rows.
    `lengths`: tokens that each row holds."""

    def __init__(self) -> None:
        self._layers: list[_Layer] = []
        self.cache = DynamicCache()
        self.cache.layers = self._layers  # type: ignore[assignment]
        self.lengths: list[int] = []
        self.end = 0
        """The column where the next tokens are written."""

    @property
    def width(self) -> int:
        return max(self.lengths, default=0)

    def join(self, rows: Sequence[Sequence[Both]]) -> None:
        """Append rows, given as keys and values of each layer."""
        held, width = len(self.lengths), self.width
        self.lengths += [row[0][0].shape[2] for row in rows]
        if not held or len(self.lengths) > self._layers[0].rows or self.width > self.end:
            self._move(rows[0], held, width)
        for number, row in enumerate(rows, held):
            for layer, both in zip(self._layers, row, strict=True):
                layer.put(number, both)

    def leave(self, number: int) -> list[Both]:
        """Take a row out. The last one gets its number."""
        row = [layer.get(number, self.lengths[number]) for layer in self._layers]
        last = self.lengths.pop()
        if number < len(self.lengths):
            self.lengths[number] = last
            for layer in self._layers:
                layer.put(number, layer.get(len(self.lengths), last))
        if not self.lengths:
            self.clear()
        return row

    def clear(self) -> None:
        """Take all rows out, and give the memory back."""
        self.lengths.clear()
        self._layers.clear()

    def advance(self) -> None:
        self.lengths = [length + 1 for length in self.lengths]
        self.end += 1
        if self.end == self._layers[0].columns:
            self._move([layer.both for layer in self._layers], len(self.lengths), self.width)

    def _move(self, like: Sequence[Both], held: int, width: int) -> None:
        """Make room on all sides; the first `held` rows, of at most `width` tokens, are kept."""
        old = self._layers[:]
        rows = max(len(self.lengths), old[0].rows if held else 0)
        end = _ROOM + self.width
        for number, both in enumerate(like):
            keys, values = (one.new_zeros(rows, one.shape[1], end + _ROOM, one.shape[3]) for one in both)
            new = _Layer(self, keys, values)
            if held:
                for one, other in zip(new.both, old[number].both, strict=True):
                    one[:held, :, end - width : end] = other[:held, :, self.end - width : self.end]
            self._layers[number : number + 1] = [new]
        self.end = end


class _Layer(DynamicLayer):  # type: ignore[no-untyped-call]
    """A layer of `batch`. transformers' own would copy all tokens to add one."""

    def __init__(self, batch: Batch, keys: Tensor, values: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.batch, self.both = batch, (keys, values)
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self.rows, _, self.columns, _ = keys.shape

    def put(self, number: int, both: Both) -> None:
        end = self.batch.end
        for mine, given in zip(self.both, both, strict=True):
            mine[number, :, end - given.shape[2] : end] = given[0]

    def get(self, number: int, length: int) -> Both:
        end = self.batch.end
        keys, values = (one[number : number + 1, :, end - length : end].clone() for one in self.both)
        return keys, values

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> Both:
        rows, end = len(self.batch.lengths), self.batch.end
        for one, new in zip(self.both, (key_states, value_states), strict=True):
            one[:rows, :, end : end + 1] = new
        keys, values = (one[:rows, :, end - self.batch.width : end + 1] for one in self.both)
        return keys, values

    def get_seq_length(self) -> int:
        return self.batch.width
