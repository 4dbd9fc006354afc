"""Rollouts in imagination, their returns, and what actors and critics learn from them.

Shape legend: H horizon, N rollouts, A flat action, P policy parameters, F feat, S stoch variables.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from reverie.group import Group
from reverie_algorithms.common.dists import ActionDist
from reverie_algorithms.dreamer.latent import LatentState

# Rollouts


class Noise(NamedTuple):
    """Randomness of one imagined rollout, drawn beforehand."""

    action: Tensor
    """[H, N, ...], as the action distribution wants it."""
    stoch: Tensor
    """Uniform [H, N, S]."""


class Rollout(NamedTuple):
    """Imagined states 0..H, and what the policy did in all but the last."""

    feat: Tensor
    """[H + 1, N, F]; carries a gradient where actions are reparameterised."""
    params: Tensor
    """Policy parameters [H, N, P], with a gradient to the actor."""
    action: Tensor
    """[H, N, A]"""


class Prior(Protocol):
    """A latent model that goes on without observations."""

    def imagine_step(
        self, state: LatentState, action_BA: Tensor, uniform_BS: Tensor, /
    ) -> LatentState: ...


class Policy(Protocol):
    """Policy parameters from feat, and what they mean."""

    dist: ActionDist

    def __call__(self, feat: Tensor, /) -> Tensor: ...


def imagine(rssm: Prior, actor: Policy, start: LatentState, noise: Noise) -> Rollout:
    """Follow the policy through the model from detached states [N, ...].

    The policy sees detached feat. Where its samples carry no gradient, the model runs without
    one and only the actor's own layers are recorded.
    """
    through_model = torch.is_grad_enabled() and actor.dist.reparameterised
    state, feats, params, actions = start, [start.feat], [], []
    for action_noise, stoch_noise in zip(noise.action, noise.stoch, strict=True):
        params.append(actor(feats[-1].detach()))
        with torch.set_grad_enabled(through_model):
            actions.append(actor.dist.sample(params[-1], action_noise))
            state = rssm.imagine_step(state, actions[-1], stoch_noise)
            feats.append(state.feat)
    return Rollout(torch.stack(feats), torch.stack(params), torch.stack(actions))


# Returns


def lambda_return(reward_HN: Tensor, cont_HN: Tensor, value: Tensor, lam: float) -> Tensor:
    """Mix bootstrapped returns of all lengths (arXiv:2301.04104v1, eq. 7).

    R_t = reward_t + cont_t [(1 - lam) value_{t+1} + lam R_{t+1}], with R_H = value_H.
    DreamerV3 passes reward and continuation of the state arrived at, DreamerV2 those of the
    state left.

    `cont_HN` includes the discount; `value` is [H + 1, N], and its first entry is not used.
    """
    interim_HN = reward_HN + cont_HN * value[1:] * (1 - lam)
    decay_HN = cont_HN * lam
    ret_N = value[-1]
    rets = []
    for t in reversed(range(len(reward_HN))):
        ret_N = torch.addcmul(interim_HN[t], decay_HN[t], ret_N)
        rets.append(ret_N)
    return torch.stack(rets[::-1])


def percentiles(values: Tensor, low: float, high: float) -> Tensor:
    """Two percentiles (fractions of 1) with linear interpolation, as a tensor [2].

    `torch.quantile` would read its argument back to the host.
    """
    ranked = values.flatten().sort().values
    return torch.stack([_interpolate(ranked, low), _interpolate(ranked, high)])


def _interpolate(ranked: Tensor, fraction: float) -> Tensor:
    position = fraction * (len(ranked) - 1)
    lower = min(int(position), len(ranked) - 2) if len(ranked) > 1 else 0
    upper = min(lower + 1, len(ranked) - 1)
    return torch.lerp(ranked[lower], ranked[upper], position - lower)


class ReturnNormalizer(nn.Module):
    """Moving range of returns (arXiv:2301.04104v1, eq. 12), over all learners' returns.

    The averages start at 0 and are not debiased, as in both dialects' code.
    """

    range: Tensor

    def __init__(self, low: float, high: float, rate: float, min_scale: float) -> None:
        super().__init__()
        self.low, self.high, self.rate, self.min_scale = low, high, rate, min_scale
        self.register_buffer("range", torch.zeros(2))

    @torch.no_grad()
    def update(self, ret: Tensor, group: Group) -> None:
        """Move towards the percentiles of `ret`."""
        self.range.lerp_(percentiles(group.gather(ret.detach()), self.low, self.high), self.rate)

    def scale(self) -> Tensor:
        """What to divide returns by; at least `min_scale`, so that small ones stay small."""
        return (self.range[1] - self.range[0]).clamp(min=self.min_scale)


# Learning


def actor_loss(
    dist: ActionDist, rollout: Rollout, advantage: Tensor, weight: Tensor, entropy_scale: float
) -> tuple[Tensor, Tensor]:
    """Return the loss and the policy's mean entropy (arXiv:2301.04104v1, eq. 11).

    A reparameterised distribution back-propagates the advantage [H, N] through the model (DreamerV2
    and V3-2023, continuous actions); any other is reinforced.
    """
    entropy = dist.entropy(rollout.params)
    if dist.reparameterised:
        gain = advantage
    else:
        gain = dist.log_prob(rollout.params, rollout.action) * advantage.detach()
    loss = -(weight * (gain + entropy_scale * entropy)).mean()
    return loss, entropy.detach().mean()


class SlowCritic(nn.Module):
    """Moving average of a critic, which moves by `fraction` per update.

    With `copies_first` the first update makes it a copy; else it follows from there on too.
    """

    critic: Any
    """The copy; it has the methods of the critic."""
    started: Tensor

    def __init__(self, critic: nn.Module, fraction: float, *, copies_first: bool) -> None:
        super().__init__()
        self.fraction = fraction
        self.critic = deepcopy(critic).requires_grad_(False)
        self.register_buffer("started", torch.zeros(()) if copies_first else torch.ones(()))

    @torch.no_grad()
    def update(self, critic: nn.Module) -> None:
        mix = 1 + self.started * (self.fraction - 1)
        for slow, fast in zip(self.critic.parameters(), critic.parameters(), strict=True):
            slow.lerp_(fast, mix)
        self.started.fill_(1.0)
