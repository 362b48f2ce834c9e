"""Recipes: YAML files with these models behind. An unknown key is refused with the nearest name that there is.

Learning rates are per optimiser step, batches are counted in sequences (SFT) or episodes (PPO) over all devices and
accumulation, lengths in tokens.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tasks.task import Outcome
from training.errors import ConfigError

CONFIGS = Path(__file__).resolve().parent / "configs"
"""The recipes that ship."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LoraSection(_Section):
    """Low-rank adapters instead of all weights. `targets`: names of layers, or "all-linear"."""

    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: str | tuple[str, ...] = "all-linear"


class ModelSection(_Section):
    """`name` is a folder outside the output, or a name that transformers can find. `template` is a file with a chat
    template in the place of the model's own, or "compact" for ours without tools in the prompt (small models)."""

    name: str
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    gradient_checkpointing: bool = False
    template: str | None = None
    lora: LoraSection | None = None


class Filters(_Section):
    """Which records become examples. `outcomes`: only these. `min_reward`: at least this. `max_tokens`: longer ones are
    left out, never cut. `max_repeats`: left out where one action is made more often than this in a row. `duplicates`:
    keep only the first of equal action sequences of a task. `per_category`: at most so many of each category, by seed.
    `test_split`: what a record of a test task does: "refuse" the whole set, or "drop" the record."""

    outcomes: tuple[Outcome, ...] = ("graded",)
    min_reward: float | None = 1.0
    max_tokens: int | None = Field(default=None, ge=1)
    min_turns: int = Field(default=1, ge=0)
    max_turns: int | None = Field(default=None, ge=1)
    max_repeats: int | None = Field(default=2, ge=1)
    duplicates: Literal["keep", "drop"] = "drop"
    per_category: int | None = Field(default=None, ge=1)
    families: tuple[str, ...] = ()
    test_split: Literal["refuse", "drop"] = "refuse"


class DataSection(_Section):
    """`records`: files of attempt records, or folders of them."""

    records: tuple[Path, ...] = Field(min_length=1)
    filters: Filters = Filters()
    seed: int = 0


class Precision(_Section):
    """What accelerate is given."""

    # YAML reads a bare `no` as false.
    mixed: Annotated[
        Literal["no", "bf16", "fp16"], BeforeValidator(lambda value: "no" if value is False else value)
    ] = "no"


class SftRecipe(_Section):
    """Supervised fine-tuning. `packing` puts several examples in a row of `max_tokens` without their seeing each other;
    it needs flash attention to be fast, and `batch` then counts such rows. `group_by_length` makes batches of like
    lengths instead."""

    method: Literal["sft"]
    model: ModelSection
    data: DataSection
    output: Path
    epochs: float = Field(default=3.0, gt=0)
    learning_rate: float = Field(default=1e-4, gt=0)
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    warmup: float = Field(default=0.03, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    batch: int = Field(default=8, ge=1)
    micro_batch: int = Field(default=1, ge=1)
    max_tokens: int = Field(default=40_000, ge=8)
    packing: bool = False
    group_by_length: bool = False
    seed: int = 0
    save_every: int = Field(default=200, ge=1)
    keep: int = Field(default=2, ge=1)
    log_every: int = Field(default=10, ge=1)
    precision: Precision = Precision()

    @model_validator(mode="after")
    def _batches(self) -> "SftRecipe":
        if self.batch % self.micro_batch:
            raise ValueError(f"batch {self.batch} must be a multiple of micro_batch {self.micro_batch}")
        return self


class RewardSection(_Section):
    """The reward of an episode: correct * grade + format * form + executed * share - tool_error * failures. `grading`:
    "score" takes partial grades as they are, "exact" only whole ones. `executed`: weight of the share of executions
    that ended without an error. `tool_error`: subtracted per call that failed as a call."""

    correct: float = 1.0
    grading: Literal["score", "exact"] = "exact"
    format: float = Field(default=0.1, ge=0)
    executed: float = Field(default=0.0, ge=0)
    tool_error: float = Field(default=0.0, ge=0)


class KLSection(_Section):
    """KL to the reference policy. `where`: in the per-token reward, or as a term of the loss. With `target` (nats per
    token) the coefficient adapts, within `horizon` episodes by a factor e^0.2 at most, up or down."""

    coefficient: float = Field(default=1e-3, ge=0)
    where: Literal["reward", "loss"] = "reward"
    target: float | None = Field(default=None, gt=0)
    horizon: int = Field(default=10_000, ge=1)


class CriticSection(_Section):
    """`kind`: a trunk of its own (initialised from the policy's), or a head on the policy's trunk. For `warmup`
    iterations only the critic learns."""

    kind: Literal["separate", "shared"] = "separate"
    learning_rate: float = Field(default=1e-5, gt=0)
    coefficient: float = Field(default=1.0, gt=0)
    clip: float | None = Field(default=0.2, gt=0)
    warmup: int = Field(default=2, ge=0)


class RolloutSection(_Section):
    """Where episodes come from. `families`, `categories`, `tasks`: which tasks of the train split (all where empty).
    `server`: URL of a served environment; without one, a server runs in this process over `data`."""

    data: Path | None = None
    server: str | None = None
    families: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    attempts: int = Field(default=1, ge=1)
    concurrency: int = Field(default=16, ge=1)
    temperature: float = Field(default=0.6, gt=0)
    turns: int = Field(default=15, ge=1)
    max_tokens: int = Field(default=32_768, ge=16)
    max_new_tokens: int = Field(default=8_192, ge=1)
    call_seconds: float = Field(default=50.0, gt=0, le=50)


class PpoRecipe(_Section):
    """Proximal policy optimisation over episodes. `batch` episodes are rolled out per iteration and learned from in
    `epochs` passes of `minibatch` episodes, `micro_batch` rows at a time on a device."""

    method: Literal["ppo"]
    model: ModelSection
    output: Path
    rollout: RolloutSection = RolloutSection()
    reward: RewardSection = RewardSection()
    kl: KLSection = KLSection()
    critic: CriticSection = CriticSection()
    iterations: int = Field(default=100, ge=1)
    batch: int = Field(default=128, ge=1)
    epochs: int = Field(default=1, ge=1)
    minibatch: int = Field(default=32, ge=1)
    micro_batch: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=1e-5, gt=0)
    warmup_iterations: int = Field(default=0, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    clip: float = Field(default=0.2, gt=0)
    gamma: float = Field(default=1.0, gt=0, le=1)
    lam: float = Field(default=0.95, ge=0, le=1)
    entropy: float = Field(default=0.0, ge=0)
    whiten: bool = True
    truncation: Literal["bootstrap", "end"] = "bootstrap"
    sampler_cap: float | None = Field(default=None, gt=0)
    stop_kl: float | None = Field(default=0.05, gt=0)
    seed: int = 0
    save_every: int = Field(default=10, ge=1)
    keep: int = Field(default=2, ge=1)
    precision: Precision = Precision()


Recipe = Annotated[SftRecipe | PpoRecipe, Field(discriminator="method")]


class _Wrapped(BaseModel):
    recipe: Recipe


def load_recipe(path: Path | str, changes: dict[str, Any] | None = None) -> SftRecipe | PpoRecipe:
    """The recipe in a file, or one that ships by its name. `changes` maps dotted keys to values that replace.

    Raises ConfigError: no such file, not YAML, an unknown key (with the nearest name), a value out of range.
    """
    import yaml  # type: ignore[import-untyped]

    file = Path(path)
    if not file.is_file():
        file = CONFIGS / f"{path}.yaml"
    if not file.is_file():
        raise ConfigError(_no_recipe(str(path)))
    try:
        tree = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file.name} is not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{file.name} must hold keys and values.")
    for key, value in (changes or {}).items():
        _put(tree, key, value)
    return make_recipe(tree, file.name)


def make_recipe(tree: dict[str, Any], name: str = "recipe") -> SftRecipe | PpoRecipe:
    """The recipe that a tree of plain values spells. Raises ConfigError, also where the model to begin from lies in the
    output: the run would replace it, and when it is run again begin from its own result."""
    if tree.get("method") not in ("sft", "ppo"):
        raise ConfigError(f"{name}: `method` must be sft or ppo, not {tree.get('method')!r}.")
    try:
        recipe = _Wrapped.model_validate({"recipe": tree}).recipe
    except ValidationError as error:
        lines = [_explain(one) for one in error.errors(include_url=False)]
        raise ConfigError(f"{name}: " + "; ".join(lines)) from None
    output = recipe.output.resolve()
    for start in (recipe.model.name, base_of(recipe.model.name)):
        if start is not None and Path(start).exists() and Path(start).resolve().is_relative_to(output):
            raise ConfigError(
                f"{name}: the model {start!r} lies in the output {str(recipe.output)!r}, whose model and checkpoints "
                "are replaced: set output to another folder."
            )
    return recipe


def base_of(name: str) -> str | None:
    """The model that the adapters in a folder belong to; None where it is no folder of adapters alone.

    Raises ConfigError: they name none.
    """
    folder = Path(name)
    if not (folder / "adapter_config.json").is_file() or (folder / "config.json").is_file():
        return None
    try:
        return str(json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"])
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"The adapters in {name!r} do not name the model that they belong to.") from None


def parse_changes(pairs: list[str]) -> dict[str, Any]:
    """`a.b=1` texts as a mapping; values are YAML. Raises ConfigError."""
    import yaml

    changes: dict[str, Any] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key.strip():
            raise ConfigError(f"--set wants key=value, not {pair!r}.")
        try:
            changes[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"--set {key.strip()}: {value!r} is not YAML.") from None
    return changes


def recipes() -> list[str]:
    """Names of the recipes that ship."""
    return sorted(file.stem for file in CONFIGS.glob("*.yaml") if not file.stem.startswith("accelerate-"))


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for part in parents:
        if not isinstance(tree.get(part), dict):
            tree[part] = {}
        tree = tree[part]
    tree[last] = value


def _explain(error: Any) -> str:
    parts = [str(part) for part in error["loc"][2:]]
    where = ".".join(parts)
    if error["type"] != "extra_forbidden":
        told = error["msg"].removeprefix("Value error, ")
        # What concerns several keys has no place of its own.
        return f"{where}: {told}" if where else told
    known = list(_section(str(error["loc"][1]), parts[:-1]).model_fields)
    from rapidfuzz import process

    match = process.extractOne(parts[-1], known, score_cutoff=50)
    hint = f"did you mean {match[0]!r}?" if match else f"known keys: {', '.join(known)}"
    return f"unknown key {where!r}; {hint}"


def _section(method: str, parts: list[str]) -> type[BaseModel]:
    """The model that holds the keys at that place."""
    model: type[BaseModel] = SftRecipe if method == "sft" else PpoRecipe
    for part in parts:
        found = model.model_fields.get(part)
        options = [found.annotation, *getattr(found.annotation, "__args__", ())] if found else []
        inner = [one for one in options if isinstance(one, type) and issubclass(one, BaseModel)]
        if inner:
            model = inner[0]
    return model


def _no_recipe(name: str) -> str:
    from rapidfuzz import process

    match = process.extractOne(name, recipes(), score_cutoff=50)
    hint = f"Did you mean {match[0]!r}? " if match else ""
    return f"There is no recipe {name!r}. {hint}Recipes that ship: {', '.join(recipes())}."
