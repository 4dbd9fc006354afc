"""What DreamerV3-2025 learns inside its world model, and the critic from replayed rewards.

Actions of any kind are reinforced: no gradient passes through the model.

Shape legend: B batch, T time, H horizon, N = B * T imagined rollouts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reverie.protocols import Metrics
from reverie_algorithms.dreamer.imagination import Noise, Rollout, SlowCritic, actor_loss, imagine
from reverie_algorithms.dreamer.returns import ReturnNormalizer, lambda_return, replay_return
from reverie_algorithms.dreamer_v3_2023.rssm import LatentState
from reverie_algorithms.dreamer_v3_2025.config import DreamerV32025Config
from reverie_algorithms.dreamer_v3_2025.heads import RMSActor, TwoHotHead
from reverie_algorithms.dreamer_v3_2025.world_model import RMSWorldModel
from reverie_algorithms.fast.late_gradients import product_dtype


class ReplayDream(NamedTuple):
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
    """Chance [H, N] that the rollout is still going."""


class ReplayBehavior(nn.Module):
    """An actor, its critic and what they need to learn from imagined and from real steps."""

    def __init__(self, actor: RMSActor, feat_size: int, config: DreamerV32025Config) -> None:
        super().__init__()
        self.config, self.actor = config, actor
        self.critic = TwoHotHead(feat_size, config.heads.behavior_layers, config.heads.units)
        self.slow_critic = SlowCritic(self.critic, config.slow_critic_fraction)
        # The slow critic starts as a copy and follows from the first update on.
        self.slow_critic.started.fill_(1.0)
        self.return_normalizer = ReturnNormalizer(
            config.return_low, config.return_high, config.return_rate, config.return_min_scale
        )

    def dream(self, model: RMSWorldModel, start: LatentState, noise: Noise) -> ReplayDream:
        """Imagine from detached states [N, ...] and compute the returns."""
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
        return ReplayDream(rollout, reward, logits, value, slow_value, ret, weight)

    def losses(
        self, dream: ReplayDream, states: LatentState, data: Mapping[str, Tensor], scale: Tensor
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
        self, dream: ReplayDream, states: LatentState, data: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The critic's loss on real steps, whose returns end in imagined ones."""
        shape, config = data["reward"].shape, self.config
        flags = data["is_last"], data["is_terminal"]
        boot_BT, slow_BT = dream.ret[0].view(shape), dream.slow_value[0].view(shape)
        ret = replay_return(data["reward"], *flags, boot_BT, config.gamma, config.gae_lambda)
        logits = self.critic(states.feat[:, :-1])
        loss = self.critic.dist.loss(logits, [(1.0, ret), (1.0, slow_BT[:, :-1])])
        return (loss * ~data["is_last"][:, :-1]).mean(), ret
