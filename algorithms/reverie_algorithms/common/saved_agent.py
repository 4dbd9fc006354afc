"""What agents made of modules and optimizers share: how they are counted, saved and started."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar, TypeVar, get_args

import torch
from torch import Tensor, nn

from reverie.protocols import AgentContext, Initialised, LearnsFrom, Mode
from reverie.types import Array, Spaces
from reverie_algorithms import fast
from reverie_algorithms.common.initialise import freeze, split_state, take
from reverie_algorithms.common.optim import Optimizer
from reverie_algorithms.common.states import (
    as_numpy,
    copied,
    copy_weights,
    load_generator,
    load_tensors,
    make_generator,
    seeded,
)
from reverie_algorithms.fast.acting import gains_by_bfloat16, keep_weights_in, prepare_acting

Size = TypeVar("Size")


class SavedAgent:
    """Weights, optimizers and generators of an agent, by name.

    An agent's constructor builds its parts and declares them: `_acts_with` what acting needs, and
    with `context.training` set, `_learns` the rest. Without it only acting works.
    """

    PAPER: ClassVar[str] = ""
    LEARNS_FROM: ClassVar[LearnsFrom] = "environment"
    COMPILABLE: ClassVar[tuple[str, ...]] = ()
    SIZES: ClassVar[Mapping[str, Any]] = {}
    VARIANTS: ClassVar[Mapping[str, str]] = {}
    optimizers: Mapping[str, Optimizer]
    learned: Mapping[str, nn.Module]
    """Roots of everything that a checkpoint holds, targets and normalisers included."""
    policy_parts: nn.ModuleDict
    """What acting needs."""
    autocast: Callable[[], AbstractContextManager[Any]]
    """Casts products to bfloat16 where the context asks for that precision."""

    def __init__(self, config: Any, spaces: Spaces, context: AgentContext) -> None:
        self.config, self.spaces, self.context = config, spaces, context
        self._bfloat16 = context.precision == "bfloat16" and (
            context.training or gains_by_bfloat16(context.device)
        )
        device_type = torch.device(context.device).type
        self.autocast = partial(
            torch.autocast, device_type, dtype=torch.bfloat16, enabled=self._bfloat16
        )
        self.act_generator = make_generator(context.device, context.seed, "act")
        self.learn_generator = make_generator(context.device, context.seed, "learn")
        self._modules: dict[str, nn.Module] = {}
        self._targets: dict[str, tuple[nn.Module, nn.Module]] = {}

    @classmethod
    def config_defaults(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Nothing is implied by a size or dialect."""
        return {}

    def _seeded(self, name: str) -> AbstractContextManager[None]:
        """Weights that are drawn inside depend on the seed and this name only."""
        return seeded(self.context.seed, name)

    def _acts_with(self, **parts: nn.Module) -> None:
        """Declare what acting needs; nothing else exists in agents that only act."""
        self.policy_parts = nn.ModuleDict(parts)
        if self.context.training or not parts:
            return
        narrow = fast.enabled("narrow_weights", next(self.policy_parts.parameters()))
        if self._bfloat16 and narrow:
            keep_weights_in(torch.bfloat16, self.policy_parts)
        prepare_acting(self.policy_parts)

    def _learns(
        self,
        *,
        modules: Mapping[str, nn.Module],
        targets: Mapping[str, tuple[nn.Module, nn.Module]],
        roots: Mapping[str, nn.Module],
        optimizers: Mapping[str, Optimizer],
    ) -> None:
        """Declare what training needs.

        Args:
            modules: the trained parts.
            targets: slow copies, each with the part that it follows.
            roots: what holds all of them, and whatever else a checkpoint must hold.
            optimizers: of the trained parts.
        """
        self._modules, self._targets = dict(modules), dict(targets)
        self.learned, self.optimizers = roots, optimizers

    def _to_device(self, array: Array) -> Tensor:
        return torch.tensor(array, device=self.context.device)

    def modules(self) -> dict[str, nn.Module]:
        return dict(self._modules)

    def targets(self) -> dict[str, nn.Module]:
        """Slow copies by name."""
        return {name: slow for name, (slow, _) in self._targets.items()}

    def module_sizes(self) -> tuple[dict[str, int], dict[str, int]]:
        trained = {name: num_trained(part) for name, part in self.modules().items()}
        targets = {name: num_parameters(part) for name, part in self.targets().items()}
        return {name: size for name, size in trained.items() if size}, targets

    # Starting from another agent

    def initialise(self, state: Mapping[str, Any], modules: Collection[str]) -> Initialised:
        found = take(self.modules(), state, modules)
        for slow, followed in self._targets.values():
            copy_weights(slow, followed)
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
            "optimizers": {name: optim.state() for name, optim in self.optimizers.items()},
        }

    def _generators(self) -> dict[str, torch.Generator]:
        return {"act": self.act_generator, "learn": self.learn_generator}

    def state_dict(self) -> dict[str, Any]:
        generators = {k: generator.get_state() for k, generator in self._generators().items()}
        return {**copied(self._state()), "generators": generators}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        rest = {key: value for key, value in state.items() if key != "generators"}
        load_tensors(self._state(), rest, "load_state_dict")
        if self.context.device == "meta":  # there a CPU's stand in, and nothing is drawn
            return
        for name, generator in self._generators().items():
            load_generator(generator, state["generators"][name], name)


def check_mode(mode: Mode) -> None:
    """Raises: ValueError, if `mode` is no way of acting."""
    if mode not in get_args(Mode):
        raise ValueError(f"act: expected a mode of {get_args(Mode)}, got {mode!r}")


def named_size(raw: Mapping[str, Any], sizes: Mapping[str, Size], default: str) -> Size:
    """The size that raw settings ask for, or `ValueError`."""
    size = raw.get("size", default)
    if not isinstance(size, str) or size not in sizes:
        raise ValueError(f"algorithm.size: expected one of {[*sizes]}, got {size!r}")
    return sizes[size]


def num_trained(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
