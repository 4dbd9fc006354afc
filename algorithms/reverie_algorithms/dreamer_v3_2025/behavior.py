"""What DreamerV3-2025 learns inside its world model, and the critic from replayed rewards.

Actions of any kind are reinforced: no gradient passes through the model.

Shape legend: B batch, T time, H horizon, N = B * T imagined rollouts, F feat, P policy parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reverie.protocols import Metrics
from reverie_algorithms.common.dists import ActionDist
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
from reverie_algorithms.dreamer_v3_2025.config import DreamerV32025Config
from reverie_algorithms.dreamer_v3_2025.nets import RMSMLP, TwoHotHead
from reverie_algorithms.dreamer_v3_2025.world_model import HeadConfig, WorldModel
from reverie_algorithms.fast import product_dtype


class Actor(nn.Module):
    """Policy parameters [..., P] from feat [..., F]; `dist` says what they mean."""

    def __init__(self, inputs: int, heads: HeadConfig, dist: ActionDist) -> None:
        super().__init__()
        self.dist = dist
        outputs = sum(dist.outputs)
        self.net = RMSMLP(inputs, heads.behavior_layers, heads.units, outputs, scale=0.01)

    def forward(self, feat: Tensor) -> Tensor:
        return self.net(feat).float()


class Dream(NamedTuple):
    """Imagined rollouts with what reward head, continuation head and critics say about them."""

    rollout: Rollout
    reward: Tensor
    """[H, N], of the states arrived at."""
    logits: Tensor
    """The critic's [H, N, bins], with a gradient to the critic."""
    value: Tensor
    """[H + 1, N]"""
    slow_value: Tensor
    """[H, N]"""
    ret: Tensor
    """Lambda-returns [H, N]."""
    weight: Tensor
    """Product [H, N] of the discounted chances that the rollout is still going."""


class Behavior(nn.Module):
    """An actor, its critic and what they need to learn from imagined and from real steps."""

    def __init__(self, actor: Actor, feat_size: int, config: DreamerV32025Config) -> None:
        super().__init__()
        self.config, self.actor = config, actor
        self.critic = TwoHotHead(feat_size, config.heads.behavior_layers, config.heads.units)
        fraction = config.slow_critic_fraction
        self.slow_critic = SlowCritic(self.critic, fraction, copies_first=False)
        self.return_normalizer = ReturnNormalizer(
            config.return_low, config.return_high, config.return_rate, config.return_min_scale
        )

    def dream(self, model: WorldModel, start: LatentState, noise: Noise) -> Dream:
        """Imagine from detached states [N, ...] and compute the returns."""
        # The continuation head's own predictions hold the discount, unless it is told otherwise.
        gamma = 1.0 if self.config.discounted_cont else self.config.gamma
        dtype = product_dtype(model.rssm.prior_logits.weight)
        start = LatentState(start.deter.to(dtype), start.stoch.to(dtype))
        rollout = imagine(model.rssm, self.actor, start, noise)
        before, after = rollout.feat[:-1], rollout.feat[1:]
        logits = self.critic(before)
        with torch.no_grad():
            reward = model.reward.mean(after)
            cont = gamma * model.cont.prob(rollout.feat)
            value = self.critic.dist.mean(logits.detach())
            value = torch.cat([value, self.critic.mean(after[-1:])])
            slow_value = self.slow_critic.critic.mean(before)
            ret = lambda_return(reward, cont[1:], value, self.config.gae_lambda)
            weight = torch.cumprod(cont[:-1], 0) / gamma
        return Dream(rollout, reward, logits, value, slow_value, ret, weight)

    def losses(
        self, dream: Dream, states: LatentState, data: Mapping[str, Tensor], scale: Tensor
    ) -> tuple[dict[str, Tensor], Metrics]:
        """Return the scalar losses of actor and critic, and metrics.

        The gradient of `replay_critic` reaches the posterior `states` [B, T, ...].
        """
        advantage = (dream.ret - dream.value[:-1]) / scale
        policy_loss, entropy = actor_loss(
            self.actor.dist, dream.rollout, advantage, dream.weight, self.config.entropy_scale
        )
        targets = [(1.0, dream.ret), (1.0, dream.slow_value)]
        value_loss = (dream.weight * self.critic.dist.loss(dream.logits, targets)).mean()
        replay_loss, replay_ret = self._replay_loss(dream, states, data)
        losses = {"actor": policy_loss, "critic": value_loss, "replay_critic": replay_loss}
        metrics = {
            "entropy/actor": entropy,
            "return/mean": dream.ret.mean(),
            "return/replay": replay_ret.mean(),
            "return/scale": scale,
            "value/mean": dream.value.mean(),
            "value/slow": dream.slow_value.mean(),
            "advantage/abs": advantage.abs().mean(),
            "imagined/reward": dream.reward.mean(),
            "imagined/weight": dream.weight.mean(),
        }
        return losses, {k: v.detach() for k, v in metrics.items()}

    def _replay_loss(
        self, dream: Dream, states: LatentState, data: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The critic's loss on real steps, whose returns end in imagined ones."""
        shape, config = data["reward"].shape, self.config
        boot_BT, slow_BT = dream.ret[0].view(shape), dream.slow_value[0].view(shape)
        ret = replay_return(
            data["reward"],
            is_last_BT=data["is_last"],
            is_terminal_BT=data["is_terminal"],
            boot_BT=boot_BT,
            gamma=config.gamma,
            lam=config.gae_lambda,
        )
        logits = self.critic(states.feat[:, :-1])
        loss = self.critic.dist.loss(logits, [(1.0, ret), (1.0, slow_BT[:, :-1])])
        return (loss * ~data["is_last"][:, :-1]).mean(), ret


def replay_return(
    reward_BT: Tensor,
    is_last_BT: Tensor,
    is_terminal_BT: Tensor,
    boot_BT: Tensor,
    gamma: float,
    lam: float,
) -> Tensor:
    """Lambda-returns [B, T - 1] of real rewards, which start again after a last row.

    With live = gamma (1 - is_terminal) and keep = lam (1 - is_last),
    R_t = r_{t+1} + live_{t+1} [(1 - keep_{t+1}) boot_{t+1} + keep_{t+1} R_{t+1}], R_T = boot_T,
    as in danijar/dreamerv3@e3f0224.
    """
    live_BT = (~is_terminal_BT[:, 1:]).float() * gamma
    keep_BT = (~is_last_BT[:, 1:]).float() * lam
    interim_BT = reward_BT[:, 1:] + (1 - keep_BT) * live_BT * boot_BT[:, 1:]
    decay_BT, ret_B = live_BT * keep_BT, boot_BT[:, -1]
    rets = []
    for t in reversed(range(interim_BT.shape[1])):
        ret_B = torch.addcmul(interim_BT[:, t], decay_BT[:, t], ret_B)
        rets.append(ret_B)
    return torch.stack(rets[::-1], 1)
