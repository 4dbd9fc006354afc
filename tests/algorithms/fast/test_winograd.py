"""Pooled convolutions with fewer multiplications give what the plain ones give."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from reverie_algorithms.dreamer_v3_2025.images import DownConv, DownImage
from reverie_algorithms.fast import winograd


def relative_error(found, wanted):
    return ((found - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize("shape", [(1, 24, 4, 4), (3, 24, 16, 8), (9, 32, 32, 64)])
def test_pooled_convolution_equals_convolution_and_pooling(shape):
    torch.manual_seed(0)
    conv, x = torch.nn.Conv2d(shape[1], 40, 5, padding=2), torch.randn(shape)
    with torch.no_grad():
        wanted = F.max_pool2d(conv.double()(x.double()), 2)
        found = winograd.PooledConv(conv.float())(x)
    assert found.shape == wanted.shape
    assert relative_error(found, wanted) < 1e-5


def test_it_is_chosen_where_it_saves_time():
    convs = {n: torch.nn.Conv2d(n, 8, 5) for n in (3, winograd.LEAST_CHANNELS)}
    assert [winograd.suits(conv) for conv in convs.values()] == [False, True]
    assert not winograd.suits(convs[winograd.LEAST_CHANNELS].to("meta"))
    assert not winograd.suits(torch.nn.Conv2d(64, 8, 5, dtype=torch.bfloat16))


@pytest.mark.parametrize("sides", [(8, 12), (10, 8), (8, 10)])
def test_prepared_layers_take_images_of_any_size(sides):
    torch.manual_seed(0)
    layer, x = DownConv(24, 8), torch.randn(2, 24, *sides)
    with torch.no_grad():
        wanted = layer(x)
        layer.prepare_acting()
        assert relative_error(layer(x), wanted) < 1e-5


def test_a_whole_encoder_stays_within_1e_4():
    torch.manual_seed(0)
    image, pixels = DownImage("image", (64, 64, 3), 16), torch.rand(2, 64, 64, 3) - 0.5
    with torch.no_grad():
        wanted = image(pixels)
        for layer in image.layers:
            layer.prepare_acting()
        found = image(pixels)
    assert [layer.pooled is None for layer in image.layers] == [True, False, False, False]
    assert 0 < relative_error(found, wanted) < 1e-4
