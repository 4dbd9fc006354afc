"""A latent model of video without actions (APV, arXiv:2203.13880, eq. 2; arXiv:2305.18499, eq. 2).

Encoder, recurrent state-space model and decoder are DreamerV2's; where an action would stand, the
model reads zeros, so that one that is trained so can go on with actions padded to the same width.

Shape legend: B batch, T time, S stoch variables.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from reverie.types import ArraySpec
from reverie_algorithms.dreamer.elu_images import EluDecoder, EluEncoder, EluObsConfig, RawObsKeys
from reverie_algorithms.dreamer.elu_rssm import EluRSSM, EluRSSMConfig, KLConfig, mean_kl
from reverie_algorithms.dreamer.open_loop import predict


class VideoRSSM(nn.Module):
    """Encoder, action-free RSSM and decoder, and their losses.

    Raises:
        ValueError: observations that are no uint8 images, or image sides that the networks cannot
            take.
    """

    def __init__(
        self,
        obs: Mapping[str, ArraySpec],
        rssm: EluRSSMConfig,
        encoder: EluObsConfig,
        decoder: EluObsConfig,
        kl: KLConfig,
    ) -> None:
        super().__init__()
        self.keys = RawObsKeys.select(obs)
        self.encoder = EluEncoder(self.keys, encoder)
        self.rssm = EluRSSM(rssm, self.encoder.size, action_size=0)
        self.decoder = EluDecoder(self.keys, self.rssm.feat_size, decoder)
        self.kl = kl

    def prepare(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Turn a batch [B, T, ...] into what the model reads: every window starts a clip, and
        nothing is done in it (`prev_action` [B, T, 0]).
        """
        is_first = batch["is_first"].clone()
        is_first[:, 0] = True
        nothing = torch.zeros(*is_first.shape, 0, device=is_first.device)
        images = {key: batch[key] for key in self.keys.names}
        return {**images, "is_first": is_first, "prev_action": nothing}

    def losses(
        self, data: Mapping[str, Tensor], uniform_BTS: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Observe whole windows.

        Returns:
            Mean losses `image` (half the squared error, summed over pixels) and `kl` (balanced),
            and scalar metrics.
        """
        inputs = self.keys.inputs(data)
        embed = self.encoder(inputs)
        observed = self.rssm.observe(embed, data["prev_action"], data["is_first"], uniform_BTS)
        found = self.decoder.losses(observed.state.feat, inputs)
        means = {name: loss.mean() for name, loss in found.items()}
        means["kl"], metrics = mean_kl(observed, self.kl)
        return means, metrics

    def open_loop(
        self, data: Mapping[str, Tensor], context: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """As `dreamer.open_loop.OpenLoopModel`."""
        return predict(self.encoder, self.rssm, self.decoder, data, context, generator)
