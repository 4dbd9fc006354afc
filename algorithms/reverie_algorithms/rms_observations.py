"""Networks of DreamerV3-2025 that read and rebuild observations.

Every image key has its own convolutions; all vector keys share one MLP on symlog values.

Shape legend: D deter, X flat stoch, E embed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from reverie.types import STRICT
from reverie_algorithms.observations import VECTOR, ObsKeys, squared_error
from reverie_algorithms.rms_nets import RMSMLP, DownImage, UpImage


@dataclass(frozen=True, kw_only=True, slots=True)
class RMSObsNetConfig:
    """Sizes of an encoder or decoder; the defaults are those of size `12m`."""

    __pydantic_config__: ClassVar[Any] = STRICT

    depth: int = 16
    """Channels come as 2, 3, 4 and 4 times this (source: danijar/dreamerv3@e3f0224)."""
    layers: int = 3
    """Hidden layers of the MLP for vectors (source: danijar/dreamerv3@e3f0224)."""
    units: int = 256
    """Width of that MLP, half that of the decoder's first layer
    (source: danijar/dreamerv3@e3f0224)."""


class RMSEncoder(nn.Module):
    """Observations [..., *shape] to one embedding [..., E]."""

    def __init__(self, keys: ObsKeys, config: RMSObsNetConfig) -> None:
        super().__init__()
        self.keys = keys
        images = {k: DownImage(k, spec.shape, config.depth) for k, spec in keys.images.items()}
        self.images = nn.ModuleDict(images)
        self.size = sum(image.size for image in images.values())
        if keys.vectors:
            width = sum(spec.size for spec in keys.vectors.values())
            self.vector = RMSMLP(width, config.layers, config.units)
            self.size += config.units if config.layers else width

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Embed what `ObsKeys.inputs` returns."""
        parts = []
        for key, encoder in self.images.items():
            pixels = inputs[key]
            parts.append(encoder(pixels.flatten(0, -4)).unflatten(0, pixels.shape[:-3]))
        if self.keys.vectors:
            parts.append(self.vector(inputs[VECTOR]))
        return torch.cat(parts, -1) if len(parts) > 1 else parts[0]


class RMSDecoder(nn.Module):
    """Means of all network inputs from feat [..., D + X]: pixels and symlog vectors."""

    def __init__(
        self, keys: ObsKeys, sizes: tuple[int, int], config: RMSObsNetConfig, blocks: int
    ) -> None:
        super().__init__()
        self.keys, self.sizes = keys, sizes
        net = sizes, config.depth, config.units, blocks
        self.images = nn.ModuleDict({k: UpImage(k, s.shape, *net) for k, s in keys.images.items()})
        if keys.vectors:
            outputs = sum(spec.size for spec in keys.vectors.values())
            self.vector = RMSMLP(sum(sizes), config.layers, config.units, outputs)

    def image_means(self, feat: Tensor) -> dict[str, Tensor]:
        """Predict centred pixels [..., H, W, C]."""
        deter, stoch = feat.flatten(0, -2).split(self.sizes, -1)
        lead = feat.shape[:-1]
        return {
            key: (decoder(deter, stoch) - 0.5).unflatten(0, lead)
            for key, decoder in self.images.items()
        }

    def losses(self, feat: Tensor, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Squared errors [...] summed over pixels or entries, and over keys of one kind.

        Centring cancels out, so this is the error of pixels in [0, 1].
        """
        losses = {}
        if self.images:
            means = self.image_means(feat)
            errors = [squared_error(mean, inputs[key], 3) for key, mean in means.items()]
            losses["image"] = sum(errors[1:], errors[0])
        if self.keys.vectors:
            losses["vector"] = squared_error(self.vector(feat).float(), inputs[VECTOR], 1)
        return losses
