"""Imagined beside real futures: what a model predicts from a few frames and real actions.

Shape legend: B batch, T time, H W C image height, width and channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from reverie.protocols import Metrics, Videos
from reverie.types import Array
from reverie_algorithms.common.observations import ObsDecoder, ObsEncoder
from reverie_algorithms.dreamer.latent import RSSM

MAX_COLUMNS = 6
MAX_CONTEXT = 5
"""Observed steps before imagination starts, or a third of the window if that is less."""
HORIZONS = (1, 5, 15, 30, 45)


class OpenLoopModel(Protocol):
    """A world model that predicts pictures."""

    def open_loop(
        self, data: Mapping[str, Tensor], context: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """See `context` rows of windows [B, T, ...], then go on with their actions alone.

        Returns:
            Mean images [B, T, H, W, C] by key, on the scale of [0, 1].
        """
        ...


@torch.no_grad()
def look_ahead(
    model: OpenLoopModel, data: Mapping[str, Tensor], generator: torch.Generator
) -> tuple[Videos, Metrics]:
    """Observe the first steps, imagine the rest with the real actions, compare.

    Returns:
        For each image key a video uint8 [T, 3 H, columns W, 3] with the real images above the
        imagined ones above their difference, and mean squared errors per pixel by horizon.
    """
    data = {key: value[:MAX_COLUMNS] for key, value in data.items()}
    context = max(1, min(MAX_CONTEXT, data["is_first"].shape[1] // 3))
    videos, metrics = {}, {}
    for key, mean in model.open_loop(data, context, generator).items():
        real = data[key].float() / 255
        videos[f"open_loop/{key}"] = to_video(real, mean)
        error_T = (mean - real).square().mean((0, 2, 3, 4))
        metrics |= errors_by_horizon(key, error_T, context)
    return videos, metrics


def predict(
    encoder: ObsEncoder,
    rssm: RSSM,
    decoder: ObsDecoder,
    data: Mapping[str, Tensor],
    context: int,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """`OpenLoopModel.open_loop` of a model made of these parts."""
    feat = predict_feats(encoder, rssm, data, context, generator)
    return {key: mean + 0.5 for key, mean in decoder.image_means(feat).items()}


def predict_feats(
    encoder: ObsEncoder,
    rssm: RSSM,
    data: Mapping[str, Tensor],
    context: int,
    generator: torch.Generator,
) -> Tensor:
    """See `context` rows of windows [B, T, ...], then go on with actions alone: feat [B, T, F]."""
    uniform_BTS = rssm.noise(data["is_first"].shape, generator)
    seen = {key: value[:, :context] for key, value in data.items()}
    embed = encoder(encoder.keys.inputs(seen))
    draws_BTS = uniform_BTS[:, :context]
    observed = rssm.observe(embed, seen["prev_action"], seen["is_first"], draws_BTS).state
    state = type(observed)(*[part[:, -1] for part in observed])
    feats = [observed.feat]
    for t in range(context, uniform_BTS.shape[1]):
        state = rssm.imagine_step(state, data["prev_action"][:, t], uniform_BTS[:, t])
        feats.append(state.feat.unsqueeze(1))
    return torch.cat(feats, 1)


def errors_by_horizon(key: str, error_T: Tensor, context: int) -> dict[str, Any]:
    """Errors of the observed steps and of some imagined ones; horizon 1 is the first of these."""
    metrics = {f"open_loop/{key}_mse_observed": error_T[:context].mean()}
    for horizon in HORIZONS:
        if context + horizon <= len(error_T):
            metrics[f"open_loop/{key}_mse_{horizon}"] = error_T[context + horizon - 1]
    return metrics


def to_video(real: Tensor, imagined: Tensor) -> Array:
    """Stack images [B, T, H, W, C] in [0, 1] to uint8 [T, 3 H, B W, 3]."""
    channels = [min(c, real.shape[-1] - 1) for c in range(3)]
    rows = torch.cat([real, imagined, (imagined - real + 1) / 2], 2)[..., channels]
    pixels = (rows.clamp(0, 1) * 255).to(torch.uint8).cpu().numpy()
    return np.concatenate(list(pixels), axis=2)
