"""What gymnasium declares of actions, as plain data and as the normalised space."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces

from reverie.native_spaces import NativeAction, plain_bounds
from reverie.types import ActionSpec


def native_action(space: spaces.Space[Any], name: str) -> NativeAction:
    """Describe an action space. Raises: ValueError where it is not supported."""
    if isinstance(space, spaces.Box) and space.low.size:
        low, high = plain_bounds(space.low), plain_bounds(space.high)
        return NativeAction("box", space.shape, str(space.dtype), low, high)
    if isinstance(space, spaces.Discrete):
        return NativeAction("discrete", (), str(space.dtype), start=(int(space.start),))
    if isinstance(space, spaces.MultiDiscrete):
        start = tuple(int(least) for least in space.start.reshape(-1))
        return NativeAction("multidiscrete", space.shape, str(space.dtype), start=start)
    if isinstance(space, spaces.MultiBinary):
        native = NativeAction("multibinary", space.shape, str(space.dtype))
        return replace(native, start=(0,) * native.width)
    raise ValueError(
        f"{name}: the action space {space} is not supported; supported: Box,"
        " Discrete, MultiDiscrete, MultiBinary, of one number at least"
    )


def action_form(space: spaces.Space[Any], name: str) -> tuple[ActionSpec, spaces.Space[Any]]:
    """The spec of what an agent chooses, and the same as a space of gymnasium.

    Raises: as `native_action`.
    """
    native = native_action(space, name)
    if native.kind == "box":
        limit = np.where(native.converter().scaled, np.float32(1), np.float32(np.inf))
        return ActionSpec("box", (), native.width), spaces.Box(-limit, limit)
    if isinstance(space, spaces.Discrete):
        return ActionSpec("discrete", (int(space.n),)), spaces.Discrete(int(space.n))
    counts: Any = (
        space.nvec if isinstance(space, spaces.MultiDiscrete) else np.full(native.shape, 2)
    )
    num = tuple(int(count) for count in counts.reshape(-1))
    return ActionSpec("multidiscrete", num), spaces.MultiDiscrete(list(num))
