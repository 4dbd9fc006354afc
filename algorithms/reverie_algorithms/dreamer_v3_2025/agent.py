"""DreamerV3 as its code stands since 2025, with HarmonyDream's balanced losses as an option.

DreamerV3: doi:10.1038/s41586-025-08744-2 and danijar/dreamerv3@e3f0224.
HarmonyDream: arXiv:2310.00344.

Shape legend: B batch, T time, H horizon, N = B * T imagined rollouts, S stoch variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from reverie.protocols import AgentContext, Carry, Feedback, Metrics, StreamSpec
from reverie.types import STEP_ID, Counters, Rows, Spaces
from reverie_algorithms.common.dists import OneHotActions, ReinforcedNormal, one_hot
from reverie_algorithms.common.observations import ObsKeys
from reverie_algorithms.common.saved_agent import named_size
from reverie_algorithms.dreamer.agent import STREAM, Dreamer
from reverie_algorithms.dreamer.harmony import HARMONY_VARIANT, Harmonizer
from reverie_algorithms.dreamer.imagination import Noise
from reverie_algorithms.dreamer.latent import LatentState
from reverie_algorithms.dreamer_v3_2025.behavior import Actor, Behavior, Dream
from reverie_algorithms.dreamer_v3_2025.config import GROUPS, SIZES, DreamerV32025Config
from reverie_algorithms.dreamer_v3_2025.images import Decoder, Encoder
from reverie_algorithms.dreamer_v3_2025.laprop import LaProp, LaPropGroup
from reverie_algorithms.dreamer_v3_2025.rssm import BlockRSSM
from reverie_algorithms.dreamer_v3_2025.world_model import WorldModel

CONTEXT = 1
"""Rows before a window whose stored latents it starts from."""


class DreamerV32025(Dreamer[DreamerV32025Config, WorldModel]):
    """DreamerV3 of 2025: learns a world model, an actor and a critic with one optimizer.

    Windows go on from the latent states that are stored in the replay: those of acting, and later
    those that the last update inferred.
    """

    Config = DreamerV32025Config
    PAPER = "doi:10.1038/s41586-025-08744-2 (arXiv:2301.04104v2)"
    SIZES, VARIANTS = SIZES, HARMONY_VARIANT
    COMPILABLE = ("world_model_losses", "dream", "total_loss")

    def __init__(self, config: DreamerV32025Config, spaces: Spaces, context: AgentContext) -> None:
        super().__init__(config, spaces, context)
        if self.batch_length < 2:
            raise ValueError(
                f"{'algorithm' if config.batch_length else 'learner'}.batch_length: the critic's "
                "returns of real steps need a step and the next, expected 2 or more, got 1"
            )
        device, num_actions = context.device, spaces.action.flat_size
        self.keys = ObsKeys.select(spaces.obs)
        if spaces.action.kind == "box":
            low, high = config.actor_min_std, config.actor_max_std
            self.actions = ReinforcedNormal(spaces.action, min_std=low, max_std=high)
        else:
            self.actions = OneHotActions(spaces.action, config.actor_unimix)

        # What acts
        with self._seeded("encoder"):
            self.encoder = Encoder(self.keys, config.encoder).to(device)
        with self._seeded("rssm"):
            self.rssm = BlockRSSM(config.rssm, self.encoder.size, num_actions).to(device)
        with self._seeded("actor"):
            self.actor = Actor(self.rssm.feat_size, config.heads, self.actions).to(device)
        self._acts_with(encoder=self.encoder, rssm=self.rssm, actor=self.actor)
        if not context.training:
            return

        # World model
        with self._seeded("world_model"):
            decoder = Decoder(self.keys, config.decoder, config.rssm)
            self.world_model = WorldModel(
                encoder=self.encoder,
                rssm=self.rssm,
                decoder=decoder,
                heads=config.heads,
                free_nats=config.free_nats,
            ).to(device)

        # Actor and critic
        with self._seeded("behavior"):
            self.behavior = Behavior(self.actor, self.rssm.feat_size, config).to(device)

        # How losses are balanced
        model_losses = *self.keys.kinds, "reward", "cont", "dyn", "rep"
        names = *model_losses, "actor", "critic", "replay_critic"
        scales = {name: getattr(config.loss_scales, name) for name in names}
        self.harmony = Harmonizer(config.harmony, scales, GROUPS).to(device)

        # One optimizer for everything
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
        self._learns(
            modules={
                "encoder": self.encoder,
                "rssm": self.rssm,
                "decoder": decoder,
                "reward": self.world_model.reward,
                "cont": self.world_model.cont,
                "actor": self.actor,
                "critic": self.behavior.critic,
                "harmony": self.harmony,
            },
            targets={"slow_critic": (self.behavior.slow_critic, self.behavior.critic)},
            roots={
                "world_model": self.world_model,
                "behavior": self.behavior,
                "harmony": self.harmony,
            },
            optimizers={"all": LaProp(groups, context.group)},
        )

    @classmethod
    def config_defaults(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        return named_size(raw, SIZES, "12m").defaults()

    # Learning

    def streams(self) -> dict[str, StreamSpec]:
        return {STREAM: StreamSpec(self.batch_size, self.batch_length, CONTEXT)}

    def update(
        self, batches: Mapping[str, Mapping[str, Tensor]], counters: Counters
    ) -> tuple[Metrics, Feedback]:
        batch, generator = batches[STREAM], self.learn_generator
        data, start = self.prepare(batch), self.stored_state(batch)
        shape_BT = data["reward"].shape

        # World model
        uniform_BTS = self.rssm.noise(shape_BT, generator)
        losses, states, metrics = self.world_model_losses(data, start, uniform_BTS)

        # Imagination
        shape_HN = self.config.horizon, shape_BT.numel()
        action_noise = self.actions.noise(shape_HN, generator)
        noise = Noise(action_noise, self.rssm.noise(shape_HN, generator))
        dream = self.dream(states.detach().flatten(), noise)
        self.behavior.return_normalizer.update(dream.ret, self.context.group)

        # Everything learns
        scale = self.behavior.return_normalizer.scale()
        loss, more = self.total_loss(losses, dream, states, data, scale)
        metrics |= more | {"grad_norm/all": self.optimizers["all"].step(loss)}
        self.behavior.slow_critic.update(self.behavior.critic)
        return metrics, self._feedback(batch, states)

    def prepare(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Turn a batch [B, 1 + T, ...] into what the model reads, [B, T, ...].

        Of the context row it takes the first `prev_action`, the action that led to each row
        (`stored_state` takes the latents). A window may start anywhere in an episode.
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
        """The latent state [B, ...] of the context row; zeros where none was stored: behind last
        rows, which are forgotten anyway, and rows whose action was random.
        """
        if "side/valid" not in batch:
            return self.rssm.initial(len(batch["is_first"]))
        valid_B1 = batch["side/valid"][:, CONTEXT - 1].unsqueeze(-1)
        deter_BD = batch["side/deter"][:, CONTEXT - 1].float() * valid_B1
        index_BS = batch["side/stoch"][:, CONTEXT - 1].long()
        stoch_BSK = one_hot(index_BS, self.config.rssm.classes) * valid_B1.unsqueeze(-1)
        return LatentState(deter_BD, stoch_BSK)

    def side_of(self, carry: Carry) -> Rows:
        """The latents of acting, as `_feedback` stores those of updates."""
        return {key: value.cpu().numpy() for key, value in _stored(self.rssm.state(carry)).items()}

    def _feedback(self, batch: Mapping[str, Tensor], states: LatentState) -> Feedback:
        """The new latents by step id."""
        return {STEP_ID: batch[STEP_ID][:, CONTEXT:], **_stored(states)}

    def world_model_losses(
        self, data: Mapping[str, Tensor], start: LatentState, uniform_BTS: Tensor
    ) -> tuple[dict[str, Tensor], LatentState, Metrics]:
        """Return the world model's scalar losses, the posterior states and metrics."""
        with self.autocast():
            losses, states, metrics = self.world_model.losses(data, start, uniform_BTS)
        return {name: loss.mean() for name, loss in losses.items()}, states, metrics

    def dream(self, start: LatentState, noise: Noise) -> Dream:
        """Imagine from every posterior state."""
        with self.autocast():
            return self.behavior.dream(self.world_model, start, noise)

    def total_loss(
        self,
        model_losses: Mapping[str, Tensor],
        dream: Dream,
        states: LatentState,
        data: Mapping[str, Tensor],
        scale: Tensor,
    ) -> tuple[Tensor, Metrics]:
        """Return the balanced sum of all losses, and metrics."""
        with self.autocast():
            behavior_losses, metrics = self.behavior.losses(dream, states, data, scale)
        losses = {**model_losses, **behavior_losses}
        total, weights = self.harmony(losses)
        metrics |= weights | {f"loss/{name}": loss.detach() for name, loss in losses.items()}
        return total, metrics | {"loss/total": total.detach()}


def _stored(states: LatentState) -> dict[str, Tensor]:
    """Latents as the replay keeps them; deter lies within [-1, 1], so that float16 does."""
    return {
        "deter": states.deter.detach().half(),
        "stoch": states.stoch.detach().argmax(-1).to(torch.uint8),
    }
