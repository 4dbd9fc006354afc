"""Networks of DreamerV2 that read and rebuild observations.

Every image key has its own convolutions; all vector keys share one MLP, on raw values.

Shape legend: B batch, T time, F feat, E embed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from reverie.types import STRICT
from reverie_algorithms.common.observations import VECTOR, ObsDecoder, ObsEncoder, ObsKeys, centred
from reverie_algorithms.dreamer.elu_nets import EluMLP, PlainDecoder, PlainEncoder
from reverie_algorithms.dreamer.resnet import ResNetDecoder, ResNetEncoder


@dataclass(frozen=True, kw_only=True, slots=True)
class ObsNetV2Config:
    """Kind and sizes of an encoder or decoder."""

    __pydantic_config__: ClassVar[Any] = STRICT

    kind: Literal["plain", "resnet"] = "plain"
    """Image network: strided convolutions, or residual layers with batch norm
    (source: thuml/HarmonyDream@0a22e33)."""
    depth: int = 48
    """Channels at the finest resolution; they double with each halving
    (source: thuml/HarmonyDream@0a22e33)."""
    layers: int = 4
    """Hidden layers of the MLP for vectors (source: thuml/HarmonyDream@0a22e33)."""
    units: int = 400
    """Width of that MLP (source: thuml/HarmonyDream@0a22e33)."""


class RawObsKeys(ObsKeys):
    """Observation keys whose vectors are read as they are."""

    __slots__ = ()

    def inputs(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Turn observations [..., *shape] into centred pixels by key and one vector."""
        inputs = {key: centred(obs[key]) for key in self.images}
        if self.vectors:
            flat = []
            for key, spec in self.vectors.items():
                lead = obs[key].shape[: obs[key].ndim - len(spec.shape)]
                flat.append(obs[key].reshape(*lead, spec.size).float())
            inputs[VECTOR] = torch.cat(flat, -1)
        return inputs


ENCODERS = {"plain": PlainEncoder, "resnet": ResNetEncoder}
DECODERS = {"plain": PlainDecoder, "resnet": ResNetDecoder}


class EncoderV2(ObsEncoder):
    """Plain or residual convolutions, and an MLP for vectors."""

    def __init__(self, keys: ObsKeys, config: ObsNetV2Config) -> None:
        super().__init__()
        self.keys = keys
        make = ENCODERS[config.kind]
        images = {k: make(k, spec.shape, config.depth) for k, spec in keys.images.items()}
        self.images = nn.ModuleDict(images)
        self.size = sum(encoder.size for encoder in images.values())
        if keys.vectors:
            width = sum(spec.size for spec in keys.vectors.values())
            self.vector = EluMLP(width, config.layers, config.units)
            self.size += config.units if config.layers else width


class DecoderV2(ObsDecoder):
    """Plain or residual convolutions, and an MLP for vectors."""

    scale = 0.5

    def __init__(self, keys: ObsKeys, inputs: int, config: ObsNetV2Config) -> None:
        super().__init__()
        self.keys = keys
        make = DECODERS[config.kind]
        self.images = nn.ModuleDict(
            {k: make(k, s.shape, inputs, config.depth) for k, s in keys.images.items()}
        )
        if keys.vectors:
            sizes = [spec.size for spec in keys.vectors.values()]
            self.vector = EluMLP(inputs, config.layers, config.units, sizes)
