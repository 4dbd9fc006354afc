"""World model of DreamerV3-2025: encoder, block RSSM, decoder, reward and continuation.

Shape legend: B batch, T time, S stoch variables.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from reverie_algorithms.dreamer_v3_2023.rssm import LatentState
from reverie_algorithms.dreamer_v3_2023.world_model import balanced_kl
from reverie_algorithms.dreamer_v3_2025.heads import ContLogit, RMSHeadConfig, TwoHotHead
from reverie_algorithms.dreamer_v3_2025.images import RMSDecoder, RMSEncoder
from reverie_algorithms.dreamer_v3_2025.rssm import BlockRSSM


class RMSWorldModel(nn.Module):
    """What predicts observations, rewards and ends, and its losses."""

    def __init__(
        self,
        encoder: RMSEncoder,
        rssm: BlockRSSM,
        decoder: RMSDecoder,
        heads: RMSHeadConfig,
        free_nats: float,
    ) -> None:
        super().__init__()
        self.encoder, self.rssm, self.decoder = encoder, rssm, decoder
        net = rssm.feat_size, heads.model_layers, heads.units
        self.reward, self.cont = TwoHotHead(*net), ContLogit(*net)
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
        window = embed, data["prev_action"], data["is_first"], uniform_BTS
        observed = self.rssm.observe(*window, start)
        feat = observed.state.feat
        losses = self.decoder.losses(feat, inputs)
        losses["reward"] = self.reward.dist.loss(self.reward(feat), [(1.0, data["reward"])])
        losses["cont"] = self.cont.loss(feat, data["cont"])
        kl_losses, metrics = balanced_kl(observed, self.free_nats)
        losses.update(kl_losses)
        shape = data["reward"].shape
        assert all(v.shape == shape for v in losses.values()), (shape, losses)
        return losses, observed.state, metrics
