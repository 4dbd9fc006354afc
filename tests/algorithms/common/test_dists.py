"""Distributions against textbook forms."""

from __future__ import annotations

import math

import pytest
import torch

from reverie.types import ActionSpec
from reverie_algorithms.common.dists import (
    BoundedNormal,
    OneHotActions,
    ReinforcedNormal,
    SymexpTwoHot,
    TwoHot,
    categorical_kl,
    sample_one_hot,
    straight_through,
    symexp,
    symlog,
    unimix,
)
from tests.algorithms.small_2023 import uniform


def test_symexp_inverts_symlog():
    x = torch.tensor([-1e4, -1.0, 0.0, 0.5, 300.0])
    torch.testing.assert_close(symexp(symlog(x)), x)
    assert symlog(torch.tensor(math.e - 1)).item() == pytest.approx(1.0)


def test_two_hot_bins_are_evenly_spaced_in_symlog():
    dist = TwoHot()
    assert len(dist.bins) == 255
    assert dist.spacing == pytest.approx(0.1574803, abs=1e-7)
    assert dist.bins.diff().mean().item() == pytest.approx(dist.spacing, rel=1e-5)


def test_two_hot_loss_is_least_at_a_code_whose_mean_is_the_target():
    dist = TwoHot()
    for target in (-1000.0, -1.0, 0.0, 0.3, 17.0):
        logits = torch.zeros(255, requires_grad=True)
        dist.loss(logits, torch.tensor(target)).backward()
        code = torch.softmax(logits, -1).detach() - logits.grad
        assert code.sum().item() == pytest.approx(1, abs=1e-5)
        assert (code > 1e-6).sum() <= 2
        assert dist.mean(code.clamp(min=1e-12).log()).item() == pytest.approx(
            target, rel=1e-3, abs=1e-5
        )


def test_a_two_hot_code_of_what_is_not_a_number_is_a_loss_that_is_none():
    target, logits = torch.tensor([math.nan, 0.5]), torch.randn(2, 255)
    for dist in (TwoHot(), SymexpTwoHot()):
        targets = target if isinstance(dist, TwoHot) else [(1.0, target)]
        assert dist.loss(logits, targets).isnan().tolist() == [True, False]


def test_two_hot_clips_what_lies_past_the_ends():
    dist, logits = TwoHot(), torch.randn(255)
    limit = symexp(torch.tensor(20.0))
    assert dist.loss(logits, limit * 9) == dist.loss(logits, limit)


def test_zero_logits_mean_zero():
    assert abs(TwoHot().mean(torch.zeros(255)).item()) < 1e-5


def test_unimix_keeps_every_class_possible():
    probs = unimix(torch.tensor([100.0, 0.0, 0.0, 0.0]), 0.01)
    torch.testing.assert_close(probs, torch.tensor([0.9925, 0.0025, 0.0025, 0.0025]))


def test_samples_follow_the_probabilities():
    probs = torch.tensor([0.1, 0.0, 0.6, 0.3]).expand(20_000, 4)
    share = sample_one_hot(probs, uniform(20_000)).mean(0)
    torch.testing.assert_close(share, probs[0], atol=0.015, rtol=0)
    assert sample_one_hot(probs[:1], torch.tensor([1 - 2**-24])).argmax() == 3


def test_straight_through_is_one_hot_with_the_gradient_of_the_probabilities():
    logits = torch.randn(5, 4, requires_grad=True)
    probs = unimix(logits, 0.01)
    sample = straight_through(sample_one_hot(probs.detach(), uniform(5)), probs)
    assert set(sample.detach().flatten().tolist()) == {0.0, 1.0}
    direction = torch.randn(5, 4)
    got = torch.autograd.grad((sample * direction).sum(), logits, retain_graph=True)
    wanted = torch.autograd.grad((probs * direction).sum(), logits)
    torch.testing.assert_close(got, wanted)


def test_kl_agrees_with_torch():
    p, q = (unimix(torch.randn(2, 3, 4), 0.01) for _ in range(2))
    reference = torch.distributions.kl_divergence(
        torch.distributions.Categorical(probs=p), torch.distributions.Categorical(probs=q)
    ).sum(-1)
    torch.testing.assert_close(categorical_kl(p, p.log(), q.log()), reference)


@pytest.mark.parametrize(
    "spec", [ActionSpec("discrete", (3,)), ActionSpec("multidiscrete", (3, 2))]
)
def test_one_hot_actions_agree_with_torch(spec):
    dist, params = OneHotActions(spec, 0.01), torch.randn(7, spec.flat_size)
    parts = [torch.distributions.Categorical(probs=p) for p in dist.probs(params)]
    action = torch.stack([part.sample() for part in parts], -1)
    rows = action[:, 0] if spec.kind == "discrete" else action
    flat = dist.encode(rows)
    assert torch.equal(dist.decode(flat), rows)
    log_prob = sum(part.log_prob(action[:, i]) for i, part in enumerate(parts))
    torch.testing.assert_close(dist.log_prob(params, flat), log_prob)
    torch.testing.assert_close(dist.entropy(params), sum(part.entropy() for part in parts))
    best = torch.stack([part.probs.argmax(-1) for part in parts], -1)
    assert torch.equal(dist.decode(dist.mode(params)).reshape(best.shape), best)


def test_continuous_policy_starts_with_the_published_std():
    dist = BoundedNormal(ActionSpec("box", (), 2), 0.1, 1.0)
    mean, std = dist.mean_std(torch.zeros(4))
    assert std.tolist() == pytest.approx([0.8927] * 2, abs=5e-5)
    assert mean.tolist() == [0, 0]


def test_continuous_policy_agrees_with_torch():
    dist, params = BoundedNormal(ActionSpec("box", (), 2), 0.1, 1.0), torch.randn(7, 4)
    normal = torch.distributions.Normal(*dist.mean_std(params))
    action = dist.sample(params, torch.randn(7, 2)) * 2
    torch.testing.assert_close(dist.log_prob(params, action), normal.log_prob(action).sum(-1))
    torch.testing.assert_close(dist.entropy(params), normal.entropy().sum(-1))
    assert dist.decode(action).abs().max() <= 1
    assert torch.equal(dist.mode(params), torch.tanh(params[:, :2]))


# Bins in real space


def test_symexp_bins_are_symmetric_around_zero():
    bins = SymexpTwoHot().bins
    assert len(bins) == 255
    assert bins[127] == 0
    assert torch.equal(bins, -bins.flip(0))
    assert bins[128].item() == pytest.approx(0.170558, abs=1e-6)
    assert bins[-1].item() == pytest.approx(4.85e8, rel=1e-3)


def test_even_odds_over_symexp_bins_mean_exactly_zero():
    dist = SymexpTwoHot()
    assert torch.equal(dist.mean(torch.zeros(3, 255)), torch.zeros(3))
    logits = torch.randn(6, 255) - (torch.arange(255) - 127.0).square() / 40
    wanted = (torch.softmax(logits.double(), -1) * dist.bins.double()).sum(-1)
    torch.testing.assert_close(dist.mean(logits).double(), wanted, atol=1e-5, rtol=1e-5)


def test_symexp_two_hot_loss_equals_a_dense_cross_entropy_with_weighted_targets():
    dist, logits = SymexpTwoHot(), torch.randn(7, 255)
    targets = torch.tensor([0.0, 0.1, -0.1, 3.3, -777.0, 1e12, -1e12]), torch.randn(7)

    def dense(target):
        code = torch.zeros(7, 255, dtype=torch.float64)
        for row, value in enumerate(target.double().clamp(dist.bins[0], dist.bins[-1])):
            upper = min(int((dist.bins <= value).sum()), 254)
            low, high = dist.bins[upper - 1].double(), dist.bins[upper].double()
            code[row, upper] = (value - low) / (high - low)
            code[row, upper - 1] = 1 - code[row, upper]
        return -(code * torch.log_softmax(logits.double(), -1)).sum(-1)

    got = dist.loss(logits, [(1.0, targets[0]), (0.5, targets[1])])
    wanted = dense(targets[0]) + 0.5 * dense(targets[1])
    torch.testing.assert_close(got, wanted.float())  # the loss itself is in float32


def test_a_symexp_two_hot_target_is_the_best_mean():
    dist, logits = SymexpTwoHot(), torch.zeros(1, 255, requires_grad=True)
    for _ in range(300):
        (grad,) = torch.autograd.grad(dist.loss(logits, [(1.0, torch.tensor([2.5]))]).sum(), logits)
        logits = (logits - 20 * grad).detach().requires_grad_()
    codes = torch.softmax(logits, -1)
    near = (dist.bins > 1) & (dist.bins < 5)
    assert codes[0, near].sum() > 0.95


def test_a_reinforced_normal_has_no_gradient_through_samples():
    dist = ReinforcedNormal(ActionSpec("box", (), 2), 0.1, 1.0)
    assert not dist.reparameterised
    assert BoundedNormal.reparameterised
