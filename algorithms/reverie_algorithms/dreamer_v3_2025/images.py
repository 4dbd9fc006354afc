"""Networks of DreamerV3-2025 that read and rebuild observations.

Every image key has its own convolutions; all vector keys share one MLP on symlog values.

Shape legend: D deter, X flat stoch, E embed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from reverie.types import STRICT
from reverie_algorithms.common.observations import ObsDecoder, ObsEncoder, ObsKeys
from reverie_algorithms.dreamer_v3_2025.nets import RMSMLP, DownImage, UpImage


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


class RMSEncoder(ObsEncoder):
    """Pooled convolutions, and an MLP for symlog vectors."""

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


class RMSDecoder(ObsDecoder):
    """Convolutions of doubled images, and an MLP for symlog vectors; feat is [..., D + X]."""

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
