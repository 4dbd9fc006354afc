"""What all Dreamers share: acting from a latent state, looking at imagined futures, saving.

A paper's file adds its networks, its losses and the order of one update.

Shape legend: B batch, T time, H horizon, N = B * T imagined rollouts, S stoch variables.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
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
from reverie_algorithms.dists import ActionDist
from reverie_algorithms.observations import Encoder, ObsKeys
from reverie_algorithms.open_loop import open_loop
from reverie_algorithms.optim import Adam
from reverie_algorithms.rssm import RSSM, LatentState
from reverie_algorithms.states import (
    as_numpy,
    copied,
    load_generator,
    load_tensors,
    make_generator,
)
from reverie_algorithms.world_model import WorldModel

STREAM = "replay"


class Dreamer(ABC):
    """An agent that learns a world model and acts from its latent state.

    With `context.training` unset only encoder, RSSM and actor exist, and only acting works.
    """

    COMPILABLE: tuple[str, ...] = ()
    """Methods without graph breaks, side effects on tensors or draws of randomness."""

    encoder: Encoder
    rssm: RSSM
    actor: Actor
    world_model: WorldModel
    learned: dict[str, nn.Module]
    """Roots of everything that a checkpoint holds, targets and normalisers included."""
    optimizers: dict[str, Adam]

    def __init__(self, config: Any, spaces: Spaces, context: AgentContext) -> None:
        self.config, self.spaces, self.context = config, spaces, context
        self.keys = ObsKeys.select(spaces.obs)
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

    @abstractmethod
    def modules(self) -> dict[str, nn.Module]:
        """The trained parts by name."""

    @abstractmethod
    def targets(self) -> dict[str, nn.Module]:
        """Slow copies by name."""

    @property
    def policy_parts(self) -> nn.ModuleDict:
        """What acting needs."""
        return nn.ModuleDict({"encoder": self.encoder, "rssm": self.rssm, "actor": self.actor})

    # Learning

    def streams(self) -> dict[str, StreamSpec]:
        return {STREAM: StreamSpec(self.context.batch_size, self.context.batch_length)}

    @abstractmethod
    def update(
        self, batches: Mapping[str, Mapping[str, Tensor]], counters: Counters
    ) -> tuple[Metrics, Feedback]:
        """Take one gradient step with every optimizer."""

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

    def module_sizes(self) -> tuple[dict[str, int], dict[str, int]]:
        trained = {name: num_trained(part) for name, part in self.modules().items()}
        targets = {name: num_parameters(part) for name, part in self.targets().items()}
        return {name: size for name, size in trained.items() if size}, targets

    # Saving

    def policy_state(self) -> dict[str, Array]:
        state = self.policy_parts.state_dict()
        return as_numpy(state)

    def load_policy_state(self, state: Mapping[str, Array]) -> None:
        load_tensors(self.policy_parts.state_dict(), state, "load_policy_state")

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


def num_trained(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
