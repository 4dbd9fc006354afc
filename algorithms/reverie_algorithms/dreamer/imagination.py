"""Actor and critic that learn in imagination (arXiv:2301.04104v1, section "Actor critic learning").

Shape legend: H horizon, N rollouts, A flat action, P policy parameters, F feat.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from reverie_algorithms.common.dists import ActionDist, TwoHot
from reverie_algorithms.common.states import copy_weights
from reverie_algorithms.dreamer_v3_2023.nets import MLP
from reverie_algorithms.dreamer_v3_2023.rssm import LatentState
from reverie_algorithms.dreamer_v3_2023.world_model import HeadConfig
from reverie_algorithms.fast.one_hot_linear import OneHots


class Actor(nn.Module):
    """Policy parameters [..., P] from feat [..., F]; `dist` says what they mean."""

    def __init__(
        self, inputs: int, config: HeadConfig, dist: ActionDist, one_hots: OneHots | None = None
    ) -> None:
        super().__init__()
        self.dist = dist
        self.net = MLP(inputs, config.layers, config.units, dist.outputs, one_hots=one_hots)

    def forward(self, feat: Tensor) -> Tensor:
        return self.net(feat).float()


class Critic(nn.Module):
    """Two-hot value; 0 at first, since its output layer starts at zero."""

    def __init__(self, inputs: int, config: HeadConfig, one_hots: OneHots | None = None) -> None:
        super().__init__()
        self.dist = TwoHot()
        sizes = inputs, config.layers, config.units, [len(self.dist.bins)]
        self.net = MLP(*sizes, scale=0.0, one_hots=one_hots)

    def forward(self, feat: Tensor) -> Tensor:
        return self.net(feat).float()

    def mean(self, feat: Tensor) -> Tensor:
        return self.dist.mean(self(feat))


class SlowCritic(nn.Module):
    """Moving average of a critic: a copy after the first update, then `fraction` per update."""

    critic: Any
    """The copy; it has the methods of the critic."""
    started: Tensor

    def __init__(self, critic: nn.Module, fraction: float) -> None:
        super().__init__()
        self.fraction = fraction
        self.critic = deepcopy(critic).requires_grad_(False)
        self.register_buffer("started", torch.zeros(()))

    def reset(self, critic: nn.Module) -> None:
        """Make the copy equal to the critic."""
        copy_weights(self.critic, critic)

    @torch.no_grad()
    def update(self, critic: nn.Module) -> None:
        mix = 1 + self.started * (self.fraction - 1)
        for slow, fast in zip(self.critic.parameters(), critic.parameters(), strict=True):
            slow.lerp_(fast, mix)
        self.started.fill_(1.0)


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
        self, state: LatentState, action: Tensor, uniform: Tensor, /
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


def rollout_weights(cont: Tensor, gamma: float) -> Tensor:
    """Chance [H + 1, N] that a rollout is still going: cumprod(gamma cont) / gamma."""
    return (torch.cumprod(gamma * cont, 0) / gamma).detach()


def actor_loss(
    dist: ActionDist, rollout: Rollout, advantage: Tensor, weight: Tensor, entropy_scale: float
) -> tuple[Tensor, Tensor]:
    """Return the loss and the policy's mean entropy (arXiv:2301.04104v1, eq. 11).

    Discrete actions use Reinforce; continuous ones back-propagate the advantage [H, N] through
    the model, as in danijar/dreamerv3@8fa35f8.
    """
    entropy = dist.entropy(rollout.params)
    if dist.reparameterised:
        gain = advantage
    else:
        gain = dist.log_prob(rollout.params, rollout.action) * advantage.detach()
    loss = -(weight * (gain + entropy_scale * entropy)).mean()
    return loss, entropy.detach().mean()


def critic_loss(
    dist: TwoHot, logits: Tensor, targets: Sequence[tuple[float, Tensor]], weight: Tensor
) -> Tensor:
    """Weighted cross-entropy of logits [H, N, bins] with several targets [H, N] and scales."""
    losses = [scale * dist.loss(logits, target.detach()) for scale, target in targets]
    return (weight * sum(losses)).mean()
