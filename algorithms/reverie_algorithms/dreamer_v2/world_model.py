"""World model of DreamerV2: encoder, RSSM and heads (arXiv:2010.02193, eq. 1 and 2).

Details are those of thuml/HarmonyDream@0a22e33, wmlib-torch.

Shape legend: B batch, T time, S stoch variables.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from reverie_algorithms.dreamer.elu_images import EluDecoder, EluEncoder
from reverie_algorithms.dreamer.elu_nets import DiscountHead, EluHeadConfig, MeanHead
from reverie_algorithms.dreamer.elu_rssm import EluRSSM, KLConfig, mean_kl
from reverie_algorithms.dreamer.latent import LatentState
from reverie_algorithms.dreamer.open_loop import predict


class WorldModel(nn.Module):
    """Parts that the world-model optimizer trains, and their losses."""

    def __init__(
        self,
        encoder: EluEncoder,
        rssm: EluRSSM,
        decoder: EluDecoder,
        heads: EluHeadConfig,
        discount_head: bool,
        kl: KLConfig,
    ) -> None:
        super().__init__()
        self.encoder, self.rssm, self.decoder = encoder, rssm, decoder
        self.reward = MeanHead(rssm.feat_size, heads)
        self.discount = DiscountHead(rssm.feat_size, heads) if discount_head else None
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
        means["kl"], metrics = mean_kl(observed, self.kl)
        return means, observed.state, metrics

    def open_loop(
        self, data: Mapping[str, Tensor], context: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """As `dreamer.open_loop.OpenLoopModel`."""
        return predict(self.encoder, self.rssm, self.decoder, data, context, generator)
