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

from reverie.protocols import (
    AgentContext,
    Carry,
    Metrics,
    Mode,
    StreamSpec,
    Videos,
)
from reverie.types import Array, Counters, Rows, Spaces
from reverie_algorithms.actor_critic import Noise
from reverie_algorithms.dists import ActionDist
from reverie_algorithms.harmony import Harmonizer
from reverie_algorithms.observations import ObsKeys
from reverie_algorithms.open_loop import open_loop
from reverie_algorithms.rssm import LatentState
from reverie_algorithms.saved_agent import SavedAgent
from reverie_algorithms.states import make_generator

STREAM = "replay"


class Dreamer(SavedAgent):
    """An agent that learns a world model and acts from its latent state.

    With `context.training` unset only encoder, RSSM and actor exist, and only acting works.
    """

    COMPILABLE: tuple[str, ...] = ()
    """Methods without graph breaks, side effects on tensors or draws of randomness."""

    keys_type: type[ObsKeys] = ObsKeys
    """How observations become what the networks read."""
    encoder: Any
    rssm: Any
    actor: Any
    world_model: Any
    """Modules of one paper; they are used here as `open_loop` and `act` show."""

    def __init__(self, config: Any, spaces: Spaces, context: AgentContext) -> None:
        self.config, self.spaces, self.context = config, spaces, context
        self.keys = self.keys_type.select(spaces.obs)
        self.actions = self._make_actions()
        self.act_generator = make_generator(context.device, context.seed, "act")
        self.learn_generator = make_generator(context.device, context.seed, "learn")
        self._make_policy()
        if context.training:
            self._make_learning_parts()
            self._make_optimizers()

    @abstractmethod
    def _make_actions(self) -> ActionDist:
        """Choose the policy's distribution; `ValueError` where it cannot express the space."""

    @abstractmethod
    def _make_policy(self) -> None:
        """Build encoder, RSSM and actor."""

    @abstractmethod
    def _make_learning_parts(self) -> None:
        """Build what only training needs, and name `learned`."""

    @abstractmethod
    def _make_optimizers(self) -> None: ...

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


class AnyDreamerV3(Dreamer):
    """The parts that both dialects of DreamerV3 are made of."""

    behavior: Any
    harmony: Harmonizer

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
