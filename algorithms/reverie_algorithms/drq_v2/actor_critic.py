"""What learns in DrQ-v2: two critics and an actor on shared convolutions, from given windows.

It owns no generator and no optimizer: the agent that it is a part of draws the noise and takes
the steps. arXiv:2107.09645; facebookresearch/drqv2@c0c650b.

Shape legend: B batch, T rows of a window, S stacked frames, I image keys, E embed, A action,
Q the two critics.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reverie.protocols import Metrics
from reverie_algorithms.common.dists import straight_through
from reverie_algorithms.common.optim import AdamGroup
from reverie_algorithms.drq_v2.config import DrQV2Config
from reverie_algorithms.drq_v2.frame_stacks import PAD, Transitions, transitions
from reverie_algorithms.drq_v2.nets import Actor, Critic, Encoder

LARGEST_ACTION = 1 - 1e-6


class Draws(NamedTuple):
    """Randomness of one update; the first of each pair is for the critics' next states."""

    shift_2IB2: Tensor
    """Shifts of states and next states, by image key."""
    noise_2BA: Tensor
    """Unit normal, for the critics' target and for the actor."""


class ActorCritic(nn.Module):
    """Encoder, actor, critics and their slow copy; only the critics train the encoder."""

    def __init__(self, encoder: Encoder, actor: Actor, critic: Critic, config: DrQV2Config) -> None:
        super().__init__()
        self.config, self.encoder, self.actor, self.critic = config, encoder, actor, critic
        self.critic_target = deepcopy(critic).requires_grad_(False)

    def adam_groups(self) -> dict[str, list[AdamGroup]]:
        """The parameters of each optimizer: `critic`, with the encoder, and `actor`."""
        groups = {name: self._group(name) for name in ("critic", "encoder", "actor")}
        return {"critic": [groups["critic"], groups["encoder"]], "actor": [groups["actor"]]}

    def _group(self, name: str) -> AdamGroup:
        named = self.get_submodule(name).named_parameters()
        params = {f"{name}/{key}": param for key, param in named}
        return AdamGroup(params, self.config.lr, self.config.adam_eps, None)

    def draws(self, batch_size: int, generator: torch.Generator) -> Draws:
        """Draw what one update on `batch_size` windows needs."""
        device, shape = generator.device, (2, len(self.encoder.images), batch_size, 2)
        shift_2IB2 = torch.randint(2 * PAD + 1, shape, generator=generator, device=device)
        shape = (2, batch_size, self.actor.num_actions)
        noise_2BA = torch.randn(shape, generator=generator, device=device)
        return Draws(shift_2IB2, noise_2BA)

    def critic_loss(
        self, data: Mapping[str, Tensor], shift_2IB2: Tensor, noise_BA: Tensor, std: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Metrics]:
        """Return the loss of critics and encoder, the embedded states without a gradient, which
        of them count, and metrics.
        """
        config = self.config
        steps = transitions(data, config.stack, config.num_steps, config.gamma)
        with torch.no_grad():
            next_BE = self.encoder(data, steps.next_rows_BS, shift_2IB2[1])
            action_BA = self.explore(self.actor(next_BE), noise_BA, std)
            next_value_B = self.critic_target(next_BE, action_BA).amin(0)
            target_B = steps.return_B + steps.discount_B * next_value_B
        embed_BE = self.encoder(data, steps.rows_BS, shift_2IB2[0])
        value_QB = self.critic(embed_BE, steps.action_BA)
        loss = weighted_mean((value_QB - target_B).square().sum(0), steps.weight_B)
        metrics = _critic_metrics(loss, value_QB, target_B, steps)
        return loss, embed_BE.detach(), steps.weight_B, metrics

    def actor_loss(
        self, embed_BE: Tensor, weight_B: Tensor, noise_BA: Tensor, std: Tensor
    ) -> tuple[Tensor, Metrics]:
        """Return the actor's loss and metrics."""
        mean_BA = self.actor(embed_BE)
        with torch.no_grad():
            features_BF = self.critic.trunk(embed_BE)
        action_BA = self.explore(mean_BA, noise_BA, std)
        value_B = self.critic.values(features_BF, action_BA).amin(0)
        loss = -weighted_mean(value_B, weight_B)
        metrics = {"loss/actor": loss.detach(), "action/abs": mean_BA.detach().abs().mean()}
        return loss, metrics

    @torch.no_grad()
    def update_target(self) -> None:
        """Move the slow critics a step towards the critics."""
        pairs = zip(self.critic_target.parameters(), self.critic.parameters(), strict=True)
        for slow, fast in pairs:
            slow.lerp_(fast, self.config.target_fraction)

    def explore(self, mean_BA: Tensor, noise_BA: Tensor, std: Tensor) -> Tensor:
        """Add clipped noise; an action beyond the bounds keeps its gradient."""
        clip = self.config.noise_clip
        action_BA = mean_BA + (noise_BA * std).clamp(-clip, clip)
        inside_BA = action_BA.detach().clamp(-LARGEST_ACTION, LARGEST_ACTION)
        return straight_through(inside_BA, action_BA)


def weighted_mean(values_B: Tensor, weight_B: Tensor) -> Tensor:
    """Mean over those that count; 0 where none does."""
    return (values_B * weight_B).sum() / weight_B.sum().clamp(min=1)


def _critic_metrics(
    loss: Tensor, value_QB: Tensor, target_B: Tensor, steps: Transitions
) -> Metrics:
    value_QB, weight_B = value_QB.detach(), steps.weight_B
    return {
        "loss/critic": loss.detach(),
        "value/mean": weighted_mean(value_QB.mean(0), weight_B),
        "value/target": weighted_mean(target_B, weight_B),
        "value/apart": weighted_mean((value_QB[0] - value_QB[1]).abs(), weight_B),
        "return/mean": weighted_mean(steps.return_B, weight_B),
        "batch/counted": weight_B.mean(),
    }
