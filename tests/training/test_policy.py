"""The network of PPO: what it scores, with adapters, recomputation and chunks."""

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training import tiny
from training.config import CriticSection, LoraSection, ModelSection
from training.errors import ConfigError
from training.policy import CHUNK, Policy, exported, load_model, make_policy, pad_rows, with_lora

Small = tuple[Path, Any, Any]
LORA = LoraSection(rank=4)
IDS = torch.tensor([[1, 2, 3, 4, 5, 6]])


def adapted(small: Small, folder: Path) -> torch.Tensor:
    """Leave adapters of the small model in a folder, far from their beginning; the logits with them."""
    section = ModelSection(name=str(small[0]), lora=LORA)
    model = with_lora(load_model(section, len(small[1])), section).eval()
    torch.manual_seed(7)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    model.save_pretrained(folder)
    return logits(model)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(IDS).logits
    return found


@pytest.mark.parametrize("kind", ["separate", "shared"])
@pytest.mark.parametrize("lora", [None, LoraSection(rank=4)])
def test_every_weight_that_is_trained_gets_a_gradient(small: Small, kind: Any, lora: LoraSection | None) -> None:
    """With recomputation of layers and in bfloat16: what the large recipes use."""
    section = ModelSection(name=str(small[0]), gradient_checkpointing=True, lora=lora)
    policy, reference = make_policy(section, CriticSection(kind=kind), len(small[1]))
    assert (reference is None) is (lora is not None)
    policy.train()
    rows = [row for rollout in tiny.rollouts() for row in rollout.rows]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scored = policy(pad_rows([row.ids for row in rows], [row.mask for row in rows], 0))
    assert scored.logprobs.dtype == torch.float32
    torch.autograd.backward(scored.logprobs.sum() + scored.values.sum())
    trained = {name: one for name, one in policy.named_parameters() if one.requires_grad}
    assert all(one.grad is not None for one in trained.values())
    grouped = [parameter for group in policy.groups(1e-5, 1e-4) for parameter in group["params"]]
    assert {id(one) for one in grouped} == {id(one) for one in trained.values()}
    assert len(grouped) == len(trained)
    if lora is not None:
        assert all("lora_" in name or name.startswith("value_head") for name in trained)


def test_without_its_adapters_the_policy_is_the_reference(small: Small) -> None:
    section = ModelSection(name=str(small[0]), lora=LoraSection(rank=4))
    policy, _ = make_policy(section, CriticSection(kind="shared"), len(small[1]))
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    rows = pad_rows([[1, 2, 3, 4]], [[False, True, False, True]], 0)
    with torch.no_grad():
        own, reference = policy(rows).logprobs, policy(rows, reference=True).logprobs
        plain = Policy(small[2], values=False)(rows).logprobs
    assert torch.allclose(reference, plain, atol=1e-6)
    assert not torch.allclose(own, plain, atol=1e-3)


def test_chunks_and_padding_change_no_score() -> None:
    long, short = [1, 2, 3, 4, 5] * (CHUNK // 4), [7, 8, 9]
    masks = [[False, *[True] * (len(ids) - 1)] for ids in (long, short)]
    policy = Policy(tiny.model(), tiny.model(seed=1).get_decoder())
    both = policy(pad_rows([long, short], masks, 0), temperature=0.7)
    logits = policy.actor(input_ids=torch.tensor([long])).logits[0] / 0.7
    logs = torch.log_softmax(logits[:-1], -1).gather(1, torch.tensor(long[1:])[:, None])[:, 0]
    entropy = -(torch.softmax(logits[:-1], -1) * torch.log_softmax(logits[:-1], -1)).sum(-1)
    assert len(both.logprobs) == len(long) + len(short) - 2 > CHUNK
    assert torch.allclose(both.logprobs[: len(long) - 1], logs, atol=1e-4)
    assert torch.allclose(both.entropy[: len(long) - 1], entropy, atol=1e-4)
    alone = policy(pad_rows([short], masks[1:], 0), temperature=0.7)
    assert torch.allclose(both.logprobs[len(long) - 1 :], alone.logprobs, atol=1e-5)


@pytest.mark.parametrize("lora", [None, LORA])
def test_policy_and_reference_begin_with_the_adapters_of_their_folder(
    small: Small, tmp_path: Path, lora: LoraSection | None
) -> None:
    wanted = adapted(small, tmp_path / "sft")
    assert not torch.allclose(wanted, logits(small[2]), atol=0.1)
    section = ModelSection(name=str(tmp_path / "sft"), lora=lora)
    policy, reference = make_policy(section, CriticSection(kind="shared"), len(small[1]))
    trained = sum(one.numel() for one in policy.actor.parameters() if one.requires_grad)
    assert trained >= (small[2].num_parameters() if lora is None else 1)
    assert torch.allclose(logits(policy.actor), wanted, atol=1e-4)
    if reference is None:
        with policy.actor.disable_adapter():
            assert torch.allclose(logits(policy.actor), wanted, atol=1e-4)
    else:
        assert torch.allclose(logits(reference.actor), wanted, atol=1e-4)


# PEFT's, of a model that is adapters itself.
@pytest.mark.filterwarnings("ignore:Could not find a config file in:UserWarning")
def test_what_began_from_adapters_is_left_whole(small: Small, tmp_path: Path) -> None:
    """transformers alone must find the model, not adapters of adapters. What lay there before goes."""
    from transformers import AutoModelForCausalLM

    adapted(small, tmp_path / "sft")
    section = ModelSection(name=str(tmp_path / "sft"), lora=LORA)
    policy, _ = make_policy(section, CriticSection(kind="shared"), len(small[1]))
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    shutil.copytree(tmp_path / "sft", tmp_path / "model")
    with exported(section, tmp_path / "model", main=True) as place:
        policy.actor.save_pretrained(place)
    assert {path.name for path in tmp_path.iterdir()} == {"sft", "model"}
    assert not list((tmp_path / "model").glob("adapter_*"))
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert torch.allclose(logits(found), logits(policy.actor), atol=1e-4)


def test_what_cannot_be_loaded_is_said_with_its_remedy(small: Small, tmp_path: Path) -> None:
    def refused(folder: Path, **changes: Any) -> str:
        with pytest.raises(ConfigError) as error:
            load_model(ModelSection(name=str(folder), **changes), len(small[1]))
        return str(error.value)

    for targets in (("q_prj",), "(("):
        section = ModelSection(name=str(small[0]), lora=LoraSection(targets=targets))
        with pytest.raises(ConfigError, match=r"model\.lora\.targets .* fits no layer of"):
            make_policy(section, CriticSection(), len(small[1]))
    if find_spec("flash_attn") is None:
        assert "model.attention=sdpa" in refused(small[0], attention="flash_attention_2")
    adapted(small, tmp_path / "sft")
    shutil.copytree(small[0], tmp_path / "both")
    shutil.copytree(tmp_path / "sft", tmp_path / "both", dirs_exist_ok=True)
    assert "one of the two" in refused(tmp_path / "both")
    (tmp_path / "sft" / "adapter_config.json").write_text("{}")
    assert "do not name the model" in refused(tmp_path / "sft")
    weights = tmp_path / "both" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "No model at" in refused(tmp_path / "both")
