"""Plain networks of DreamerV2: sizes, initial weights, and exact rewrites of convolutions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from reverie_algorithms.dreamer.elu_images import (
    PlainDecoder,
    PlainEncoder,
    Up,
    UpFromPixel,
    down_sides,
    up_kernels,
)
from reverie_algorithms.dreamer.elu_nets import EluMLP

RGB = (64, 64, 3)


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_published_networks_have_the_published_sizes():
    with torch.device("meta"):
        encoder, decoder = PlainEncoder("image", RGB, 48), PlainDecoder("image", RGB, 2048, 48)
        small = PlainDecoder("image", RGB, 1224, 48)
    assert (encoder.size, count(encoder)) == (1536, 1_551_312)
    assert (count(decoder), count(small)) == (11_152_275, 9_886_611)
    assert [s for s, _ in down_sides("image", RGB)] == [64, 31, 14, 6, 2]
    assert up_kernels("image", RGB) == ([(5, 5), (5, 5), (6, 6), (6, 6)], (1, 1))


@pytest.mark.parametrize("sides", [(5, 5), (6, 8), (7, 13), (16, 32), (64, 64), (84, 84)])
def test_every_size_of_image_is_read_and_rebuilt(sides):
    shape = (*sides, 3)
    encoder, decoder = PlainEncoder("x", shape, 2), PlainDecoder("x", shape, 4, 2)
    assert encoder(torch.rand(2, *shape)).shape == (2, encoder.size)
    assert decoder(torch.rand(2, 4)).shape == (2, *shape)


def test_images_below_five_pixels_are_refused():
    for make in (
        lambda: PlainEncoder("x", (4, 9, 3), 2),
        lambda: PlainDecoder("x", (9, 4, 3), 4, 2),
    ):
        with pytest.raises(ValueError, match=r"'x'.*at least 5 pixels, got \d x \d"):
            make()


def gradients(output, *inputs):
    return output, *torch.autograd.grad(
        (output * torch.linspace(0, 1, output.numel()).reshape(output.shape)).sum(), inputs
    )


def test_a_product_makes_the_first_map_as_a_transposed_convolution_would():
    torch.manual_seed(0)
    first, pixel = UpFromPixel(6, 4, (5, 6)), torch.randn(2, 6, 1, 1)
    torch.nn.init.normal_(first.bias)
    weight = first.weight.unflatten(0, (5, 6, 4)).permute(3, 2, 0, 1)
    wanted = F.conv_transpose2d(pixel, weight, first.bias, stride=2)
    torch.testing.assert_close(first(pixel), wanted)
    assert first(pixel).is_contiguous(memory_format=torch.channels_last)


def test_weights_start_xavier_uniform_and_biases_at_zero():
    torch.manual_seed(0)
    layers = {
        EluMLP(50, 1, 40).hidden[0]: 50 + 40,
        PlainEncoder("x", RGB, 8).layers[1]: (8 + 16) * 16,
        UpFromPixel(64, 8, (5, 5)): (64 + 8) * 25,
        Up(8, 3, (6, 6)): (8 + 3) * 36,
    }
    for layer, fans in layers.items():
        limit = (6 / fans) ** 0.5
        assert 0.95 * limit < layer.weight.abs().max() <= limit
        assert layer.weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.05)
        assert not layer.bias.any()


def test_mlp_is_linear_layers_with_elu_between():
    torch.manual_seed(0)
    mlp, inputs = EluMLP(3, 2, 4, [2, 1]), torch.randn(5, 3)
    hidden = F.elu(mlp.hidden[1](F.elu(mlp.hidden[0](inputs))))
    wanted = torch.cat([mlp.outputs[0](hidden), mlp.outputs[1](hidden)], -1)
    torch.testing.assert_close(mlp(inputs), wanted)
