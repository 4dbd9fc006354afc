"""World model of DreamerV3-2025: encoder, block RSSM, decoder, reward and continuation.

Shape legend: B batch, T time, S stoch variables, F feat.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from reverie.ranges import Layers, Width
from reverie.types import STRICT
from reverie_algorithms.common.dists import bernoulli_loss
from reverie_algorithms.dreamer.latent import LatentState, balanced_kl
from reverie_algorithms.dreamer.open_loop import predict
from reverie_algorithms.dreamer_v3_2025.images import Decoder, Encoder
from reverie_algorithms.dreamer_v3_2025.nets import RMSMLP, TwoHotHead
from reverie_algorithms.dreamer_v3_2025.rssm import BlockRSSM


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadConfig:
    """Sizes of reward, continuation, actor and critic; the defaults are those of `12m`."""

    __pydantic_config__: ClassVar[Any] = STRICT
    SOURCE: ClassVar[str] = "danijar/dreamerv3@e3f0224"

    units: Width = 256
    """Width of every hidden layer."""
    model_layers: Layers = 1
    """Hidden layers of reward and continuation."""
    behavior_layers: Layers = 3
    """Hidden layers of actor and critic."""


class ContHead(nn.Module):
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


class WorldModel(nn.Module):
    """What predicts observations, rewards and ends, and its losses."""

    def __init__(
        self,
        encoder: Encoder,
        rssm: BlockRSSM,
        decoder: Decoder,
        heads: HeadConfig,
        free_nats: float,
    ) -> None:
        super().__init__()
        self.encoder, self.rssm, self.decoder = encoder, rssm, decoder
        self.reward = TwoHotHead(rssm.feat_size, heads.model_layers, heads.units)
        self.cont = ContHead(rssm.feat_size, heads.model_layers, heads.units)
        self.free_nats = free_nats

    def losses(
        self, data: Mapping[str, Tensor], start: LatentState, uniform_BTS: Tensor
    ) -> tuple[dict[str, Tensor], LatentState, dict[str, Tensor]]:
        """Observe windows from `start` on and score every head.

        Returns:
            Losses [B, T] by name, the posterior states [B, T, ...] and scalar metrics.
        """
        inputs = self.encoder.keys.inputs(data)
        embed = self.encoder(inputs)
        observed = self.rssm.observe(
            embed, data["prev_action"], data["is_first"], uniform_BTS, start
        )
        feat = observed.state.feat
        losses = self.decoder.losses(feat, inputs)
        losses["reward"] = self.reward.dist.loss(self.reward(feat), [(1.0, data["reward"])])
        losses["cont"] = self.cont.loss(feat, data["cont"])
        kl_losses, metrics = balanced_kl(observed, self.free_nats)
        losses.update(kl_losses)
        shape = data["reward"].shape
        assert all(v.shape == shape for v in losses.values()), (shape, losses)
        return losses, observed.state, metrics

    def open_loop(
        self, data: Mapping[str, Tensor], context: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """As `dreamer.open_loop.OpenLoopModel`."""
        return predict(self.encoder, self.rssm, self.decoder, data, context, generator)
