"""Heads of DreamerV3-2025: scalars, continuation and policy from the latent state.

Shape legend: F feat, P policy parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from reverie.types import STRICT
from reverie_algorithms.common.dists import ActionDist, SymexpTwoHot, bernoulli_loss
from reverie_algorithms.dreamer_v3_2025.nets import RMSMLP


@dataclass(frozen=True, kw_only=True, slots=True)
class RMSHeadConfig:
    """Sizes of reward, continuation, actor and critic; the defaults are those of `12m`."""

    __pydantic_config__: ClassVar[Any] = STRICT

    units: int = 256
    """Width of every hidden layer (source: danijar/dreamerv3@e3f0224)."""
    model_layers: int = 1
    """Hidden layers of reward and continuation (source: danijar/dreamerv3@e3f0224)."""
    behavior_layers: int = 3
    """Hidden layers of actor and critic (source: danijar/dreamerv3@e3f0224)."""


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


class ContLogit(nn.Module):
    """Logit of the discounted chance that the episode goes on after a state."""

    def __init__(self, inputs: int, layers: int, units: int) -> None:
        super().__init__()
        self.net = RMSMLP(inputs, layers, units, 1)

    def forward(self, feat: Tensor) -> Tensor:
        return self.net(feat).squeeze(-1).float()

    def loss(self, feat: Tensor, target: Tensor) -> Tensor:
        return bernoulli_loss(self(feat), target)

    def prob(self, feat: Tensor) -> Tensor:
        return torch.sigmoid(self(feat))


class RMSActor(nn.Module):
    """Policy parameters [..., P] from feat [..., F]; `dist` says what they mean."""

    def __init__(self, inputs: int, layers: int, units: int, dist: ActionDist) -> None:
        super().__init__()
        self.dist = dist
        self.net = RMSMLP(inputs, layers, units, sum(dist.outputs), scale=0.01)

    def forward(self, feat: Tensor) -> Tensor:
        return self.net(feat).float()
