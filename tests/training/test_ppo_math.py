"""The arithmetic of PPO against slow float64 references, on hand-made trajectories."""

import math
import random
from collections.abc import Sequence

import pytest
import torch

from training import ppo_math as pm

GAMMA, LAM = 0.97, 0.9


def slow_gae(
    rewards: Sequence[float], values: Sequence[float], last: float, gamma: float, lam: float
) -> tuple[list[float], list[float]]:
    """The definition: A_t = sum over k of (gamma lam)^k delta_{t+k}, each delta written out."""
    count = len(rewards)
    following = [*values[1:], last]
    deltas = [rewards[t] + gamma * following[t] - values[t] for t in range(count)]
    advantages = [sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, count)) for t in range(count)]
    return advantages, [advantages[t] + values[t] for t in range(count)]


def test_advantages_skip_observations_and_cross_segments() -> None:
    # Two episodes: one of two rows (its history was trimmed), with observations between the sampled tokens.
    mask = torch.tensor([[0, 1, 1, 0, 0, 1, 0], [0, 0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 1, 1]], dtype=torch.bool)
    index, valid = pm.steps_of(mask, [[0, 1], [2]])
    assert valid.tolist() == [[True] * 4, [True, True, True, False]]
    assert index[0].tolist() == [1, 2, 5, 9]
    generator = random.Random(0)
    values = [[generator.uniform(-1, 1) for _ in range(4)], [generator.uniform(-1, 1) for _ in range(3)]]
    rewards = [[-0.1, 0.2, 0.0, 1.0], [0.0, -0.3, 0.5]]
    last = [0.0, 0.7]
    padded = torch.tensor([values[0], [*values[1], 99.0]], dtype=torch.float64)
    given = torch.tensor([rewards[0], [*rewards[1], 99.0]], dtype=torch.float64)
    advantages, returns = pm.gae(given, padded, torch.tensor(last, dtype=torch.float64), valid, GAMMA, LAM)
    for row in range(2):
        wanted = slow_gae(rewards[row], values[row], last[row], GAMMA, LAM)
        count = len(values[row])
        assert advantages[row, :count].tolist() == pytest.approx(wanted[0], abs=1e-12)
        assert returns[row, :count].tolist() == pytest.approx(wanted[1], abs=1e-12)
    assert advantages[1, 3] == 0
    assert returns[1, 3] == 0


def test_a_cut_episode_counts_the_critics_value_and_an_ended_one_nothing() -> None:
    valid = torch.ones(2, 1, dtype=torch.bool)
    rewards, values = torch.zeros(2, 1), torch.full((2, 1), 0.25)
    advantages, _ = pm.gae(rewards, values, torch.tensor([0.0, 0.8]), valid, 1.0, 0.95)
    assert advantages.flatten().tolist() == pytest.approx([-0.25, 0.55])


def test_an_episode_of_one_token_is_a_bandit() -> None:
    # With one step the advantage is reward minus baseline, whatever gamma and lambda are.
    rewards = torch.tensor([[1.0], [0.0], [0.3]], dtype=torch.float64)
    values = torch.tensor([[0.5], [0.5], [0.1]], dtype=torch.float64)
    valid = torch.ones(3, 1, dtype=torch.bool)
    for gamma, lam in ((1.0, 0.95), (0.5, 0.1), (0.9, 1.0)):
        advantages, returns = pm.gae(rewards, values, torch.zeros(3, dtype=torch.float64), valid, gamma, lam)
        assert torch.equal(advantages, rewards - values)
        assert torch.allclose(returns, rewards)


def test_the_score_is_on_the_last_sampled_token_and_penalties_on_every_one() -> None:
    valid = torch.tensor([[True, True, False], [True, True, True], [False, False, False]])
    penalties = torch.full((3, 3), 0.1)
    rewards = pm.place_rewards(torch.tensor([1.0, 0.5, 7.0]), valid, penalties)
    assert rewards[0].tolist() == pytest.approx([-0.1, 0.9, 0.0])
    assert rewards[1].tolist() == pytest.approx([-0.1, -0.1, 0.4])
    assert rewards[2].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("shift", "advantage", "wanted", "moves"),
    [
        (math.log(1.5), 1.0, -1.2, False),
        (math.log(1.5), -1.0, 1.5, True),
        (math.log(0.5), 1.0, -0.5, True),
        (math.log(0.5), -1.0, 0.8, False),
        (math.log(1.1), 1.0, -1.1, True),
    ],
)
def test_the_policy_loss_is_clipped_only_where_it_would_gain(
    shift: float, advantage: float, wanted: float, moves: bool
) -> None:
    old = torch.tensor([-1.0], dtype=torch.float64)
    new = (old + shift).requires_grad_()
    loss, clipped = pm.policy_loss(new, old, torch.tensor([advantage], dtype=torch.float64), torch.tensor([True]), 0.2)
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(wanted)
    assert new.grad is not None
    assert bool(new.grad.item() != 0) is moves
    assert bool(clipped) is not moves


@pytest.mark.parametrize(
    ("new", "old", "target", "wanted", "moves"),
    [(0.5, 0.0, 1.0, 0.5 * 0.64, False), (0.1, 0.0, 1.0, 0.5 * 0.81, True), (0.5, 0.0, -1.0, 0.5 * 2.25, True)],
)
def test_the_value_loss_is_clipped_only_where_it_would_gain(
    new: float, old: float, target: float, wanted: float, moves: bool
) -> None:
    value = torch.tensor([new], dtype=torch.float64, requires_grad=True)
    on = torch.tensor([True])
    given = torch.tensor([old], dtype=torch.float64), torch.tensor([target], dtype=torch.float64)
    loss, clipped = pm.value_loss(value, *given, on, 0.2)
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(wanted)
    assert value.grad is not None
    assert bool(value.grad.item() != 0) is moves
    assert bool(clipped) is not moves
    assert pm.value_loss(value, *given, on, None)[0].item() == pytest.approx(0.5 * (new - target) ** 2)


def test_nothing_outside_the_mask_is_in_a_loss() -> None:
    mask = torch.tensor([[True, False, True]])
    one = torch.tensor([[0.1, 0.2, 0.3]])
    other = torch.tensor([[0.1, 1e30, 0.3]])
    base = torch.zeros(1, 3)
    for left, right in ((one, one), (other, other)):
        assert pm.policy_loss(left, base, right, mask, 0.2)[0] == pm.policy_loss(one, base, one, mask, 0.2)[0]
        assert pm.value_loss(left, base, right, mask, 0.2)[0] == pm.value_loss(one, base, one, mask, 0.2)[0]


def test_kl_estimators_agree_with_the_exact_divergence() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 50, dtype=torch.float64)
    own, other = torch.log_softmax(logits, -1)
    exact = (own.exp() * (own - other)).sum()
    assert (own.exp() * pm.kl_k1(own, other)).sum() == pytest.approx(exact.item())
    assert (own.exp() * pm.kl_k3(own, other)).sum() == pytest.approx(exact.item())
    assert bool((pm.kl_k3(own, other) >= 0).all())


def test_whitening_and_explained_variance() -> None:
    mask = torch.tensor([[True, True, False, True]])
    whitened = pm.whiten(torch.tensor([[1.0, 2.0, 1e9, 6.0]]), mask)
    assert whitened[mask].mean().item() == pytest.approx(0, abs=1e-6)
    assert whitened[mask].var(unbiased=False).item() == pytest.approx(1, abs=1e-5)
    assert whitened[0, 2] == 0
    returns = torch.tensor([[1.0, 0.0, 5.0, 2.0]])
    assert pm.explained_variance(returns, returns, mask) == pytest.approx(1)
    assert pm.explained_variance(torch.zeros(1, 4), returns, mask) == pytest.approx(0)
    assert math.isnan(pm.explained_variance(returns, torch.ones(1, 4), mask))


def test_the_sampler_weight_is_capped() -> None:
    trainer, sampler = torch.tensor([[0.0, 0.0, 9.0]]), torch.tensor([[-2.0, 0.5, 0.0]])
    weight = pm.sampler_weight(trainer, sampler, torch.tensor([[True, True, False]]), 2.0)
    assert weight.flatten().tolist() == pytest.approx([2.0, math.exp(-0.5), 1.0])


def test_the_adaptive_coefficient_moves_towards_its_target() -> None:
    controller = pm.KLController(0.1, target=0.05, horizon=100)
    controller.update(0.5, episodes=10)
    # The factor of the source, for ten of a hundred episodes.
    assert controller.coefficient == pytest.approx(0.1 * 1.02, rel=1e-3)
    controller.update(0.0, episodes=10)
    assert controller.coefficient == pytest.approx(0.1)
    for _ in range(3):
        controller.update(0.0, episodes=600)
        assert controller.coefficient > 0
    assert controller.coefficient == pytest.approx(0.1 * math.exp(-0.2 * 18))
    fixed = pm.KLController(0.1)
    fixed.update(9.0, episodes=10)
    assert fixed.coefficient == 0.1
