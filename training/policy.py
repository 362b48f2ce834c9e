"""The network that PPO trains: a causal language model and a critic in one module.

Everything happens inside `forward`, so that data parallelism, FSDP and ZeRO, which hook into the forward of the module
that they wrap, gather what they must. Only the hidden states that are needed reach the output layer, in chunks that are
recomputed in the backward pass: logits of a whole sequence of a large vocabulary would not fit.

Left out: generation (the sampler uses `actor` itself), dropout (the ratio of new to old probabilities must be one
before the first step, so dropout is switched off).
"""

import copy
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training.config import CriticSection, ModelSection, base_of
from training.errors import ConfigError

CHUNK = 1024
"""Tokens whose logits are held at once."""


class Scored(NamedTuple):
    """Per sampled token, flat in the order of rows, then of positions: log-probability, entropy (nats), value before
    the token; `final` is the value after the last token of each row. All of at least 32 bits."""

    logprobs: Tensor
    entropy: Tensor
    values: Tensor
    final: Tensor


class Rows(NamedTuple):
    """A padded micro-batch: ids and attention [rows, width], mask [rows, width] of sampled tokens."""

    ids: Tensor
    attention: Tensor
    mask: Tensor


class Policy(nn.Module):
    """`actor` is a causal language model (or a PEFT model of one). `critic` is a trunk, or None: then values are read
    from the actor's hidden states, or are zero where there is no value head."""

    def __init__(self, actor: Any, critic: nn.Module | None = None, *, values: bool = True) -> None:
        super().__init__()
        self.actor = actor
        self.critic = critic
        hidden = int(actor.config.get_text_config().hidden_size)
        self.value_head: nn.Linear | None = nn.Linear(hidden, 1) if values else None
        if self.value_head is not None:
            nn.init.zeros_(self.value_head.weight)
            nn.init.zeros_(self.value_head.bias)
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0

    def forward(self, rows: Rows, temperature: float = 1.0, reference: bool = False) -> Scored:
        """Score the sampled tokens. With `reference` the adapters are switched off: the policy before training."""
        with self.actor.disable_adapter() if reference else nullcontext():
            base = self.actor.get_base_model() if hasattr(self.actor, "get_base_model") else self.actor
            hidden = _trunk(base.get_decoder(), rows)
            row, column = torch.nonzero(rows.mask, as_tuple=True)
            targets = rows.ids[row, column]
            logprobs, entropy = _token_scores(
                hidden[row, column - 1], targets, base.get_output_embeddings(), temperature
            )
        if self.value_head is None or reference:
            return Scored(logprobs, entropy, torch.zeros_like(logprobs), logprobs.new_zeros(len(rows.ids)))
        states = hidden if self.critic is None else _trunk(self.critic, rows)
        last = rows.attention.sum(1) - 1
        values = self.value_head(states[row, column - 1].to(self.value_head.weight.dtype)).squeeze(-1)
        final = self.value_head(states[torch.arange(len(last), device=last.device), last].to(values.dtype)).squeeze(-1)
        wide = torch.promote_types(values.dtype, torch.float32)
        return Scored(logprobs, entropy, values.to(wide), final.to(wide))

    def groups(self, learning_rate: float, critic_rate: float) -> list[dict[str, Any]]:
        """Parameter groups for one optimiser: the policy's, then the critic's."""
        mine = {id(parameter) for parameter in self._critic_parameters()}
        actor = [one for one in self.parameters() if one.requires_grad and id(one) not in mine]
        critic = [one for one in self._critic_parameters() if one.requires_grad]
        return [
            {"params": actor, "lr": learning_rate, "name": "policy"},
            {"params": critic, "lr": critic_rate, "name": "critic"},
        ]

    def _critic_parameters(self) -> list[nn.Parameter]:
        modules = [module for module in (self.critic, self.value_head) if module is not None]
        return [parameter for module in modules for parameter in module.parameters()]


def pad_rows(ids: Sequence[Sequence[int]], masks: Sequence[Sequence[bool]], pad: int) -> Rows:
    """Right-padded rows."""
    width = max(map(len, ids))
    batch = torch.full((len(ids), width), pad, dtype=torch.long)
    attention = torch.zeros(len(ids), width, dtype=torch.long)
    mask = torch.zeros(len(ids), width, dtype=torch.bool)
    for number, (row, own) in enumerate(zip(ids, masks, strict=True)):
        batch[number, : len(row)] = torch.tensor(row, dtype=torch.long)
        attention[number, : len(row)] = 1
        mask[number, : len(row)] = torch.tensor(own, dtype=torch.bool)
    return Rows(batch, attention, mask)


def load_model(section: ModelSection, vocabulary: int) -> Any:
    """The causal language model of a recipe, all of it trainable. Adapters in its folder are merged into the model that
    they belong to. Raises ConfigError: none there, none that can be read, or of a smaller vocabulary."""
    model = _read(section, section.name)
    rows = model.get_input_embeddings().weight.shape[0]
    if rows < vocabulary:
        raise ConfigError(
            f"The tokenizer has {vocabulary} tokens, the model {section.name!r} only {rows}: not of one checkpoint."
        )
    if section.gradient_checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    return model


@contextmanager
def exported(section: ModelSection, folder: Path, *, main: bool) -> Iterator[Path]:
    """A place to save a trained model, or its adapters, in; at the end it takes the place of `folder`. All processes
    enter; `main` does the work. Adapters are merged where the model that they belong to is of adapters itself, which
    no other library can read."""
    place = folder.with_name(f"{folder.name}.partial")
    if main:
        shutil.rmtree(place, ignore_errors=True)
    yield place
    if not main:
        return
    if section.lora is not None and base_of(section.name):
        model = _read(section, str(place))
        for path in place.glob("adapter_*"):
            path.unlink()
        model.save_pretrained(place)
    shutil.rmtree(folder, ignore_errors=True)
    place.rename(folder)


@contextmanager
def lora_config(section: ModelSection, task: str = "CAUSAL_LM") -> Iterator[Any]:
    """PEFT's configuration of the adapters, None where the recipe wants none. It is to be used in the block, which then
    raises ConfigError where the model has no such layers."""
    if section.lora is None:
        yield None
        return
    from peft import LoraConfig
    from peft.utils.error import NoMatchingPeftModuleError

    targets = section.lora.targets
    try:
        yield LoraConfig(
            r=section.lora.rank,
            lora_alpha=section.lora.alpha,
            lora_dropout=section.lora.dropout,
            target_modules=targets if isinstance(targets, str) else list(targets),
            task_type=task,
        )
    except (NoMatchingPeftModuleError, re.error) as error:
        raise ConfigError(f"model.lora.targets {targets!r} fits no layer of {section.name!r}: {error}") from None


def with_lora(model: Any, section: ModelSection, task: str = "CAUSAL_LM") -> Any:
    """The model with adapters, where the recipe wants them. Raises ConfigError: it has no such layers."""
    with lora_config(section, task) as config:
        if config is None:
            return model
        from peft import get_peft_model

        return get_peft_model(model, config)


def make_policy(section: ModelSection, critic: CriticSection, vocabulary: int) -> tuple[Policy, Policy | None]:
    """The policy with its critic, and the frozen reference (None with adapters: they are switched off instead)."""
    model = load_model(section, vocabulary)
    trunk = copy.deepcopy(model.get_decoder()) if critic.kind == "separate" else None
    reference = None
    if section.lora is None:
        reference = Policy(copy.deepcopy(model), values=False)
        reference.requires_grad_(requires_grad=False).eval()
    elif trunk is not None:
        trunk = with_lora(trunk, section, "FEATURE_EXTRACTION")
    return Policy(with_lora(model, section), trunk), reference


def _read(section: ModelSection, name: str) -> Any:
    from transformers import AutoModelForCausalLM

    base = base_of(name)
    try:
        if base is not None:
            from peft import PeftModel

            model: Any = PeftModel.from_pretrained(_read(section, base), name).merge_and_unload()
            # Adapters that are put on it name it as theirs; a short relative name would be looked up on the hub.
            model.name_or_path = str(Path(name).resolve())
            return model.requires_grad_(requires_grad=True)
        model = AutoModelForCausalLM.from_pretrained(
            name, dtype=getattr(torch, section.dtype), attn_implementation=section.attention
        )
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        flash = isinstance(error, ImportError) and section.attention == "flash_attention_2"
        remedy = " Install flash-attn, or set model.attention=sdpa." if flash else ""
        raise ConfigError(f"No model at {name!r}: {str(error).splitlines()[0]}{remedy}") from None
    # transformers puts adapters on a model without a word, and adapters that are added would undo them.
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ConfigError(f"{name!r} is a model with adapters: begin from a folder that holds one of the two.")
    return model


def _trunk(decoder: Any, rows: Rows) -> Tensor:
    states: Tensor = decoder(input_ids=rows.ids, attention_mask=rows.attention, use_cache=False).last_hidden_state
    return states


def _token_scores(hidden: Tensor, targets: Tensor, head: Any, temperature: float) -> tuple[Tensor, Tensor]:
    parts = []
    for start in range(0, max(len(targets), 1), CHUNK):
        piece, wanted = hidden[start : start + CHUNK], targets[start : start + CHUNK]
        if torch.is_grad_enabled():
            parts.append(checkpoint(_chunk, piece, wanted, head, temperature, use_reentrant=False))
        else:
            parts.append(_chunk(piece, wanted, head, temperature))
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _chunk(hidden: Tensor, targets: Tensor, head: Any, temperature: float) -> tuple[Tensor, Tensor]:
    logits = head(hidden)
    # At least 32 bits, whatever the weights are.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    logs = torch.log_softmax(logits, dim=-1)
    entropy = -(logs.exp() * logs).sum(-1)
    return logs.gather(-1, targets.unsqueeze(-1)).squeeze(-1), entropy
