"""World model of DreamerV3-2025: encoder, block RSSM, decoder, reward and continuation.

Shape legend: B batch, T time, S stoch variables.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from reverie_algorithms.block_rssm import BlockRSSM
from reverie_algorithms.dists import categorical_kl
from reverie_algorithms.rms_heads import ContLogit, RMSHeadConfig, TwoHotHead
from reverie_algorithms.rms_observations import RMSDecoder, RMSEncoder
from reverie_algorithms.rssm import LatentState, Observed


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
        kl_losses, metrics = self._kl(observed)
        losses.update(kl_losses)
        shape = data["reward"].shape
        assert all(v.shape == shape for v in losses.values()), (shape, losses)
        return losses, observed.state, metrics

    def _kl(self, observed: Observed) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Balanced KL, free nats clipped per element."""
        posterior, prior = observed.posterior_BTSK, observed.prior_BTSK
        log_posterior, log_prior = posterior.log(), prior.log()
        dyn = categorical_kl(posterior.detach(), log_posterior.detach(), log_prior)
        rep = categorical_kl(posterior, log_posterior, log_prior.detach())
        metrics = {
            "kl": dyn.detach().mean(),
            "entropy/posterior": -(posterior * log_posterior).detach().sum((-2, -1)).mean(),
            "entropy/prior": -(prior * log_prior).detach().sum((-2, -1)).mean(),
        }
        return {
            "dyn": dyn.clamp(min=self.free_nats),
            "rep": rep.clamp(min=self.free_nats),
        }, metrics
