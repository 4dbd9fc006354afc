"""Layers and heads of DreamerV2: no norm, ELU, Glorot weights and zero biases (arXiv:2010.02193).

Shape legend: F feat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.ranges import Layers, Width
from reverie.types import STRICT
from reverie_algorithms.common.dists import bernoulli_loss
from reverie_algorithms.common.layers import output_linear, xavier_uniform_


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


# Heads


@dataclass(frozen=True, kw_only=True, slots=True)
class EluHeadConfig:
    """Sizes of reward, discount, actor and critic."""

    __pydantic_config__: ClassVar[Any] = STRICT
    SOURCE: ClassVar[str] = "thuml/HarmonyDream@0a22e33"

    layers: Layers = 4
    """Hidden layers."""
    units: Width = 400
    """Width of each."""


class MeanHead(nn.Module):
    """Mean of a unit normal over a scalar: reward or value."""

    def __init__(self, inputs: int, config: EluHeadConfig) -> None:
        super().__init__()
        self.net = EluMLP(inputs, config.layers, config.units, [1], redraw=True)

    def forward(self, feat: Tensor) -> Tensor:
        return self.net(feat).squeeze(-1).float()

    def loss(self, feat: Tensor, target: Tensor) -> Tensor:
        """Half the squared error [...]: the constant of the log-likelihood is left out."""
        return 0.5 * (self(feat) - target).square()


class DiscountHead(nn.Module):
    """Expected discount gamma (1 - terminal) of a state, as a Bernoulli's probability."""

    def __init__(self, inputs: int, config: EluHeadConfig) -> None:
        super().__init__()
        self.net = EluMLP(inputs, config.layers, config.units, [1], redraw=True)

    def loss(self, feat: Tensor, discount: Tensor) -> Tensor:
        return bernoulli_loss(self.net(feat).squeeze(-1), discount)

    def mean(self, feat: Tensor) -> Tensor:
        return torch.sigmoid(self.net(feat).squeeze(-1).float())
