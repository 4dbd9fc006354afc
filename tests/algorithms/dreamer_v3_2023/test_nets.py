"""Layers: initial weights, norms and image sizes."""

from __future__ import annotations

import math

import pytest
import torch

from reverie_algorithms.common.layers import LayerNorm
from reverie_algorithms.common.observations import num_stages, padded
from reverie_algorithms.dreamer_v3_2023.nets import (
    MLP,
    ChannelNorm,
    ImageDecoder,
    ImageEncoder,
    NormLinear,
)


def test_normed_layers_start_as_cut_off_normals():
    weight = NormLinear(300, 100).weight.detach()
    std = math.sqrt(1 / 200)
    assert weight.std().item() == pytest.approx(std, rel=0.02)
    assert weight.abs().max().item() <= 2 * std / 0.8796


def test_output_layers_start_uniform_or_at_zero():
    weight = MLP(300, 1, 300, [100]).outputs[0].weight
    limit = math.sqrt(3 / 200)
    assert 0.95 * limit < weight.abs().max().item() <= limit
    assert not MLP(300, 1, 300, [100], scale=0.0).outputs[0].weight.any()


def test_normed_layers_have_no_bias():
    assert [name for name, _ in NormLinear(4, 3).named_parameters()] == [
        "weight",
        "norm.weight",
        "norm.bias",
    ]


def test_norm_epsilon_is_that_of_the_paper_code():
    x = torch.tensor([0.0, 0.02])
    wanted = (x - 0.01) / math.sqrt(1e-4 + 1e-3)
    torch.testing.assert_close(LayerNorm(2)(x), wanted)


def test_channel_norm_normalises_channels_only():
    x = torch.randn(2, 8, 3, 5)
    wanted = LayerNorm(8)(x.movedim(1, -1)).movedim(-1, 1)
    torch.testing.assert_close(ChannelNorm(8)(x), wanted)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((64, 64, 3), 256),
        ((32, 64, 1), 256),
        ((8, 8, 4), 32),
        ((96, 96, 3), 16 * 6 * 6),
        ((84, 96, 3), 16 * 6 * 6),
        ((210, 160, 3), 32 * 7 * 5),
    ],
)
def test_images_come_back_in_their_own_size(shape, size):
    depth = 2
    encoder = ImageEncoder("image", shape, depth)
    assert encoder.size == size == encoder(torch.zeros(3, *shape)).shape[-1]
    assert ImageDecoder("image", shape, 10, depth)(torch.zeros(3, 10)).shape == (3, *shape)


def test_padding_is_grey_below_and_on_the_right():
    pixels = torch.full((1, 3, 4, 2), 0.25)
    found = padded(pixels, (5, 8))
    assert found.shape == (1, 5, 8, 2)
    assert torch.equal(found[:, :3, :4], pixels)
    assert found.count_nonzero() == pixels.numel()
    assert padded(pixels, (3, 4)) is pixels


@pytest.mark.parametrize("shape", [(4, 4, 3), (7, 64, 3)])
def test_pictures_of_a_few_pixels_are_refused(shape):
    with pytest.raises(ValueError, match=rf"'wrist'.*got {shape[0]} x {shape[1]}; env\.size=64"):
        num_stages("wrist", shape)
