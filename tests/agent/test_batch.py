"""Rows that come and go keep their own keys and values, whatever is moved around them."""

import random
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the extra [local] is not installed")
pytest.importorskip("transformers", reason="the extra [local] is not installed")

LAYERS, HEADS, SIZE = 2, 3, 4


@pytest.mark.parametrize("seed", range(5))
def test_rows_are_as_if_each_had_been_alone(seed: int) -> None:
    """Random joins, passes and leaves, against plain tensors that grow one by one."""
    from agent.batch import Batch

    draw, batch = random.Random(seed), Batch()
    alone: list[list[list[Any]]] = []

    def row(length: int) -> list[list[Any]]:
        return [[torch.rand(1, HEADS, length, SIZE) for _ in range(2)] for _ in range(LAYERS)]

    def same(found: Any, number: int, layer: int, side: int) -> None:
        wanted = alone[number][layer][side]
        assert torch.equal(found[number : number + 1, :, found.shape[2] - wanted.shape[2] :], wanted)

    for _ in range(300):
        joining = [row(draw.choice([1, 30, 200])) for _ in range(draw.randint(0 if alone else 1, 2))]
        if joining:
            batch.join([[(keys, values) for keys, values in one] for one in joining])
            alone += joining
        before = batch.width
        caches: list[Any] = batch.cache.layers
        for layer, cache in enumerate(caches):
            assert cache.get_mask_sizes(1) == (before + 1, 0)
            new = [torch.rand(len(alone), HEADS, 1, SIZE) for _ in range(2)]
            for number, one in enumerate(alone):
                one[layer] = [torch.cat([one[layer][side], new[side][number : number + 1]], dim=2) for side in (0, 1)]
            for side, found in enumerate(cache.update(*new)):
                assert found.shape == (len(alone), HEADS, before + 1, SIZE)
                for number in range(len(alone)):
                    same(found, number, layer, side)
        batch.advance()
        assert batch.lengths == [one[0][0].shape[2] for one in alone]
        while alone and draw.random() < 0.5:
            number = draw.randrange(len(alone))
            left = batch.leave(number)
            gone, alone[number] = alone[number], alone[-1]
            alone.pop()
            for layer in range(LAYERS):
                for side in (0, 1):
                    assert torch.equal(left[layer][side], gone[layer][side])
    batch.clear()
    assert not batch.cache.layers
    assert batch.lengths == []


def test_an_empty_batch_holds_no_memory() -> None:
    from agent.batch import Batch

    batch = Batch()
    for _ in range(2):
        batch.join([[(torch.rand(1, HEADS, 5, SIZE), torch.rand(1, HEADS, 5, SIZE))]])
        assert batch.width == 5
        batch.leave(0)
        assert (batch.width, batch.cache.layers) == (0, [])
