"""World model of DreamerV2: encoder, RSSM and heads (arXiv:2010.02193, eq. 1 and 2).

Details are those of thuml/HarmonyDream@0a22e33, wmlib-torch.

Shape legend: B batch, T time, S stoch variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from reverie.types import STRICT
from reverie_algorithms.common.dists import bernoulli_loss, categorical_entropy, categorical_kl
from reverie_algorithms.dreamer.elu_images import DecoderV2, EncoderV2
from reverie_algorithms.dreamer.elu_nets import EluMLP
from reverie_algorithms.dreamer.elu_rssm import RSSMV2, ObservedV2
from reverie_algorithms.dreamer_v3_2023.rssm import LatentState


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadV2Config:
    """Sizes of reward, discount, actor and critic."""

    __pydantic_config__: ClassVar[Any] = STRICT

    layers: int = 4
    """Hidden layers (source: thuml/HarmonyDream@0a22e33)."""
    units: int = 400
    """Width of each (source: thuml/HarmonyDream@0a22e33)."""


class MeanHead(nn.Module):
    """Mean of a unit normal over a scalar: reward or value."""

    def __init__(self, inputs: int, config: HeadV2Config) -> None:
        super().__init__()
        self.net = EluMLP(inputs, config.layers, config.units, [1], redraw=True)

    def forward(self, feat: Tensor) -> Tensor:
        return self.net(feat).squeeze(-1).float()

    def loss(self, feat: Tensor, target: Tensor) -> Tensor:
        """Half the squared error [...]: the constant of the log-likelihood is left out."""
        return 0.5 * (self(feat) - target).square()


class DiscountHead(nn.Module):
    """Expected discount gamma (1 - terminal) of a state, as a Bernoulli's probability."""

    def __init__(self, inputs: int, config: HeadV2Config) -> None:
        super().__init__()
        self.net = EluMLP(inputs, config.layers, config.units, [1], redraw=True)

    def loss(self, feat: Tensor, discount: Tensor) -> Tensor:
        return bernoulli_loss(self.net(feat).squeeze(-1), discount)

    def mean(self, feat: Tensor) -> Tensor:
        return torch.sigmoid(self.net(feat).squeeze(-1).float())


@dataclass(frozen=True, kw_only=True, slots=True)
class KLConfig:
    """How prior and posterior are drawn towards each other."""

    __pydantic_config__: ClassVar[Any] = STRICT

    balance: float = 0.8
    """Share of the gradient that goes to the prior (source: thuml/HarmonyDream@0a22e33)."""
    free_nats: float = 0.0
    """Mean KL of a batch below which it is not trained on
    (source: thuml/HarmonyDream@0a22e33)."""


class WorldModelV2(nn.Module):
    """Parts that the world-model optimizer trains, and their losses."""

    def __init__(
        self,
        encoder: EncoderV2,
        rssm: RSSMV2,
        decoder: DecoderV2,
        heads: HeadV2Config,
        discount_head: bool,
        kl: KLConfig,
    ) -> None:
        super().__init__()
        self.encoder, self.rssm, self.decoder = encoder, rssm, decoder
        sizes = rssm.feat_size, heads
        self.reward = MeanHead(*sizes)
        self.discount = DiscountHead(*sizes) if discount_head else None
        self.kl = kl

    def losses(
        self, data: Mapping[str, Tensor], uniform_BTS: Tensor
    ) -> tuple[dict[str, Tensor], LatentState, dict[str, Tensor]]:
        """Observe whole windows and score every head.

        Returns:
            Mean losses by name, the posterior states [B, T, ...] and scalar metrics.
        """
        inputs = self.encoder.keys.inputs(data)
        embed = self.encoder(inputs)
        observed = self.rssm.observe(embed, data["prev_action"], data["is_first"], uniform_BTS)
        feat = observed.state.feat
        losses = self.decoder.losses(feat, inputs)
        losses["reward"] = self.reward.loss(feat, data["reward"])
        if self.discount is not None:
            losses["discount"] = self.discount.loss(feat, data["discount"])
        shape = data["reward"].shape
        assert all(v.shape == shape for v in losses.values()), (shape, losses)
        means = {name: loss.mean() for name, loss in losses.items()}
        means["kl"], metrics = balanced_kl(observed, self.kl)
        return means, observed.state, metrics


def balanced_kl(observed: ObservedV2, config: KLConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """KL with different gradients to prior and posterior (arXiv:2010.02193, algorithm 2).

    Free nats are clipped on the batch's mean, each side apart.
    """
    log_posterior = torch.log_softmax(observed.posterior_BTSK, -1)
    log_prior = torch.log_softmax(observed.prior_BTSK, -1)
    fixed = log_posterior.detach()
    to_prior = categorical_kl(fixed.exp(), fixed, log_prior).mean()
    to_posterior = categorical_kl(log_posterior.exp(), log_posterior, log_prior.detach()).mean()
    loss = config.balance * to_prior.clamp(min=config.free_nats)
    loss = loss + (1 - config.balance) * to_posterior.clamp(min=config.free_nats)
    return loss, {
        "kl": to_prior.detach(),
        "entropy/posterior": categorical_entropy(fixed).mean(),
        "entropy/prior": categorical_entropy(log_prior.detach()).mean(),
    }
