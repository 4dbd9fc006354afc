"""World model of DreamerV3-2023: encoder, RSSM and heads (arXiv:2301.04104v1, eq. 4 and 5).

Shape legend: B batch, T time, S stoch variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from reverie.ranges import Layers, Width
from reverie.types import STRICT
from reverie_algorithms.common.dists import TwoHot, bernoulli_loss
from reverie_algorithms.dreamer.latent import LatentState, balanced_kl
from reverie_algorithms.dreamer.open_loop import predict
from reverie_algorithms.dreamer_v3_2023.nets import MLP, Decoder, Encoder
from reverie_algorithms.dreamer_v3_2023.rssm import GRURSSM
from reverie_algorithms.fast.one_hot_linear import OneHots

HeadName = Literal["decoder", "reward", "cont"]
HEADS: tuple[HeadName, ...] = ("decoder", "reward", "cont")


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadConfig:
    """Sizes of reward, continuation, actor and critic; the defaults are those of `small`."""

    __pydantic_config__: ClassVar[Any] = STRICT
    SOURCE: ClassVar[str] = "danijar/dreamerv3@8fa35f8"

    layers: Layers = 2
    """Hidden layers."""
    units: Width = 512
    """Width of each."""


class RewardHead(nn.Module):
    """Two-hot reward; predicts 0 at first, since its output layer starts at zero."""

    def __init__(self, inputs: int, config: HeadConfig, one_hots: OneHots | None = None) -> None:
        super().__init__()
        self.dist = TwoHot()
        outputs = [len(self.dist.bins)]
        self.net = MLP(inputs, config.layers, config.units, outputs, 0.0, one_hots)

    def loss(self, feat: Tensor, reward: Tensor) -> Tensor:
        return self.dist.loss(self.net(feat), reward)

    def mean(self, feat: Tensor) -> Tensor:
        return self.dist.mean(self.net(feat))


class ContHead(nn.Module):
    """Probability that the episode goes on after a state."""

    def __init__(self, inputs: int, config: HeadConfig, one_hots: OneHots | None = None) -> None:
        super().__init__()
        self.net = MLP(inputs, config.layers, config.units, [1], one_hots=one_hots)

    def loss(self, feat: Tensor, cont: Tensor) -> Tensor:
        return bernoulli_loss(self.net(feat).squeeze(-1), cont)

    def mode(self, feat: Tensor) -> Tensor:
        """1.0 where going on is the likelier outcome."""
        return (self.net(feat).squeeze(-1) > 0).float()


class WorldModel(nn.Module):
    """Parts that the world-model optimizer trains, and their losses."""

    def __init__(
        self,
        encoder: Encoder,
        rssm: GRURSSM,
        decoder: Decoder,
        heads: HeadConfig,
        grad_heads: tuple[HeadName, ...],
        free_nats: float,
    ) -> None:
        super().__init__()
        self.encoder, self.rssm, self.decoder = encoder, rssm, decoder
        self.reward = RewardHead(rssm.feat_size, heads, rssm.one_hots)
        self.cont = ContHead(rssm.feat_size, heads, rssm.one_hots)
        self.grad_heads, self.free_nats = grad_heads, free_nats

    def losses(
        self, data: Mapping[str, Tensor], uniform_BTS: Tensor
    ) -> tuple[dict[str, Tensor], LatentState, dict[str, Tensor]]:
        """Observe whole windows and score every head.

        Returns:
            Losses [B, T] by name, the posterior states [B, T, ...] and scalar metrics.
        """
        inputs = self.encoder.keys.inputs(data)
        embed = self.encoder(inputs)
        observed = self.rssm.observe(embed, data["prev_action"], data["is_first"], uniform_BTS)
        feat = observed.state.feat
        feats = {h: feat if h in self.grad_heads else feat.detach() for h in HEADS}
        losses = self.decoder.losses(feats["decoder"], inputs)
        losses["reward"] = self.reward.loss(feats["reward"], data["reward"])
        losses["cont"] = self.cont.loss(feats["cont"], data["cont"])
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
