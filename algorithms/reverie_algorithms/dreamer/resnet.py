"""Residual networks for images, as in HarmonyDream and ContextWM (thuml/HarmonyDream@0a22e33).

Shape legend: M rows (any flattened leading axes), C channels, F feat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.group import Group
from reverie_algorithms.common.layers import output_linear
from reverie_algorithms.dreamer.elu_nets import glorot

STAGES = 3
STACKED = 2
"""Residual layers per stage."""
STRIDE = 2 ** (STAGES + 1)
NORM_EPS = 1e-5
MOMENTUM = 0.1
"""Weight of the newest batch in the running statistics."""


class BatchNorm(nn.Module):
    """Batch norm of [M, C, h, w] whose running statistics move only when `follow` is called.

    While training it normalises with the statistics of its own batch, and remembers them; so a
    forward pass changes no tensor, and statistics can be averaged over learners.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.seen: tuple[Tensor, Tensor] | None = None

    def forward(self, maps: Tensor) -> Tensor:
        if not self.training:
            stats = self.running_mean, self.running_var
            return F.batch_norm(maps, *stats, self.weight, self.bias, eps=NORM_EPS)
        maps, mean, invstd = torch.native_batch_norm(
            maps, self.weight, self.bias, None, None, True, 0.0, NORM_EPS
        )
        count = maps.numel() / maps.shape[1]
        variance = (invstd.detach().float() ** -2 - NORM_EPS) * (count / (count - 1))
        self.seen = mean.detach().float(), variance
        return maps

    @torch.no_grad()
    def follow(self, learners: Group) -> None:
        """Move the running statistics a step towards the last batch's, averaged over learners."""
        assert self.seen is not None
        mean, variance = self.seen
        learners.mean_([mean, variance])
        self.running_mean.lerp_(mean, MOMENTUM)
        self.running_var.lerp_(variance, MOMENTUM)


def follow_batch(module: nn.Module, learners: Group) -> None:
    """Let every batch norm in `module` follow the batch it last saw in training."""
    for part in module.modules():
        if isinstance(part, BatchNorm):
            part.follow(learners)


class ResidualLayer(nn.Module):
    """ReLU(skip(x) + block(z)), where the block normally reads x itself.

    Convolutions have no bias and keep PyTorch's own initialisation, as published.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.skip = nn.Identity() if inputs == outputs else _conv_norm(inputs, outputs, 1)
        self.block = nn.Sequential(
            *_conv_norm(inputs, outputs, 3), nn.ReLU(inplace=True), *_conv_norm(outputs, outputs, 3)
        )

    def forward(self, maps: Tensor) -> Tensor:
        return self.combine(maps, maps)

    def combine(self, maps: Tensor, block_input: Tensor) -> Tensor:
        """Let the block read something else than the skip connection."""
        return F.relu(self.skip(maps) + self.block(block_input))


def _conv_norm(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, BatchNorm(outputs))


def check_sides(name: str, shape: Sequence[int]) -> None:
    """Raises: ValueError, if the sides of an image [H, W, C] are no multiples of 16."""
    if shape[0] % STRIDE or shape[1] % STRIDE:
        raise ValueError(
            f"observation {name!r}: kind 'resnet' needs sides that are multiples of {STRIDE}, got "
            f"{shape[0]} x {shape[1]}; resize it or set encoder.kind and decoder.kind to 'plain'"
        )


class ResNetEncoder(nn.Module):
    """Centred pixels [M, H, W, C] to a vector [M, size], at a sixteenth of the resolution."""

    def __init__(self, name: str, shape: Sequence[int], depth: int) -> None:
        super().__init__()
        check_sides(name, shape)
        self.first = nn.Conv2d(shape[2], depth, 3, stride=2, padding=1)
        glorot(self.first)
        widths = [depth, *[depth * 2**i for i in range(STAGES)]]
        self.stages = nn.ModuleList([_stack(a, b, widen_first=True) for a, b in pairwise(widths)])
        self.size = widths[-1] * (shape[0] // STRIDE) * (shape[1] // STRIDE)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.with_maps(pixels)[0]

    def with_maps(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the vector and the maps [M, C, h, w] of each stage before its pooling."""
        maps, seen = F.elu(self.first(pixels.permute(0, 3, 1, 2)), inplace=True), []
        for stage in self.stages:
            seen.append(stage(maps))
            maps = F.avg_pool2d(seen[-1], 2)
        return maps.permute(0, 2, 3, 1).flatten(1), seen


class ResNetDecoder(nn.Module):
    """Feat [M, F] to mean centred pixels [M, H, W, C], from a sixteenth of the resolution."""

    def __init__(self, name: str, shape: Sequence[int], inputs: int, depth: int) -> None:
        super().__init__()
        check_sides(name, shape)
        widths = [depth * 2**i // 2 for i in reversed(range(STAGES + 1))]
        self.seed_shape = (shape[0] // STRIDE, shape[1] // STRIDE, widths[0])
        self.seed = output_linear(inputs, math.prod(self.seed_shape))
        self.stages = nn.ModuleList([_stack(a, b, widen_first=False) for a, b in pairwise(widths)])
        self.last = nn.ConvTranspose2d(widths[-1], shape[2], 3, 2, 1, output_padding=1)
        glorot(self.last)

    def forward(self, feat: Tensor) -> Tensor:
        maps = self.seed(feat).unflatten(-1, self.seed_shape).permute(0, 3, 1, 2)
        for stage in self.stages:
            maps = stage(F.interpolate(maps, scale_factor=2.0, mode="nearest"))
        return self.last(maps).permute(0, 2, 3, 1).float()


def _stack(inputs: int, outputs: int, widen_first: bool) -> nn.Sequential:
    """Residual layers whose first (in encoders) or last (in decoders) changes the width."""
    middle = outputs if widen_first else inputs
    widths = [inputs, *[middle] * (STACKED - 1), outputs]
    layers = [ResidualLayer(a, b) for a, b in pairwise(widths)]
    return nn.Sequential(*layers)
