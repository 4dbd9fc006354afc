"""Layers and initialisers that several papers use.

Images are channel-first in shape but channel-last in memory, which the CPU and CUDA
convolutions prefer and which makes a norm over channels a norm over the last axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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
    """Count the halvings that bring the shorter side of an image [H, W, C] to 4 pixels.

    Raises:
        ValueError: the sides do not halve down to 4.
    """
    height, width = shape[:2]
    stages = max((min(height, width) // SMALLEST_SIDE).bit_length() - 1, 0)
    halved = stages and not (height % 2**stages or width % 2**stages)
    if not halved or min(height, width) >> stages != SMALLEST_SIDE:
        raise ValueError(
            f"observation {name!r}: expected an image whose shorter side is 8, 16, 32, 64, ... and "
            f"whose longer side can be halved as often, got {height} x {width}; resize it"
        )
    return stages
