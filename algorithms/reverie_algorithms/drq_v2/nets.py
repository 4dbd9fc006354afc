"""Networks of DrQ-v2 (arXiv:2107.09645, appendix B), as in facebookresearch/drqv2@c0c650b.

Shape legend: B batch, T rows of a window, S stacked frames, E embed, A action, Q the two critics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie_algorithms.common.observations import ObsKeys, by_key, centred, flat_symlog
from reverie_algorithms.drq_v2.frame_stacks import picked, shifted_stacks

STRIDES = (2, 1, 1, 1)
KERNEL = 3
SMALLEST_SIDE = 15
"""Pixels below which the four convolutions leave nothing."""


def orthogonal_(layer: nn.Linear | nn.Conv2d, gain: float = 1.0) -> None:
    """Orthogonal weights and zero biases."""
    assert layer.bias is not None
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)


def linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    orthogonal_(layer)
    return layer


class ImageEncoder(nn.Module):
    """Four convolutions from stacks of one image key to features [B, size], channel-last.

    Raises:
        ValueError: the image is too small for them.
    """

    def __init__(self, name: str, shape: Sequence[int], stack: int, channels: int) -> None:
        super().__init__()
        height, width = shape[:2]
        if min(height, width) < SMALLEST_SIDE:
            raise ValueError(
                f"observation {name!r}: expected sides of at least {SMALLEST_SIDE} pixels,"
                f" got {height} x {width}"
            )
        widths = [shape[2] * stack, *[channels] * len(STRIDES)]
        convs = [
            nn.Conv2d(a, b, KERNEL, stride)
            for (a, b), stride in zip(pairwise(widths), STRIDES, strict=True)
        ]
        for conv in convs:
            orthogonal_(conv, math.sqrt(2))
        self.convs = nn.ModuleList(convs)
        self.size = channels * _side(height) * _side(width)

    def forward(self, frames_BTHWC: Tensor, rows_BS: Tensor, shift_B2: Tensor) -> Tensor:
        """Encode the shifted stacks of these rows."""
        stacks = shifted_stacks(frames_BTHWC, rows_BS, shift_B2)
        pixels = centred(stacks).permute(0, 3, 1, 2)
        for conv in self.convs:
            pixels = F.relu(conv(pixels))
        return pixels.permute(0, 2, 3, 1).flatten(1)


def _side(pixels: int) -> int:
    for stride in STRIDES:
        pixels = (pixels - KERNEL) // stride + 1
    return pixels


class Encoder(nn.Module):
    """Stacks of all observations to one embedding [B, E]: image features, then symlog vectors."""

    def __init__(self, keys: ObsKeys, stack: int, channels: int) -> None:
        super().__init__()
        self.keys = keys
        images = {k: ImageEncoder(k, s.shape, stack, channels) for k, s in keys.images.items()}
        self.images = by_key(images)
        self.size = sum(encoder.size for encoder in images.values())
        self.size += stack * sum(spec.size for spec in keys.vectors.values())

    def forward(self, obs: Mapping[str, Tensor], rows_BS: Tensor, shift_IB2: Tensor) -> Tensor:
        """Embed the stacks of these rows of windows [B, T, ...]; image I moves by its own shift."""
        images = zip(self.keys.images, self.images.values(), shift_IB2.unbind(0), strict=True)
        parts = [encoder(obs[key], rows_BS, shift) for key, encoder, shift in images]
        for key, spec in self.keys.vectors.items():
            parts.append(flat_symlog(picked(obs[key], rows_BS), spec).flatten(1))
        return torch.cat(parts, -1) if len(parts) > 1 else parts[0]


class Trunk(nn.Module):
    """Linear, LayerNorm, tanh: the bottleneck in front of actor and critic."""

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        self.linear = linear(inputs, features)
        self.norm = nn.LayerNorm(features)

    def forward(self, embed_BE: Tensor) -> Tensor:
        return torch.tanh(self.norm(self.linear(embed_BE).float()))


class Actor(nn.Module):
    """Mean actions [B, A] in (-1, 1)."""

    def __init__(self, inputs: int, actions: int, features: int, hidden: int) -> None:
        super().__init__()
        self.num_actions = actions
        self.trunk = Trunk(inputs, features)
        sizes = [features, hidden, hidden, actions]
        self.layers = nn.ModuleList(linear(a, b) for a, b in pairwise(sizes))

    def forward(self, embed_BE: Tensor) -> Tensor:
        x = self.trunk(embed_BE)
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return torch.tanh(self.layers[-1](x).float())


class Critic(nn.Module):
    """Two critics on one trunk; their layers lie one upon the other, one product for both."""

    def __init__(self, inputs: int, actions: int, features: int, hidden: int) -> None:
        super().__init__()
        self.trunk = Trunk(inputs, features)
        sizes = list(pairwise([features + actions, hidden, hidden, 1]))
        self.weights = nn.ParameterList(_twin_weight(a, b) for a, b in sizes)
        self.biases = nn.ParameterList(torch.zeros(2, 1, b) for _, b in sizes)

    def forward(self, embed_BE: Tensor, action_BA: Tensor) -> Tensor:
        """Values [Q, B]."""
        return self.values(self.trunk(embed_BE), action_BA)

    def values(self, features_BF: Tensor, action_BA: Tensor) -> Tensor:
        """Values [Q, B] after the trunk."""
        x = torch.cat([features_BF, action_BA], -1).expand(2, -1, -1)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = F.relu(torch.baddbmm(bias, x, weight))
        return torch.baddbmm(self.biases[-1], x, self.weights[-1]).squeeze(-1).float()


def _twin_weight(inputs: int, outputs: int) -> Tensor:
    """Two orthogonal matrices [Q, inputs, outputs]."""
    weights = [nn.init.orthogonal_(torch.empty(outputs, inputs)).T for _ in range(2)]
    return torch.stack(weights).contiguous()
