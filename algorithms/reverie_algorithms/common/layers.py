"""Layers and initialisers that several papers use.

Images are channel-first in shape but channel-last in memory, which the CPU and CUDA
convolutions prefer and which makes a norm over channels a norm over the last axis.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

NORM_EPS = 1e-3


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
