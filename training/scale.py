"""How large the small experiments are, and the recipes that follow from that."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from training.config import PpoRecipe, RolloutSection, SftRecipe, load_recipe


@dataclass(frozen=True)
class Scale:
    """How large an experiment is.

    `categories`: the simplest so many calculators. `pieces`, `lines`: of the tokenizer. `reading`, `epochs`, `short`:
    passes of learning to look values up, of SFT, and of the shorter SFT, of which PPO takes a checkpoint; these come
    every `save_every` steps. `held_out`: test tasks that are attempted. `probes`: train tasks of each category that
    calibration attempts; `band`: sampled success of the categories that PPO gets.
    """

    patients: int = 1500
    per_category: int = 800
    categories: int = 12
    pieces: int = 2500
    lines: int = 1500
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    max_tokens: int = 256
    reading: float = 0.3
    epochs: float = 4.0
    short: float = 1.5
    batch: int = 8
    learning_rate: float = 1e-3
    save_every: int = 50
    held_out: int = 400
    probes: int = 32
    band: tuple[float, float] = (0.15, 0.6)
    iterations: int = 24
    episodes: int = 64
    rollout: RolloutSection = field(
        default_factory=lambda: RolloutSection(
            concurrency=16, temperature=1.0, turns=8, max_tokens=1024, max_new_tokens=64
        )
    )


SCALES = {
    "hour": Scale(),
    "minute": Scale(
        patients=60,
        per_category=12,
        categories=3,
        hidden=64,
        layers=2,
        heads=2,
        reading=1,
        epochs=1,
        short=1,
        held_out=6,
        probes=2,
        band=(0.0, 1.0),
        iterations=2,
        episodes=4,
        rollout=RolloutSection(concurrency=4, temperature=1.0, turns=3, max_tokens=512, max_new_tokens=48),
    ),
}
"""`hour`: an experiment for two cores. `minute`: that every step works, not that anything is learned."""


def sft_recipe(
    output: Path, scale: Scale, start: Path, records: Path, epochs: float, *, schedule: str = "cosine", keep: int = 1
) -> SftRecipe:
    """SFT from the model in `start`, of which the last `keep` checkpoints stay."""
    recipe = load_recipe(
        "sft-small",
        {
            "model.name": str(start),
            "data.records": [str(records)],
            "data.filters.max_tokens": scale.max_tokens,
            "output": str(output),
            "epochs": epochs,
            "schedule": schedule,
            "batch": scale.batch,
            "micro_batch": scale.batch,
            "learning_rate": scale.learning_rate,
            "max_tokens": scale.max_tokens,
            "save_every": scale.save_every,
            "keep": keep,
        },
    )
    assert isinstance(recipe, SftRecipe)
    return recipe


def ppo_recipe(
    out: Path, scale: Scale, start: Path, rollout: RolloutSection, categories: Sequence[str], seed: int
) -> PpoRecipe:
    """PPO from the model in `start` on these categories."""
    chosen = rollout.model_copy(update={"categories": tuple(categories)})
    recipe = load_recipe(
        "ppo-small",
        {
            "model.name": str(start),
            "rollout": chosen.model_dump(mode="json"),
            "output": str(out / f"ppo-{seed}"),
            "iterations": scale.iterations,
            "batch": scale.episodes,
            "minibatch": max(1, scale.episodes // 4),
            "seed": seed,
        },
    )
    assert isinstance(recipe, PpoRecipe)
    return recipe
