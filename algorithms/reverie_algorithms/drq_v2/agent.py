"""DrQ-v2: an actor-critic on randomly shifted pixels, with clipped exploration noise.

arXiv:2107.09645; facebookresearch/drqv2@c0c650b.

Shape legend: B batch, S stacked frames, I image keys, E embed, A action.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reverie.protocols import AgentContext, Carry, Feedback, Metrics, Mode, StreamSpec, Videos
from reverie.types import Array, Counters, Rows, Spaces
from reverie_algorithms.common.observations import ObsKeys
from reverie_algorithms.common.optim import Adam
from reverie_algorithms.common.saved_agent import SavedAgent, check_mode, named_size
from reverie_algorithms.common.states import make_generator
from reverie_algorithms.drq_v2.actor_critic import LARGEST_ACTION, ActorCritic
from reverie_algorithms.drq_v2.config import SIZES, DrQV2Config
from reverie_algorithms.drq_v2.frame_stacks import (
    PAD,
    push,
    shifted_stacks,
    transitions,
    unshifted,
    window_length,
)
from reverie_algorithms.drq_v2.nets import Actor, Critic, Encoder

STREAM = "replay"
MAX_COLUMNS = 6
"""Samples shown in a report."""


class DrQV2(SavedAgent):
    """DrQ-v2: learns two critics and an actor on shared convolutions of shifted pixels."""

    Config = DrQV2Config
    PAPER = "arXiv:2107.09645"
    SIZES = SIZES
    COMPILABLE = ("critic_loss", "actor_loss")
    """Methods without graph breaks, side effects on tensors or draws of randomness."""

    config: DrQV2Config

    def __init__(self, config: DrQV2Config, spaces: Spaces, context: AgentContext) -> None:
        super().__init__(config, spaces, context)
        self.keys = ObsKeys.select(spaces.obs)
        check_fit(spaces, self.keys, context.batch_length)
        device = context.device

        # What acts
        with self._seeded("encoder"):
            self.encoder = Encoder(self.keys, config.stack, config.channels).to(device)
        inputs, actions = self.encoder.size, spaces.action.width
        with self._seeded("actor"):
            self.actor = Actor(inputs, actions, config.features, config.hidden).to(device)
        self._acts_with(encoder=self.encoder, actor=self.actor)
        if not context.training:
            return

        # What learns
        with self._seeded("critic"):
            critic = Critic(inputs, actions, config.features, config.hidden).to(device)
        self.learner = ActorCritic(self.encoder, self.actor, critic, config)
        modules = {"encoder": self.encoder, "actor": self.actor, "critic": critic}
        target, groups = self.learner.critic_target, self.learner.adam_groups()
        self._learns(
            modules=modules,
            targets={"critic_target": (target, critic)},
            roots={**modules, "critic_target": target},
            optimizers={name: Adam(found, context.group) for name, found in groups.items()},
        )

    @classmethod
    def config_defaults(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        return named_size(raw, SIZES, "medium")

    # Learning

    def streams(self) -> dict[str, StreamSpec]:
        context = window_length(self.config.stack, self.config.num_steps) - 1
        size = self.config.batch_size or self.context.batch_size
        return {STREAM: StreamSpec(size, 1, context)}

    def update(
        self, batches: Mapping[str, Mapping[str, Tensor]], counters: Counters
    ) -> tuple[Metrics, Feedback]:
        data, device = batches[STREAM], self.context.device
        std = torch.full((), self.config.noise_std(counters.env_steps), device=device)
        shift_2IB2, noise_2BA = self.learner.draws(len(data["reward"]), self.learn_generator)

        # Critic and encoder
        loss, embed_BE, weight_B, metrics = self.critic_loss(data, shift_2IB2, noise_2BA[0], std)
        metrics["grad_norm/critic"] = self.optimizers["critic"].step(loss)

        # Actor
        loss, more = self.actor_loss(embed_BE, weight_B, noise_2BA[1], std)
        metrics["grad_norm/actor"] = self.optimizers["actor"].step(loss)

        # Target
        self.learner.update_target()
        return metrics | more | {"noise/std": std}, {}

    def critic_loss(
        self, data: Mapping[str, Tensor], shift_2IB2: Tensor, noise_BA: Tensor, std: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Metrics]:
        """As `ActorCritic.critic_loss`, in the precision that the context asks for."""
        with self.autocast():
            return self.learner.critic_loss(data, shift_2IB2, noise_BA, std)

    def actor_loss(
        self, embed_BE: Tensor, weight_B: Tensor, noise_BA: Tensor, std: Tensor
    ) -> tuple[Tensor, Metrics]:
        """As `ActorCritic.actor_loss`, in the precision that the context asks for."""
        with self.autocast():
            return self.learner.actor_loss(embed_BE, weight_B, noise_BA, std)

    # Acting

    def initial_carry(self, count: int) -> Carry:
        specs = {key: self.spaces.obs[key] for key in self.keys.names}
        return {
            key: torch.zeros(
                count,
                self.config.stack,
                *spec.shape,
                dtype=getattr(torch, spec.dtype),
                device=self.context.device,
            )
            for key, spec in specs.items()
        }

    @torch.no_grad()
    def act(self, obs: Rows, carry: Carry, mode: Mode, counters: Counters) -> tuple[Array, Carry]:
        """`sample` draws with the noise of the schedule's end, `train` with that of now."""
        check_mode(mode)
        is_first_B = self._to_device(obs["is_first"])
        stacks = {
            key: push(stack, self._to_device(obs[key]), is_first_B) for key, stack in carry.items()
        }
        count, stack = len(is_first_B), self.config.stack
        rows_BS = torch.arange(stack, device=is_first_B.device).expand(count, -1)
        still_IB2 = unshifted(count, is_first_B.device).expand(len(self.keys.images), -1, -1)
        with self.autocast():
            action_BA = self.actor(self.encoder(stacks, rows_BS, still_IB2))
        if mode != "mode":
            train = mode == "train"
            std = self.config.noise_std(counters.env_steps) if train else self.config.noise_end
            generator, shape = self.act_generator, action_BA.shape
            noise = torch.randn(shape, generator=generator, device=generator.device)
            action_BA = action_BA + std * noise
        action_BA = action_BA.clamp(-LARGEST_ACTION, LARGEST_ACTION)
        return action_BA.cpu().numpy(), stacks

    # Reporting

    def report(self, batches: Mapping[str, Mapping[str, Tensor]]) -> tuple[Videos, Metrics]:
        """Show the stacked frames of a state and of the one that follows, above as they are and
        below as an update might see them.
        """
        data = {key: value[:MAX_COLUMNS] for key, value in batches[STREAM].items()}
        config = self.config
        steps = transitions(data, config.stack, config.num_steps, config.gamma)
        rows = torch.cat([steps.rows_BS, steps.next_rows_BS], 1)
        generator = make_generator(self.context.device, self.context.seed, "report")
        still_B2, videos = unshifted(len(rows), rows.device), Videos()
        for key in self.keys.images:
            size, device = still_B2.shape, rows.device
            shift_B2 = torch.randint(2 * PAD + 1, size, generator=generator, device=device)
            seen = [shifted_stacks(data[key], rows, shift) for shift in (still_B2, shift_B2)]
            videos[f"augmented/{key}"] = _to_video(torch.cat(seen, 1), rows.shape[1])
        return videos, {"augmented/counted": steps.weight_B.mean()}


def check_fit(spaces: Spaces, keys: ObsKeys, batch_length: int) -> None:
    """Raises: ValueError, where DrQ-v2 cannot act or learn."""
    action = spaces.action
    if action.kind != "box":
        raise ValueError(
            f"action space: DrQ-v2 wants continuous (box) actions, got {action.kind} with "
            f"{list(action.num)} choices; dreamerv3 can act there"
        )
    if not keys.images:
        raise ValueError(
            "observations: DrQ-v2 wants at least one image, got "
            f"{sorted(keys.vectors)}; dreamerv3 can learn from these"
        )
    if batch_length != 1:
        raise ValueError(
            f"learner.batch_length: DrQ-v2 trains on single steps, expected 1, got {batch_length}"
        )


def _to_video(stacks: Tensor, count: int) -> Array:
    """Turn stacks uint8 [B, H, W, count * C] into frames [count, H, B W, 3]."""
    frames = stacks.unflatten(-1, (count, -1)).movedim(3, 0)
    channels = [min(c, frames.shape[-1] - 1) for c in range(3)]
    return np.concatenate(list(frames[..., channels].movedim(1, 0).cpu().numpy()), axis=2)
