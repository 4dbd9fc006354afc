"""Networks of DreamerV2 that read and rebuild observations (thuml/HarmonyDream@0a22e33).

Every image key has its own convolutions; all vector keys share one MLP, on raw values. Images are
channel-first in shape but channel-last in memory.

Shape legend: M rows (any flattened leading axes), C channels, F feat, E embed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.ranges import Depth, Layers, Width
from reverie.types import STRICT
from reverie_algorithms.common.layers import output_linear
from reverie_algorithms.common.observations import (
    VECTOR,
    ObsDecoder,
    ObsEncoder,
    ObsKeys,
    by_key,
    centred,
)
from reverie_algorithms.dreamer.elu_nets import EluMLP, glorot
from reverie_algorithms.dreamer.resnet import ResNetDecoder, ResNetEncoder

SMALLEST_SIDE = 5
"""A convolution needs 4 pixels, and a transposed one makes 5 at least."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EluObsConfig:
    """Kind and sizes of an encoder or decoder."""

    __pydantic_config__: ClassVar[Any] = STRICT
    SOURCE: ClassVar[str] = "thuml/HarmonyDream@0a22e33"

    kind: Literal["plain", "resnet"] = "plain"
    """Image network: strided convolutions, or residual layers with batch norm."""
    depth: Depth = 48
    """Channels at the finest resolution; they double with each halving."""
    layers: Layers = 4
    """Hidden layers of the MLP for vectors."""
    units: Width = 400
    """Width of that MLP."""


class RawObsKeys(ObsKeys):
    """Observation keys whose vectors are read as they are."""

    __slots__ = ()

    def inputs(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Turn observations [..., *shape] into centred pixels by key and one vector."""
        inputs = {key: centred(obs[key]) for key in self.images}
        if self.vectors:
            flat = []
            for key, spec in self.vectors.items():
                lead = obs[key].shape[: obs[key].ndim - len(spec.shape)]
                flat.append(obs[key].reshape(*lead, spec.size).float())
            inputs[VECTOR] = torch.cat(flat, -1)
        return inputs


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
            f"observation {name!r}: expected sides of at least {SMALLEST_SIDE} pixels,"
            f" got {shape[0]} x {shape[1]}; resize it"
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


# All observations


ENCODERS = {"plain": PlainEncoder, "resnet": ResNetEncoder}
DECODERS = {"plain": PlainDecoder, "resnet": ResNetDecoder}


class EluEncoder(ObsEncoder):
    """Plain or residual convolutions, and an MLP for vectors."""

    def __init__(self, keys: ObsKeys, config: EluObsConfig) -> None:
        super().__init__()
        self.keys = keys
        make = ENCODERS[config.kind]
        images = {k: make(k, spec.shape, config.depth) for k, spec in keys.images.items()}
        self.images = by_key(images)
        self.size = sum(encoder.size for encoder in images.values())
        if keys.vectors:
            width = sum(spec.size for spec in keys.vectors.values())
            self.vector = EluMLP(width, config.layers, config.units)
            self.size += config.units if config.layers else width


class EluDecoder(ObsDecoder):
    """Plain or residual convolutions, and an MLP for vectors."""

    scale = 0.5

    def __init__(self, keys: ObsKeys, inputs: int, config: EluObsConfig) -> None:
        super().__init__()
        self.keys = keys
        make = DECODERS[config.kind]
        self.images = by_key(
            {k: make(k, s.shape, inputs, config.depth) for k, s in keys.images.items()}
        )
        if keys.vectors:
            sizes = [spec.size for spec in keys.vectors.values()]
            self.vector = EluMLP(inputs, config.layers, config.units, sizes)
