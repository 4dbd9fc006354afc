"""Networks of DreamerV3-2025 that read and rebuild observations (danijar/dreamerv3@e3f0224).

Every image key has its own convolutions; all vector keys share one MLP on symlog values. Images
are channel-first in shape but channel-last in memory.

Shape legend: M rows (any flattened leading axes), C channels, I and O input and output channels,
D deter, X flat stoch, E embed.
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
from reverie_algorithms.common.observations import (
    ObsDecoder,
    ObsEncoder,
    ObsKeys,
    by_key,
    num_stages,
    padded,
    padded_sides,
)
from reverie_algorithms.dreamer_v3_2025.nets import (
    RMSMLP,
    BlockLinear,
    check_blocks,
    fan_in_normal_,
    rms_silu,
    to_blocks,
)
from reverie_algorithms.dreamer_v3_2025.rssm import RSSMConfig
from reverie_algorithms.fast import winograd
from reverie_algorithms.fast.acting import ActingLayer
from reverie_algorithms.fast.up_conv import phases

KERNEL = 5
WIDTHS = (2, 3, 4, 4)
"""Channels after each halving of an image, as multiples of `depth`. The source always halves
four times; a smaller image leaves out the first ones, a larger one repeats the last."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObsNetConfig:
    """Sizes of an encoder or decoder; the defaults are those of size `12m`."""

    __pydantic_config__: ClassVar[Any] = STRICT
    SOURCE: ClassVar[str] = "danijar/dreamerv3@e3f0224"

    depth: Depth = 16
    """Channels come as 2, 3, 4 and 4 times this."""
    layers: Layers = 3
    """Hidden layers of the MLP for vectors."""
    units: Width = 256
    """Width of that MLP, half that of the decoder's first layer."""


# Convolutions


def channels(stages: int, depth: int) -> list[int]:
    """Channels after each of `stages` halvings."""
    widths = WIDTHS + WIDTHS[-1:] * (stages - len(WIDTHS))
    return [depth * width for width in widths[-stages:]]


class ChannelRMS(nn.Module):
    """RMSNorm over the channels of [M, C, h, w], and SiLU."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return rms_silu(x.permute(0, 2, 3, 1), self.scale).permute(0, 3, 1, 2)


class DownConv(ActingLayer):
    """5x5 convolution, the largest of each 2x2 pixels, RMSNorm and SiLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, KERNEL, padding=KERNEL // 2)
        self.norm = ChannelRMS(outputs)
        self.pooled: winograd.PooledConv | None = None
        assert self.conv.bias is not None
        fan_in_normal_(self.conv.weight, inputs * KERNEL**2)
        nn.init.zeros_(self.conv.bias)

    def prepare_acting(self) -> None:
        self.pooled = winograd.PooledConv(self.conv) if winograd.suits(self.conv) else None

    def forward(self, x: Tensor) -> Tensor:
        if self.pooled is not None and fast.enabled("winograd", x) and self.pooled.tiles(x):
            return self.norm(self.pooled(x))
        return self.norm(F.max_pool2d(self.conv(x), 2))


class DownImage(nn.Module):
    """Convolutions from centred pixels [M, H, W, C] to a vector [M, size]."""

    def __init__(self, name: str, shape: Sequence[int], depth: int) -> None:
        super().__init__()
        stages = num_stages(name, shape)
        widths = [shape[2], *channels(stages, depth)]
        self.layers = nn.Sequential(*[DownConv(a, b) for a, b in pairwise(widths)])
        self.sides = padded_sides(shape, stages)
        self.size = widths[-1] * (self.sides[0] >> stages) * (self.sides[1] >> stages)

    def forward(self, pixels: Tensor) -> Tensor:
        maps = padded(pixels, self.sides).permute(0, 3, 1, 2)
        return self.layers(maps).permute(0, 2, 3, 1).flatten(1)


class UpConv(nn.Module):
    """Double the sides of [M, I, h, w] by repeating pixels, then convolve to [M, O, 2h, 2w]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, KERNEL, KERNEL))
        self.bias = nn.Parameter(torch.zeros(outputs))
        fan_in_normal_(self.weight, inputs * KERNEL**2)

    def forward(self, x: Tensor) -> Tensor:
        if fast.enabled("phases", x):
            return phases(x, self.weight, self.bias)
        doubled = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return F.conv2d(doubled, self.weight, self.bias, padding=KERNEL // 2)


class UpImage(nn.Module):
    """Doublings from deter [M, D] and stoch [M, X] to mean pixels [M, H, W, C] in [0, 1].

    The smallest map is a block-linear image of deter plus a small network's of stoch.
    """

    def __init__(
        self, name: str, shape: Sequence[int], config: ObsNetConfig, latent: RSSMConfig
    ) -> None:
        super().__init__()
        stages, blocks = num_stages(name, shape), latent.blocks
        widths = channels(stages, config.depth)[::-1]
        height, width = padded_sides(shape, stages)
        self.sides = tuple(shape[:2])
        self.seed_shape = (height >> stages, width >> stages, widths[0])
        self.blocks, seed = blocks, math.prod(self.seed_shape)
        check_blocks("decoder.depth", widths[0], blocks)
        self.seed_deter = BlockLinear(blocks, latent.deter // blocks, seed // blocks)
        self.seed_stoch = RMSMLP(latent.stoch * latent.classes, 1, 2 * config.units, seed)
        self.seed_norm = ChannelRMS(widths[0])
        self.layers = nn.Sequential(*[_up(a, b) for a, b in pairwise(widths)])
        self.last = UpConv(widths[-1], shape[2])

    def forward(self, deter_MD: Tensor, stoch_MX: Tensor) -> Tensor:
        seed = self._from_deter(deter_MD) + self._from_stoch(stoch_MX)
        maps = self.layers(self.seed_norm(seed.permute(0, 3, 1, 2)))
        height, width = self.sides
        pixels = self.last(maps).permute(0, 2, 3, 1)[:, :height, :width]
        return torch.sigmoid(pixels.float())

    def _from_deter(self, deter_MD: Tensor) -> Tensor:
        height, width, depth = self.seed_shape
        seed = self.seed_deter(to_blocks(deter_MD, self.blocks))
        parts = seed.unflatten(-1, (height, width, depth // self.blocks))
        return parts.permute(1, 2, 3, 0, 4).flatten(-2)

    def _from_stoch(self, stoch_MX: Tensor) -> Tensor:
        return self.seed_stoch(stoch_MX).unflatten(-1, self.seed_shape)


def _up(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(UpConv(inputs, outputs), ChannelRMS(outputs))


# All observations


class Encoder(ObsEncoder):
    """Pooled convolutions, and an MLP for symlog vectors."""

    def __init__(self, keys: ObsKeys, config: ObsNetConfig) -> None:
        super().__init__()
        self.keys = keys
        images = {k: DownImage(k, spec.shape, config.depth) for k, spec in keys.images.items()}
        self.images = by_key(images)
        self.size = sum(image.size for image in images.values())
        if keys.vectors:
            width = sum(spec.size for spec in keys.vectors.values())
            self.vector = RMSMLP(width, config.layers, config.units)
            self.size += config.units if config.layers else width


class Decoder(ObsDecoder):
    """Convolutions of doubled images, and an MLP for symlog vectors; feat is [..., D + X].

    `ObsDecoder.losses` scores its means.
    """

    def __init__(self, keys: ObsKeys, config: ObsNetConfig, latent: RSSMConfig) -> None:
        super().__init__()
        self.keys, self.sizes = keys, (latent.deter, latent.stoch * latent.classes)
        self.images = by_key(
            {key: UpImage(key, spec.shape, config, latent) for key, spec in keys.images.items()}
        )
        if keys.vectors:
            outputs = sum(spec.size for spec in keys.vectors.values())
            self.vector = RMSMLP(sum(self.sizes), config.layers, config.units, outputs)

    def image_means(self, feat: Tensor) -> dict[str, Tensor]:
        """Predict centred pixels [..., H, W, C]."""
        deter, stoch = feat.flatten(0, -2).split(self.sizes, -1)
        lead = feat.shape[:-1]
        return {
            key: (decoder(deter, stoch) - 0.5).unflatten(0, lead)
            for key, decoder in zip(self.keys.images, self.images.values(), strict=True)
        }
