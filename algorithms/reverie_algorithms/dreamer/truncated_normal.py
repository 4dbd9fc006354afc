"""DreamerV2's policy for continuous actions: a normal that is cut off at the bounds.

Shape legend: A width of a flat action, P width of policy parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from reverie.types import ActionSpec


class TruncatedNormal:
    """Normal with mean tanh(m) and std 2 sigmoid(s / 2) + min_std, cut off at -1 and 1.

    The mean and std are those before the cut; density and entropy are exact. Samples invert the
    distribution function in float32, and the few within 1e-6 of a bound are moved away from it
    without changing their gradient, as in thuml/HarmonyDream@0a22e33.
    """

    reparameterised = True
    margin = 1e-6

    def __init__(self, spec: ActionSpec, min_std: float) -> None:
        self.outputs = (spec.width, spec.width)
        self.min_std = min_std

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        shape = (*shape, self.outputs[0])
        return torch.rand(shape, generator=generator, device=generator.device)

    def mean_std(self, params: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = params.float().chunk(2, -1)
        return torch.tanh(mean), 2 * torch.sigmoid(std / 2) + self.min_std

    def sample(self, params: Tensor, noise: Tensor) -> Tensor:
        mean, std = self.mean_std(params)
        below, mass = _mass(*_bounds(mean, std))
        tiny = torch.finfo(torch.float32).eps
        quantile = below + mass * noise.clamp(tiny, 1 - tiny)
        sample = mean + std * math.sqrt(2) * torch.erfinv(2 * quantile - 1)
        limit = 1 - self.margin
        return sample + (sample.clamp(-limit, limit) - sample).detach()

    def mode(self, params: Tensor) -> Tensor:
        return self.mean_std(params)[0]

    def log_prob(self, params: Tensor, action: Tensor) -> Tensor:
        mean, std = self.mean_std(params)
        _, mass = _mass(*_bounds(mean, std))
        density = -0.5 * ((action - mean) / std).square() - 0.5 * math.log(2 * math.pi)
        return (density - std.log() - mass.log()).sum(-1)

    def entropy(self, params: Tensor) -> Tensor:
        mean, std = self.mean_std(params)
        low, high = _bounds(mean, std)
        _, mass = _mass(low, high)
        moment = (high * _density(high) - low * _density(low)) / mass
        whole = 0.5 * math.log(2 * math.pi * math.e) + std.log()
        return (whole + mass.log() - 0.5 * moment).sum(-1)

    def encode(self, action: Tensor) -> Tensor:
        return action.float()

    def decode(self, flat: Tensor) -> Tensor:
        return flat.clamp(-1, 1)


def _bounds(mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """-1 and 1 in units of a normal's own mean and std."""
    return (-1 - mean) / std, (1 - mean) / std


def _mass(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """What a unit normal holds below `low`, and between the two."""
    below, upto = (0.5 * (1 + torch.erf(x / math.sqrt(2))) for x in (low, high))
    return below, upto - below


def _density(x: Tensor) -> Tensor:
    return torch.exp(-0.5 * x.square()) / math.sqrt(2 * math.pi)
