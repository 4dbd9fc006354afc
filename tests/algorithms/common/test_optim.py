"""Adam: against the plain formula, clipping by group, reduction."""

from __future__ import annotations

import subprocess
import sys

import torch
from torch import nn

from reverie.group import Alone
from reverie_algorithms.common.optim import Adam, AdamGroup
from tests.fakes import Zeroing


def group(module, clip=None, lr=0.1):
    return AdamGroup(dict(module.named_parameters()), lr, 1e-8, clip)


def test_step_equals_plain_adam_even_for_channel_last_gradients():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, 4, 2, 1, bias=False)
    image = torch.randn(2, 8, 8, 3).permute(0, 3, 1, 2)
    loss = (conv(image) ** 2).mean()
    (grad,) = torch.autograd.grad(loss, conv.weight, retain_graph=True)
    wanted = conv.weight - 0.1 * grad / (grad.abs() + 1e-8)
    Adam([group(conv)], Alone()).step(loss)
    torch.testing.assert_close(conv.weight, wanted)


def test_steps_equal_those_of_torch_to_the_bit():
    torch.manual_seed(0)
    ours, theirs = nn.Linear(7, 5), nn.Linear(7, 5)
    theirs.load_state_dict(ours.state_dict())
    group = AdamGroup(dict(ours.named_parameters()), 1e-2, 1e-5, None, weight_decay=0.1)
    adam = Adam([group], Alone())
    reference = torch.optim.Adam(
        theirs.parameters(), lr=1e-2, eps=1e-5, weight_decay=0.1, fused=True
    )
    for _ in range(5):
        x = torch.randn(3, 7)
        adam.step((ours(x) ** 2).mean())
        reference.zero_grad()
        (theirs(x) ** 2).mean().backward()
        reference.step()
    for mine, wanted in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, wanted)


def test_a_step_imports_no_compiler():
    code = (
        "import sys, torch\n"
        "from reverie.group import ALONE\n"
        "from reverie_algorithms.common.optim import Adam, AdamGroup\n"
        "w = torch.nn.Parameter(torch.ones(3))\n"
        "Adam([AdamGroup({'w': w}, 0.1, 1e-8, 1.0)], ALONE).step(w.sum())\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_groups_are_clipped_apart():
    torch.manual_seed(0)
    small, large = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
    adam = Adam([group(small, clip=1.0), AdamGroup({"w": large.weight}, 0.1, 1e-8, None)], Alone())
    x = torch.tensor([3.0, 4.0])
    norm = adam.step((small(x) + 1000 * large(x)).sum())
    assert abs(norm.item() - 5) < 1e-4
    moments = adam.state()
    torch.testing.assert_close(moments["weight"]["exp_avg"], 0.1 * x[None] / 5)
    torch.testing.assert_close(moments["w"]["exp_avg"], 100 * x[None])


def test_only_the_given_parameters_get_a_gradient():
    mine, other = nn.Linear(2, 2), nn.Linear(2, 2)
    Adam([group(mine)], Alone()).step(mine(other(torch.ones(2))).sum())
    assert all(p.grad is None for p in [*mine.parameters(), *other.parameters()])


def test_every_gradient_is_reduced():
    layer, zeroing = nn.Linear(2, 2), Zeroing()
    adam = Adam([group(layer)], zeroing)
    before = layer.weight.clone()
    adam.step(layer(torch.ones(2)).sum())
    assert zeroing.seen == [(2, 2), (2,)]
    assert torch.equal(before, layer.weight)


def test_a_frozen_parameter_keeps_value_moments_and_step_count_and_does_not_jump_later():
    torch.manual_seed(0)
    layer, other = nn.Linear(2, 1), nn.Linear(2, 1)
    x = torch.tensor([3.0, 4.0])
    adam = Adam([group(layer, clip=1.0)], Alone())
    before = layer.weight.clone()
    adam.frozen = {"weight"}
    for _ in range(50):
        norm = adam.step(layer(x).sum())
    assert norm == 1  # the bias alone: what is frozen does not count in the clip either
    assert torch.equal(layer.weight, before)
    assert not any(moment.any() for moment in adam.state()["weight"].values())
    assert adam.state()["bias"]["step"] == 50
    adam.frozen = set()
    adam.step(layer(x).sum())
    first = Adam([group(other)], Alone())
    start = other.weight.clone()
    first.step(other(x).sum())
    torch.testing.assert_close(layer.weight - before, other.weight - start)


def test_a_step_with_everything_frozen_is_none():
    layer = nn.Linear(2, 1)
    adam, before = Adam([group(layer)], Alone()), layer.weight.clone()
    adam.frozen = {"weight", "bias"}
    assert adam.step(layer(torch.ones(2)).sum()) == 0
    assert torch.equal(layer.weight, before)


def test_weight_decay_is_a_penalty_inside_adam_that_no_clip_sees():
    torch.manual_seed(0)
    layer = nn.Linear(2, 1, bias=False)
    before, x = layer.weight.detach().clone(), torch.tensor([3.0, 4.0])
    decayed = AdamGroup({"w": layer.weight}, 0.1, 1e-3, 1e-2, weight_decay=1e-4)
    norm = Adam([decayed], Alone()).step(layer(x).sum())
    grad = 1e-2 * x / 5 + 1e-4 * before
    assert norm.item() == 5
    torch.testing.assert_close(layer.weight, before - 0.1 * grad / (grad.abs() + 1e-3))
