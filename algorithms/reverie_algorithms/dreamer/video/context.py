"""What one frame of a clip says of all others: ContextWM's context (arXiv:2305.18499, section 4.2).

A second trunk of residual layers reads one frame per window; the decoder of every frame asks its
maps by cross-attention, so that the latent state need not carry what does not move. Details are
those of thuml/ContextWM@3a8bca8.

Shape legend: B batch, T time, M = B * T rows, n side of a map, N = n * n tokens, K kept tokens, C
channels, A attention heads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor, nn

from reverie.ranges import ShareAbove0, ShareBelow1
from reverie.types import STRICT
from reverie_algorithms.common.observations import ObsKeys, by_key
from reverie_algorithms.dreamer.elu_images import EluDecoder, EluObsConfig
from reverie_algorithms.dreamer.resnet import BatchNorm, ResidualLayer, ResNetDecoder, ResNetEncoder

ATTENDED = 2
"""Decoder stages with attention: the first ones, of 8 x 8 and 16 x 16 tokens for 64 x 64 frames."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextConfig:
    """What else the decoder sees of a clip."""

    __pydantic_config__: ClassVar[Any] = STRICT
    SOURCE: ClassVar[str] = "thuml/ContextWM@3a8bca8"

    kind: Literal["none", "frame"] = "none"
    """`frame`: one frame of the window, which the decoder reads by cross-attention."""
    choice: Literal["random", "first", "last"] = "random"
    """Which frame."""
    kept: ShareAbove0 = 0.25
    """Share of the context's tokens that each decoded frame sees, drawn anew for each."""
    heads: Annotated[int, Interval(ge=1, le=64)] = 4
    """Attention heads."""
    dropout: ShareBelow1 = 0.1
    """Share of attention weights and of attention's outputs that is dropped in training."""


class AttentionNoise(NamedTuple):
    """What is drawn for one attention layer."""

    kept_MK: Tensor
    """int64: tokens of the context that each row sees."""
    weights: Tensor | None
    """bool [M, A, N, K]: attention weights that stay; None: all of them."""
    outputs: Tensor | None
    """bool [M, N, C]: likewise of the outputs."""


class ContextNoise(NamedTuple):
    """What is drawn for one pass."""

    frame_B: Tensor
    """int64: the frame of each window that is its context."""
    layers: Mapping[str, Sequence[AttentionNoise]]
    """Of each image key, by stage."""


class CrossAttention(nn.Module):
    """Lets maps ask tokens of the context: ReLU(maps + norm(attention)).

    Args:
        side: n of both.
        heads: must divide the channels.

    Raises:
        ValueError: they do not.
    """

    def __init__(self, side: tuple[int, int], channels: int, config: ContextConfig) -> None:
        super().__init__()
        if channels % config.heads:
            raise ValueError(
                f"algorithm.context.heads: expected a divisor of the {channels} channels of an"
                f" attended map, got {config.heads}"
            )
        self.heads, self.dropout = config.heads, config.dropout
        self.tokens = side[0] * side[1]
        self.kept = max(1, int(self.tokens * config.kept))
        self.query_position = nn.Parameter(torch.zeros(self.tokens, channels))
        self.context_position = nn.Parameter(torch.zeros(self.tokens, channels))
        self.inputs = nn.Linear(channels, 3 * channels)
        self.output = nn.Linear(channels, channels)
        self.norm = BatchNorm(channels)
        nn.init.xavier_uniform_(self.inputs.weight)
        nn.init.zeros_(self.inputs.bias)
        nn.init.zeros_(self.output.bias)

    def noise(self, count: int, generator: torch.Generator, training: bool) -> AttentionNoise:
        """Draw for `count` rows; nothing is dropped but in training."""

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, device=generator.device)

        kept_MK = uniform(count, self.tokens).argsort(1)[:, : self.kept]
        if not (training and self.dropout):
            return AttentionNoise(kept_MK, None, None)
        channels = self.query_position.shape[1]
        weights = uniform(count, self.heads, self.tokens, self.kept) >= self.dropout
        return AttentionNoise(
            kept_MK, weights, uniform(count, self.tokens, channels) >= self.dropout
        )

    def forward(self, maps: Tensor, context: Tensor, noise: AttentionNoise) -> Tensor:
        """Maps [M, C, n, n] of every frame ask a context [B, C, n, n]."""
        query_MNC = maps.flatten(2).transpose(1, 2) + self.query_position
        tokens_BNC = context.flatten(2).transpose(1, 2) + self.context_position
        window_M1 = torch.arange(len(maps), device=maps.device).unsqueeze(1)
        window_M1 = window_M1 // (len(maps) // len(context))
        tokens_MKC = tokens_BNC[window_M1, noise.kept_MK]
        attended_MNC = self._attend(query_MNC, tokens_MKC, noise)
        return F.relu(maps + self.norm(attended_MNC.transpose(1, 2).reshape(maps.shape)))

    def _attend(self, query_MNC: Tensor, tokens_MKC: Tensor, noise: AttentionNoise) -> Tensor:
        weight, bias = self.inputs.weight, self.inputs.bias
        channels = query_MNC.shape[-1]
        query = F.linear(query_MNC, weight[:channels], bias[:channels])
        key, value = F.linear(tokens_MKC, weight[channels:], bias[channels:]).chunk(2, -1)
        query, key, value = (self._split(part) for part in (query, key, value))
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        weights = self._drop(torch.softmax(scores.float(), -1), noise.weights)
        attended = (weights.to(value.dtype) @ value).transpose(1, 2).flatten(2)
        return self._drop(self.output(attended), noise.outputs)

    def _split(self, rows: Tensor) -> Tensor:
        """[M, L, C] to [M, A, L, C / A]."""
        return rows.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _drop(self, values: Tensor, kept: Tensor | None) -> Tensor:
        return values if kept is None else values * kept / (1 - self.dropout)


class ContextualResNetDecoder(ResNetDecoder):
    """The residual decoder, whose first stages ask the context before their first layer's block."""

    def __init__(
        self, name: str, shape: Sequence[int], inputs: int, depth: int, config: ContextConfig
    ) -> None:
        super().__init__(name, shape, inputs, depth)
        height, width, channels = self.seed_shape
        self.attention = nn.ModuleList(
            CrossAttention((height * 2 ** (i + 1), width * 2 ** (i + 1)), channels // 2**i, config)
            for i in range(ATTENDED)
        )

    def attended(self) -> list[CrossAttention]:
        """Its attention layers, the first stage's first."""
        return [*cast(Iterable[CrossAttention], self.attention)]

    def decode(
        self, feat: Tensor, context: Sequence[Tensor], noise: Sequence[AttentionNoise]
    ) -> Tensor:
        """Feat [M, F] to mean centred pixels [M, H, W, C], with the maps of a context [B, C, n, n]
        for each attended stage.
        """
        maps = self.seed(feat).unflatten(-1, self.seed_shape).permute(0, 3, 1, 2)
        for i, stage in enumerate(self.stages):
            maps = F.interpolate(maps, scale_factor=2.0, mode="nearest")
            if i < ATTENDED:
                first, *rest = cast(Iterable[ResidualLayer], stage)
                asked = self.attention[i](maps, context[i], noise[i])
                maps = first.combine(maps, asked)
                for layer in rest:
                    maps = layer(maps)
            else:
                maps = stage(maps)
        return self.last(maps).permute(0, 2, 3, 1).float()


class ContextDecoder(EluDecoder):
    """The decoders of all image keys, each of which asks its context."""

    def __init__(
        self, keys: ObsKeys, inputs: int, config: EluObsConfig, context: ContextConfig
    ) -> None:
        nn.Module.__init__(self)
        self.keys = keys
        self.images = by_key(
            {
                key: ContextualResNetDecoder(key, spec.shape, inputs, config.depth, context)
                for key, spec in keys.images.items()
            }
        )

    def decode(
        self, feat: Tensor, contexts: Mapping[str, Sequence[Tensor]], noise: ContextNoise
    ) -> dict[str, Tensor]:
        """As `image_means` of feat [B, T, F], with the maps of one context per window."""
        flat = feat.flatten(0, 1)
        return {
            key: decoder.decode(flat, contexts[key], noise.layers[key]).unflatten(0, feat.shape[:2])
            for key, decoder in self._by_key()
        }

    def noise(
        self, count: int, generator: torch.Generator, training: bool
    ) -> dict[str, list[AttentionNoise]]:
        """Draw for `count` rows of each image key."""
        return {
            key: [layer.noise(count, generator, training) for layer in decoder.attended()]
            for key, decoder in self._by_key()
        }

    def _by_key(self) -> list[tuple[str, ContextualResNetDecoder]]:
        parts = cast(Iterable[ContextualResNetDecoder], self.images.values())
        return [*zip(self.keys.images, parts, strict=True)]


class ContextEncoder(nn.Module):
    """Residual trunks that read a frame of each image key, as large as those of the encoder."""

    def __init__(self, keys: ObsKeys, config: EluObsConfig) -> None:
        super().__init__()
        self.keys = keys
        self.images = by_key(
            {key: ResNetEncoder(key, s.shape, config.depth) for key, s in keys.images.items()}
        )

    def forward(self, inputs: Mapping[str, Tensor], frame_B: Tensor) -> dict[str, list[Tensor]]:
        """Maps [B, C, n, n] of one frame of windows [B, T, H, W, C], for each attended stage."""
        rows = torch.arange(len(frame_B), device=frame_B.device)
        found: dict[str, list[Tensor]] = {}
        for key, encoder in zip(self.keys.images, self.images.values(), strict=True):
            assert isinstance(encoder, ResNetEncoder)
            _, maps = encoder.with_maps(inputs[key][rows, frame_B])
            found[key] = maps[: -ATTENDED - 1 : -1]
        return found


def choose_frames(choice: str, batch_size: int, length: int, generator: torch.Generator) -> Tensor:
    """Which frame of each window is its context: int64 [B]."""
    device = generator.device
    if choice == "random":
        return torch.randint(length, (batch_size,), generator=generator, device=device)
    return torch.full((batch_size,), 0 if choice == "first" else length - 1, device=device)
