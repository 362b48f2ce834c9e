"""The arithmetic of PPO as pure functions of tensors: advantages, losses, KL, reward. No model, no state.

Sources: GAE is equation 16 of Schulman et al., "High-dimensional continuous control using generalized advantage
estimation" (2016); the clipped policy loss is equation 7 of Schulman et al., "Proximal policy optimization algorithms"
(2017); the clipped value loss is that of its reference implementation (openai/baselines, ppo2); the KL estimators are
Schulman's k1, k2, k3 ("Approximating KL divergence", 2020); the adaptive coefficient is section 2.2 of Ziegler et al.,
"Fine-tuning language models from human preferences" (2019).

Shapes: a *row* is one token sequence. What concerns single tokens is [rows, tokens]; `mask` is true where our model
sampled the token. An episode may consist of several rows (its history was trimmed); what concerns episodes is
[episodes, steps], where step t is the t-th token that was sampled in the episode, whichever row holds it.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def steps_of(mask: Tensor, episodes: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Where each episode's sampled tokens are.

    `episodes` lists the rows of each episode in their order. Returns (index, valid), both [episodes, steps]: `index`
    points into the flattened [rows * tokens], `valid` is false in the padding at the end. Tokens that were not sampled
    (prompt, observations) are in no step, so nothing computed over steps can depend on them.
    """
    width = mask.shape[1]
    found = []
    for rows in episodes:
        parts = [torch.nonzero(mask[row]).flatten() + row * width for row in rows]
        found.append(torch.cat(parts) if parts else torch.empty(0, dtype=torch.long))
    steps = max((len(one) for one in found), default=0)
    index = torch.zeros(len(found), steps, dtype=torch.long)
    valid = torch.zeros(len(found), steps, dtype=torch.bool)
    for number, one in enumerate(found):
        index[number, : len(one)] = one
        valid[number, : len(one)] = True
    return index, valid


def gae(
    rewards: Tensor, values: Tensor, last: Tensor, valid: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantages and returns, [episodes, steps], zero where not valid.

    `values[e, t]` is V of the state before step t; `last[e]` is V of the state after the final step: zero where the
    episode ended, the critic's value where it was cut (truncation is not an end).

        delta_t = r_t + gamma V_{t+1} - V_t        A_t = delta_t + gamma lam A_{t+1}        R_t = A_t + V_t
    """
    advantages = torch.zeros_like(values)
    following = last.clone()
    running = torch.zeros_like(last)
    for step in range(values.shape[1] - 1, -1, -1):
        here = valid[:, step]
        delta = rewards[:, step] + gamma * following - values[:, step]
        running = torch.where(here, delta + gamma * lam * running, running)
        following = torch.where(here, values[:, step], following)
        advantages[:, step] = torch.where(here, running, torch.zeros_like(running))
    return advantages, torch.where(valid, advantages + values, torch.zeros_like(values))


def place_rewards(scores: Tensor, valid: Tensor, penalties: Tensor | None = None) -> Tensor:
    """[episodes, steps]: each episode's score on its last sampled token, minus `penalties` (KL) on every one."""
    rewards = torch.zeros(valid.shape, dtype=scores.dtype)
    if penalties is not None:
        rewards -= torch.where(valid, penalties.to(scores.dtype), torch.zeros_like(rewards))
    lengths = valid.sum(1)
    filled = torch.nonzero(lengths > 0).flatten()
    rewards[filled, lengths[filled] - 1] += scores[filled]
    return rewards


def whiten(values: Tensor, mask: Tensor, eps: float = 1e-8) -> Tensor:
    """Zero mean and unit variance over the masked elements; zero elsewhere. Fewer than two elements are left alone."""
    count = int(mask.sum())
    if count < 2:
        return torch.where(mask, values, torch.zeros_like(values))
    chosen = values[mask]
    scaled = (values - chosen.mean()) / (chosen.var(unbiased=False) + eps).sqrt()
    return torch.where(mask, scaled, torch.zeros_like(values))


def policy_loss(
    new: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, clip: float, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(sum over masked tokens of the clipped loss, number of them that were clipped).

        -min(r A, clip(r, 1 - clip, 1 + clip) A),   r = exp(new - old)

    `weight` multiplies each token's loss (the correction for a sampler that differs from the trainer). Sums, not
    means: the caller divides by the tokens of the whole minibatch, whatever the micro-batches and processes.
    """
    ratio = torch.exp(torch.where(mask, new - old, torch.zeros_like(new)))
    plain, bounded = -ratio * advantages, -ratio.clamp(1 - clip, 1 + clip) * advantages
    loss = torch.maximum(plain, bounded)
    if weight is not None:
        loss = loss * weight
    return torch.where(mask, loss, torch.zeros_like(loss)).sum(), ((bounded > plain) & mask).sum()


def value_loss(new: Tensor, old: Tensor, returns: Tensor, mask: Tensor, clip: float | None) -> tuple[Tensor, Tensor]:
    """(sum over masked tokens of the value loss, number of them that were clipped).

    1/2 max((V - R)^2, (V_old + clip(V - V_old, -clip, clip) - R)^2); without `clip` 1/2 (V - R)^2.
    """
    plain = (new - returns) ** 2
    if clip is None:
        loss, clipped = plain, torch.zeros_like(mask)
    else:
        bounded = (old + (new - old).clamp(-clip, clip) - returns) ** 2
        loss, clipped = torch.maximum(plain, bounded), (bounded > plain) & mask
    return 0.5 * torch.where(mask, loss, torch.zeros_like(loss)).sum(), clipped.sum()


def kl_k1(new: Tensor, reference: Tensor) -> Tensor:
    """Per token log p - log q: unbiased, may be negative. The penalty inside the reward."""
    return new - reference


def kl_k3(new: Tensor, reference: Tensor) -> Tensor:
    """Per token q/p - 1 - log(q/p): unbiased under p, never negative, of low variance. The penalty inside the loss."""
    gap = reference - new
    return torch.exp(gap) - 1 - gap


def sampler_weight(trainer: Tensor, sampler: Tensor, mask: Tensor, cap: float) -> Tensor:
    """min(p_trainer / p_sampler, cap) per token, 1 outside the mask: the truncated importance weight of tokens that
    another engine sampled (numerics, quantisation)."""
    ratio = torch.exp(torch.where(mask, trainer - sampler, torch.zeros_like(trainer)))
    return ratio.clamp(max=cap)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """1 - Var(R - V) / Var(R) over the masked elements; nan where the returns do not vary."""
    chosen, target = values[mask], returns[mask]
    if target.numel() < 2 or float(target.var(unbiased=False)) == 0:
        return float("nan")
    return float(1 - (target - chosen).var(unbiased=False) / target.var(unbiased=False))


class KLController:
    """The coefficient of the KL penalty: fixed, or steered towards `target` nats per token.

    coefficient *= exp(clip(kl / target - 1, -0.2, 0.2) * episodes / horizon)

    Ziegler et al. and their code (openai/lm-human-preferences, `AdaptiveKLController`) have 1 + x for exp(x), which is
    the same while few episodes of a long horizon are taken in, and below zero where there are more than five horizons.
    """

    def __init__(self, coefficient: float, target: float | None = None, horizon: int = 10_000) -> None:
        self.coefficient, self.target, self.horizon = coefficient, target, horizon

    def update(self, kl: float, episodes: int) -> None:
        """Take in the mean KL per token of an iteration."""
        if self.target is not None:
            error = min(max(kl / self.target - 1, -0.2), 0.2)
            self.coefficient *= math.exp(error * episodes / self.horizon)

    def state_dict(self) -> dict[str, float]:
        return {"coefficient": self.coefficient}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.coefficient = state["coefficient"]
