"""Layers and initialisers that several papers use.

Images are channel-first in shape but channel-last in memory, which the CPU and CUDA
convolutions prefer and which makes a norm over channels a norm over the last axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPS = 1e-3
SMALLEST_SIDE = 4
"""Image sides are halved until the shorter one has this many pixels."""


def average_fan(weight: Tensor) -> float:
    return (weight.shape[0] + weight.shape[1]) * math.prod(weight.shape[2:]) / 2


def xavier_uniform_(weight: Tensor, scale: float = 1.0) -> None:
    limit = scale * math.sqrt(3 / average_fan(weight))
    nn.init.uniform_(weight, -limit, limit)


def output_linear(inputs: int, outputs: int, scale: float = 1.0) -> nn.Linear:
    """Build a Linear with zero bias and Xavier-uniform weights times `scale`."""
    layer = nn.Linear(inputs, outputs)
    xavier_uniform_(layer.weight, scale)
    nn.init.zeros_(layer.bias)
    return layer


class LayerNorm(nn.LayerNorm):
    """LayerNorm over the last axis that computes in float32 under autocast."""

    def __init__(self, size: int) -> None:
        super().__init__(size, eps=NORM_EPS)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.float())


def num_stages(name: str, shape: Sequence[int]) -> int:
    """Count the halvings that bring the shorter side of an image [H, W, C] to 4 pixels, or to 5, 6
    or 7; `padded_sides` can be halved so often.

    Raises:
        ValueError: a side is below 8 pixels.
    """
    height, width = shape[:2]
    stages = max((min(height, width) // SMALLEST_SIDE).bit_length() - 1, 0)
    if not stages:
        raise ValueError(
            f"observation {name!r}: expected an image of at least {2 * SMALLEST_SIDE} pixels a "
            f"side, got {height} x {width}; env.size=64 resizes it"
        )
    return stages


def padded_sides(shape: Sequence[int], stages: int) -> tuple[int, int]:
    """The sides of an image [H, W, C], up to the next that can be halved `stages` times."""
    step = 2**stages
    return -(-shape[0] // step) * step, -(-shape[1] // step) * step


def padded(pixels: Tensor, sides: tuple[int, int]) -> Tensor:
    """Pad centred pixels [M, H, W, C] with grey below and on the right; none where they fit.

    Differs from the source, which takes no other sizes: 84 x 96 are read as 96 x 96.
    """
    height, width = pixels.shape[1:3]
    if (height, width) == sides:
        return pixels
    return F.pad(pixels, (0, 0, 0, sides[1] - width, 0, sides[0] - height))
