"""Layers of DreamerV3-2023: a layer with a norm has no bias (arXiv:2301.04104v1, appendix).

Images are channel-first in shape but channel-last in memory, which the CPU and CUDA
convolutions prefer and which makes a norm over channels a norm over the last axis.

Shape legend: M rows (any flattened leading axes), C channels, F feat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie_algorithms.fast.one_hot_linear import OneHots, column_major, one_hot_linear

NORM_EPS = 1e-3
TRUNCATION = 0.87962566103423978
"""Std of a unit normal that is cut off at two standard deviations."""
SMALLEST_SIDE = 4
"""Image sides are halved until the shorter one has this many pixels."""


# Initialisers, as in danijar/dreamerv3@8fa35f8


def average_fan(weight: Tensor) -> float:
    return (weight.shape[0] + weight.shape[1]) * math.prod(weight.shape[2:]) / 2


def truncated_normal_(weight: Tensor) -> None:
    """Fill with a normal of std sqrt(1 / average fan), cut off at two of its own sigmas."""
    std = math.sqrt(1 / average_fan(weight)) / TRUNCATION
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def xavier_uniform_(weight: Tensor, scale: float = 1.0) -> None:
    limit = scale * math.sqrt(3 / average_fan(weight))
    nn.init.uniform_(weight, -limit, limit)


# Vectors


class LayerNorm(nn.LayerNorm):
    """LayerNorm over the last axis that computes in float32 under autocast."""

    def __init__(self, size: int) -> None:
        super().__init__(size, eps=NORM_EPS)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.float())


class NormLinear(nn.Module):
    """Linear without bias, LayerNorm, and SiLU where `act` is set.

    `one_hots` says that the inputs end in one-hot vectors, whose products can be looked up.
    `finish` takes a product with the weight that was computed elsewhere, in parts.
    """

    def __init__(
        self, inputs: int, units: int, act: bool = True, one_hots: OneHots | None = None
    ) -> None:
        super().__init__()
        self.act, self.one_hots = act, one_hots
        self.weight = nn.Parameter(torch.empty(units, inputs))
        self.norm = LayerNorm(units)
        truncated_normal_(self.weight)
        if one_hots is not None:
            self.weight = column_major(self.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.one_hots is None:
            return self.finish(F.linear(inputs, self.weight))
        return self.finish(one_hot_linear(inputs, self.weight, self.one_hots))

    def finish(self, product: Tensor) -> Tensor:
        normed = self.norm(product)
        return F.silu(normed) if self.act else normed


def output_linear(inputs: int, outputs: int, scale: float = 1.0) -> nn.Linear:
    """Build a Linear with zero bias and Xavier-uniform weights times `scale`."""
    layer = nn.Linear(inputs, outputs)
    xavier_uniform_(layer.weight, scale)
    nn.init.zeros_(layer.bias)
    return layer


class MLP(nn.Module):
    """Normed hidden layers; with `outputs`, one output layer for each width, concatenated."""

    def __init__(
        self,
        inputs: int,
        layers: int,
        units: int,
        outputs: Sequence[int] = (),
        scale: float = 1.0,
        one_hots: OneHots | None = None,
    ) -> None:
        super().__init__()
        sizes = [inputs, *[units] * layers]
        ends = [one_hots, *[None] * layers]
        layer_sizes = zip(sizes[:-1], sizes[1:], ends, strict=False)
        self.hidden = nn.Sequential(*[NormLinear(a, b, True, end) for a, b, end in layer_sizes])
        self.outputs = nn.ModuleList([output_linear(sizes[-1], n, scale) for n in outputs])

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.hidden(inputs)
        if not self.outputs:
            return hidden
        return torch.cat([layer(hidden) for layer in self.outputs], -1)


# Images


def num_stages(name: str, shape: Sequence[int]) -> int:
    """Count the halvings that bring the shorter side of an image [H, W, C] to 4 pixels.

    Raises:
        ValueError: the sides do not halve down to 4.
    """
    height, width = shape[:2]
    stages = max((min(height, width) // SMALLEST_SIDE).bit_length() - 1, 0)
    halved = stages and not (height % 2**stages or width % 2**stages)
    if not halved or min(height, width) >> stages != SMALLEST_SIDE:
        raise ValueError(
            f"observation {name!r}: wanted an image whose shorter side is 8, 16, 32, 64, ... and "
            f"whose longer side can be halved as often, got {height} x {width}; resize it"
        )
    return stages


class ChannelNorm(LayerNorm):
    """LayerNorm over the channels of [M, C, h, w]."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ImageEncoder(nn.Module):
    """Strided convolutions from centred pixels [M, H, W, C] to a vector [M, size]."""

    def __init__(self, name: str, shape: Sequence[int], depth: int) -> None:
        super().__init__()
        stages = num_stages(name, shape)
        widths = [shape[2], *[depth * 2**i for i in range(stages)]]
        self.layers = nn.Sequential(*[_down(a, b) for a, b in pairwise(widths)])
        self.size = widths[-1] * (shape[0] >> stages) * (shape[1] >> stages)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.layers(pixels.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).flatten(1)


class ImageDecoder(nn.Module):
    """Transposed convolutions from feat [M, F] to mean centred pixels [M, H, W, C]."""

    def __init__(self, name: str, shape: Sequence[int], inputs: int, depth: int) -> None:
        super().__init__()
        stages = num_stages(name, shape)
        widths = [depth * 2**i for i in reversed(range(stages))]
        self.seed_shape = (shape[0] >> stages, shape[1] >> stages, widths[0])
        self.seed = output_linear(inputs, math.prod(self.seed_shape))
        self.layers = nn.Sequential(*[_up(a, b) for a, b in pairwise(widths)])
        self.last = ToPixels(widths[-1], shape[2])

    def forward(self, feat: Tensor) -> Tensor:
        seed = self.seed(feat).unflatten(-1, self.seed_shape).permute(0, 3, 1, 2)
        return self.last(self.layers(seed)).permute(0, 2, 3, 1).float()


class ToPixels(nn.ConvTranspose2d):
    """Transposed convolution (kernel 4, stride 2, padding 1) from [M, I, h, w] to few channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 4, 2, 1)
        assert self.bias is not None
        xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)


def _down(inputs: int, outputs: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)
    truncated_normal_(conv.weight)
    return nn.Sequential(conv, ChannelNorm(outputs), nn.SiLU())


def _up(inputs: int, outputs: int) -> nn.Sequential:
    conv = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)
    truncated_normal_(conv.weight)
    return nn.Sequential(conv, ChannelNorm(outputs), nn.SiLU())
