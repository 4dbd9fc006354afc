"""A latent model of video without actions (APV, arXiv:2203.13880, eq. 2; arXiv:2305.18499, eq. 2).

Encoder, recurrent state-space model and decoder are DreamerV2's; where an action would stand, the
model reads zeros, so that one that is trained so can go on with actions padded to the same width.

Shape legend: B batch, T time, S stoch variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reverie.types import ArraySpec
from reverie_algorithms.common.observations import squared_error
from reverie_algorithms.dreamer.elu_images import EluDecoder, EluEncoder, EluObsConfig, RawObsKeys
from reverie_algorithms.dreamer.elu_rssm import EluRSSM, EluRSSMConfig, KLConfig, mean_kl
from reverie_algorithms.dreamer.open_loop import predict_feats
from reverie_algorithms.dreamer.video.context import (
    ContextConfig,
    ContextDecoder,
    ContextEncoder,
    ContextNoise,
    choose_frames,
)


class VideoNoise(NamedTuple):
    """What is drawn for one pass over windows."""

    latent_BTS: Tensor
    """Uniform numbers."""
    context: ContextNoise | None


class VideoRSSM(nn.Module):
    """Encoder, action-free RSSM and decoder, and their losses; with a context where one is wanted.

    Raises:
        ValueError: observations that are no uint8 images, or image sides that the networks cannot
            take; a context of networks that are not residual.
    """

    def __init__(
        self,
        obs: Mapping[str, ArraySpec],
        rssm: EluRSSMConfig,
        encoder: EluObsConfig,
        decoder: EluObsConfig,
        kl: KLConfig,
        context: ContextConfig,
    ) -> None:
        super().__init__()
        self.keys = RawObsKeys.select(obs)
        self.encoder = EluEncoder(self.keys, encoder)
        self.rssm = EluRSSM(rssm, self.encoder.size, action_size=0)
        self.context, self.kl = context, kl
        self.context_encoder: ContextEncoder | None = None
        if context.kind == "none":
            self.decoder = EluDecoder(self.keys, self.rssm.feat_size, decoder)
            return
        if (encoder.kind, decoder.kind) != ("resnet", "resnet"):
            raise ValueError(
                "algorithm.context.kind: 'frame' wants encoder.kind and decoder.kind 'resnet', got "
                f"{encoder.kind!r} and {decoder.kind!r}"
            )
        self.context_encoder = ContextEncoder(self.keys, encoder)
        self.decoder = ContextDecoder(self.keys, self.rssm.feat_size, decoder, context)

    def prepare(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Turn a batch [B, T, ...] into what the model reads: every window starts a clip, and
        nothing is done in it (`prev_action` [B, T, 0]).
        """
        is_first = batch["is_first"].clone()
        is_first[:, 0] = True
        nothing = torch.zeros(*is_first.shape, 0, device=is_first.device)
        images = {key: batch[key] for key in self.keys.names}
        return {**images, "is_first": is_first, "prev_action": nothing}

    def noise(self, batch_size: int, length: int, generator: torch.Generator) -> VideoNoise:
        """Draw for one pass over windows; nothing is dropped but in training."""
        latent_BTS = self.rssm.noise((batch_size, length), generator)
        if not isinstance(self.decoder, ContextDecoder):
            return VideoNoise(latent_BTS, None)
        return VideoNoise(latent_BTS, self._context_noise(batch_size, length, generator))

    def losses(
        self, data: Mapping[str, Tensor], noise: VideoNoise
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Observe whole windows.

        Returns:
            Mean losses `image` (half the squared error, summed over pixels) and `kl` (balanced),
            and scalar metrics.
        """
        inputs = self.keys.inputs(data)
        embed, actions, is_first = self.encoder(inputs), data["prev_action"], data["is_first"]
        observed = self.rssm.observe(embed, actions, is_first, noise.latent_BTS)
        means = self.image_means(observed.state.feat, inputs, noise.context)
        errors = [squared_error(mean, inputs[key], 3) for key, mean in means.items()]
        kl, metrics = mean_kl(observed, self.kl)
        return {"image": 0.5 * sum(errors[1:], errors[0]).mean(), "kl": kl}, metrics

    def image_means(
        self, feat: Tensor, inputs: Mapping[str, Tensor], noise: ContextNoise | None
    ) -> dict[str, Tensor]:
        """Centred pixels [B, T, H, W, C] by key from feat [B, T, F], with a frame of `inputs` as
        the context where there is one.
        """
        if noise is None:
            return self.decoder.image_means(feat)
        assert self.context_encoder is not None
        assert isinstance(self.decoder, ContextDecoder)
        return self.decoder.decode(feat, self.context_encoder(inputs, noise.frame_B), noise)

    def open_loop(
        self, data: Mapping[str, Tensor], context: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """As `dreamer.open_loop.OpenLoopModel`; a window's context is a frame of it, whichever."""
        feat = predict_feats(self.encoder, self.rssm, data, context, generator)
        noise = None
        if isinstance(self.decoder, ContextDecoder):
            noise = self._context_noise(len(feat), feat.shape[1], generator)
        means = self.image_means(feat, self.keys.inputs(data), noise)
        return {key: mean + 0.5 for key, mean in means.items()}

    def _context_noise(
        self, batch_size: int, length: int, generator: torch.Generator
    ) -> ContextNoise:
        assert isinstance(self.decoder, ContextDecoder)
        frame_B = choose_frames(self.context.choice, batch_size, length, generator)
        rows = batch_size * length
        return ContextNoise(frame_B, self.decoder.noise(rows, generator, self.training))
