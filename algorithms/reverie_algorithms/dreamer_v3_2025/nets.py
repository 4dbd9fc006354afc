"""Layers of DreamerV3-2025: biases everywhere, RMSNorm and SiLU (danijar/dreamerv3@e3f0224).

Images are channel-first in shape but channel-last in memory, as in `nets`.

Shape legend: M rows (any flattened leading axes), G blocks, I and O inputs and outputs of one
block, C channels, F feat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie_algorithms.dreamer_v3_2023.nets import num_stages
from reverie_algorithms.dreamer_v3_2025.rms_norm import rms_silu
from reverie_algorithms.fast import winograd
from reverie_algorithms.fast.acting import ActingLayer
from reverie_algorithms.fast.up_conv import KERNEL, UpConv

INIT_STD = 1.1368
"""Std of the normal that is cut off at two of its sigmas; it then has unit variance, nearly."""
WIDTHS = (2, 3, 4, 4)
"""Channels after each halving of an image, as multiples of `depth` (source:
danijar/dreamerv3@e3f0224, which always halves four times). A smaller image leaves out the first
ones, a larger one repeats the last."""


def fan_in_normal_(weight: Tensor, fan_in: int, scale: float = 1.0) -> None:
    """Fill with a normal of std 1.1368 sqrt(1 / fan_in), cut off at two sigmas, times `scale`."""
    std = INIT_STD * math.sqrt(1 / fan_in)
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
    with torch.no_grad():
        weight.mul_(scale)


# Vectors


class RMSLinear(nn.Module):
    """Linear, RMSNorm and SiLU; `finish` takes a product that was computed elsewhere."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(units, inputs))
        self.bias = nn.Parameter(torch.zeros(units))
        self.scale = nn.Parameter(torch.ones(units))
        fan_in_normal_(self.weight, inputs)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.finish(F.linear(inputs, self.weight, self.bias))

    def finish(self, product: Tensor) -> Tensor:
        return rms_silu(product.float(), self.scale)


def fan_in_linear(inputs: int, outputs: int, scale: float = 1.0) -> nn.Linear:
    """Build a Linear with zero bias and fan-in normal weights times `scale`."""
    layer = nn.Linear(inputs, outputs)
    fan_in_normal_(layer.weight, inputs, scale)
    nn.init.zeros_(layer.bias)
    return layer


class BlockLinear(nn.Module):
    """A linear layer for each of G blocks of its inputs.

    Weights lie as [G, I, O], which a batched product reads in place. They start as small as if
    every output read the inputs of all blocks, as in danijar/dreamerv3@e3f0224.
    """

    def __init__(self, blocks: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(blocks, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(blocks, 1, outputs))
        fan_in_normal_(self.weight, blocks * inputs)

    def forward(self, x_GMI: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x_GMI, self.weight)


def to_blocks(x_MD: Tensor, blocks: int) -> Tensor:
    """Cut the last axis into blocks and put them first: a view [G, M, D / G]."""
    return x_MD.unflatten(-1, (blocks, -1)).transpose(0, 1)


def from_blocks(x_GMd: Tensor) -> Tensor:
    """Invert `to_blocks`."""
    return x_GMd.transpose(0, 1).flatten(1)


class RMSMLP(nn.Module):
    """Normed hidden layers; with `outputs`, one linear layer of that width on top."""

    def __init__(
        self, inputs: int, layers: int, units: int, outputs: int = 0, scale: float = 1.0
    ) -> None:
        super().__init__()
        sizes = [inputs, *[units] * layers]
        self.hidden = nn.Sequential(*[RMSLinear(a, b) for a, b in pairwise(sizes)])
        self.output = fan_in_linear(sizes[-1], outputs, scale) if outputs else None

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.hidden(inputs)
        return hidden if self.output is None else self.output(hidden)


# Images


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
        self.fast: winograd.PooledConv | None = None
        assert self.conv.bias is not None
        fan_in_normal_(self.conv.weight, inputs * KERNEL**2)
        nn.init.zeros_(self.conv.bias)

    def prepare_acting(self) -> None:
        self.fast = winograd.PooledConv(self.conv) if winograd.suits(self.conv) else None

    def forward(self, x: Tensor) -> Tensor:
        if self.fast is not None and self.fast.tiles(x):
            return self.norm(self.fast(x))
        return self.norm(largest_of_four(self.conv(x)))


def largest_of_four(x: Tensor) -> Tensor:
    """The largest of each 2x2 pixels; on a CPU, without gradients, in two quick passes."""
    if torch.is_grad_enabled() or not x.is_cpu:
        return F.max_pool2d(x, 2)
    pixels = x.permute(0, 2, 3, 1)
    rows = torch.maximum(pixels[:, 0::2], pixels[:, 1::2])
    return torch.maximum(rows[:, :, 0::2], rows[:, :, 1::2]).permute(0, 3, 1, 2)


class DownImage(nn.Module):
    """Convolutions from centred pixels [M, H, W, C] to a vector [M, size]."""

    def __init__(self, name: str, shape: Sequence[int], depth: int) -> None:
        super().__init__()
        stages = num_stages(name, shape)
        widths = [shape[2], *channels(stages, depth)]
        self.layers = nn.Sequential(*[DownConv(a, b) for a, b in pairwise(widths)])
        self.size = widths[-1] * (shape[0] >> stages) * (shape[1] >> stages)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.layers(pixels.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).flatten(1)


class UpImage(nn.Module):
    """Doublings from deter [M, D] and stoch [M, X] to mean pixels [M, H, W, C] in [0, 1].

    The smallest map is a block-linear image of deter plus a small network's of stoch.
    """

    def __init__(
        self,
        name: str,
        shape: Sequence[int],
        sizes: tuple[int, int],
        depth: int,
        units: int,
        blocks: int,
    ) -> None:
        super().__init__()
        stages, (deter, latent) = num_stages(name, shape), sizes
        widths = channels(stages, depth)[::-1]
        self.seed_shape = (shape[0] >> stages, shape[1] >> stages, widths[0])
        self.blocks, seed = blocks, math.prod(self.seed_shape)
        check_blocks("decoder.depth", widths[0], blocks)
        self.seed_deter = BlockLinear(blocks, deter // blocks, seed // blocks)
        self.seed_stoch = RMSMLP(latent, 1, 2 * units, seed)
        self.seed_norm = ChannelRMS(widths[0])
        self.layers = nn.Sequential(*[_up(a, b) for a, b in pairwise(widths)])
        self.last = UpConv(widths[-1], shape[2])
        fan_in_normal_(self.last.weight, self.last.fan_in)

    def forward(self, deter_MD: Tensor, stoch_MX: Tensor) -> Tensor:
        seed = self._from_deter(deter_MD) + self._from_stoch(stoch_MX)
        maps = self.layers(self.seed_norm(seed.permute(0, 3, 1, 2)))
        return torch.sigmoid(self.last(maps).permute(0, 2, 3, 1).float())

    def _from_deter(self, deter_MD: Tensor) -> Tensor:
        height, width, depth = self.seed_shape
        seed = self.seed_deter(to_blocks(deter_MD, self.blocks))
        parts = seed.unflatten(-1, (height, width, depth // self.blocks))
        return parts.permute(1, 2, 3, 0, 4).flatten(-2)

    def _from_stoch(self, stoch_MX: Tensor) -> Tensor:
        return self.seed_stoch(stoch_MX).unflatten(-1, self.seed_shape)


def _up(inputs: int, outputs: int) -> nn.Sequential:
    conv = UpConv(inputs, outputs)
    fan_in_normal_(conv.weight, conv.fan_in)
    return nn.Sequential(conv, ChannelRMS(outputs))


def check_blocks(name: str, width: int, blocks: int) -> None:
    """Raise `ValueError` where `width` does not fall into `blocks` equal parts."""
    if blocks < 1 or width % blocks:
        raise ValueError(
            f"algorithm.{name}: wanted a width that is a multiple of the {blocks} blocks, "
            f"got {width}"
        )
