"""How native action spaces and their normalised forms belong together."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from gymnasium import spaces

from reverie.types import ActionSpec, Array

UNBOUNDED = 1e10
"""Bounds beyond this count as infinite: some environments write the largest float32."""


def action_form(
    space: spaces.Space[Any], name: str
) -> tuple[ActionSpec, spaces.Space[Any], Callable[[Any], Any]]:
    """Return the spec, the normalised space and how its actions become native ones."""
    if isinstance(space, spaces.Box):
        rescale = Rescale.of(space)
        width = math.prod(space.shape)
        limit = np.where(rescale.bounded, np.float32(1), np.float32(np.inf))
        return ActionSpec("box", (), width), spaces.Box(-limit, limit), rescale
    if isinstance(space, spaces.Discrete):
        start, count = int(space.start), int(space.n)
        shift = partial(_shift, start=start)
        return ActionSpec("discrete", (count,)), spaces.Discrete(count), shift
    if isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary):
        binary = isinstance(space, spaces.MultiBinary)
        nvec = np.full(space.shape, 2) if binary else space.nvec
        start = np.zeros_like(nvec) if binary else space.start
        num = tuple(int(n) for n in nvec.reshape(-1))
        native = partial(_components, start=start, dtype=space.dtype)
        return ActionSpec("multidiscrete", num), spaces.MultiDiscrete(list(num)), native
    raise ValueError(
        f"{name}: the action space {space} is not supported; supported: Box,"
        " Discrete, MultiDiscrete, MultiBinary"
    )


@dataclass(frozen=True, slots=True)
class Rescale:
    """Actions float32 [A] from -1 to 1 -> arrays within the native bounds of a Box."""

    bounded: Array
    """bool [A]: components with two finite bounds; the others are passed on."""
    low: Array
    high: Array
    shape: tuple[int, ...]
    dtype: Any

    @classmethod
    def of(cls, space: spaces.Box) -> Rescale:
        low, high = (bound.reshape(-1).astype(np.float64) for bound in (space.low, space.high))
        bounded = (np.abs(low) < UNBOUNDED) & (np.abs(high) < UNBOUNDED)
        return cls(
            bounded,
            np.where(bounded, low, -1),
            np.where(bounded, high, 1),
            space.shape,
            space.dtype,
        )

    def __call__(self, action: Any) -> Array:
        action = np.asarray(action, np.float64)
        if not np.isfinite(action).all():
            raise ValueError(f"action is not finite: {action}; the policy has diverged")
        native = self.low + (action + 1) / 2 * (self.high - self.low)
        native = np.where(self.bounded, np.clip(native, self.low, self.high), action)
        if np.issubdtype(self.dtype, np.integer):
            native = np.rint(native)
        return native.reshape(self.shape).astype(self.dtype)


def _shift(action: Any, start: int) -> int:
    return int(action) + start


def _components(action: Any, start: Array, dtype: Any) -> Array:
    return (np.asarray(action).reshape(start.shape) + start).astype(dtype)
