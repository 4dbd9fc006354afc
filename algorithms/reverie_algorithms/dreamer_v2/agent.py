"""DreamerV2, with HarmonyDream's balanced losses as an option.

DreamerV2: arXiv:2010.02193. HarmonyDream: arXiv:2310.00344.

Shape legend: B batch, T time, N = B * T imagined rollouts, S stoch variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from reverie.protocols import Feedback, Metrics, StreamSpec
from reverie.types import Counters
from reverie_algorithms.common.dists import ActionDist, OneHotActions
from reverie_algorithms.common.optim import Adam, AdamGroup
from reverie_algorithms.common.saved_agent import named_size
from reverie_algorithms.dreamer.agent import STREAM, Dreamer
from reverie_algorithms.dreamer.elu_behavior import ActorV2, BehaviorV2, DreamV2
from reverie_algorithms.dreamer.elu_images import DecoderV2, EncoderV2, RawObsKeys
from reverie_algorithms.dreamer.elu_rssm import RSSMV2
from reverie_algorithms.dreamer.harmony import V2_GROUPS
from reverie_algorithms.dreamer.imagination import Noise
from reverie_algorithms.dreamer.resnet import follow_batch
from reverie_algorithms.dreamer.truncated_normal import TruncatedNormal
from reverie_algorithms.dreamer_v2.config import SIZES_V2, DreamerV2Config
from reverie_algorithms.dreamer_v2.world_model import WorldModelV2
from reverie_algorithms.dreamer_v3_2023.rssm import LatentState


class DreamerV2(Dreamer):
    """Learns a world model and, inside it, an actor and a critic, from windows of episodes."""

    Config = DreamerV2Config
    COMPILABLE = ("world_model_loss", "dream", "behavior_losses")
    keys_type, encoder_type, rssm_type = RawObsKeys, EncoderV2, RSSMV2
    harmony_groups = V2_GROUPS
    config: DreamerV2Config

    @classmethod
    def config_defaults(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        return named_size(raw, SIZES_V2, "1024").defaults()

    # Building

    def _make_actions(self) -> ActionDist:
        spec = self.spaces.action
        if spec.kind == "box":
            return TruncatedNormal(spec, self.config.actor_min_std)
        return OneHotActions(spec, 0.0)

    def _make_actor(self) -> ActorV2:
        rssm = self.rssm
        return ActorV2(rssm.feat_size, self.config.heads, self.actions)

    def _make_world_model(self) -> WorldModelV2:
        config = self.config
        decoder = DecoderV2(self.keys, self.rssm.feat_size, config.decoder)
        heads = config.heads, config.discount_head, config.kl
        return WorldModelV2(self.encoder, self.rssm, decoder, *heads)

    def _make_behavior(self) -> BehaviorV2:
        return BehaviorV2(self.actor, self.rssm, self.config)

    def _loss_names(self) -> list[str]:
        discount = ["discount"] * self.config.discount_head
        return [*super()._loss_names(), *discount, "reward", "kl"]

    def _make_optimizers(self) -> None:
        config, reduce = self.config, self.context.all_reduce
        harmony, own_group = self._harmony_params()
        model = dict(self.world_model.named_parameters()) | harmony
        groups = [self._adam_group(model, config.world_model_lr)]
        if own_group:
            groups.append(AdamGroup(own_group, config.harmony.lr, config.adam_eps, None))
        actor = self._adam_group(dict(self.actor.named_parameters()), config.actor_lr)
        critic = dict(self.behavior.critic.named_parameters())
        self.optimizers = {
            "model": Adam(groups, reduce),
            "actor": Adam([actor], reduce),
            "critic": Adam([self._adam_group(critic, config.critic_lr)], reduce),
        }

    def _adam_group(self, params: Mapping[str, nn.Parameter], lr: float) -> AdamGroup:
        config = self.config
        return AdamGroup(params, lr, config.adam_eps, config.clip, config.weight_decay)

    def modules(self) -> dict[str, nn.Module]:
        model = self.world_model
        discount = {} if model.discount is None else {"discount": model.discount}
        return {
            "encoder": self.encoder,
            "rssm": self.rssm,
            "decoder": model.decoder,
            "reward": model.reward,
            **discount,
            "actor": self.actor,
            "critic": self.behavior.critic,
            "harmony": self.harmony,
        }

    def targets(self) -> dict[str, nn.Module]:
        return {"target_critic": self.behavior.target_critic}

    def reset_targets(self) -> None:
        self.behavior.target_critic.reset(self.behavior.critic)

    # Learning

    def streams(self) -> dict[str, StreamSpec]:
        size, length = self.context.batch_size, self.context.batch_length
        ends = self.config.prioritize_ends
        return {STREAM: StreamSpec(size, length, sampler="episodes", prioritize_ends=ends)}

    def prepare(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        data = super().prepare(batch)
        if self.config.reward_transform == "tanh":
            data["reward"] = torch.tanh(data["reward"])
        return data | {"discount": self.config.gamma * data["cont"]}

    def update(
        self, batches: Mapping[str, Mapping[str, Tensor]], counters: Counters
    ) -> tuple[Metrics, Feedback]:
        data = self.prepare(batches[STREAM])

        # World model; batch norms use their batch here and nowhere else
        self.world_model.train()
        uniform_BTS = self._uniform(*data["reward"].shape)
        loss, states, metrics = self.world_model_loss(data, uniform_BTS)
        self.world_model.eval()
        metrics["grad_norm/model"] = self.optimizers["model"].step(loss)
        follow_batch(self.world_model, self.context.all_reduce)

        # Imagination
        start, first_cont = states.detach().flatten(), data["cont"].flatten()
        dream = self.dream(start, first_cont, self._imagination_noise(len(first_cont)))

        # Actor and critic
        policy_loss, value_loss, more = self.behavior_losses(dream)
        actor_norm = self.optimizers["actor"].step(policy_loss)
        critic_norm = self.optimizers["critic"].step(value_loss)
        self.behavior.target_critic.update(self.behavior.critic)
        metrics |= more | {"grad_norm/actor": actor_norm, "grad_norm/critic": critic_norm}
        return metrics, {}

    def world_model_loss(
        self, data: Mapping[str, Tensor], uniform_BTS: Tensor
    ) -> tuple[Tensor, LatentState, Metrics]:
        """Return the balanced loss, the posterior states and metrics."""
        with self._autocast():
            losses, states, metrics = self.world_model.losses(data, uniform_BTS)
        total, weights = self.harmony(losses)
        metrics |= weights | {f"loss/{name}": loss.detach() for name, loss in losses.items()}
        metrics["loss/model"] = total.detach()
        return total, states, metrics

    def dream(self, start: LatentState, first_cont_N: Tensor, noise: Noise) -> DreamV2:
        """Imagine from every posterior state."""
        with self._autocast():
            return self.behavior.dream(self.world_model, start, first_cont_N, noise)

    def behavior_losses(self, dream: DreamV2) -> tuple[Tensor, Tensor, Metrics]:
        """Return the actor's loss, the critic's loss and metrics."""
        with self._autocast():
            return self.behavior.losses(dream)
