"""DreamerV3 as published in 2023, with HarmonyDream's balanced losses as an option.

DreamerV3: arXiv:2301.04104v1. HarmonyDream: arXiv:2310.00344.

Shape legend: B batch, T time, H horizon, N = B * T imagined rollouts, S stoch variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import torch
from torch import Tensor, nn

from reverie.protocols import (
    AgentContext,
    Carry,
    Feedback,
    Metrics,
    Mode,
    StreamSpec,
    Videos,
)
from reverie.types import Array, Counters, Rows, Spaces
from reverie_algorithms.actor_critic import Actor, Noise
from reverie_algorithms.behavior import Behavior, Dream
from reverie_algorithms.dists import make_action_dist
from reverie_algorithms.dreamer_v3_config import SIZES, DreamerV3Config
from reverie_algorithms.harmony import Harmonizer
from reverie_algorithms.observations import Decoder, Encoder, ObsKeys
from reverie_algorithms.open_loop import open_loop
from reverie_algorithms.optim import Adam, AdamGroup
from reverie_algorithms.rssm import RSSM, LatentState
from reverie_algorithms.states import (
    as_numpy,
    copied,
    load_generator,
    load_tensors,
    make_generator,
    seeded,
)
from reverie_algorithms.world_model import WorldModel

STREAM = "replay"


class DreamerV3:
    """Learns a world model and, inside it, an actor and a critic.

    With `context.training` unset only encoder, RSSM and actor exist, and only acting works.
    """

    Config = DreamerV3Config
    COMPILABLE = ("world_model_loss", "dream", "behavior_losses")
    """Methods without graph breaks, side effects on tensors or draws of randomness."""

    def __init__(self, config: DreamerV3Config, spaces: Spaces, context: AgentContext) -> None:
        self.config, self.spaces, self.context = config, spaces, context
        self.keys = ObsKeys.select(spaces.obs)
        self.actions = make_action_dist(
            spaces.action, config.actor_unimix, config.actor_min_std, config.actor_max_std
        )
        self.act_generator = make_generator(context.device, context.seed, "act")
        self.learn_generator = make_generator(context.device, context.seed, "learn")
        self._make_policy()
        if context.training:
            self._make_learning_parts()
            self._make_optimizers()

    @classmethod
    def config_defaults(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        size, dialect = raw.get("size", "small"), raw.get("dialect", "2023")
        if dialect != "2023":
            raise ValueError(f"algorithm.dialect: wanted one of ['2023'], got {dialect!r}")
        if size not in SIZES:
            raise ValueError(f"algorithm.size: wanted one of {sorted(SIZES)}, got {size!r}")
        return SIZES[size].defaults()

    # Building

    def _make_policy(self) -> None:
        config, device = self.config, self.context.device
        with seeded(self.context.seed, "encoder"):
            self.encoder = Encoder(self.keys, config.encoder).to(device)
        with seeded(self.context.seed, "rssm"):
            width = self.spaces.action.flat_size
            self.rssm = RSSM(config.rssm, self.encoder.size, width).to(device)
        with seeded(self.context.seed, "actor"):
            self.actor = Actor(self.rssm.feat_size, config.heads, self.actions).to(device)
        self.policy_parts = {"encoder": self.encoder, "rssm": self.rssm, "actor": self.actor}

    def _make_learning_parts(self) -> None:
        config, device, feat = self.config, self.context.device, self.rssm.feat_size
        with seeded(self.context.seed, "world_model"):
            decoder = Decoder(self.keys, feat, config.decoder)
            parts = self.encoder, self.rssm, decoder
            heads = config.heads, config.grad_heads, config.free_nats
            self.world_model = WorldModel(*parts, *heads).to(device)
        with seeded(self.context.seed, "behavior"):
            self.behavior = Behavior(self.actor, feat, config).to(device)
        self.harmony = Harmonizer(config.harmony, self._loss_weights()).to(device)
        self.learned = {
            "world_model": self.world_model,
            "behavior": self.behavior,
            "harmony": self.harmony,
        }

    def _loss_weights(self) -> dict[str, float]:
        scales = self.config.loss_scales
        names = ["image"] * bool(self.keys.images) + ["vector"] * bool(self.keys.vectors)
        return {name: getattr(scales, name) for name in [*names, "reward", "cont", "dyn", "rep"]}

    def _make_optimizers(self) -> None:
        config, reduce = self.config, self.context.all_reduce
        harmony = {f"harmony/{k}": p for k, p in self.harmony.trained.items()}
        own_group = config.harmony.mode == "own_group"
        model = dict(self.world_model.named_parameters()) | ({} if own_group else harmony)
        groups = [
            AdamGroup(model, config.world_model_lr, config.world_model_eps, config.world_model_clip)
        ]
        if own_group:
            groups.append(AdamGroup(harmony, config.harmony.lr, config.world_model_eps, None))
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

    def streams(self) -> dict[str, StreamSpec]:
        return {STREAM: StreamSpec(self.context.batch_size, self.context.batch_length)}

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

    def prepare(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Turn a batch [B, T, ...] into what the model reads.

        Every window starts an episode, and `prev_action` is the action that led to each row,
        zero on first rows: the one place where actions are shifted.
        """
        is_first = batch["is_first"].clone()
        is_first[:, 0] = True
        action = self.actions.encode(batch["action"])
        prev_action = torch.cat([torch.zeros_like(action[:, :1]), action[:, :-1]], 1)
        return {
            **{key: batch[key] for key in self.keys.names},
            "is_first": is_first,
            "prev_action": prev_action * ~is_first.unsqueeze(-1),
            "reward": batch["reward"].float(),
            "cont": (~batch["is_terminal"]).float(),
        }

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

    def _autocast(self) -> torch.autocast:
        device_type = torch.device(self.context.device).type
        enabled = self.context.precision == "bfloat16"
        return torch.autocast(device_type, dtype=torch.bfloat16, enabled=enabled)

    def _uniform(self, *shape: int) -> Tensor:
        shape = (*shape, self.config.rssm.stoch)
        return torch.rand(shape, generator=self.learn_generator, device=self.context.device)

    def _imagination_noise(self, num_rollouts: int) -> Noise:
        shape = (self.config.horizon, num_rollouts)
        return Noise(self.actions.noise(shape, self.learn_generator), self._uniform(*shape))

    # Acting

    def initial_carry(self, count: int) -> Carry:
        rssm, device = self.config.rssm, self.context.device
        return {
            "deter": torch.zeros(count, rssm.deter, device=device),
            "stoch": torch.zeros(count, rssm.stoch, rssm.classes, device=device),
            "prev_action": torch.zeros(count, self.spaces.action.flat_size, device=device),
        }

    @torch.no_grad()
    def act(self, obs: Rows, carry: Carry, mode: Mode, counters: Counters) -> tuple[Array, Carry]:
        if mode not in get_args(Mode):
            raise ValueError(f"act: wanted a mode of {get_args(Mode)}, got {mode!r}")
        generator, is_first = self.act_generator, obs["is_first"]
        state, prev_action = LatentState(carry["deter"], carry["stoch"]), carry["prev_action"]
        if is_first.any():
            state, prev_action = self.rssm.reset(state, prev_action, self._to_device(is_first))
        tensors = {key: self._to_device(obs[key]) for key in self.keys.names}
        embed = self.encoder(self.keys.inputs(tensors))
        shape = (len(is_first), self.config.rssm.stoch)
        uniform = torch.rand(shape, generator=generator, device=generator.device)
        state = self.rssm.observe_step(state, prev_action, embed, uniform)
        params = self.actor(state.feat)
        if mode == "mode":
            flat = self.actions.mode(params)
        else:
            flat = self.actions.sample(params, self.actions.noise(shape[:1], generator))
        action = self.actions.decode(flat)
        carry = {"deter": state.deter, "stoch": state.stoch}
        return action.cpu().numpy(), {**carry, "prev_action": self.actions.encode(action)}

    def _to_device(self, array: Array) -> Tensor:
        return torch.tensor(array, device=self.context.device)

    # Reporting

    def report(self, batches: Mapping[str, Mapping[str, Tensor]]) -> tuple[Videos, Metrics]:
        generator = make_generator(self.context.device, self.context.seed, "report")
        return open_loop(self.world_model, self.prepare(batches[STREAM]), generator)

    def module_sizes(self) -> tuple[dict[str, int], dict[str, int]]:
        model = self.world_model
        trained = {
            "encoder": self.encoder,
            "rssm": self.rssm,
            "decoder": model.decoder,
            "reward": model.reward,
            "cont": model.cont,
            "actor": self.actor,
            "critic": self.behavior.critic,
            "harmony": self.harmony,
        }
        sizes = {k: _size(m) for k, m in trained.items()}
        return {k: n for k, n in sizes.items() if n}, {
            "slow_critic": sum(p.numel() for p in self.behavior.slow_critic.parameters())
        }

    # Saving

    def policy_state(self) -> dict[str, Array]:
        state = nn.ModuleDict(self.policy_parts).state_dict()
        return as_numpy(state)

    def load_policy_state(self, state: Mapping[str, Array]) -> None:
        load_tensors(nn.ModuleDict(self.policy_parts).state_dict(), state, "load_policy_state")

    def _state(self) -> dict[str, Any]:
        return {
            "modules": {name: dict(module.state_dict()) for name, module in self.learned.items()},
            "optimizers": {name: adam.state() for name, adam in self.optimizers.items()},
        }

    def _generators(self) -> dict[str, torch.Generator]:
        return {"act": self.act_generator, "learn": self.learn_generator}

    def state_dict(self) -> dict[str, Any]:
        generators = {k: generator.get_state() for k, generator in self._generators().items()}
        return {**copied(self._state()), "generators": generators}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        rest = {key: value for key, value in state.items() if key != "generators"}
        load_tensors(self._state(), rest, "load_state_dict")
        for name, generator in self._generators().items():
            load_generator(generator, state["generators"][name], name)

    def warm_up(self, example: Mapping[str, Mapping[str, Tensor]]) -> None:
        before = self.state_dict()
        self.update(example, Counters())
        self.load_state_dict(before)


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
