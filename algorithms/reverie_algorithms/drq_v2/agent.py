"""DrQ-v2: an actor-critic on randomly shifted pixels, with clipped exploration noise.

arXiv:2107.09645; facebookresearch/drqv2@c0c650b.

Shape legend: B batch, T rows of a window, S stacked frames, I image keys, E embed, A action,
Q the two critics.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from reverie.protocols import Carry, Feedback, Metrics, Mode, StreamSpec, Videos
from reverie.types import Array, Counters, Rows
from reverie_algorithms.common.dists import straight_through
from reverie_algorithms.common.optim import Adam, AdamGroup
from reverie_algorithms.common.saved_agent import SavedAgent, named_size
from reverie_algorithms.common.states import copy_weights, make_generator, seeded
from reverie_algorithms.drq_v2.config import SIZES, DrQV2Config
from reverie_algorithms.drq_v2.frame_stacks import (
    PAD,
    Transitions,
    push,
    shifted_stacks,
    transitions,
    unshifted,
    window_length,
)
from reverie_algorithms.drq_v2.nets import Actor, Critic, Encoder

STREAM = "replay"
LARGEST_ACTION = 1 - 1e-6
MAX_COLUMNS = 6
"""Samples shown in a report."""


class DrQV2(SavedAgent):
    """Learns two critics and an actor on shared convolutions, which only the critics train.

    With `context.training` unset only encoder and actor exist.
    """

    Config = DrQV2Config
    COMPILABLE = ("critic_loss", "actor_loss")
    """Methods without graph breaks, side effects on tensors or draws of randomness."""

    config: DrQV2Config

    @classmethod
    def config_defaults(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        return named_size(raw, SIZES, "medium")

    # Building

    def _check_spaces(self) -> None:
        action, length = self.spaces.action, self.context.batch_length
        if action.kind != "box":
            raise ValueError(
                f"action space: DrQ-v2 wants continuous (box) actions, got {action.kind} with "
                f"{list(action.num)} choices; dreamerv3 can act there"
            )
        if not self.keys.images:
            raise ValueError(
                "observations: DrQ-v2 wants at least one image, got "
                f"{sorted(self.keys.vectors)}; dreamerv3 can learn from these"
            )
        if length != 1:
            raise ValueError(
                f"learner.batch_length: DrQ-v2 trains on single steps, wanted 1, got {length}"
            )
        for name in ("stack", "num_steps"):
            if (value := getattr(self.config, name)) < 1:
                raise ValueError(f"algorithm.{name}: wanted at least 1, got {value}")

    def _make_policy(self) -> None:
        config, device = self.config, self.context.device
        with seeded(self.context.seed, "encoder"):
            self.encoder = Encoder(self.keys, config.stack, config.channels).to(device)
        with seeded(self.context.seed, "actor"):
            self.actor = Actor(*self._sizes()).to(device)

    def _make_learning_parts(self) -> None:
        with seeded(self.context.seed, "critic"):
            self.critic = Critic(*self._sizes()).to(self.context.device)
        self.critic_target = deepcopy(self.critic).requires_grad_(False)
        self.learned = {**self.modules(), **self.targets()}

    def _sizes(self) -> tuple[int, int, int, int]:
        config = self.config
        return self.encoder.size, self.spaces.action.width, config.features, config.hidden

    def _make_optimizers(self) -> None:
        groups = {name: self._group(name, part) for name, part in self.modules().items()}
        reduce = self.context.all_reduce
        self.optimizers = {
            "critic": Adam([groups["critic"], groups["encoder"]], reduce),
            "actor": Adam([groups["actor"]], reduce),
        }

    def _group(self, name: str, part: nn.Module) -> AdamGroup:
        params = {f"{name}/{key}": param for key, param in part.named_parameters()}
        return AdamGroup(params, self.config.lr, self.config.adam_eps, None)

    def modules(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "actor": self.actor, "critic": self.critic}

    def targets(self) -> dict[str, nn.Module]:
        return {"critic_target": self.critic_target}

    @property
    def policy_parts(self) -> nn.ModuleDict:
        return nn.ModuleDict({"encoder": self.encoder, "actor": self.actor})

    def reset_targets(self) -> None:
        copy_weights(self.critic_target, self.critic)

    # Learning

    def streams(self) -> dict[str, StreamSpec]:
        context = window_length(self.config.stack, self.config.num_steps) - 1
        return {STREAM: StreamSpec(self.context.batch_size, 1, context)}

    def update(
        self, batches: Mapping[str, Mapping[str, Tensor]], counters: Counters
    ) -> tuple[Metrics, Feedback]:
        data, device = batches[STREAM], self.context.device
        batch_size = len(data["reward"])
        std = torch.full((), self.noise_std(counters.env_steps), device=device)
        shift_2IB2 = self._shifts(2, batch_size)
        noise_2BA = self._noise((2, batch_size), self.learn_generator)

        # Critic and encoder
        loss, embed_BE, weight_B, metrics = self.critic_loss(data, shift_2IB2, noise_2BA[0], std)
        metrics["grad_norm/critic"] = self.optimizers["critic"].step(loss)

        # Actor
        loss, more = self.actor_loss(embed_BE, weight_B, noise_2BA[1], std)
        metrics["grad_norm/actor"] = self.optimizers["actor"].step(loss)

        # Target
        with torch.no_grad():
            pairs = zip(self.critic_target.parameters(), self.critic.parameters(), strict=True)
            for slow, fast in pairs:
                slow.lerp_(fast, self.config.target_fraction)
        return metrics | more | {"noise/std": std}, {}

    def critic_loss(
        self, data: Mapping[str, Tensor], shift_2IB2: Tensor, noise_BA: Tensor, std: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Metrics]:
        """Return the loss of critics and encoder, the embedded states without a gradient, which
        of them count, and metrics.
        """
        config = self.config
        steps = transitions(data, config.stack, config.num_steps, config.gamma)
        with self._autocast():
            with torch.no_grad():
                next_BE = self.encoder(data, steps.next_rows_BS, shift_2IB2[1])
                action_BA = self._explore(self.actor(next_BE), noise_BA, std)
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
        with self._autocast():
            mean_BA = self.actor(embed_BE)
            with torch.no_grad():
                features_BF = self.critic.trunk(embed_BE)
            action_BA = self._explore(mean_BA, noise_BA, std)
            value_B = self.critic.values(features_BF, action_BA).amin(0)
        loss = -weighted_mean(value_B, weight_B)
        metrics = {"loss/actor": loss.detach(), "action/abs": mean_BA.detach().abs().mean()}
        return loss, metrics

    def _explore(self, mean_BA: Tensor, noise_BA: Tensor, std: Tensor) -> Tensor:
        """Add clipped noise; an action beyond the bounds keeps its gradient."""
        clip = self.config.noise_clip
        action_BA = mean_BA + (noise_BA * std).clamp(-clip, clip)
        inside_BA = action_BA.detach().clamp(-LARGEST_ACTION, LARGEST_ACTION)
        return straight_through(inside_BA, action_BA)

    def noise_std(self, env_steps: int) -> float:
        """Standard deviation of the noise after so many env steps, falling linearly."""
        config = self.config
        mix = min(env_steps / max(config.noise_steps, 1), 1.0)
        return (1 - mix) * config.noise_start + mix * config.noise_end

    def _shifts(self, *shape: int) -> Tensor:
        shape = (shape[0], len(self.keys.images), *shape[1:], 2)
        generator = self.learn_generator
        return torch.randint(2 * PAD + 1, shape, generator=generator, device=generator.device)

    def _noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        shape = (*shape, self.spaces.action.width)
        return torch.randn(shape, generator=generator, device=generator.device)

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
        if mode not in get_args(Mode):
            raise ValueError(f"act: wanted a mode of {get_args(Mode)}, got {mode!r}")
        is_first_B = self._to_device(obs["is_first"])
        stacks = {
            key: push(stack, self._to_device(obs[key]), is_first_B) for key, stack in carry.items()
        }
        count, stack = len(is_first_B), self.config.stack
        rows_BS = torch.arange(stack, device=is_first_B.device).expand(count, -1)
        still_IB2 = unshifted(count, is_first_B.device).expand(len(self.keys.images), -1, -1)
        with self._autocast():
            action_BA = self.actor(self.encoder(stacks, rows_BS, still_IB2))
        if mode != "mode":
            train = mode == "train"
            std = self.noise_std(counters.env_steps) if train else self.config.noise_end
            action_BA = action_BA + std * self._noise((count,), self.act_generator)
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


def _to_video(stacks: Tensor, count: int) -> Array:
    """Turn stacks uint8 [B, H, W, count * C] into frames [count, H, B W, 3]."""
    frames = stacks.unflatten(-1, (count, -1)).movedim(3, 0)
    channels = [min(c, frames.shape[-1] - 1) for c in range(3)]
    return np.concatenate(list(frames[..., channels].movedim(1, 0).cpu().numpy()), axis=2)
