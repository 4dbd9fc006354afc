"""What DreamerV2 learns inside its world model (arXiv:2010.02193, section 2.2).

Returns include the reward of the state they start at. Details are those of
thuml/HarmonyDream@0a22e33, wmlib-torch.

Shape legend: H horizon, N imagined rollouts, A flat action, P policy parameters, F feat.
"""

from __future__ import annotations

from copy import deepcopy
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from reverie.protocols import Metrics
from reverie_algorithms.common.dists import ActionDist
from reverie_algorithms.dreamer.config import V2Config
from reverie_algorithms.dreamer.elu_nets import DiscountHead, EluHeadConfig, EluMLP, MeanHead
from reverie_algorithms.dreamer.imagination import (
    Noise,
    Prior,
    Rollout,
    actor_loss,
    imagine,
    lambda_return,
)
from reverie_algorithms.dreamer.latent import LatentState


class RewardingModel(Protocol):
    """A world model inside which actor and critic learn."""

    @property
    def rssm(self) -> Prior: ...
    @property
    def reward(self) -> MeanHead:
        """The reward that came with a state."""
        ...

    @property
    def discount(self) -> DiscountHead | None:
        """Where episodes end; None where no task ends."""
        ...


class EluActor(nn.Module):
    """Policy parameters [..., P] from feat [..., F]; `dist` says what they mean."""

    def __init__(self, inputs: int, config: EluHeadConfig, dist: ActionDist) -> None:
        super().__init__()
        self.dist = dist
        self.net = EluMLP(inputs, config.layers, config.units, dist.outputs, redraw=True)

    def forward(self, feat: Tensor) -> Tensor:
        return self.net(feat).float()


class TargetCritic(nn.Module):
    """A copy of the critic, renewed after the first update and every `period` updates on."""

    updates: Tensor

    def __init__(self, critic: MeanHead, period: int) -> None:
        super().__init__()
        self.period = period
        self.critic = deepcopy(critic).requires_grad_(False)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, critic: MeanHead) -> None:
        # Always a lerp, by 0 or 1: the count never leaves the device.
        mix = (self.updates % self.period == 0).float()
        for slow, fast in zip(self.critic.parameters(), critic.parameters(), strict=True):
            slow.lerp_(fast, mix)
        self.updates += 1


class Dream(NamedTuple):
    """Imagined rollouts with what the heads and the target critic say about them."""

    rollout: Rollout
    reward: Tensor
    """[H, N], of the states 0..H-1."""
    value: Tensor
    """The target critic's [H + 1, N]."""
    ret: Tensor
    """Lambda-returns [H, N] of the states 0..H-1."""
    weight: Tensor
    """Product [H, N] of the discounts before each state."""


class EluBehavior(nn.Module):
    """An actor, its critic and the critic's slow copy."""

    def __init__(self, actor: EluActor, feat_size: int, config: V2Config) -> None:
        super().__init__()
        self.config, self.actor = config, actor
        self.critic = MeanHead(feat_size, config.heads)
        self.target_critic = TargetCritic(self.critic, config.target_period)

    def dream(
        self, model: RewardingModel, start: LatentState, first_cont_N: Tensor, noise: Noise
    ) -> Dream:
        """Imagine from detached states [N, ...] and compute the returns.

        Gradients reach the whole rollout, reward, discount and value where actions are
        reparameterised; else only the actor's parameters.
        """
        rollout = imagine(model.rssm, self.actor, start, noise)
        through_model = self.actor.dist.reparameterised and torch.is_grad_enabled()
        with torch.set_grad_enabled(through_model):
            reward = model.reward(rollout.feat[:-1])
            value = self.target_critic.critic(rollout.feat)
            discount = self._discount(model, rollout.feat[:-1], first_cont_N)
            ret = lambda_return(reward, discount, value, self.config.gae_lambda)
        before = torch.cat([torch.ones_like(discount[:1]), discount[:-1]]).detach()
        return Dream(rollout, reward, value, ret, torch.cumprod(before, 0))

    def _discount(self, model: RewardingModel, feat: Tensor, first_cont_N: Tensor) -> Tensor:
        """Discounts [H, N] from each state to the next; the first one is known."""
        gamma = self.config.gamma
        if model.discount is None:
            return torch.full_like(feat[..., 0], gamma, dtype=torch.float32)
        later = model.discount.mean(feat[1:])
        return torch.cat([gamma * first_cont_N.unsqueeze(0), later])

    def losses(self, dream: Dream) -> tuple[Tensor, Tensor, Metrics]:
        """Return the actor's loss, the critic's loss and metrics.

        The last action leads to the bootstrap value only, and the first return comes before any
        action: action t is judged by the return of state t + 1.
        """
        dist, rollout = self.actor.dist, dream.rollout
        judged = Rollout(rollout.feat, rollout.params[:-1], rollout.action[:-1])
        gain = dream.ret[1:] if dist.reparameterised else dream.ret[1:] - dream.value[:-2]
        policy_loss, entropy = actor_loss(
            dist, judged, gain, dream.weight[:-1], self.config.entropy_scale
        )
        error = self.critic.loss(rollout.feat[:-1].detach(), dream.ret.detach())
        value_loss = (dream.weight * error).mean()
        metrics = {
            "loss/actor": policy_loss,
            "loss/critic": value_loss,
            "entropy/actor": entropy,
            "return/mean": dream.ret.mean(),
            "value/slow": dream.value.mean(),
            "imagined/reward": dream.reward.mean(),
            "imagined/weight": dream.weight.mean(),
        }
        return policy_loss, value_loss, {k: v.detach() for k, v in metrics.items()}
