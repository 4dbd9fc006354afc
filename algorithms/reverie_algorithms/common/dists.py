"""Distributions as plain arithmetic, so that nothing breaks a graph or reads back to the host.

Randomness comes in as noise drawn beforehand; a categorical variable needs one uniform number.

Shape legend: K classes of one variable, A width of a flat action, P width of policy parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.types import ActionSpec


def symlog(x: Tensor) -> Tensor:
    """Return sign(x) log(1 + |x|) (arXiv:2301.04104v1, eq. 2)."""
    return torch.sign(x) * torch.log1p(x.abs())


def symexp(x: Tensor) -> Tensor:
    """Invert `symlog`."""
    return torch.sign(x) * torch.expm1(x.abs())


# Categorical variables


def unimix(logits: Tensor, fraction: float) -> Tensor:
    """Return probabilities [..., K] with `fraction` of a uniform distribution mixed in."""
    probs = torch.softmax(logits.float(), -1)
    if not fraction:
        return probs
    return probs * (1 - fraction) + fraction / logits.shape[-1]


def log_unimix(logits: Tensor, fraction: float) -> Tensor:
    """Logarithm of `unimix`, finite for every class also where nothing is mixed in."""
    if not fraction:
        return torch.log_softmax(logits.float(), -1)
    return unimix(logits, fraction).log()


def sample_one_hot(probs: Tensor, uniform: Tensor) -> Tensor:
    """Draw one-hot samples [..., K] by inverting the distribution function.

    Args:
        probs: [..., K]
        uniform: [...] in [0, 1), one number per variable instead of K Gumbel draws.
    """
    below = probs.cumsum(-1)[..., :-1] <= uniform.unsqueeze(-1)
    return one_hot(below.sum(-1), probs.shape[-1])


def one_hot(index: Tensor, classes: int) -> Tensor:
    """One-hot float32 [..., K]; unlike `F.one_hot` it never reads the index on the host."""
    zeros = torch.zeros(*index.shape, classes, device=index.device)
    return zeros.scatter(-1, index.unsqueeze(-1), 1.0)


def straight_through(sample: Tensor, probs: Tensor) -> Tensor:
    """Give `sample` the gradient of `probs`; its value stays exactly one-hot."""
    return sample + (probs - probs.detach()) if torch.is_grad_enabled() else sample


def categorical_entropy(log_probs: Tensor) -> Tensor:
    """Entropy of [..., S, K] variables, summed over variables."""
    return -(log_probs.exp() * log_probs).sum((-2, -1))


def categorical_kl(probs: Tensor, log_probs: Tensor, other_log_probs: Tensor) -> Tensor:
    """KL divergence of [..., S, K] variables, summed over variables and classes."""
    return (probs * (log_probs - other_log_probs)).sum((-2, -1))


# Scalars


class TwoHot(nn.Module):
    """Scalars as a softmax over evenly spaced bins in symlog space (arXiv:2301.04104v1, eq. 9)."""

    bins: Tensor

    def __init__(self, num_bins: int = 255, limit: float = 20.0) -> None:
        super().__init__()
        self.limit, self.spacing = limit, 2 * limit / (num_bins - 1)
        bins = torch.linspace(-limit, limit, num_bins)
        self.register_buffer("bins", bins, persistent=False)

    def mean(self, logits: Tensor) -> Tensor:
        """Expected value [...] of logits [..., bins]."""
        return symexp((torch.softmax(logits.float(), -1) * self.bins).sum(-1))

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy [...] with the two-hot code of `target`; values past the ends clip."""
        position = (symlog(target).clamp(-self.limit, self.limit) + self.limit) / self.spacing
        lower = position.floor().clamp(max=self.bins.shape[0] - 2)
        upper_weight = (position - lower).unsqueeze(-1)
        # NaN is no index: its loss is NaN, and the learner names it.
        index = lower.long().clamp(min=0, max=self.bins.shape[0] - 2).unsqueeze(-1)
        log_probs = torch.log_softmax(logits.float(), -1)
        low, high = log_probs.gather(-1, index), log_probs.gather(-1, index + 1)
        return -torch.lerp(low, high, upper_weight).squeeze(-1)


class SymexpTwoHot(nn.Module):
    """Scalars as a softmax over bins whose distance grows exponentially from 0 on.

    Bins are symexp of evenly spaced numbers, so that targets and means are in real space, as in
    danijar/dreamerv3@e3f0224.
    """

    bins: Tensor

    def __init__(self, num_bins: int = 255, limit: float = 20.0) -> None:
        super().__init__()
        half = symexp(torch.linspace(-limit, 0, (num_bins - 1) // 2 + 1))
        bins = torch.cat([half, -half[:-1].flip(0)])
        self.register_buffer("bins", bins, persistent=False)

    def mean(self, logits: Tensor) -> Tensor:
        """Expected value [...] of logits [..., bins].

        Each bin is taken together with its opposite, so that even odds give exactly 0.
        """
        probs, half = torch.softmax(logits.float(), -1), len(self.bins) // 2
        tilt = probs[..., half + 1 :] - probs[..., :half].flip(-1)
        return (tilt * self.bins[half + 1 :]).sum(-1)

    def loss(self, logits: Tensor, targets: Sequence[tuple[float, Tensor]]) -> Tensor:
        """Weighted sum of the cross-entropies [...] with the two-hot codes of some targets."""
        log_probs = torch.log_softmax(logits.float(), -1)
        losses = [w * self._cross_entropy(log_probs, target) for w, target in targets]
        return sum(losses[1:], losses[0])

    def _cross_entropy(self, log_probs: Tensor, target: Tensor) -> Tensor:
        target = torch.minimum(torch.maximum(target, self.bins[0]), self.bins[-1]).contiguous()
        lower = torch.searchsorted(self.bins, target, right=True) - 1
        lower = lower.clamp(min=0, max=len(self.bins) - 2)  # NaN included: its loss is NaN
        low, high = self.bins[lower], self.bins[lower + 1]
        upper_weight = ((target - low) / (high - low)).unsqueeze(-1)
        index = lower.unsqueeze(-1)
        low, high = log_probs.gather(-1, index), log_probs.gather(-1, index + 1)
        return -torch.lerp(low, high, upper_weight).squeeze(-1)


def bernoulli_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Negative log-likelihood [...] of targets in [0, 1]."""
    return F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")


# Actions


class ActionDist(Protocol):
    """How policy parameters [..., P] become flat actions [..., A] and back."""

    outputs: tuple[int, ...]
    """Widths of the policy's output layers; together P."""
    reparameterised: bool
    """Whether a sample carries a gradient to the parameters."""

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor: ...
    def sample(self, params: Tensor, noise: Tensor) -> Tensor: ...
    def mode(self, params: Tensor) -> Tensor: ...
    def log_prob(self, params: Tensor, action: Tensor) -> Tensor: ...
    def entropy(self, params: Tensor) -> Tensor: ...

    def encode(self, action: Tensor) -> Tensor:
        """Turn an action as rows hold it into a flat vector."""
        ...

    def decode(self, flat: Tensor) -> Tensor:
        """Turn a flat vector into an action as rows hold it."""
        ...


class OneHotActions:
    """One or several categorical components, as concatenated one-hot vectors."""

    reparameterised = False

    def __init__(self, spec: ActionSpec, mix: float) -> None:
        self.num, self.mix, self.single = spec.num, mix, spec.kind == "discrete"
        self.outputs = (sum(spec.num),)

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        shape = (*shape, len(self.num))
        return torch.rand(shape, generator=generator, device=generator.device)

    def probs(self, params: Tensor) -> list[Tensor]:
        return [unimix(logits, self.mix) for logits in params.split(self.num, -1)]

    def sample(self, params: Tensor, noise: Tensor) -> Tensor:
        draws = zip(self.probs(params), noise.unbind(-1), strict=True)
        return torch.cat([sample_one_hot(probs, uniform) for probs, uniform in draws], -1)

    def mode(self, params: Tensor) -> Tensor:
        parts = params.split(self.num, -1)
        return torch.cat([one_hot(part.argmax(-1), part.shape[-1]) for part in parts], -1)

    def log_prob(self, params: Tensor, action: Tensor) -> Tensor:
        return (self._log_probs(params) * action).sum(-1)

    def entropy(self, params: Tensor) -> Tensor:
        return -(torch.cat(self.probs(params), -1) * self._log_probs(params)).sum(-1)

    def _log_probs(self, params: Tensor) -> Tensor:
        parts = params.split(self.num, -1)
        return torch.cat([log_unimix(logits, self.mix) for logits in parts], -1)

    def encode(self, action: Tensor) -> Tensor:
        parts = action.unsqueeze(-1) if self.single else action
        codes = zip(parts.unbind(-1), self.num, strict=True)
        return torch.cat([one_hot(index, num) for index, num in codes], -1)

    def decode(self, flat: Tensor) -> Tensor:
        index = torch.stack([part.argmax(-1) for part in flat.split(self.num, -1)], -1)
        return index.squeeze(-1) if self.single else index


class BoundedNormal:
    """Normal with mean tanh(m) and std between two bounds, whose samples are not squashed.

    The environment receives them clipped to [-1, 1], as in danijar/dreamerv3@8fa35f8.
    """

    reparameterised = True

    def __init__(self, spec: ActionSpec, min_std: float, max_std: float) -> None:
        self.outputs = (spec.width, spec.width)
        self.min_std, self.max_std = min_std, max_std

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        shape = (*shape, self.outputs[0])
        return torch.randn(shape, generator=generator, device=generator.device)

    def mean_std(self, params: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = params.float().chunk(2, -1)
        std = (self.max_std - self.min_std) * torch.sigmoid(std + 2) + self.min_std
        return torch.tanh(mean), std

    def sample(self, params: Tensor, noise: Tensor) -> Tensor:
        mean, std = self.mean_std(params)
        return mean + std * noise

    def mode(self, params: Tensor) -> Tensor:
        return self.mean_std(params)[0]

    def log_prob(self, params: Tensor, action: Tensor) -> Tensor:
        mean, std = self.mean_std(params)
        density = -0.5 * ((action - mean) / std).square() - std.log() - 0.5 * math.log(2 * math.pi)
        return density.sum(-1)

    def entropy(self, params: Tensor) -> Tensor:
        return (self.mean_std(params)[1].log() + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)

    def encode(self, action: Tensor) -> Tensor:
        return action.float()

    def decode(self, flat: Tensor) -> Tensor:
        return flat.clamp(-1, 1)


class ReinforcedNormal(BoundedNormal):
    """The same, learned from log-likelihoods rather than through its samples."""

    reparameterised = False


def make_action_dist(spec: ActionSpec, mix: float, min_std: float, max_std: float) -> ActionDist:
    """Choose the policy distribution that fits an action space."""
    if spec.kind == "box":
        return BoundedNormal(spec, min_std, max_std)
    return OneHotActions(spec, mix)
