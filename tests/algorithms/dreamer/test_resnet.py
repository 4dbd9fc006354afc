"""Residual networks: sizes, which layers change the width, batch norm's statistics."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from reverie.group import Alone
from reverie_algorithms.dreamer.resnet import BatchNorm, ResNetDecoder, ResNetEncoder, follow_batch

RGB = (64, 64, 3)


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_published_networks_have_the_published_sizes():
    with torch.device("meta"):
        encoder, decoder = ResNetEncoder("image", RGB, 48), ResNetDecoder("image", RGB, 2048, 48)
    assert (encoder.size, count(encoder)) == (3072, 1_562_112)
    assert count(decoder) == 7_519_227


def widths(stack):
    return [tuple(layer.block[0].weight.shape[1::-1]) for layer in stack]


def test_width_changes_in_the_first_layer_down_and_in_the_last_layer_up():
    encoder, decoder = ResNetEncoder("x", RGB, 4), ResNetDecoder("x", RGB, 8, 4)
    assert [widths(s) for s in encoder.stages] == [
        [(4, 4), (4, 4)],
        [(4, 8), (8, 8)],
        [(8, 16), (16, 16)],
    ]
    assert [widths(s) for s in decoder.stages] == [
        [(16, 16), (16, 8)],
        [(8, 8), (8, 4)],
        [(4, 4), (4, 2)],
    ]


def test_the_encoder_also_gives_its_maps_before_each_pooling():
    encoder = ResNetEncoder("x", (32, 64, 3), 4)
    embed, maps = encoder.with_maps(torch.rand(2, 32, 64, 3))
    assert embed.shape == (2, encoder.size) == (2, 16 * 2 * 4)
    assert [tuple(m.shape[1:]) for m in maps] == [(4, 16, 32), (8, 8, 16), (16, 4, 8)]
    assert ResNetDecoder("x", (32, 64, 3), 5, 4)(torch.rand(2, 5)).shape == (2, 32, 64, 3)


def test_sides_that_cannot_be_halved_four_times_are_refused():
    with pytest.raises(ValueError, match=r"'x'.*multiples of 16, got 64 x 84.*'plain'"):
        ResNetEncoder("x", (64, 84, 3), 4)


def test_batch_norm_equals_pytorch_s_and_follows_when_told():
    torch.manual_seed(0)
    norm, wanted = BatchNorm(3), nn.BatchNorm2d(3)
    maps = torch.randn(4, 3, 5, 5) * 3 + 1
    for _ in range(2):
        before = copy.deepcopy(norm.state_dict())
        torch.testing.assert_close(norm(maps), wanted(maps))
        assert all(torch.equal(v, before[k]) for k, v in norm.state_dict().items())
        norm.follow(Alone())
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(norm, name), getattr(wanted, name))
    torch.testing.assert_close(norm.eval()(maps), wanted.eval()(maps))


def test_statistics_are_averaged_over_learners():
    nets = [ResNetEncoder("x", (16, 16, 3), 2) for _ in range(2)]
    with torch.no_grad():
        for i, net in enumerate(nets):
            net(torch.rand(3, 16, 16, 3) + i)
    seen = [[m.seen for m in n.modules() if isinstance(m, BatchNorm)] for n in nets]
    other = iter(seen[1])

    class Pair(Alone):
        def mean_(self, tensors):
            for tensor, theirs in zip(tensors, next(other), strict=True):
                tensor.add_(theirs).div_(2)

    own = seen[0][0][0].clone()
    follow_batch(nets[0], Pair())
    mean = (own + seen[1][0][0]) / 2
    norm = next(m for m in nets[0].modules() if isinstance(m, BatchNorm))
    torch.testing.assert_close(norm.running_mean, 0.1 * mean)
