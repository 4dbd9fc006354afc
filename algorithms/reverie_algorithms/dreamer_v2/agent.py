"""DreamerV2, with HarmonyDream's balanced losses as an option.

DreamerV2: arXiv:2010.02193. HarmonyDream: arXiv:2310.00344.

Shape legend: B batch, T time, H horizon, N = B * T imagined rollouts, S stoch variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from reverie.protocols import AgentContext, Feedback, Metrics, StreamSpec
from reverie.types import Counters, Spaces
from reverie_algorithms.common.dists import OneHotActions
from reverie_algorithms.common.optim import Adam, AdamGroup
from reverie_algorithms.common.saved_agent import named_size
from reverie_algorithms.dreamer.agent import STREAM, Dreamer
from reverie_algorithms.dreamer.elu_behavior import Dream, EluActor, EluBehavior
from reverie_algorithms.dreamer.elu_images import EluDecoder, EluEncoder, RawObsKeys
from reverie_algorithms.dreamer.elu_rssm import EluRSSM
from reverie_algorithms.dreamer.harmony import HARMONY_VARIANT, V2_GROUPS, Harmonizer
from reverie_algorithms.dreamer.imagination import Noise
from reverie_algorithms.dreamer.latent import LatentState
from reverie_algorithms.dreamer.resnet import follow_batch
from reverie_algorithms.dreamer.truncated_normal import TruncatedNormal
from reverie_algorithms.dreamer_v2.config import SIZES, DreamerV2Config
from reverie_algorithms.dreamer_v2.world_model import WorldModel


class DreamerV2(Dreamer[DreamerV2Config, WorldModel]):
    """DreamerV2: learns a world model and, inside it, an actor and a critic, from episodes."""

    Config = DreamerV2Config
    PAPER = "arXiv:2010.02193"
    SIZES, VARIANTS = SIZES, HARMONY_VARIANT
    COMPILABLE = ("world_model_loss", "dream", "behavior_losses")

    def __init__(self, config: DreamerV2Config, spaces: Spaces, context: AgentContext) -> None:
        super().__init__(config, spaces, context)
        device, num_actions = context.device, spaces.action.flat_size
        self.keys = RawObsKeys.select(spaces.obs)
        if spaces.action.kind == "box":
            self.actions = TruncatedNormal(spaces.action, config.actor_min_std)
        else:
            self.actions = OneHotActions(spaces.action, mix=0.0)

        # What acts
        with self._seeded("encoder"):
            self.encoder = EluEncoder(self.keys, config.encoder).to(device).eval()
        with self._seeded("rssm"):
            self.rssm = EluRSSM(config.rssm, self.encoder.size, num_actions).to(device)
        with self._seeded("actor"):
            self.actor = EluActor(self.rssm.feat_size, config.heads, self.actions).to(device)
        self._acts_with(encoder=self.encoder, rssm=self.rssm, actor=self.actor)
        if not context.training:
            return

        # World model
        with self._seeded("world_model"):
            decoder = EluDecoder(self.keys, self.rssm.feat_size, config.decoder)
            self.world_model = WorldModel(
                encoder=self.encoder,
                rssm=self.rssm,
                decoder=decoder,
                heads=config.heads,
                discount_head=config.discount_head,
                kl=config.kl,
            )
            self.world_model.to(device).eval()
        discount = self.world_model.discount

        # Actor and critic
        with self._seeded("behavior"):
            self.behavior = EluBehavior(self.actor, self.rssm.feat_size, config).to(device)

        # How losses are balanced
        names = *self.keys.kinds, *["discount"] * config.discount_head, "reward", "kl"
        scales = {name: getattr(config.loss_scales, name) for name in names}
        self.harmony = Harmonizer(config.harmony, scales, V2_GROUPS).to(device)

        # Optimizers
        def group(params: Mapping[str, nn.Parameter], lr: float) -> AdamGroup:
            eps, clip, decay = config.adam_eps, config.clip, config.weight_decay
            return AdamGroup(params, lr=lr, eps=eps, clip=clip, weight_decay=decay)

        harmony, own_group = self._harmony_params()
        model = [
            group({**dict(self.world_model.named_parameters()), **harmony}, config.world_model_lr)
        ]
        if own_group:
            lr, eps = config.harmony.lr, config.adam_eps
            model.append(AdamGroup(own_group, lr=lr, eps=eps, clip=None))
        actor = group(dict(self.actor.named_parameters()), config.actor_lr)
        critic = group(dict(self.behavior.critic.named_parameters()), config.critic_lr)
        self._learns(
            modules={
                "encoder": self.encoder,
                "rssm": self.rssm,
                "decoder": decoder,
                "reward": self.world_model.reward,
                **({} if discount is None else {"discount": discount}),
                "actor": self.actor,
                "critic": self.behavior.critic,
                "harmony": self.harmony,
            },
            targets={"target_critic": (self.behavior.target_critic, self.behavior.critic)},
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
        return named_size(raw, SIZES, "1024").defaults()

    # Learning

    def streams(self) -> dict[str, StreamSpec]:
        spec = StreamSpec(
            self.batch_size,
            self.batch_length,
            sampler="episodes",
            prioritize_ends=self.config.prioritize_ends,
        )
        return {STREAM: spec}

    def prepare(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        data = super().prepare(batch)
        if self.config.reward_transform == "tanh":
            data["reward"] = torch.tanh(data["reward"])
        return data | {"discount": self.config.gamma * data["cont"]}

    def update(
        self, batches: Mapping[str, Mapping[str, Tensor]], counters: Counters
    ) -> tuple[Metrics, Feedback]:
        data, generator = self.prepare(batches[STREAM]), self.learn_generator

        # World model; batch norms use their batch here and nowhere else
        self.world_model.train()
        uniform_BTS = self.rssm.noise(data["reward"].shape, generator)
        loss, states, metrics = self.world_model_loss(data, uniform_BTS)
        self.world_model.eval()
        metrics["grad_norm/model"] = self.optimizers["model"].step(loss)
        follow_batch(self.world_model, self.context.group)

        # Imagination
        start, first_cont = states.detach().flatten(), data["cont"].flatten()
        shape_HN = self.config.horizon, len(first_cont)
        action_noise = self.actions.noise(shape_HN, generator)
        noise = Noise(action_noise, self.rssm.noise(shape_HN, generator))
        dream = self.dream(start, first_cont, noise)

        # Actor and critic
        policy_loss, value_loss, more = self.behavior_losses(dream)
        actor_norm = self.optimizers["actor"].step(policy_loss, retain_graph=True)
        critic_norm = self.optimizers["critic"].step(value_loss)
        self.behavior.target_critic.update(self.behavior.critic)
        metrics |= more | {"grad_norm/actor": actor_norm, "grad_norm/critic": critic_norm}
        return metrics, {}

    def world_model_loss(
        self, data: Mapping[str, Tensor], uniform_BTS: Tensor
    ) -> tuple[Tensor, LatentState, Metrics]:
        """Return the balanced loss, the posterior states and metrics."""
        with self.autocast():
            losses, states, metrics = self.world_model.losses(data, uniform_BTS)
        total, weights = self.harmony(losses)
        metrics |= weights | {f"loss/{name}": loss.detach() for name, loss in losses.items()}
        metrics["loss/model"] = total.detach()
        return total, states, metrics

    def dream(self, start: LatentState, first_cont_N: Tensor, noise: Noise) -> Dream:
        """Imagine from every posterior state."""
        with self.autocast():
            return self.behavior.dream(self.world_model, start, first_cont_N, noise)

    def behavior_losses(self, dream: Dream) -> tuple[Tensor, Tensor, Metrics]:
        """Return the actor's loss, the critic's loss and metrics."""
        with self.autocast():
            return self.behavior.losses(dream)
