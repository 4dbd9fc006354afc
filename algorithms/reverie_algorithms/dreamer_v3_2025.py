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

from reverie.protocols import Carry, Feedback, Metrics, Mode, StreamSpec
from reverie.types import STEP_ID, Array, Counters, Rows
from reverie_algorithms.actor_critic import Noise
from reverie_algorithms.block_rssm import BlockRSSM
from reverie_algorithms.dists import ActionDist, OneHotActions, ReinforcedNormal, one_hot
from reverie_algorithms.dreamer import STREAM, AnyDreamerV3
from reverie_algorithms.dreamer_v3_2025_config import GROUPS, SIZES_2025, DreamerV32025Config
from reverie_algorithms.harmony import Harmonizer
from reverie_algorithms.laprop import LaProp, LaPropGroup
from reverie_algorithms.replay_behavior import ReplayBehavior, ReplayDream
from reverie_algorithms.rms_heads import RMSActor
from reverie_algorithms.rms_nets import check_blocks
from reverie_algorithms.rms_observations import RMSDecoder, RMSEncoder
from reverie_algorithms.rms_world_model import RMSWorldModel
from reverie_algorithms.rssm import LatentState
from reverie_algorithms.states import seeded

CONTEXT = 1
"""Rows before a window whose stored latents it starts from."""


class DreamerV32025(AnyDreamerV3):
    """Learns a world model and, inside it, an actor and a critic, with one optimizer.

    Windows go on from the latent states that earlier updates inferred for them and stored in
    the replay.
    """

    Config = DreamerV32025Config
    COMPILABLE = ("world_model_losses", "dream", "total_loss")
    config: DreamerV32025Config

    @classmethod
    def config_defaults(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        size = raw.get("size", "12m")
        if size not in SIZES_2025:
            raise ValueError(f"algorithm.size: wanted one of {[*SIZES_2025]}, got {size!r}")
        defaults = SIZES_2025[size].defaults()
        latent = {"blocks": 8, **defaults["rssm"], **raw.get("rssm", {})}
        check_blocks("rssm.deter", latent["deter"], latent["blocks"])
        return defaults

    # Building

    def _make_actions(self) -> ActionDist:
        config, spec = self.config, self.spaces.action
        if spec.kind == "box":
            return ReinforcedNormal(spec, config.actor_min_std, config.actor_max_std)
        return OneHotActions(spec, config.actor_unimix)

    def _make_policy(self) -> None:
        config, device = self.config, self.context.device
        with seeded(self.context.seed, "encoder"):
            self.encoder = RMSEncoder(self.keys, config.encoder).to(device)
        with seeded(self.context.seed, "rssm"):
            width = self.spaces.action.flat_size
            self.rssm = BlockRSSM(config.rssm, self.encoder.size, width).to(device)
        with seeded(self.context.seed, "actor"):
            net = self.rssm.feat_size, config.heads.behavior_layers, config.heads.units
            self.actor = RMSActor(*net, self.actions).to(device)

    def _make_learning_parts(self) -> None:
        config, device, rssm = self.config, self.context.device, self.rssm
        with seeded(self.context.seed, "world_model"):
            sizes = config.rssm.deter, config.rssm.stoch * config.rssm.classes
            decoder = RMSDecoder(self.keys, sizes, config.decoder, config.rssm.blocks)
            parts = self.encoder, rssm, decoder
            self.world_model = RMSWorldModel(*parts, config.heads, config.free_nats).to(device)
        with seeded(self.context.seed, "behavior"):
            self.behavior = ReplayBehavior(self.actor, rssm.feat_size, config).to(device)
        self.harmony = Harmonizer(config.harmony, self._loss_weights(), GROUPS).to(device)
        self.learned = {
            "world_model": self.world_model,
            "behavior": self.behavior,
            "harmony": self.harmony,
        }

    def _loss_weights(self) -> dict[str, float]:
        scales = self.config.loss_scales
        names = ["image"] * bool(self.keys.images) + ["vector"] * bool(self.keys.vectors)
        names += ["reward", "cont", "dyn", "rep", "actor", "critic", "replay_critic"]
        return {name: getattr(scales, name) for name in names}

    def _make_optimizers(self) -> None:
        config = self.config
        harmony = {f"harmony/{k}": p for k, p in self.harmony.trained.items()}
        own_group = config.harmony.mode == "own_group"
        params = {
            **dict(self.world_model.named_parameters()),
            **{f"actor.{name}": p for name, p in self.actor.named_parameters()},
            **{f"critic.{name}": p for name, p in self.behavior.critic.named_parameters()},
            **({} if own_group else harmony),
        }
        groups = [LaPropGroup(params, config.lr, config.clip, config.warmup)]
        if own_group:
            groups.append(LaPropGroup(harmony, config.harmony.lr, None, 0))
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

    # Acting

    def act(self, obs: Rows, carry: Carry, mode: Mode, counters: Counters) -> tuple[Array, Carry]:
        with self._autocast():
            return super().act(obs, carry, mode, counters)
