"""What an environment itself takes and gives, beside what an agent acts and sees.

The adapter around an environment converts with these classes as it trains, and a deployed policy
with the same ones where neither gymnasium nor the environment is installed: a run's `spaces.json`
keeps them. Imports numpy only, and opencv where a picture is resized.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reverie.extras import load_extra

Array = NDArray[Any]

UNBOUNDED = 1e10
"""Bounds beyond this count as infinite: some environments write the largest float32."""


@dataclass(frozen=True, slots=True)
class NativeObs:
    """One observation as the environment gives it."""

    path: tuple[str | int, ...]
    """Keys that lead to it; none where the whole observation is this array."""
    shape: tuple[int, ...]
    dtype: str
    first: int | None = None
    """Of a discrete one, which the agent sees as one-hot: its least value."""
    brightest: float | None = None
    """Of a picture of floats from 0, which the agent sees as uint8: what becomes 255."""
    size: int | None = None
    """Of a picture that the agent sees resized, by area: height and width there."""

    def convert(self, value: Any, shape: tuple[int, ...], dtype: str) -> Array:
        """Turn [*batch, *native shape] into the agent's [*batch, *shape], without a copy if it can.

        What is too large for float32 becomes inf.

        Raises:
            ImportError: a picture is to be resized, and opencv is missing.
        """
        array = np.asarray(value)
        batch = array.shape[: array.ndim - len(self.shape)]
        if self.first is not None:
            choices = np.arange(self.first, self.first + shape[0])
            return (array[..., None] == choices).astype(dtype)
        if self.brightest is not None:
            with np.errstate(invalid="ignore"):  # what is not finite is for the caller to find
                array = np.rint(array.clip(0, self.brightest) * (255 / self.brightest))
                array = array.astype(dtype)
        if self.size is not None:
            pictures = array.reshape((-1, *self.shape[:2], shape[-1]))
            return np.stack([_resized(each, self.size) for each in pictures]).reshape(
                (*batch, *shape)
            )
        with np.errstate(over="ignore"):
            return np.asarray(array, dtype).reshape((*batch, *shape))


@dataclass(frozen=True, slots=True)
class NativeAction:
    """An action space as the environment declares it."""

    kind: Literal["box", "discrete", "multidiscrete", "multibinary"]
    shape: tuple[int, ...]
    dtype: str
    low: tuple[float | None, ...] = ()
    """Of each component of a box, flattened; None: no bound."""
    high: tuple[float | None, ...] = ()
    start: tuple[int, ...] = ()
    """Of each component of any other kind: the least value."""

    @property
    def width(self) -> int:
        return math.prod(self.shape)

    def converter(self) -> NativeActions:
        """What turns an agent's actions into this space's."""
        return NativeActions(self)


class NativeActions:
    """Actions of an agent -> those of a space: always inside its bounds, of its shape and dtype.

    A component of a box with two bounds is scaled from [-1, 1] to them; one without is passed on;
    one with a single bound is passed on too, moved by as little as brings [-1, 1] inside: from 0
    upwards it runs from 0 to 2, from -5 upwards from -1 to 1. Components of the other kinds, which
    an agent counts from 0, begin where theirs do.
    """

    def __init__(self, form: NativeAction) -> None:
        self.form, self._dtype = form, np.dtype(form.dtype)
        start = np.array(form.start, np.int64)
        self._start = start if form.kind == "box" else start.reshape(form.shape)
        self._low, self._high = _bounds(form.low, -np.inf), _bounds(form.high, np.inf)
        self.scaled = (np.abs(self._low) < UNBOUNDED) & (np.abs(self._high) < UNBOUNDED)
        """bool [A]: components of a box with two finite bounds."""
        self._least = np.where(self.scaled, self._low, -1.0)
        self._range = np.where(self.scaled, self._high, 1.0) - self._least
        # Bounds that only mark the end of a float must not move anything.
        up = np.where(np.abs(self._low) < np.abs(self._high), self._low + 1, 0.0)
        down = np.where(np.abs(self._high) < np.abs(self._low), self._high - 1, 0.0)
        self._moved = np.maximum(up, 0.0) + np.minimum(down, 0.0)

    def __call__(self, action: Any) -> Any:
        """Convert one action or a batch [*batch, ...] of them.

        Returns:
            Arrays [*batch, *shape] of the space's dtype; of one discrete action a numpy scalar.

        Raises:
            ValueError: an action that is not finite.
        """
        if self.form.kind != "box":
            return self._shifted(np.asarray(action))
        chosen: Array = np.asarray(action, np.float64)
        if not np.isfinite(chosen).all():
            raise ValueError(f"action is not finite: {chosen}; the policy has diverged")
        scaled: Array = self._least + (chosen + 1) / 2 * self._range
        native: Array = np.where(self.scaled, scaled, chosen + self._moved)
        np.clip(native, self._low, self._high, out=native)
        if self._dtype.kind in "iub":
            np.rint(native, out=native)
        return native.reshape((*chosen.shape[:-1], *self.form.shape)).astype(self._dtype)

    def _shifted(self, action: Array) -> Any:
        components = 0 if self.form.kind == "discrete" else 1
        batch = action.shape[: action.ndim - components]
        native = action.reshape((*batch, *self.form.shape)) + self._start
        return native.astype(self._dtype)[()]


@dataclass(frozen=True, slots=True)
class NativeSpaces:
    """Both sides of an environment; plain data, so that it can be saved as JSON."""

    obs: dict[str, NativeObs]
    """By the agent's key."""
    action: NativeAction


def _resized(picture: Array, size: int) -> Array:
    """[H, W, C] -> [size, size, C], by area, each channel alone: OpenCV takes four at most."""
    cv2 = load_extra("cv2", "resizing a picture (env.size)", "video")
    planes = [np.ascontiguousarray(plane) for plane in np.moveaxis(picture, -1, 0)]
    resized = [cv2.resize(each, (size, size), interpolation=cv2.INTER_AREA) for each in planes]
    return np.stack(resized, -1)


def plain_bounds(bounds: Array) -> tuple[float | None, ...]:
    """Bounds of a box of any shape, flattened, None where there is none."""
    return tuple(float(bound) if np.isfinite(bound) else None for bound in bounds.reshape(-1))


def _bounds(bounds: tuple[float | None, ...], missing: float) -> Array:
    return np.array([missing if bound is None else bound for bound in bounds], np.float64)
