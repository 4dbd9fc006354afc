"""The truncated normal policy against numerical integration."""

from __future__ import annotations

import pytest
import torch

from reverie.types import ActionSpec
from reverie_algorithms.common.dists import OneHotActions
from reverie_algorithms.dreamer.truncated_normal import TruncatedNormal
from tests.algorithms.small_2023 import uniform

DIST = TruncatedNormal(ActionSpec("box", (), 1), 0.1)
PARAMS = torch.tensor([[0.0, 0.0], [2.0, -9.0], [-0.4, 3.0], [5.0, -1.0]])
GRID = torch.linspace(-1, 1, 200_001)


def densities(params):
    """Density [P, G] on the grid."""
    return DIST.log_prob(params[:, None], GRID[None, :, None]).exp()


def test_std_at_zero_is_the_published_one():
    mean, std = DIST.mean_std(torch.zeros(2))
    assert (mean.item(), std.item()) == (0, pytest.approx(1.1))
    assert DIST.mode(PARAMS).tolist() == [[pytest.approx(m)] for m in torch.tanh(PARAMS[:, 0])]


def test_density_is_a_normal_s_and_adds_up_to_one():
    density = densities(PARAMS)
    torch.testing.assert_close(torch.trapezoid(density, GRID), torch.ones(4), atol=2e-4, rtol=0)
    mean, std = DIST.mean_std(PARAMS)
    square = ((GRID - mean) / std).square()
    rest = DIST.log_prob(PARAMS[:, None], GRID[None, :, None]) + 0.5 * square
    torch.testing.assert_close(rest, rest[:, :1].expand_as(rest), atol=1e-4, rtol=1e-5)


def test_entropy_is_exact():
    density = densities(PARAMS).double().clamp(min=1e-30)
    wanted = -torch.trapezoid(density * density.log(), GRID.double())
    torch.testing.assert_close(DIST.entropy(PARAMS).double(), wanted, atol=1e-3, rtol=1e-3)


def test_samples_follow_the_density():
    count = 20_000
    quantiles = (torch.arange(count) + 0.5)[:, None] / count
    for params in PARAMS:
        samples = DIST.sample(params.expand(count, 2), quantiles).squeeze(-1)
        density = densities(params[None])[0]
        for power in (1, 2):
            wanted = torch.trapezoid(density * GRID**power, GRID)
            assert samples.pow(power).mean().item() == pytest.approx(wanted.item(), abs=2e-3)


def test_samples_carry_the_gradient_of_the_quantile():
    noise, eps = uniform(4, 1), 1e-3
    params = PARAMS.clone().requires_grad_()
    (grad,) = torch.autograd.grad(DIST.sample(params, noise).sum(), params)
    for axis in range(2):
        step = torch.zeros(2)
        step[axis] = eps
        change = DIST.sample(PARAMS + step, noise) - DIST.sample(PARAMS - step, noise)
        torch.testing.assert_close(grad[:, axis], change[:, 0] / (2 * eps), atol=2e-3, rtol=2e-2)


def test_extremes_stay_finite_inside_the_bounds_and_keep_a_gradient():
    params = torch.tensor([[99.0, -99.0], [-99.0, -99.0], [99.0, 99.0], [0.0, 0.0]])
    for draw in (0.0, 1 - 2**-24):
        leaf = params.clone().requires_grad_()
        sample = DIST.sample(leaf, torch.full((4, 1), draw))
        assert sample.abs().max() <= 1 - 0.9e-6
        (grad,) = torch.autograd.grad(sample.sum(), leaf)
        assert torch.isfinite(grad).all()
        assert grad[3].abs().sum() > 0
    assert torch.isfinite(DIST.entropy(params)).all()
    assert torch.isfinite(DIST.log_prob(params, sample.detach())).all()


def test_actions_are_summed_over_and_bounded():
    dist, params = TruncatedNormal(ActionSpec("box", (), 2), 0.1), torch.randn(7, 4)
    single = TruncatedNormal(ActionSpec("box", (), 1), 0.1)
    parts = [single.entropy(params[:, [i, i + 2]]) for i in range(2)]
    torch.testing.assert_close(dist.entropy(params), parts[0] + parts[1])
    noise = dist.noise((7,), torch.Generator().manual_seed(0))
    action = dist.sample(params, noise)
    assert noise.shape == action.shape == (7, 2)
    assert torch.equal(dist.decode(action), action)


def test_one_hot_actions_without_a_mix_survive_impossible_classes():
    dist = OneHotActions(ActionSpec("discrete", (3,)), 0.0)
    params = torch.tensor([[500.0, 0.0, -500.0]], requires_grad=True)
    total = dist.entropy(params) + dist.log_prob(params, torch.tensor([[0.0, 1.0, 0.0]]))
    (grad,) = torch.autograd.grad(total.sum(), params)
    assert torch.isfinite(total).all()
    assert torch.isfinite(grad).all()
