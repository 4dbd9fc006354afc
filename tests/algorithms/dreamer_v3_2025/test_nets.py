"""Layers of DreamerV3-2025: shapes, initial weights."""

from __future__ import annotations

import pytest
import torch

from reverie_algorithms.dreamer_v3_2025.images import DownImage, ObsNetConfig, UpImage
from reverie_algorithms.dreamer_v3_2025.nets import (
    BlockLinear,
    fan_in_linear,
    from_blocks,
    rms_silu,
    to_blocks,
)
from reverie_algorithms.dreamer_v3_2025.rssm import RSSMConfig

LATENT = RSSMConfig(deter=16, stoch=2, classes=3, blocks=8)


def test_norm_divides_by_the_root_of_mean_squares():
    x = torch.tensor([[3.0, -4.0]])
    normed = x / (12.5 + 1e-4) ** 0.5
    torch.testing.assert_close(rms_silu(x, torch.ones(2)), normed * torch.sigmoid(normed))


def test_block_linear_is_a_block_diagonal_product():
    torch.manual_seed(0)
    layer, x = BlockLinear(3, 4, 5), torch.randn(7, 12)
    torch.nn.init.normal_(layer.bias)
    wanted = x @ torch.block_diag(*layer.weight) + layer.bias.flatten()
    torch.testing.assert_close(from_blocks(layer(to_blocks(x, 3))), wanted)


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((64, 64, 3), [8, 12, 16, 16]),
        ((8, 8, 1), [16]),
        ((16, 32, 3), [16, 16]),
        ((128, 128, 4), [8, 12, 16, 16, 16]),
    ],
)
def test_images_of_other_sizes_shrink_to_four_pixels_and_come_back(shape, sizes):
    down = DownImage("view", shape, depth=4)
    assert [layer.conv.out_channels for layer in down.layers] == sizes
    assert down(torch.rand(2, *shape) - 0.5).shape == (2, down.size)
    up = UpImage("view", shape, ObsNetConfig(depth=4, units=8), LATENT)
    image = up(torch.randn(2, 16), torch.randn(2, 6))
    assert image.shape == (2, *shape)
    assert 0 < image.min() < image.max() < 1


def test_channels_that_do_not_fit_the_blocks_are_refused():
    with pytest.raises(ValueError, match=r"decoder\.depth.*8 blocks, got 12"):
        UpImage("view", (8, 8, 3), ObsNetConfig(depth=3, units=8), LATENT)


def test_weights_start_with_unit_variance_per_input_and_bounded():
    torch.manual_seed(0)
    layer = fan_in_linear(400, 300)
    std = 1.1368 / 20
    assert layer.weight.std().item() == pytest.approx(1 / 20, rel=0.02)
    assert layer.weight.abs().max() <= 2 * std
    assert not layer.bias.any()
    assert fan_in_linear(400, 300, 0.01).weight.std().item() == pytest.approx(1 / 2000, rel=0.02)
    blocks = BlockLinear(4, 100, 50)
    assert blocks.weight.std().item() == pytest.approx(1 / 20, rel=0.03)
