"""What a recipe will cost, before anything starts: memory per device, token rates, duration. Estimates, not promises.

Memory counts weights, gradients and Adam's moments exactly, activations by Korthikanti et al., "Reducing activation
recomputation in large transformer models" (2022): 34 bytes per token, layer and hidden unit in 16 bits without
attention scores (SDPA does not keep them), or 2 where layers are recomputed, plus one layer in full. Compute is
6 operations per weight and token for learning (8 with recomputation) and 2 for reading.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from training.config import ModelSection, PpoRecipe, SftRecipe, base_of
from training.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

GIB = 1 << 30
_CHUNK = 1024
_SIZES = {
    # hidden, layers, width of the feed-forward, heads, key-value heads, vocabulary, tied
    "Qwen/Qwen2.5-0.5B-Instruct": (896, 24, 4864, 14, 2, 151_936, True),
    "Qwen/Qwen2.5-1.5B-Instruct": (1536, 28, 8960, 12, 2, 151_936, True),
    "Qwen/Qwen2.5-7B-Instruct": (3584, 28, 18_944, 28, 4, 152_064, False),
    "Qwen/Qwen2.5-14B-Instruct": (5120, 48, 13_824, 40, 8, 152_064, False),
}
_KEYS = (
    "hidden_size",
    "num_hidden_layers",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "tie_word_embeddings",
)


@dataclass(frozen=True)
class Hardware:
    """`memory` in GiB and `tflops` (16 bits, peak) of one device, `bandwidth` in GB/s; `sharded`: weights, gradients
    and moments are spread over the devices (FSDP2, ZeRO-3). `efficiency`: the share of the peak that is reached."""

    devices: int = 1
    memory: float = 80.0
    tflops: float = 989.0
    bandwidth: float = 3350.0
    sharded: bool = False
    efficiency: float = 0.35


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder; `kv`: the width of the keys of a layer. `parameters`: all weights, counted in the model
    itself. `trainable`: those that the recipe trains, of its adapters where it has some."""

    hidden: int
    layers: int
    kv: int
    vocabulary: int
    parameters: int
    trainable: int


@dataclass
class Plan:
    """Bytes per device by what takes them, rates in tokens per second over all devices, seconds by phase."""

    hardware: Hardware
    parameters: int
    trainable: int
    memory: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    assumptions: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> float:
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        """Whether 92% of a device's memory is enough (the rest goes to the allocator and to kernels)."""
        return self.bytes <= 0.92 * self.hardware.memory * GIB

    def table(self) -> "Table":
        from rich.table import Table

        table = Table(title=f"Plan for {self.hardware.devices} device(s)", title_justify="left")
        table.add_column("what")
        table.add_column("how much", justify="right")
        table.add_row("parameters", f"{self.parameters / 1e9:.2f} G, {self.trainable / 1e9:.3f} G trained")
        for name, size in self.memory.items():
            table.add_row(f"memory: {name}", f"{size / GIB:.1f} GiB")
        verdict = "fits" if self.fits else "does not fit"
        table.add_row("memory per device", f"{self.bytes / GIB:.1f} of {self.hardware.memory:g} GiB: {verdict}")
        for name, rate in self.rates.items():
            table.add_row(f"assumed rate: {name}", f"{rate:,.0f} tokens/s")
        for name, time in self.seconds.items():
            table.add_row(f"duration: {name}", _duration(time))
        table.add_row("duration", _duration(sum(self.seconds.values())))
        return table


def shape_of(section: ModelSection) -> Shape:
    """The sizes of a recipe's model (of adapters: of the model that they belong to): known ones, else from its config
    file. Raises ConfigError: there is none, it lacks a size, or it has no layers for the adapters."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from training.policy import with_lora

    base = base_of(section.name)
    if base is not None:
        return shape_of(section.model_copy(update={"name": base}))
    try:
        if section.name in _SIZES:
            whole: Any = AutoConfig.for_model("qwen2", **dict(zip(_KEYS, _SIZES[section.name], strict=True)))
        else:
            whole = AutoConfig.from_pretrained(section.name)
        # Tensors of this device have sizes and no memory.
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(whole)  # type: ignore[no-untyped-call]
            parameters = _count(model.parameters())
            adapted = with_lora(model, section)
    except (OSError, ValueError) as error:
        raise ConfigError(f"No model at {section.name!r}: {str(error).splitlines()[0]}") from None
    config = whole.get_text_config()
    try:
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        sizes = (config.hidden_size, config.num_hidden_layers, head * heads, config.vocab_size)
    except AttributeError as error:
        raise ConfigError(f"{section.name!r} cannot be planned: {error}.") from None
    return Shape(*sizes, parameters, _count(one for one in adapted.parameters() if one.requires_grad))


def _count(parameters: Iterable[Any]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def plan(recipe: SftRecipe | PpoRecipe, hardware: Hardware, *, trajectories: int = 2137, tokens: int = 8_000) -> Plan:
    """The cost of a recipe. `trajectories` and `tokens` (of one, a quarter of them written by the model) are what it is
    assumed to learn from: the paper's number of successful ones for SFT. Raises ConfigError."""
    shape = shape_of(recipe.model)
    total, trainable = shape.parameters, shape.trainable
    made = Plan(hardware, total, trainable)
    learn = 8 if recipe.model.gradient_checkpointing else 6
    speed = hardware.devices * hardware.tflops * 1e12 * hardware.efficiency
    if isinstance(recipe, SftRecipe):
        _weights(made, recipe.model, total, trainable, "model")
        row = recipe.max_tokens if recipe.packing else min(tokens, recipe.max_tokens)
        _activations(made, recipe.model, shape, recipe.micro_batch * row)
        made.rates["learning"] = speed / (learn * total)
        made.seconds["learning"] = recipe.epochs * trajectories * tokens / made.rates["learning"]
        made.assumptions.append(f"{trajectories} trajectories of {tokens} tokens")
    else:
        _plan_ppo(made, recipe, shape, trainable, speed, learn, tokens)
    made.assumptions.append(
        f"{hardware.tflops:g} TFLOP/s per device, of which {hardware.efficiency:.0%} is reached; "
        f"{hardware.bandwidth:g} GB/s; {'sharded' if hardware.sharded else 'replicated'} weights"
    )
    return made


def _plan_ppo(
    made: Plan, recipe: PpoRecipe, shape: Shape, trainable: int, speed: float, learn: int, tokens: int
) -> None:
    total, hardware = made.parameters, made.hardware
    trunks = 2 if recipe.critic.kind == "separate" else 1
    length = min(tokens, recipe.rollout.max_tokens)
    written = length // 4
    _weights(made, recipe.model, total, trainable, "policy")
    if trunks == 2:
        _weights(made, recipe.model, total, trainable, "critic")
    size = _size(recipe.model)
    # Neither is sharded, whatever the policy is.
    if recipe.model.lora is None:
        made.memory["reference"] = total * size
    if hardware.sharded:
        made.memory["sampler's copy"] = total * size
    cache = 2 * shape.layers * shape.kv * size
    made.memory["key-value cache"] = recipe.rollout.concurrency * length * cache
    _activations(made, recipe.model, shape, recipe.micro_batch * length)
    episodes = recipe.batch
    steps = recipe.rollout.concurrency * hardware.bandwidth * 1e9 / (total * size)
    made.rates["sampling"] = 0.3 * steps * hardware.devices
    made.rates["learning"] = speed / (learn * total * trunks)
    made.rates["scoring"] = speed / (2 * total * (trunks + 1))
    made.seconds["sampling"] = recipe.iterations * episodes * written / made.rates["sampling"]
    made.seconds["scoring"] = recipe.iterations * episodes * length / made.rates["scoring"]
    made.seconds["learning"] = recipe.iterations * recipe.epochs * episodes * length / made.rates["learning"]
    made.assumptions.append(
        f"episodes of {length} tokens, {written} of them sampled; sampling bound by reading the weights, 30% of that"
    )


def _weights(made: Plan, section: ModelSection, total: int, trainable: int, name: str) -> None:
    shards = _shards(made.hardware)
    size = _size(section)
    made.memory[f"{name}: weights"] = total * size / shards
    # Adapters are kept in 32 bits whatever the weights are.
    trained = size if section.lora is None else 4
    made.memory[f"{name}: gradients"] = trainable * trained / shards
    made.memory[f"{name}: Adam"] = trainable * 2 * trained / shards


def _activations(made: Plan, section: ModelSection, shape: Shape, tokens: int) -> None:
    full = 34.0 * tokens * shape.hidden
    kept = 2.0 * tokens * shape.hidden
    layers = shape.layers * kept + full if section.gradient_checkpointing else shape.layers * full
    made.memory[f"activations ({tokens} tokens)"] = layers
    made.memory["logits (a chunk)"] = 3.0 * min(tokens, _CHUNK) * shape.vocabulary * 4


def _shards(hardware: Hardware) -> int:
    return hardware.devices if hardware.sharded else 1


def _size(section: ModelSection) -> int:
    return 4 if section.dtype == "float32" else 2


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
