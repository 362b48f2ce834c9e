"""A model of a few hundred weights, and trajectories written by hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from training.config import PpoRecipe, make_recipe
from training.data import Example
from training.policy import Policy
from training.ppo import PpoTrainer, Rollout

VOCABULARY = 12


def model(layers: int = 1, seed: int = 0) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    made = Qwen2ForCausalLM(config)
    # Small weights would make every token about equally likely, and errors invisible.
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(20)
    return made


def example(ids: Sequence[int], mask: Sequence[int], **changes: Any) -> Example:
    fields: dict[str, Any] = {
        "attempt": "a",
        "task": "t",
        "family": "f",
        "category": "c",
        "cluster": "k",
        "ids": tuple(ids),
        "mask": tuple(map(bool, mask)),
        "logprobs": None,
        "turns": (),
        "reward": None,
        "schema": "s",
    }
    return Example(**(fields | changes))


def rollouts() -> list[Rollout]:
    """Four episodes: with observations, of two rows, cut, and of one token."""
    return [
        Rollout((example([1, 2, 3, 4, 5, 6, 7], [0, 0, 1, 1, 0, 0, 1]),), 1.0),
        Rollout((example([1, 2, 8, 9], [0, 0, 1, 1]), example([3, 4, 5, 6, 7], [0, 0, 0, 1, 1])), 0.25),
        Rollout((example([5, 4, 3, 2, 1, 2, 3, 4], [0, 1, 0, 1, 0, 1, 0, 0]),), 0.5, truncated=True),
        Rollout((example([9, 8], [0, 1]),), -0.5),
    ]


def recipe(output: Path, **changes: Any) -> PpoRecipe:
    fields: dict[str, Any] = {
        "method": "ppo",
        "model": {"name": "tiny"},
        "output": str(output),
        "rollout": {"temperature": 0.7},
        "critic": {"warmup": 0, "learning_rate": 1e-2},
        "kl": {"coefficient": 0.05},
        "iterations": 3,
        "batch": 4,
        "minibatch": 4,
        "micro_batch": 2,
        "learning_rate": 1e-2,
        "stop_kl": None,
    }
    made = make_recipe(fields | changes)
    assert isinstance(made, PpoRecipe)
    return made


class Given:
    """A collector that always brings the same episodes."""

    def __init__(self, episodes: Sequence[Rollout]) -> None:
        self.episodes = list(episodes)

    def collect(self, iteration: int, actor: Any, share: int, shares: int) -> tuple[list[Rollout], dict[str, float]]:
        return self.episodes[share::shares], {"unscored": 0.0}


class Bandit:
    """One token after one token; the arm `right` pays. Samples from the actor by the seeded global generator."""

    def __init__(self, arms: int = 4, right: int = 3, episodes: int = 32) -> None:
        self.arms, self.right, self.episodes = arms, right, episodes

    def collect(self, iteration: int, actor: Any, share: int, shares: int) -> tuple[list[Rollout], dict[str, float]]:
        with torch.no_grad():
            logits = actor(input_ids=torch.tensor([[0]])).logits[0, -1]
        drawn = torch.multinomial(torch.softmax(logits / 0.7, -1), self.episodes, replacement=True).tolist()
        made = [
            Rollout((example([0, arm], [0, 1]),), float(arm == self.right), facts={"success": float(arm == self.right)})
            for arm in drawn
        ]
        return made[share::shares], {}


def trainer(
    recipe: PpoRecipe,
    collector: Any,
    *,
    layers: int = 1,
    critic: bool = True,
    double: bool = False,
    accelerator: Any = None,
) -> Any:
    actor = model(layers)
    trunk = model(layers, seed=1).get_decoder() if critic else None
    policy, reference = Policy(actor, trunk), Policy(model(layers, seed=2), values=False)
    torch.manual_seed(3)
    assert policy.value_head is not None
    torch.nn.init.normal_(policy.value_head.weight)
    if double:
        policy.double()
        reference.double()
    reference.requires_grad_(False).eval()
    return PpoTrainer(recipe, policy, reference, collector, accelerator=accelerator)
