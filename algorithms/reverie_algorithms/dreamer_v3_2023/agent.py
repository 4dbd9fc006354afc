"""DreamerV3 as published in 2023, with HarmonyDream's balanced losses as an option.

DreamerV3: arXiv:2301.04104v1. HarmonyDream: arXiv:2310.00344.

Shape legend: B batch, T time, H horizon, N = B * T imagined rollouts, S stoch variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from reverie.protocols import AgentContext, Feedback, Metrics
from reverie.types import Counters, Spaces
from reverie_algorithms.common.dists import make_action_dist
from reverie_algorithms.common.observations import ObsKeys
from reverie_algorithms.common.optim import Adam, AdamGroup
from reverie_algorithms.common.saved_agent import named_size
from reverie_algorithms.dreamer.agent import STREAM, Dreamer
from reverie_algorithms.dreamer.harmony import GROUPS, HARMONY_VARIANT, Harmonizer
from reverie_algorithms.dreamer.imagination import Noise
from reverie_algorithms.dreamer.latent import LatentState
from reverie_algorithms.dreamer_v3_2023.behavior import Actor, Behavior, Dream
from reverie_algorithms.dreamer_v3_2023.config import SIZES, DreamerV32023Config
from reverie_algorithms.dreamer_v3_2023.nets import Decoder, Encoder
from reverie_algorithms.dreamer_v3_2023.rssm import GRURSSM
from reverie_algorithms.dreamer_v3_2023.world_model import WorldModel


class DreamerV32023(Dreamer[DreamerV32023Config, WorldModel]):
    """DreamerV3 of 2023: learns a world model and, inside it, an actor and a critic."""

    Config = DreamerV32023Config
    PAPER = "arXiv:2301.04104v1"
    SIZES, VARIANTS = SIZES, HARMONY_VARIANT
    COMPILABLE = ("world_model_loss", "dream", "behavior_losses")

    def __init__(self, config: DreamerV32023Config, spaces: Spaces, context: AgentContext) -> None:
        super().__init__(config, spaces, context)
        device, num_actions = context.device, spaces.action.flat_size
        self.keys = ObsKeys.select(spaces.obs)
        self.actions = make_action_dist(
            spaces.action,
            mix=config.actor_unimix,
            min_std=config.actor_min_std,
            max_std=config.actor_max_std,
        )

        # What acts
        with self._seeded("encoder"):
            self.encoder = Encoder(self.keys, config.encoder).to(device)
        with self._seeded("rssm"):
            self.rssm = GRURSSM(config.rssm, self.encoder.size, num_actions).to(device)
        with self._seeded("actor"):
            feat_size, one_hots = self.rssm.feat_size, self.rssm.one_hots
            self.actor = Actor(feat_size, config.heads, self.actions, one_hots).to(device)
        self._acts_with(encoder=self.encoder, rssm=self.rssm, actor=self.actor)
        if not context.training:
            return

        # World model
        with self._seeded("world_model"):
            decoder = Decoder(self.keys, self.rssm.feat_size, config.decoder)
            self.world_model = WorldModel(
                encoder=self.encoder,
                rssm=self.rssm,
                decoder=decoder,
                heads=config.heads,
                grad_heads=config.grad_heads,
                free_nats=config.free_nats,
            ).to(device)

        # Actor and critic
        with self._seeded("behavior"):
            self.behavior = Behavior(self.actor, self.rssm, config).to(device)

        # How losses are balanced
        names = *self.keys.kinds, "reward", "cont", "dyn", "rep"
        scales = {name: getattr(config.loss_scales, name) for name in names}
        self.harmony = Harmonizer(config.harmony, scales, GROUPS).to(device)

        # Optimizers
        harmony, own_group = self._harmony_params()
        model = [
            AdamGroup(
                dict(self.world_model.named_parameters()) | harmony,
                lr=config.world_model_lr,
                eps=config.world_model_eps,
                clip=config.world_model_clip,
            )
        ]
        if own_group:
            lr, eps = config.harmony.lr, config.world_model_eps
            model.append(AdamGroup(own_group, lr=lr, eps=eps, clip=None))
        actor = AdamGroup(
            dict(self.actor.named_parameters()),
            lr=config.actor_lr,
            eps=config.actor_eps,
            clip=config.actor_clip,
        )
        critic = AdamGroup(
            dict(self.behavior.critic.named_parameters()),
            lr=config.critic_lr,
            eps=config.critic_eps,
            clip=config.critic_clip,
        )
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
            optimizers={
                "model": Adam(model, context.group),
                "actor": Adam([actor], context.group),
                "critic": Adam([critic], context.group),
            },
        )

    @classmethod
    def config_defaults(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        return named_size(raw, SIZES, "small").defaults()

    # Learning

    def update(
        self, batches: Mapping[str, Mapping[str, Tensor]], counters: Counters
    ) -> tuple[Metrics, Feedback]:
        data, generator = self.prepare(batches[STREAM]), self.learn_generator
        shape_BT = data["reward"].shape

        # World model
        uniform_BTS = self.rssm.noise(shape_BT, generator)
        loss, states, metrics = self.world_model_loss(data, uniform_BTS)
        metrics["grad_norm/model"] = self.optimizers["model"].step(loss)

        # Imagination
        start, first_cont = states.detach().flatten(), data["cont"].flatten()
        shape_HN = self.config.horizon, len(first_cont)
        action_noise = self.actions.noise(shape_HN, generator)
        noise = Noise(action_noise, self.rssm.noise(shape_HN, generator))
        dream = self.dream(start, first_cont, noise)
        self.behavior.return_normalizer.update(dream.ret, self.context.group)

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
        with self.autocast():
            losses, states, metrics = self.world_model.losses(data, uniform_BTS)
        means = {name: loss.mean() for name, loss in losses.items()}
        total, weights = self.harmony(means)
        metrics |= weights | {f"loss/{name}": mean.detach() for name, mean in means.items()}
        metrics["loss/model"] = total.detach()
        return total, states, metrics

    def dream(self, start: LatentState, first_cont_N: Tensor, noise: Noise) -> Dream:
        """Imagine from every posterior state."""
        with self.autocast():
            return self.behavior.dream(self.world_model, start, first_cont_N, noise)

    def behavior_losses(self, dream: Dream, scale: Tensor) -> tuple[Tensor, Tensor, Metrics]:
        """Return the actor's loss, the critic's loss and metrics."""
        with self.autocast():
            return self.behavior.losses(dream, scale)
