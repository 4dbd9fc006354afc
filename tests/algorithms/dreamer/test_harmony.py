"""Harmonizers against the fixed points and trajectories of the specification."""

from __future__ import annotations

import math

import pytest
import torch

from reverie.group import Alone
from reverie_algorithms.common.optim import Adam, AdamGroup
from reverie_algorithms.dreamer.harmony import (
    V2_GROUPS,
    Harmonizer,
    HarmonyConfig,
)

SCALES = {"image": 1.0, "reward": 1.0, "cont": 1.0, "dyn": 0.5, "rep": 0.1, "vector": 2.0}
LOSSES = {k: torch.tensor(v) for k, v in zip(SCALES, (900.0, 3.0, 0.5, 4.0, 4.0, 7.0), strict=True)}


def harmonizer(mode, **options):
    return Harmonizer(HarmonyConfig(mode=mode, **options), SCALES)


def test_off_is_the_plain_weighted_sum():
    total, metrics = harmonizer("off")(LOSSES)
    assert total.item() == pytest.approx(900 + 3 + 0.5 + 0.5 * 4 + 0.1 * 4 + 2 * 7)
    assert not metrics
    assert not harmonizer("off").trained


def test_paper_starts_with_weight_one_and_its_regulariser():
    module = harmonizer("paper")
    total, metrics = module(LOSSES)
    plain = 900 + 3 + 4 + 0.5 + 2 * 7
    assert total.item() - plain == pytest.approx((2 + 5 / 6) * math.log(2), abs=1e-4)
    assert sum(p.numel() for p in module.trained.values()) == 3
    assert {metrics[f"harmony/weight/{k}"].item() for k in ("image", "reward", "kl")} == {1.0}


def test_gradient_at_the_start_is_a_half_minus_the_loss():
    module = harmonizer("paper")
    module(LOSSES)[0].backward()
    grads = {name: p.grad.item() for name, p in module.log_sigma.items()}
    wanted = {"image": 0.5 - 900, "reward": 0.5 - 3, "kl": 5 / 12 - 4}
    assert grads == pytest.approx(wanted)


def test_unrectified_regularises_with_log_sigma():
    module = harmonizer("unrectified")
    torch.nn.init.constant_(module.log_sigma["reward"], 2.0)
    extra = module(LOSSES)[0].item() - (900 + 3 * math.exp(-2) + 4 + 0.5 + 14)
    assert extra == pytest.approx(2, abs=1e-3)


def test_fixed_divides_by_constants():
    module = harmonizer("fixed", sigma={"image": 100.0, "reward": 0.5, "kl": 2.0})
    total, metrics = module(LOSSES)
    assert total.item() == pytest.approx(9 + 6 + 2 + 0.5 + 14)
    assert metrics["harmony/scaled/image"].item() == pytest.approx(9)
    assert not module.trained


@pytest.mark.parametrize("sigma", [{}, {"image": 1.0, "reward": 1.0, "kl": 0.0}, {"imge": 1.0}])
def test_fixed_wants_a_positive_sigma_for_each_group(sigma):
    with pytest.raises(ValueError, match=r"harmony.sigma.*\['image', 'kl', 'reward'\]"):
        harmonizer("fixed", sigma=sigma)


def test_groups_without_a_loss_are_left_out():
    scales = {k: v for k, v in SCALES.items() if k != "image"}
    module = Harmonizer(HarmonyConfig(mode="paper"), scales)
    assert set(module.log_sigma) == {"reward", "kl"}


@pytest.mark.parametrize(
    ("group", "loss", "sigma"),
    [
        ("reward", 0.01, 0.10512),
        ("reward", 0.5, 1.0),
        ("reward", 1.0, (1 + 5**0.5) / 2),
        ("reward", 100, 100.990),
        ("kl", 1.0, 1.849),
    ],
)
def test_the_harmonised_loss_is_stationary_where_the_paper_says(group, loss, sigma):
    module = harmonizer("paper")
    torch.nn.init.constant_(module.log_sigma[group], math.log(sigma))
    names = {"reward": ["reward"], "kl": ["dyn", "rep"]}[group]
    losses = {**LOSSES, **dict.fromkeys(names, torch.tensor(loss))}
    module(losses)[0].backward()
    assert module.log_sigma[group].grad.item() == pytest.approx(0, abs=2e-4)


def trajectory(losses, lr, steps):
    """Log sigma of constant reward and image losses after the given numbers of Adam steps."""
    module = Harmonizer(HarmonyConfig(mode="paper"), dict.fromkeys(losses, 1.0))
    adam = Adam([AdamGroup(module.trained, lr, 1e-5, None)], Alone())
    values = {k: torch.tensor(v) for k, v in losses.items()}
    seen = {}
    for step in range(1, max(steps) + 1):
        adam.step(module(values)[0])
        if step in steps:
            seen[step] = {k: module.log_sigma[k].item() for k in losses}
    return seen


def test_sigma_anneals_as_simulated():
    got = trajectory({"reward": 2.0, "image": 1000.0}, 3e-4, (1000, 5000, 5964))
    assert got[1000]["reward"] == pytest.approx(0.272, abs=2e-3)
    assert got[5000]["reward"] == pytest.approx(0.932, abs=2e-3)
    assert got[5964]["reward"] == pytest.approx(1.005, abs=0.0205)
    assert got[5000]["image"] == pytest.approx(1.239, abs=2e-3)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("lr", "wanted"),
    [
        (3e-4, {10_000: 2.360, 20_000: 4.576, 33_247: 6.889}),
        (1e-4, {10_000: 0.921, 25_000: 2.279, 50_000: 4.536, 79_154: 6.889}),
    ],
)
def test_sigma_anneals_as_simulated_to_the_end(lr, wanted):
    got = trajectory({"image": 1000.0}, lr, tuple(wanted))
    assert {k: v["image"] for k, v in got.items()} == pytest.approx(wanted, abs=3e-3)


def simulated(loss, lr, steps):
    """Log sigma after the given numbers of Adam steps, in plain arithmetic."""
    log_sigma = mean = square = 0.0
    seen = {}
    for step in range(1, max(steps) + 1):
        grad = -loss * math.exp(-log_sigma) + 1 / (1 + math.exp(-log_sigma))
        mean, square = 0.9 * mean + 0.1 * grad, 0.999 * square + 0.001 * grad * grad
        scale = math.sqrt(square / (1 - 0.999**step)) + 1e-5
        log_sigma -= lr * mean / (1 - 0.9**step) / scale
        if step in steps:
            seen[step] = log_sigma
    return seen


@pytest.mark.parametrize(
    ("loss", "lr", "wanted"),
    [
        (2.0, 3e-4, {1000: 0.272, 5000: 0.932}),
        (1000.0, 3e-4, {5000: 1.239, 10_000: 2.360, 20_000: 4.576, 33_247: 6.889}),
        (1000.0, 1e-4, {10_000: 0.921, 25_000: 2.279, 50_000: 4.536, 79_154: 6.889}),
    ],
)
def test_the_published_figures_are_those_of_the_formula(loss, lr, wanted):
    assert simulated(loss, lr, tuple(wanted)) == pytest.approx(wanted, abs=2e-3)


def test_groups_of_dreamer_v2_have_one_loss_each_and_no_share():
    losses = {"image": 900.0, "reward": 3.0, "kl": 4.0, "discount": 0.5, "vector": 7.0}
    scales = dict.fromkeys(losses, 2.0)
    module = Harmonizer(HarmonyConfig(mode="paper"), scales, V2_GROUPS)
    torch.nn.init.constant_(module.log_sigma["kl"], math.log(2))
    total, _ = module({k: torch.tensor(v) for k, v in losses.items()})
    wanted = 900 + 3 + 4 / 2 + 2 * math.log(2) + math.log(3) + 2 * 0.5 + 2 * 7
    assert total.item() == pytest.approx(wanted)
