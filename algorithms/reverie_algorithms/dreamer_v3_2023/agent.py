"""DreamerV3 as published in 2023, with HarmonyDream's balanced losses as an option.

DreamerV3: arXiv:2301.04104v1. HarmonyDream: arXiv:2310.00344.

Shape legend: B batch, T time, N = B * T imagined rollouts, S stoch variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from reverie.protocols import Feedback, Metrics
from reverie.types import Counters
from reverie_algorithms.common.dists import ActionDist, make_action_dist
from reverie_algorithms.common.observations import Decoder, Encoder
from reverie_algorithms.common.optim import Adam, AdamGroup
from reverie_algorithms.common.saved_agent import named_size
from reverie_algorithms.dreamer.agent import STREAM, AnyDreamerV3
from reverie_algorithms.dreamer.imagination import Actor, Noise
from reverie_algorithms.dreamer_v3_2023.behavior import Behavior, Dream
from reverie_algorithms.dreamer_v3_2023.config import SIZES, DreamerV3Config
from reverie_algorithms.dreamer_v3_2023.rssm import RSSM, LatentState
from reverie_algorithms.dreamer_v3_2023.world_model import WorldModel


class DreamerV3(AnyDreamerV3):
    """Learns a world model and, inside it, an actor and a critic; dialect of 2023."""

    Config = DreamerV3Config
    COMPILABLE = ("world_model_loss", "dream", "behavior_losses")
    encoder_type, rssm_type = Encoder, RSSM
    config: DreamerV3Config

    @classmethod
    def config_defaults(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        return named_size(raw, SIZES, "small").defaults()

    # Building

    def _make_actions(self) -> ActionDist:
        config = self.config
        bounds = config.actor_min_std, config.actor_max_std
        return make_action_dist(self.spaces.action, config.actor_unimix, *bounds)

    def _make_actor(self) -> Actor:
        rssm = self.rssm
        return Actor(rssm.feat_size, self.config.heads, self.actions, rssm.one_hots)

    def _make_world_model(self) -> WorldModel:
        config = self.config
        decoder = Decoder(self.keys, self.rssm.feat_size, config.decoder)
        heads = config.heads, config.grad_heads, config.free_nats
        return WorldModel(self.encoder, self.rssm, decoder, *heads)

    def _make_behavior(self) -> Behavior:
        return Behavior(self.actor, self.rssm, self.config)

    def _loss_names(self) -> list[str]:
        return [*super()._loss_names(), "reward", "cont", "dyn", "rep"]

    def _make_optimizers(self) -> None:
        config, reduce = self.config, self.context.all_reduce
        harmony, own_group = self._harmony_params()
        model = dict(self.world_model.named_parameters()) | harmony
        groups = [
            AdamGroup(model, config.world_model_lr, config.world_model_eps, config.world_model_clip)
        ]
        if own_group:
            groups.append(AdamGroup(own_group, config.harmony.lr, config.world_model_eps, None))
        actor = dict(self.actor.named_parameters())
        actor_group = AdamGroup(actor, config.actor_lr, config.actor_eps, config.actor_clip)
        critic = dict(self.behavior.critic.named_parameters())
        critic_group = AdamGroup(critic, config.critic_lr, config.critic_eps, config.critic_clip)
        self.optimizers = {
            "model": Adam(groups, reduce),
            "actor": Adam([actor_group], reduce),
            "critic": Adam([critic_group], reduce),
        }

    # Learning

    def update(
        self, batches: Mapping[str, Mapping[str, Tensor]], counters: Counters
    ) -> tuple[Metrics, Feedback]:
        data = self.prepare(batches[STREAM])
        shape = data["reward"].shape

        # World model
        loss, states, metrics = self.world_model_loss(data, self._uniform(*shape))
        metrics["grad_norm/model"] = self.optimizers["model"].step(loss)

        # Imagination
        start, first_cont = states.detach().flatten(), data["cont"].flatten()
        dream = self.dream(start, first_cont, self._imagination_noise(len(first_cont)))
        self.behavior.return_normalizer.update(dream.ret, self.context.all_reduce)

        # Actor and critic
        scale = self.behavior.return_normalizer.scale()
        policy_loss, value_loss, more = self.behavior_losses(dream, scale)
        actor_norm = self.optimizers["actor"].step(policy_loss, retain_graph=True)
        critic_norm = self.optimizers["critic"].step(value_loss)
        self.behavior.slow_critic.update(self.behavior.critic)
        metrics |= more | {"grad_norm/actor": actor_norm, "grad_norm/critic": critic_norm}
        return metrics, {}

    def world_model_loss(
        self, data: Mapping[str, Tensor], uniform_BTS: Tensor
    ) -> tuple[Tensor, LatentState, Metrics]:
        """Return the balanced loss, the posterior states and metrics."""
        with self._autocast():
            losses, states, metrics = self.world_model.losses(data, uniform_BTS)
        means = {name: loss.mean() for name, loss in losses.items()}
        total, weights = self.harmony(means)
        metrics |= weights | {f"loss/{name}": mean.detach() for name, mean in means.items()}
        metrics["loss/model"] = total.detach()
        return total, states, metrics

    def dream(self, start: LatentState, first_cont_N: Tensor, noise: Noise) -> Dream:
        """Imagine from every posterior state."""
        with self._autocast():
            return self.behavior.dream(self.world_model, start, first_cont_N, noise)

    def behavior_losses(self, dream: Dream, scale: Tensor) -> tuple[Tensor, Tensor, Metrics]:
        """Return the actor's loss, the critic's loss and metrics."""
        with self._autocast():
            return self.behavior.losses(dream, scale)
