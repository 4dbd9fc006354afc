"""LaProp: against the plain formula, clipping by tensor, warm-up, frozen parameters."""

from __future__ import annotations

import torch
from torch import nn

from reverie.group import Alone
from reverie_algorithms.dreamer_v3_2025.laprop import LaProp, LaPropGroup
from tests.fakes import Zeroing


def group(module, clip=0.3, lr=0.1, warmup=0):
    return LaPropGroup(dict(module.named_parameters()), lr, clip, warmup)


def test_steps_equal_the_plain_formula_for_every_tensor():
    torch.manual_seed(0)
    layer, x = nn.Linear(3, 2), torch.randn(5, 3)
    optimizer = LaProp([group(layer, lr=0.01, warmup=3)], Alone())
    weights = {name: p.detach().double() for name, p in layer.named_parameters()}
    moments = {name: (0.0, 0.0) for name in weights}
    for t in range(1, 6):
        loss = (layer(x) ** 2).sum() * 10**t
        grads = torch.autograd.grad(loss, [*layer.parameters()], retain_graph=True)
        optimizer.step(loss)
        for name, g in zip(weights, grads, strict=True):
            w, (m, v), g = weights[name], moments[name], g.double()
            g = g / max(1.0, g.norm() / (0.3 * max(w.norm(), 1e-3)))
            v = 0.999 * v + 0.001 * g**2
            m = 0.9 * m + 0.1 * g / (torch.sqrt(v / (1 - 0.999**t)) + 1e-20)
            weights[name] = w - 0.01 * min(1, t / 3) * m / (1 - 0.9**t)
            moments[name] = m, v
        for name, p in layer.named_parameters():
            torch.testing.assert_close(p.double(), weights[name], atol=1e-5, rtol=1e-4)


def test_a_zero_gradient_moves_nothing():
    layer = nn.Linear(2, 1)
    before = layer.weight.clone()
    LaProp([group(layer)], Alone()).step((layer(torch.ones(2)) * 0).sum())
    assert torch.equal(layer.weight, before)


def test_groups_have_their_own_rate_and_clip():
    first, second = (nn.Linear(1, 1, bias=False) for _ in range(2))
    starts = [p.item() for p in (first.weight, second.weight)]
    groups = group(first, lr=0.1, warmup=10), LaPropGroup({"w": second.weight}, 0.5, None, 0)
    optimizer = LaProp(groups, Alone())
    norm = optimizer.step((3 * first(torch.ones(1)) + 4 * second(torch.ones(1))).sum())
    torch.testing.assert_close(norm, torch.tensor(5.0))
    assert abs(starts[0] - first.weight.item() - 0.01) < 1e-6
    assert abs(starts[1] - second.weight.item() - 0.5) < 1e-5
    torch.testing.assert_close(optimizer.state()["w"]["square"], torch.tensor([[0.016]]))


def test_only_the_given_parameters_get_a_gradient_and_each_is_reduced():
    mine, other, zeroing = nn.Linear(2, 2), nn.Linear(2, 2), Zeroing()
    optimizer = LaProp([group(mine)], zeroing)
    before = mine.weight.clone()
    optimizer.step(mine(other(torch.ones(2))).sum())
    assert zeroing.seen == [(2, 2), (2,)]
    assert torch.equal(before, mine.weight)
    assert all(p.grad is None for p in [*mine.parameters(), *other.parameters()])


def test_a_frozen_parameter_keeps_value_moments_and_step_count_and_does_not_jump_later():
    torch.manual_seed(0)
    layer, x = nn.Linear(2, 1), torch.tensor([3.0, 4.0])
    optimizer = LaProp([group(layer, lr=0.01)], Alone())
    before = layer.weight.clone()
    optimizer.frozen = {"weight"}
    for _ in range(50):
        optimizer.step((layer(x) ** 2).sum())
    state = optimizer.state()
    assert torch.equal(layer.weight, before)
    assert not any(value.any() for value in state["weight"].values())
    assert state["bias"]["step"] == 50
    optimizer.frozen = set()
    optimizer.step((layer(x) ** 2).sum())
    torch.testing.assert_close((layer.weight - before).abs(), torch.full((1, 2), 0.01))
    optimizer.frozen = {"weight", "bias"}
    assert optimizer.step((layer(x) ** 2).sum()) == 0
