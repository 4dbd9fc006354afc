"""What gymnasium declares of observations: which keys an agent gets of them, in which form.

Observations become a flat Dict of uint8 images, depth images and float32 vectors.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from gymnasium import spaces

from reverie.native_spaces import NativeObs
from reverie.types import (
    FLAG_KEYS,
    LOG_PREFIX,
    RESERVED_KEYS,
    ROW_KEYS,
    STEP_ID,
    Array,
    ArraySpec,
)

log = logging.getLogger(__name__)
_said: set[str] = set()
"""What was logged in this process: environments are built again and again."""
PICTURE_SIDE = 32
"""Least sides of a matrix of floats that counts as a picture."""
SMALLEST_PICTURE = 8
"""Least sides of floats [H, W, C] that do."""
TAKEN_KEYS = frozenset((*ROW_KEYS, *FLAG_KEYS, *RESERVED_KEYS, STEP_ID))

Convert = Callable[[Any], Array]


@dataclass(frozen=True, slots=True)
class Leaf:
    """One observation key: where the native observation keeps it and how it is converted."""

    key: str
    path: tuple[Any, ...]
    native: spaces.Space[Any]
    space: spaces.Box
    """What the converted arrays look like."""
    form: NativeObs
    """The native space as plain data."""
    convert: Convert
    """What turns the environment's arrays into these: `form` does."""

    @classmethod
    def of(
        cls,
        key: str,
        path: tuple[Any, ...],
        native: spaces.Space[Any],
        space: spaces.Box,
        size: int | None = None,
    ) -> Leaf:
        """What `native` declares becomes what `space` does; pictures of bytes get `size`."""
        first = int(native.start) if isinstance(native, spaces.Discrete) else None
        brightest = None
        if isinstance(native, spaces.Box) and (native.dtype.kind, space.dtype) == ("f", np.uint8):
            brightest = _brightest(native)
        is_picture = len(space.shape) == 3 and space.dtype == np.uint8
        if not is_picture or size is None or space.shape[:2] == (size, size):
            size = None
        else:
            space = spaces.Box(0, 255, (size, size, space.shape[2]), np.uint8)
        form = NativeObs(path, native.shape or (), str(native.dtype), first, brightest, size)
        convert = partial(form.convert, shape=space.shape, dtype=str(space.dtype))
        return cls(key, path, native, space, form, convert)

    @property
    def spec(self) -> ArraySpec:
        return ArraySpec(self.space.shape, str(self.space.dtype))


def observation_leaves(space: spaces.Space[Any], name: str, size: int | None) -> tuple[Leaf, ...]:
    """The observation keys that an environment called `name` in messages gives.

    Pictures of bytes get `size` x `size`, if that is given.

    Raises:
        ValueError: a space that is not supported, naming its key; a key that is taken.
    """
    if isinstance(space, spaces.Dict):
        found = list(_nested_leaves(space, (), name, size))
    else:
        form = _observation_form(space, "", name)
        found = [Leaf.of("image" if len(form.shape) == 3 else "proprio", (), space, form, size)]
    keys = [leaf.key for leaf in found]
    for leaf in found:
        _check_key(leaf, keys, name)
    if not any(leaf.spec.size for leaf in found):
        raise ValueError(
            f"{name}: the observation space {space} holds no numbers, expected at least one"
        )
    return tuple(found)


def _nested_leaves(
    space: spaces.Dict, path: tuple[Any, ...], name: str, size: int | None
) -> Iterator[Leaf]:
    for part, inner in space.spaces.items():
        here = (*path, part)
        key = "_".join(map(str, here))
        if isinstance(inner, spaces.Dict):
            yield from _nested_leaves(inner, here, name, size)
        else:
            yield Leaf.of(key, here, inner, _observation_form(inner, key, name), size)


def _check_key(leaf: Leaf, keys: list[str], name: str) -> None:
    if leaf.key in TAKEN_KEYS or leaf.key.startswith(LOG_PREFIX):
        raise ValueError(f"{name}: observation key {leaf.key!r} is taken by Reverie; rename it")
    if keys.count(leaf.key) > 1:
        raise ValueError(
            f"{name}: two observations are called {leaf.key!r} once nested keys are"
            " joined with '_'; rename one"
        )


def _observation_form(space: spaces.Space[Any], key: str, name: str) -> spaces.Box:
    """Return the Box in which values of `space` lie once they are converted."""
    if isinstance(space, spaces.Box):
        return _box_form(space, key, name)
    if isinstance(space, spaces.Discrete):
        return spaces.Box(0.0, 1.0, (int(space.n),))
    if isinstance(space, spaces.MultiBinary):
        return spaces.Box(0.0, 1.0, (math.prod(space.shape),))
    if isinstance(space, spaces.MultiDiscrete):
        low, high = _flat(space.start), _flat(space.start + space.nvec - 1)
        return spaces.Box(low, high)
    what = f"observation {key!r} has the space" if key else "the observation space is"
    raise ValueError(
        f"{name}: {what} {space}, which is not supported; expected Box, Discrete, MultiDiscrete,"
        " MultiBinary or a Dict of these (put a gymnasium.ObservationWrapper around it)"
    )


def _box_form(space: spaces.Box, key: str, name: str) -> spaces.Box:
    shape, kind = space.shape, space.dtype
    if kind == np.uint8 and len(shape) in (2, 3):
        _refuse_channel_first(shape, key, name)
        return _image_form(space, kind)
    if kind == np.uint8 and len(shape) > 3:
        raise ValueError(
            f"{name}: observation {key or 'image'!r} has the unsupported space {space}: images"
            " are [H, W, C]; give each camera a key and do not stack frames"
        )
    if kind == np.uint16 and (len(shape) == 2 or shape[2:] == (1,)):
        return _image_form(space, kind)
    what = f"{name}: observation{f' {key!r}' if key else ''} {shape}"
    if kind.kind == "f":
        if (brightest := _brightest(space)) is not None:
            _refuse_channel_first(shape, key, name)
            if _is_picture(shape):
                _say(f"{what}, from 0 to {brightest:g}, is taken as a picture of uint8")
                shape = shape if len(shape) == 3 else (*shape, 1)
                return spaces.Box(0, 255, shape, np.uint8)
        if (len(shape) == 3 and shape[2] == 1) or (len(shape) == 2 and min(shape) >= PICTURE_SIDE):
            return _image_form(space, np.float32)
    if len(shape) > 1 and math.prod(shape) >= PICTURE_SIDE**2:
        _say(
            f"{what} is learned as a vector of {math.prod(shape):,} numbers; a picture is a"
            " Box [H, W, C] of uint8, or of floats from 0 to 1 or 255"
        )
    return spaces.Box(_flat(space.low), _flat(space.high))


def _brightest(space: spaces.Box) -> float | None:
    """1 or 255, where every number lies between 0 and that; None elsewhere."""
    for high in (1.0, 255.0):
        if not space.low.any() and (space.high == high).all():
            return high
    return None


def _is_picture(shape: tuple[int, ...]) -> bool:
    """Whether numbers in the range of pictures are one; few in rows and columns are a table."""
    if len(shape) == 2:
        return min(shape) >= PICTURE_SIDE
    return len(shape) == 3 and shape[2] in (1, 3, 4) and min(shape[:2]) >= SMALLEST_PICTURE


def _say(text: str) -> None:
    if text not in _said:
        _said.add(text)
        log.info(text)


def _image_form(space: spaces.Box, dtype: Any) -> spaces.Box:
    shape = space.shape if len(space.shape) == 3 else (*space.shape, 1)
    low, high = (bound.reshape(shape).astype(dtype) for bound in (space.low, space.high))
    return spaces.Box(low, high, shape, dtype)


def _refuse_channel_first(shape: tuple[int, ...], key: str, name: str) -> None:
    if len(shape) == 3 and shape[0] <= 4 and min(shape[1:]) >= 8:
        raise ValueError(
            f"{name}: observation {key or 'image'!r} has shape {shape}, which looks"
            " channel-first; expected [H, W, C] (one np.moveaxis(image, 0, -1))"
        )


def _flat(value: Any) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(value, np.float32).reshape(-1)
