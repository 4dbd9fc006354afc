"""What all Dreamers share: acting from a latent state, and looking at imagined futures.

A paper's file adds its networks, its losses and the order of one update.

Shape legend: B batch, T time, H horizon, N = B * T imagined rollouts, S stoch variables.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, get_args

import torch
from torch import Tensor, nn

from reverie.protocols import Carry, Metrics, Mode, StreamSpec, Videos
from reverie.types import Array, Counters, Rows
from reverie_algorithms.common.dists import ActionDist
from reverie_algorithms.common.saved_agent import SavedAgent
from reverie_algorithms.common.states import make_generator, seeded
from reverie_algorithms.dreamer.harmony import GROUPS, Harmonizer, LossGroup
from reverie_algorithms.dreamer.imagination import Noise
from reverie_algorithms.dreamer.open_loop import open_loop
from reverie_algorithms.dreamer_v3_2023.rssm import LatentState

STREAM = "replay"


class Dreamer(SavedAgent):
    """An agent that learns a world model and acts from its latent state.

    With `context.training` unset only encoder, RSSM and actor exist.
    """

    COMPILABLE: tuple[str, ...] = ()
    """Methods without graph breaks, side effects on tensors or draws of randomness."""

    encoder_type: type[nn.Module]
    rssm_type: type[nn.Module]
    harmony_groups: Mapping[str, LossGroup] = GROUPS
    """Losses that are balanced together."""

    actions: ActionDist
    """What the actor's outputs mean."""
    encoder: Any
    rssm: Any
    actor: Any
    world_model: Any
    behavior: Any
    """Modules of one paper; they are used here as `open_loop` and `act` show."""
    harmony: Harmonizer

    # Building

    def _check_spaces(self) -> None:
        self.actions = self._make_actions()

    def _make_policy(self) -> None:
        config, device, seed = self.config, self.context.device, self.context.seed
        with seeded(seed, "encoder"):
            self.encoder = self.encoder_type(self.keys, config.encoder).to(device).eval()
        with seeded(seed, "rssm"):
            sizes = self.encoder.size, self.spaces.action.flat_size
            self.rssm = self.rssm_type(config.rssm, *sizes).to(device)
        with seeded(seed, "actor"):
            self.actor = self._make_actor().to(device)

    def _make_learning_parts(self) -> None:
        device, seed = self.context.device, self.context.seed
        with seeded(seed, "world_model"):
            self.world_model = self._make_world_model().to(device).eval()
        with seeded(seed, "behavior"):
            self.behavior = self._make_behavior().to(device)
        scales = {name: getattr(self.config.loss_scales, name) for name in self._loss_names()}
        self.harmony = Harmonizer(self.config.harmony, scales, self.harmony_groups).to(device)
        self.learned = {
            "world_model": self.world_model,
            "behavior": self.behavior,
            "harmony": self.harmony,
        }

    def _loss_names(self) -> list[str]:
        """What the harmonizer adds up; a paper adds its own."""
        return ["image"] * bool(self.keys.images) + ["vector"] * bool(self.keys.vectors)

    def _harmony_params(self) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
        """Trained parameters of the harmonizer: with the model's, and in a group of their own."""
        params = {f"harmony/{name}": param for name, param in self.harmony.trained.items()}
        return ({}, params) if self.config.harmony.mode == "own_group" else (params, {})

    @abstractmethod
    def _make_actions(self) -> ActionDist:
        """Choose the policy's distribution; `ValueError` where it cannot express the space."""

    @abstractmethod
    def _make_actor(self) -> nn.Module:
        """Build the actor on the RSSM's feat."""

    @abstractmethod
    def _make_world_model(self) -> nn.Module:
        """Build the world model on encoder and RSSM."""

    @abstractmethod
    def _make_behavior(self) -> nn.Module:
        """Build the critics, and what else actor and critic learn with."""

    @property
    def policy_parts(self) -> nn.ModuleDict:
        return nn.ModuleDict({"encoder": self.encoder, "rssm": self.rssm, "actor": self.actor})

    # Learning

    def streams(self) -> dict[str, StreamSpec]:
        return {STREAM: StreamSpec(self.context.batch_size, self.context.batch_length)}

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
        with self._autocast():
            return self._act(obs, carry, mode)

    def _act(self, obs: Rows, carry: Carry, mode: Mode) -> tuple[Array, Carry]:
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

    # Reporting

    def report(self, batches: Mapping[str, Mapping[str, Tensor]]) -> tuple[Videos, Metrics]:
        generator = make_generator(self.context.device, self.context.seed, "report")
        return open_loop(self.world_model, self.prepare(batches[STREAM]), generator)


class AnyDreamerV3(Dreamer):
    """The parts that both dialects of DreamerV3 are made of."""

    def modules(self) -> dict[str, nn.Module]:
        model = self.world_model
        return {
            "encoder": self.encoder,
            "rssm": self.rssm,
            "decoder": model.decoder,
            "reward": model.reward,
            "cont": model.cont,
            "actor": self.actor,
            "critic": self.behavior.critic,
            "harmony": self.harmony,
        }

    def targets(self) -> dict[str, nn.Module]:
        return {"slow_critic": self.behavior.slow_critic}

    def reset_targets(self) -> None:
        self.behavior.slow_critic.reset(self.behavior.critic)
