"""What agents made of modules and optimizers share: how they are built, counted and saved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from reverie.protocols import AgentContext, Feedback, Initialised, Metrics
from reverie.types import Array, Counters, Spaces
from reverie_algorithms.common.initialise import freeze, split_state, take
from reverie_algorithms.common.observations import ObsKeys
from reverie_algorithms.common.optim import Optimizer
from reverie_algorithms.common.states import (
    as_numpy,
    copied,
    load_generator,
    load_tensors,
    make_generator,
)
from reverie_algorithms.fast.acting import gains_by_bfloat16, keep_weights_in, prepare_acting

Size = TypeVar("Size")


class SavedAgent(ABC):
    """Weights, optimizers and generators of an agent, by name.

    With `context.training` unset only what acting needs exists, and only acting works.
    """

    keys_type: type[ObsKeys] = ObsKeys
    """How observations become what the networks read."""
    learned: dict[str, nn.Module]
    """Roots of everything that a checkpoint holds, targets and normalisers included."""
    optimizers: Mapping[str, Optimizer]

    def __init__(self, config: Any, spaces: Spaces, context: AgentContext) -> None:
        self.config, self.spaces, self.context = config, spaces, context
        self.keys = self.keys_type.select(spaces.obs)
        self._bfloat16 = context.precision == "bfloat16" and (
            context.training or gains_by_bfloat16(context.device)
        )
        self._check_spaces()
        self.act_generator = make_generator(context.device, context.seed, "act")
        self.learn_generator = make_generator(context.device, context.seed, "learn")
        self._make_policy()
        if context.training:
            self._make_learning_parts()
            self._make_optimizers()
            return
        if self._bfloat16:
            keep_weights_in(torch.bfloat16, self.policy_parts)
        prepare_acting(self.policy_parts)

    @abstractmethod
    def _check_spaces(self) -> None:
        """Raise `ValueError` where the agent cannot express a space."""

    @abstractmethod
    def _make_policy(self) -> None:
        """Build what acting needs."""

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
    @abstractmethod
    def policy_parts(self) -> nn.ModuleDict:
        """What acting needs."""

    @abstractmethod
    def reset_targets(self) -> None:
        """Make every slow copy equal to what it follows."""

    @abstractmethod
    def update(
        self, batches: Mapping[str, Mapping[str, Tensor]], counters: Counters
    ) -> tuple[Metrics, Feedback]:
        """Take one gradient step with every optimizer."""

    def _autocast(self) -> torch.autocast:
        device_type = torch.device(self.context.device).type
        return torch.autocast(device_type, dtype=torch.bfloat16, enabled=self._bfloat16)

    def _to_device(self, array: Array) -> Tensor:
        return torch.tensor(array, device=self.context.device)

    def module_sizes(self) -> tuple[dict[str, int], dict[str, int]]:
        trained = {name: num_trained(part) for name, part in self.modules().items()}
        targets = {name: num_parameters(part) for name, part in self.targets().items()}
        return {name: size for name, size in trained.items() if size}, targets

    # Starting from another agent

    def initialise(self, state: Mapping[str, Any], modules: Collection[str]) -> Initialised:
        found = take(self.modules(), state, modules)
        self.reset_targets()
        return found

    def freeze(self, tensors: Collection[str]) -> None:
        freeze(self.modules(), self.optimizers.values(), tensors)

    # Saving

    def policy_state(self) -> dict[str, Array]:
        return as_numpy(self.policy_parts.state_dict())

    def load_policy_state(self, state: Mapping[str, Array]) -> None:
        load_tensors(self.policy_parts.state_dict(), state, "load_policy_state")
        if not self.context.training:
            prepare_acting(self.policy_parts)

    def _state(self) -> dict[str, Any]:
        return {
            **split_state(self.modules(), self.learned),
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


def named_size(raw: Mapping[str, Any], sizes: Mapping[str, Size], default: str) -> Size:
    """The size that raw settings ask for, or `ValueError`."""
    size = raw.get("size", default)
    if size not in sizes:
        raise ValueError(f"algorithm.size: wanted one of {[*sizes]}, got {size!r}")
    return sizes[size]


def num_trained(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
