"""What DreamerV3-2023 learns inside its world model (arXiv:2301.04104v1, "Actor critic learning").

Shape legend: H horizon, N imagined rollouts, F feat, P policy parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reverie.protocols import Metrics
from reverie_algorithms.common.dists import ActionDist, TwoHot
from reverie_algorithms.dreamer.imagination import (
    Noise,
    ReturnNormalizer,
    Rollout,
    SlowCritic,
    actor_loss,
    imagine,
    lambda_return,
)
from reverie_algorithms.dreamer.latent import LatentState
from reverie_algorithms.dreamer_v3_2023.config import DreamerV32023Config
from reverie_algorithms.dreamer_v3_2023.nets import MLP
from reverie_algorithms.dreamer_v3_2023.rssm import GRURSSM
from reverie_algorithms.dreamer_v3_2023.world_model import HeadConfig, WorldModel
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
        outputs = [len(self.dist.bins)]
        self.net = MLP(inputs, config.layers, config.units, outputs, 0.0, one_hots)

    def forward(self, feat: Tensor) -> Tensor:
        return self.net(feat).float()

    def mean(self, feat: Tensor) -> Tensor:
        return self.dist.mean(self(feat))


class Dream(NamedTuple):
    """Imagined rollouts with what reward head, continuation head and critic say about them."""

    rollout: Rollout
    reward: Tensor
    """[H, N], of the states arrived at."""
    logits: Tensor
    """The critic's [H + 1, N, bins]."""
    value: Tensor
    """[H + 1, N]"""
    ret: Tensor
    """Lambda-returns [H, N]."""
    weight: Tensor
    """[H, N]"""


class Behavior(nn.Module):
    """An actor, its critic and what they need to learn from imagined rollouts."""

    def __init__(self, actor: Actor, rssm: GRURSSM, config: DreamerV32023Config) -> None:
        super().__init__()
        self.config, self.actor = config, actor
        self.critic = Critic(rssm.feat_size, config.heads, rssm.one_hots)
        self.slow_critic = SlowCritic(self.critic, config.slow_critic_fraction, copies_first=True)
        self.return_normalizer = ReturnNormalizer(
            config.return_low, config.return_high, config.return_rate, config.return_min_scale
        )

    def dream(
        self, model: WorldModel, start: LatentState, first_cont_N: Tensor, noise: Noise
    ) -> Dream:
        """Imagine from detached states [N, ...] and compute the returns.

        Gradients reach the whole rollout where actions are reparameterised; else only the
        actor's parameters and the critic's logits. One pass of the critic serves baseline,
        returns and its own loss.
        """
        gamma, through_model = self.config.gamma, self.actor.dist.reparameterised
        rollout = imagine(model.rssm, self.actor, start, noise)
        with torch.set_grad_enabled(through_model and torch.is_grad_enabled()):
            reward = model.reward.mean(rollout.feat[1:])
        with torch.no_grad():
            later_cont = model.cont.mode(rollout.feat[1:])
        logits = self.critic(rollout.feat)
        value = self.critic.dist.mean(logits if through_model else logits.detach())
        cont = torch.cat([first_cont_N.unsqueeze(0), later_cont])
        ret = lambda_return(reward, gamma * cont[1:], value, self.config.gae_lambda)
        weight = (torch.cumprod(gamma * cont, 0) / gamma)[:-1].detach()
        return Dream(rollout, reward, logits, value, ret, weight)

    def losses(self, dream: Dream, scale: Tensor) -> tuple[Tensor, Tensor, Metrics]:
        """Return the actor's loss, the critic's loss and metrics."""
        advantage = (dream.ret - dream.value[:-1]) / scale
        policy_loss, entropy = actor_loss(
            self.actor.dist, dream.rollout, advantage, dream.weight, self.config.entropy_scale
        )
        with torch.no_grad():
            slow_value = self.slow_critic.critic.mean(dream.rollout.feat[:-1])
        targets = [(1.0, dream.ret), (self.config.loss_scales.slow_critic, slow_value)]
        value_loss = critic_loss(self.critic.dist, dream.logits[:-1], targets, dream.weight)
        metrics = {
            "loss/actor": policy_loss,
            "loss/critic": value_loss,
            "entropy/actor": entropy,
            "return/mean": dream.ret.mean(),
            "return/scale": scale,
            "value/mean": dream.value.mean(),
            "value/slow": slow_value.mean(),
            "advantage/abs": advantage.abs().mean(),
            "imagined/reward": dream.reward.mean(),
            "imagined/weight": dream.weight.mean(),
        }
        return policy_loss, value_loss, {k: v.detach() for k, v in metrics.items()}


def critic_loss(
    dist: TwoHot, logits: Tensor, targets: Sequence[tuple[float, Tensor]], weight: Tensor
) -> Tensor:
    """Weighted cross-entropy of logits [H, N, bins] with several targets [H, N] and scales."""
    losses = [scale * dist.loss(logits, target.detach()) for scale, target in targets]
    return (weight * sum(losses)).mean()
