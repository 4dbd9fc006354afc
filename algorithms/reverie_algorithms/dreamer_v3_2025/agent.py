"""DreamerV3 as its code stands since 2025, with HarmonyDream's balanced losses as an option.

DreamerV3: doi:10.1038/s41586-025-08744-2 and danijar/dreamerv3@e3f0224.
HarmonyDream: arXiv:2310.00344.

Shape legend: B batch, T time, N = B * T imagined rollouts, S stoch variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from reverie.protocols import Feedback, Metrics, StreamSpec
from reverie.types import STEP_ID, Counters
from reverie_algorithms.common.dists import ActionDist, OneHotActions, ReinforcedNormal, one_hot
from reverie_algorithms.common.saved_agent import named_size
from reverie_algorithms.dreamer.agent import STREAM, AnyDreamerV3
from reverie_algorithms.dreamer.imagination import Noise
from reverie_algorithms.dreamer_v3_2023.rssm import LatentState
from reverie_algorithms.dreamer_v3_2025.behavior import ReplayBehavior, ReplayDream
from reverie_algorithms.dreamer_v3_2025.config import GROUPS, SIZES_2025, DreamerV32025Config
from reverie_algorithms.dreamer_v3_2025.heads import RMSActor
from reverie_algorithms.dreamer_v3_2025.images import RMSDecoder, RMSEncoder
from reverie_algorithms.dreamer_v3_2025.laprop import LaProp, LaPropGroup
from reverie_algorithms.dreamer_v3_2025.nets import check_blocks
from reverie_algorithms.dreamer_v3_2025.rssm import BlockRSSM
from reverie_algorithms.dreamer_v3_2025.world_model import RMSWorldModel

CONTEXT = 1
"""Rows before a window whose stored latents it starts from."""


class DreamerV32025(AnyDreamerV3):
    """Learns a world model and, inside it, an actor and a critic, with one optimizer.

    Windows go on from the latent states that earlier updates inferred for them and stored in
    the replay.
    """

    Config = DreamerV32025Config
    COMPILABLE = ("world_model_losses", "dream", "total_loss")
    encoder_type, rssm_type = RMSEncoder, BlockRSSM
    harmony_groups = GROUPS
    config: DreamerV32025Config

    @classmethod
    def config_defaults(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        defaults = named_size(raw, SIZES_2025, "12m").defaults()
        latent = {"blocks": 8, **defaults["rssm"], **raw.get("rssm", {})}
        check_blocks("rssm.deter", latent["deter"], latent["blocks"])
        return defaults

    # Building

    def _make_actions(self) -> ActionDist:
        config, spec = self.config, self.spaces.action
        if spec.kind == "box":
            return ReinforcedNormal(spec, config.actor_min_std, config.actor_max_std)
        return OneHotActions(spec, config.actor_unimix)

    def _make_actor(self) -> RMSActor:
        heads = self.config.heads
        net = self.rssm.feat_size, heads.behavior_layers, heads.units
        return RMSActor(*net, self.actions)

    def _make_world_model(self) -> RMSWorldModel:
        config, latent = self.config, self.config.rssm
        sizes = latent.deter, latent.stoch * latent.classes
        decoder = RMSDecoder(self.keys, sizes, config.decoder, latent.blocks)
        parts = self.encoder, self.rssm, decoder
        return RMSWorldModel(*parts, config.heads, config.free_nats)

    def _make_behavior(self) -> ReplayBehavior:
        return ReplayBehavior(self.actor, self.rssm.feat_size, self.config)

    def _loss_names(self) -> list[str]:
        behavior = "actor", "critic", "replay_critic"
        return [*super()._loss_names(), "reward", "cont", "dyn", "rep", *behavior]

    def _make_optimizers(self) -> None:
        config = self.config
        harmony, own_group = self._harmony_params()
        params = {
            **dict(self.world_model.named_parameters()),
            **{f"actor.{name}": p for name, p in self.actor.named_parameters()},
            **{f"critic.{name}": p for name, p in self.behavior.critic.named_parameters()},
            **harmony,
        }
        groups = [LaPropGroup(params, config.lr, config.clip, config.warmup)]
        if own_group:
            groups.append(LaPropGroup(own_group, config.harmony.lr, None, 0))
        self.optimizers = {"all": LaProp(groups, self.context.all_reduce)}

    # Learning

    def streams(self) -> dict[str, StreamSpec]:
        return {STREAM: StreamSpec(self.context.batch_size, self.context.batch_length, CONTEXT)}

    def update(
        self, batches: Mapping[str, Mapping[str, Tensor]], counters: Counters
    ) -> tuple[Metrics, Feedback]:
        batch = batches[STREAM]
        data, start = self.prepare(batch), self.stored_state(batch)
        shape = data["reward"].shape

        # World model
        losses, states, metrics = self.world_model_losses(data, start, self._uniform(*shape))

        # Imagination
        noise = self._imagination_noise(shape[0] * shape[1])
        dream = self.dream(states.detach().flatten(), noise)
        self.behavior.return_normalizer.update(dream.ret, self.context.all_reduce)

        # Everything learns
        scale = self.behavior.return_normalizer.scale()
        loss, more = self.total_loss(losses, dream, states, data, scale)
        metrics |= more | {"grad_norm/all": self.optimizers["all"].step(loss)}
        self.behavior.slow_critic.update(self.behavior.critic)
        return metrics, self._feedback(batch, states)

    def prepare(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Turn a batch [B, 1 + T, ...] into what the model reads, [B, T, ...].

        The context row only gives the first `prev_action`, the action that led to each row. A
        window may start anywhere in an episode.
        """
        rows = {key: value[:, CONTEXT:] for key, value in batch.items()}
        action = self.actions.encode(batch["action"][:, CONTEXT - 1 : -1])
        going_on = (~rows["is_terminal"]).float()
        return {
            **{key: rows[key] for key in (*self.keys.names, "is_first", "is_last", "is_terminal")},
            "prev_action": action * ~rows["is_first"].unsqueeze(-1),
            "reward": rows["reward"].float(),
            "cont": going_on * (self.config.gamma if self.config.discounted_cont else 1.0),
        }

    def stored_state(self, batch: Mapping[str, Tensor]) -> LatentState:
        """The latent state [B, ...] of the context row; zeros where none was stored yet."""
        if "side/valid" not in batch:
            return self.rssm.initial(len(batch["is_first"]))
        valid_B1 = batch["side/valid"][:, CONTEXT - 1].unsqueeze(-1)
        deter_BD = batch["side/deter"][:, CONTEXT - 1].float() * valid_B1
        index_BS = batch["side/stoch"][:, CONTEXT - 1].long()
        stoch_BSK = one_hot(index_BS, self.config.rssm.classes) * valid_B1.unsqueeze(-1)
        return LatentState(deter_BD, stoch_BSK)

    def _feedback(self, batch: Mapping[str, Tensor], states: LatentState) -> Feedback:
        """The new latents by step id; deter lies within [-1, 1], so that float16 does."""
        return {
            STEP_ID: batch[STEP_ID][:, CONTEXT:],
            "deter": states.deter.detach().half(),
            "stoch": states.stoch.detach().argmax(-1).to(torch.uint8),
        }

    def world_model_losses(
        self, data: Mapping[str, Tensor], start: LatentState, uniform_BTS: Tensor
    ) -> tuple[dict[str, Tensor], LatentState, Metrics]:
        """Return the world model's scalar losses, the posterior states and metrics."""
        with self._autocast():
            losses, states, metrics = self.world_model.losses(data, start, uniform_BTS)
        return {name: loss.mean() for name, loss in losses.items()}, states, metrics

    def dream(self, start: LatentState, noise: Noise) -> ReplayDream:
        """Imagine from every posterior state."""
        with self._autocast():
            return self.behavior.dream(self.world_model, start, noise)

    def total_loss(
        self,
        model_losses: Mapping[str, Tensor],
        dream: ReplayDream,
        states: LatentState,
        data: Mapping[str, Tensor],
        scale: Tensor,
    ) -> tuple[Tensor, Metrics]:
        """Return the balanced sum of all losses, and metrics."""
        with self._autocast():
            behavior_losses, metrics = self.behavior.losses(dream, states, data, scale)
        losses = {**model_losses, **behavior_losses}
        total, weights = self.harmony(losses)
        metrics |= weights | {f"loss/{name}": loss.detach() for name, loss in losses.items()}
        return total, metrics | {"loss/total": total.detach()}
