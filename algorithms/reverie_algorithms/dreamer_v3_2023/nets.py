"""Networks of DreamerV3-2023: a layer with a norm has no bias (arXiv:2301.04104v1, appendix).

Every image key has its own convolutions; all vector keys share one MLP on symlog values. Images
are channel-first in shape but channel-last in memory.

Shape legend: M rows (any flattened leading axes), C channels, F feat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.ranges import Depth, Layers, Width
from reverie.types import STRICT
from reverie_algorithms import fast
from reverie_algorithms.common.layers import (
    LayerNorm,
    average_fan,
    output_linear,
    xavier_uniform_,
)
from reverie_algorithms.common.observations import (
    ObsDecoder,
    ObsEncoder,
    ObsKeys,
    by_key,
    num_stages,
    padded,
    padded_sides,
)
from reverie_algorithms.fast.one_hot_linear import OneHots, column_major, one_hot_linear

TRUNCATION = 0.87962566103423978
"""Std of a unit normal that is cut off at two standard deviations."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObsNetConfig:
    """Sizes of an encoder or decoder; the defaults are those of size `small`."""

    __pydantic_config__: ClassVar[Any] = STRICT
    SOURCE: ClassVar[str] = "danijar/dreamerv3@8fa35f8"

    depth: Depth = 32
    """Channels at the finest resolution; they double with each halving."""
    layers: Layers = 5
    """Hidden layers of the MLP for vectors, the same at every published size."""
    units: Width = 1024
    """Width of that MLP, likewise."""


def truncated_normal_(weight: Tensor) -> None:
    """Fill with a normal of std sqrt(1 / average fan), cut off at two of its own sigmas, as in
    danijar/dreamerv3@8fa35f8.
    """
    std = math.sqrt(1 / average_fan(weight)) / TRUNCATION
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


# Vectors


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
        if self.one_hots is not None and fast.enabled("look_ups", inputs):
            return self.finish(one_hot_linear(inputs, self.weight, self.one_hots))
        return self.finish(F.linear(inputs, self.weight))

    def finish(self, product: Tensor) -> Tensor:
        normed = self.norm(product)
        return F.silu(normed) if self.act else normed


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
        self.sides = padded_sides(shape, stages)
        self.size = widths[-1] * (self.sides[0] >> stages) * (self.sides[1] >> stages)

    def forward(self, pixels: Tensor) -> Tensor:
        maps = padded(pixels, self.sides).permute(0, 3, 1, 2)
        return self.layers(maps).permute(0, 2, 3, 1).flatten(1)


class ImageDecoder(nn.Module):
    """Transposed convolutions from feat [M, F] to mean centred pixels [M, H, W, C]."""

    def __init__(self, name: str, shape: Sequence[int], inputs: int, depth: int) -> None:
        super().__init__()
        stages = num_stages(name, shape)
        widths = [depth * 2**i for i in reversed(range(stages))]
        height, width = padded_sides(shape, stages)
        self.sides = tuple(shape[:2])
        self.seed_shape = (height >> stages, width >> stages, widths[0])
        self.seed = output_linear(inputs, math.prod(self.seed_shape))
        self.layers = nn.Sequential(*[_up(a, b) for a, b in pairwise(widths)])
        self.last = _to_pixels(widths[-1], shape[2])

    def forward(self, feat: Tensor) -> Tensor:
        seed = self.seed(feat).unflatten(-1, self.seed_shape).permute(0, 3, 1, 2)
        height, width = self.sides
        return self.last(self.layers(seed)).permute(0, 2, 3, 1)[:, :height, :width].float()


def _down(inputs: int, outputs: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)
    truncated_normal_(conv.weight)
    return nn.Sequential(conv, ChannelNorm(outputs), nn.SiLU())


def _up(inputs: int, outputs: int) -> nn.Sequential:
    conv = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)
    truncated_normal_(conv.weight)
    return nn.Sequential(conv, ChannelNorm(outputs), nn.SiLU())


def _to_pixels(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    conv = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1)
    assert conv.bias is not None
    xavier_uniform_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv


# All observations


class Encoder(ObsEncoder):
    """Strided convolutions, and an MLP for symlog vectors."""

    def __init__(self, keys: ObsKeys, config: ObsNetConfig) -> None:
        super().__init__()
        self.keys = keys
        images = {k: ImageEncoder(k, spec.shape, config.depth) for k, spec in keys.images.items()}
        self.images = by_key(images)
        self.size = sum(encoder.size for encoder in images.values())
        if keys.vectors:
            width = sum(spec.size for spec in keys.vectors.values())
            self.vector = MLP(width, config.layers, config.units)
            self.size += config.units if config.layers else width


class Decoder(ObsDecoder):
    """Transposed convolutions, and an MLP for symlog vectors."""

    def __init__(self, keys: ObsKeys, inputs: int, config: ObsNetConfig) -> None:
        super().__init__()
        self.keys = keys
        self.images = by_key(
            {k: ImageDecoder(k, s.shape, inputs, config.depth) for k, s in keys.images.items()}
        )
        if keys.vectors:
            sizes = [spec.size for spec in keys.vectors.values()]
            self.vector = MLP(inputs, config.layers, config.units, sizes)
