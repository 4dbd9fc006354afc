"""Imagined beside real futures: what the model predicts from a few frames and real actions.

Shape legend: B batch, T time, C image channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reverie.protocols import Metrics, Videos
from reverie.types import Array
from reverie_algorithms.dreamer_v3_2023.rssm import RSSM, LatentState
from reverie_algorithms.dreamer_v3_2023.world_model import WorldModel

MAX_COLUMNS = 6
MAX_CONTEXT = 5
"""Observed steps before imagination starts, or a third of the window if that is less."""
HORIZONS = (1, 5, 15, 30, 45)


@torch.no_grad()
def open_loop(
    model: WorldModel, data: Mapping[str, Tensor], generator: torch.Generator
) -> tuple[Videos, Metrics]:
    """Observe the first steps, imagine the rest with the real actions, compare.

    Returns:
        For each image key a video uint8 [T, 3 H, columns W, 3] with the real images above the
        imagined ones above their difference, and mean squared errors per pixel by horizon.
    """
    data = {key: value[:MAX_COLUMNS] for key, value in data.items()}
    num_steps = data["is_first"].shape[1]
    context = max(1, min(MAX_CONTEXT, num_steps // 3))
    shape = (*data["is_first"].shape, model.rssm.config.stoch)
    uniform_BTS = torch.rand(shape, generator=generator, device=generator.device)
    states = rollout(model, data, uniform_BTS, context)
    videos, metrics = {}, {}
    for key, pixels in model.decoder.image_means(states.feat).items():
        mean, real = pixels + 0.5, data[key].float() / 255
        videos[f"open_loop/{key}"] = to_video(real, mean)
        error_T = (mean - real).square().mean((0, 2, 3, 4))
        metrics |= errors_by_horizon(key, error_T, context)
    return videos, metrics


def rollout(
    model: WorldModel, data: Mapping[str, Tensor], uniform_BTS: Tensor, context: int
) -> LatentState:
    """Posterior states of the first `context` steps, then imagined ones; [B, T, ...]."""
    start = {key: value[:, :context] for key, value in data.items()}
    embed = model.encoder(model.encoder.keys.inputs(start))
    args = start["prev_action"], start["is_first"], uniform_BTS[:, :context]
    observed = model.rssm.observe(embed, *args).state
    state = LatentState(observed.deter[:, -1], observed.stoch[:, -1])
    actions, draws = data["prev_action"][:, context:], uniform_BTS[:, context:]
    imagined = _imagine(model.rssm, state, actions, draws)
    deter = torch.cat([observed.deter, *[s.deter.unsqueeze(1) for s in imagined]], 1)
    stoch = torch.cat([observed.stoch, *[s.stoch.unsqueeze(1) for s in imagined]], 1)
    return LatentState(deter, stoch)


def _imagine(
    rssm: RSSM, state: LatentState, action_BTA: Tensor, uniform_BTS: Tensor
) -> list[LatentState]:
    states = []
    for action_BA, uniform_BS in zip(action_BTA.unbind(1), uniform_BTS.unbind(1), strict=True):
        state = rssm.imagine_step(state, action_BA, uniform_BS)
        states.append(state)
    return states


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
