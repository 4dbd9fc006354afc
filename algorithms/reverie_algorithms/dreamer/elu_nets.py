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
FEW_CHANNELS = 4


class EluMLP(nn.Module):
    """Hidden layers with ELU; with `outputs`, one output layer for each width, concatenated."""

    def __init__(
        self,
        inputs: int,
        layers: int,
        units: int,
        outputs: Sequence[int] = (),
    ) -> None:
        super().__init__()
        sizes = [inputs, *[units] * layers]
        self.hidden = nn.ModuleList([output_linear(a, b) for a, b in pairwise(sizes)])
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
    """Stride-2 transposed convolution without padding.

    Few output channels are made by an ordinary convolution that has the four pixels of each
    2 x 2 block as channels. That is exact, and measured to be faster on CPU.
    """

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int]) -> None:
        super().__init__(inputs, outputs, kernel, stride=2)
        glorot(self)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if self.out_channels > FEW_CHANNELS or input.is_cuda:
            return super().forward(input, output_size)
        assert self.bias is not None
        height, width = self.weight.shape[2:]
        weight = F.pad(self.weight, (0, width % 2, 0, height % 2))
        # [in, out, y, row, x, column] to [out, row, column, in, y, x], flipped into a correlation
        taps = weight.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).permute(1, 3, 5, 0, 2, 4)
        taps = taps.flatten(0, 2).flip(-2, -1)
        blocks = F.conv2d(input, taps, self.bias.repeat_interleave(4), padding=2)
        maps = F.pixel_shuffle(blocks, 2)
        return maps[:, :, : maps.shape[2] - height % 2, : maps.shape[3] - width % 2]
