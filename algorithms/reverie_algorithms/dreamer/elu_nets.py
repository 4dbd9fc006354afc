"""Layers of DreamerV2: no norm, ELU, Glorot weights and zero biases (arXiv:2010.02193).

Images are channel-first in shape but channel-last in memory.

Shape legend: M rows (any flattened leading axes), C channels, F feat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie_algorithms.dreamer_v3_2023.nets import output_linear, xavier_uniform_

SMALLEST_SIDE = 5
"""A convolution needs 4 pixels, and a transposed one makes 5 at least."""


class EluMLP(nn.Module):
    """Hidden layers with ELU; with `outputs`, one output layer for each width, concatenated.

    `redraw` draws the first layer's weights again after all hidden ones: heads on feat did so
    from the start, and a seed keeps its weights.
    """

    def __init__(
        self,
        inputs: int,
        layers: int,
        units: int,
        outputs: Sequence[int] = (),
        redraw: bool = False,
    ) -> None:
        super().__init__()
        sizes = [inputs, *[units] * layers]
        self.hidden = nn.ModuleList([output_linear(a, b) for a, b in pairwise(sizes)])
        if redraw and layers:
            self.hidden[0] = output_linear(inputs, units)
        self.outputs = nn.ModuleList([output_linear(sizes[-1], n) for n in outputs])

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = inputs
        for layer in self.hidden:
            hidden = F.elu(layer(hidden), inplace=True)
        if not self.outputs:
            return hidden
        return torch.cat([layer(hidden) for layer in self.outputs], -1)


def glorot(conv: nn.Conv2d | nn.ConvTranspose2d) -> None:
    """Fill with Xavier-uniform weights and a zero bias."""
    xavier_uniform_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


# Plain convolutions


def down_sides(name: str, shape: Sequence[int]) -> list[tuple[int, int]]:
    """Sides of an image [H, W, C] before and after each kernel-4 stride-2 convolution.

    There are as many as the shorter side allows: 64 becomes 31, 14, 6 and 2.

    Raises:
        ValueError: a side is below 5 pixels.
    """
    _check_sides(name, shape)
    sides = [(shape[0], shape[1])]
    while min(sides[-1]) >= 4:
        height, width = sides[-1]
        sides.append((height // 2 - 1, width // 2 - 1))
    return sides


def up_kernels(name: str, shape: Sequence[int]) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Kernels of stride-2 transposed convolutions that end at [H, W], and the sides they start at.

    Kernels have 5 or 6 pixels along each side, so that every size is met exactly: 64 is reached
    from a single pixel by 5, 5, 6 and 6.

    Raises:
        ValueError: a side is below 5 pixels.
    """
    _check_sides(name, shape)
    sides, kernels = (shape[0], shape[1]), []
    while min(sides) >= SMALLEST_SIDE:
        kernel = (5 + (sides[0] + 1) % 2, 5 + (sides[1] + 1) % 2)
        kernels.append(kernel)
        sides = ((sides[0] - kernel[0]) // 2 + 1, (sides[1] - kernel[1]) // 2 + 1)
    return kernels[::-1], sides


def _check_sides(name: str, shape: Sequence[int]) -> None:
    if min(shape[:2]) < SMALLEST_SIDE:
        raise ValueError(
            f"observation {name!r}: wanted an image with sides of at least {SMALLEST_SIDE} pixels, "
            f"got {shape[0]} x {shape[1]}; resize it"
        )


class PlainEncoder(nn.Module):
    """Kernel-4 stride-2 convolutions from centred pixels [M, H, W, C] to a vector [M, size]."""

    def __init__(self, name: str, shape: Sequence[int], depth: int) -> None:
        super().__init__()
        sides = down_sides(name, shape)
        widths = [shape[2], *[depth * 2**i for i in range(len(sides) - 1)]]
        self.layers = nn.ModuleList([nn.Conv2d(a, b, 4, 2) for a, b in pairwise(widths)])
        self.size = widths[-1] * math.prod(sides[-1])
        self.apply(lambda m: glorot(m) if isinstance(m, nn.Conv2d) else None)

    def forward(self, pixels: Tensor) -> Tensor:
        maps = pixels.permute(0, 3, 1, 2)
        for layer in self.layers:
            maps = F.elu(layer(maps), inplace=True)
        return maps.permute(0, 2, 3, 1).flatten(1)


class PlainDecoder(nn.Module):
    """Transposed convolutions from feat [M, F] to mean centred pixels [M, H, W, C]."""

    def __init__(self, name: str, shape: Sequence[int], inputs: int, depth: int) -> None:
        super().__init__()
        kernels, sides = up_kernels(name, shape)
        stages = len(kernels)
        inner = [depth * 2**i for i in reversed(range(stages - 1))]
        widths = [depth * 2 ** (stages + 1), *inner, shape[2]]
        self.seed_shape = (*sides, widths[0])
        self.seed = output_linear(inputs, math.prod(self.seed_shape))
        first = UpFromPixel if sides == (1, 1) else Up
        steps = zip([first, *[Up] * (stages - 1)], pairwise(widths), kernels, strict=True)
        self.layers = nn.ModuleList([make(a, b, kernel) for make, (a, b), kernel in steps])

    def forward(self, feat: Tensor) -> Tensor:
        maps = self.seed(feat).unflatten(-1, self.seed_shape).permute(0, 3, 1, 2)
        for layer in self.layers[:-1]:
            maps = F.elu(layer(maps), inplace=True)
        return self.layers[-1](maps).permute(0, 2, 3, 1).float()


class UpFromPixel(nn.Module):
    """Transposed convolution of a single pixel [M, C, 1, 1]: one matrix product.

    The weight is kept in the order the product wants: it is large, and turning it costs time.
    """

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        self.map_shape = (*kernel, outputs)
        limit = math.sqrt(6 / ((inputs + outputs) * math.prod(kernel)))
        self.weight = nn.Parameter(torch.empty(math.prod(self.map_shape), inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.uniform_(self.weight, -limit, limit)

    def forward(self, pixel: Tensor) -> Tensor:
        product = F.linear(pixel.flatten(1), self.weight)
        return (product.unflatten(-1, self.map_shape) + self.bias).permute(0, 3, 1, 2)


class Up(nn.ConvTranspose2d):
    """Stride-2 transposed convolution without padding."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int]) -> None:
        super().__init__(inputs, outputs, kernel, stride=2)
        glorot(self)
