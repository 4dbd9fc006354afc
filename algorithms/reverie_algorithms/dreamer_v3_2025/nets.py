"""Layers of DreamerV3-2025: biases everywhere, RMSNorm and SiLU (danijar/dreamerv3@e3f0224).

Shape legend: M rows (any flattened leading axes), G blocks, I and O inputs and outputs of one
block.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie_algorithms.common.dists import SymexpTwoHot

INIT_STD = 1.1368
"""Std of the normal that is cut off at two of its sigmas; it then has unit variance, nearly."""
RMS_EPS = 1e-4
"""Added to the mean of squares."""
LAST = (-1,)


def fan_in_normal_(weight: Tensor, fan_in: int, scale: float = 1.0) -> None:
    """Fill with a normal of std 1.1368 sqrt(1 / fan_in), cut off at two sigmas, times `scale`."""
    std = INIT_STD * math.sqrt(1 / fan_in)
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
    with torch.no_grad():
        weight.mul_(scale)


def rms_silu(x: Tensor, scale: Tensor, axes: tuple[int, ...] = LAST) -> Tensor:
    """RMSNorm over `axes`, then SiLU, computed in float32 (arXiv:1910.07467, eq. 4)."""
    wide = x.float()
    inverse = torch.rsqrt(wide.square().mean(axes, keepdim=True) + RMS_EPS)
    return F.silu(wide * inverse * scale).to(x.dtype)


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


def check_blocks(name: str, width: int, blocks: int) -> None:
    """Raise `ValueError` where `width` does not fall into `blocks` equal parts."""
    if blocks < 1 or width % blocks:
        raise ValueError(
            f"algorithm.{name}: expected a width that is a multiple of the {blocks} blocks, "
            f"got {width}"
        )


class TwoHotHead(nn.Module):
    """Two-hot logits of a scalar; its mean is 0 at first, since the output layer is zero."""

    def __init__(self, inputs: int, layers: int, units: int) -> None:
        super().__init__()
        self.dist = SymexpTwoHot()
        self.net = RMSMLP(inputs, layers, units, len(self.dist.bins), scale=0.0)

    def forward(self, feat: Tensor) -> Tensor:
        return self.net(feat).float()

    def mean(self, feat: Tensor) -> Tensor:
        return self.dist.mean(self(feat))
