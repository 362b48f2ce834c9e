"""Trains the tiny model and tells what came out; alone, or under `torch.distributed.run`: `spread.py FOLDER`."""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import torch

from tests.training import tiny
from training.policy import Policy, pad_rows
from training.replica import copy_weights


def train(folder: Path) -> dict[str, Any]:
    """Two iterations over four episodes of five rows; the last metrics, and the sum of each of the weights."""
    recipe = tiny.recipe(folder, iterations=2, save_every=2, minibatch=3, epochs=2, max_grad_norm=0.5)
    trainer = tiny.trainer(recipe, tiny.Given(tiny.rollouts()))
    metrics = trainer.train()
    weights = [parameter.detach().double().sum().item() for parameter in trainer.policy.parameters()]
    return {"processes": trainer.accelerator.num_processes, "metrics": metrics, "weights": weights}


def shard(processes: int) -> dict[str, Any]:
    """A policy whose weights are spread over the processes by FSDP2: does it score as a whole one, does a replica take
    its weights over after a step?"""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    whole = Policy(tiny.model(2), tiny.model(2, seed=1).get_decoder())
    spread, replica = copy.deepcopy(whole), copy.deepcopy(whole.actor)
    mesh = init_device_mesh("cpu", (processes,))
    critic: Any = spread.critic
    for layer in (*spread.actor.model.layers, *critic.layers):
        fully_shard(layer, mesh=mesh)
    fully_shard(spread, mesh=mesh)
    rows = [row for rollout in tiny.rollouts() for row in rollout.rows]
    batch = pad_rows([row.ids for row in rows], [row.mask for row in rows], 0)
    gap = 0.0
    for policy in (whole, spread):
        optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
        scored = policy(batch)
        torch.autograd.backward(scored.logprobs.mean() + scored.values.mean())
        optimizer.step()
    for left, right in zip(whole(batch), spread(batch), strict=True):
        gap = max(gap, (left - right).abs().max().item())
    copy_weights(spread.actor, replica)
    both = zip(whole.actor.parameters(), replica.parameters(), strict=True)
    moved = max((left - right).abs().max().item() for left, right in both)
    return {"score": gap, "replica": moved}


def main(folder: Path) -> None:
    result = train(folder)
    result["sharded"] = shard(result["processes"])
    if torch.distributed.get_rank() == 0:
        (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
