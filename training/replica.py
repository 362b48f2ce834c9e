"""A copy of a sharded model to sample from: FSDP and ZeRO-3 spread the weights, and generation wants them whole."""

from contextlib import nullcontext
from typing import Any

import torch


def copy_weights(source: Any, replica: Any) -> None:
    """Copy the weights of `source`, sharded or not, into `replica`, which has the same structure. All processes call
    this together; each gets all weights, one at a time, so no more than one parameter is held twice."""
    with torch.no_grad():
        for (name, spread), (_, whole) in zip(source.named_parameters(), replica.named_parameters(), strict=True):
            if spread.shape != whole.shape and not hasattr(spread, "ds_id"):
                raise ValueError(f"{name}: {tuple(spread.shape)} is not {tuple(whole.shape)}")
            with _gathered(spread):
                weights = spread.full_tensor() if hasattr(spread, "full_tensor") else spread
                whole.copy_(weights.to(whole.dtype))
    for (_, one), (_, other) in zip(source.named_buffers(), replica.named_buffers(), strict=True):
        other.copy_(one)


def _gathered(parameter: Any) -> Any:
    """ZeRO-3 keeps a parameter empty but for its share; it is whole inside this context."""
    if not hasattr(parameter, "ds_id"):
        return nullcontext()
    import deepspeed  # type: ignore[import-not-found]

    return deepspeed.zero.GatheredParameters([parameter])
