"""Trains the tiny model and tells what came out; alone, or under `torch.distributed.run`:
`spread.py FOLDER ITERATIONS replicated|sharded`."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from tests.training import tiny


def train(folder: Path, iterations: int, accelerator: Any = None) -> dict[str, Any]:
    """Go on to that many iterations over four episodes of five rows; the last metrics, and the weights' sums, of the
    trainer's and of the exported model."""
    from transformers import AutoModelForCausalLM

    recipe = tiny.recipe(folder, iterations=iterations, save_every=2, minibatch=3, epochs=2, max_grad_norm=0.5)
    trainer = tiny.trainer(recipe, tiny.Given(tiny.rollouts()), layers=2, accelerator=accelerator)
    begun = trainer.resume()
    metrics = trainer.train()
    model: Any = AutoModelForCausalLM.from_pretrained(trainer.export())
    return {
        "processes": trainer.accelerator.num_processes,
        "kind": str(trainer.accelerator.distributed_type.value),
        "resumed": begun,
        "metrics": metrics,
        "weights": [_sum(parameter) for parameter in trainer.policy.parameters()],
        "exported": [_sum(parameter) for parameter in model.parameters()],
    }


def _sum(parameter: Any) -> float:
    whole = parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter
    return float(whole.detach().double().sum())


def sharded() -> Any:
    """An accelerator that spreads weights by FSDP2 over processes on the CPU. It offers that for other devices only, so
    its state is set by hand; the spreading itself is the real one."""
    from accelerate import Accelerator  # type: ignore[import-untyped]
    from accelerate.state import PartialState  # type: ignore[import-untyped]
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin  # type: ignore[import-untyped]

    os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    made = Accelerator(cpu=True)
    made.state.fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        reshard_after_forward=True,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["Qwen2DecoderLayer"],
        state_dict_type="SHARDED_STATE_DICT",
    )
    made.state.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
    return made


def main(folder: Path, iterations: int, kind: str) -> None:
    result = train(folder, iterations, sharded() if kind == "sharded" else None)
    if torch.distributed.get_rank() == 0:
        (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
