"""The network of PPO: what it scores, with adapters, recomputation and chunks."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training import tiny
from training.config import CriticSection, LoraSection, ModelSection
from training.policy import CHUNK, Policy, make_policy, pad_rows

Small = tuple[Path, Any, Any]


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
