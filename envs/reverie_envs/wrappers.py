"""Bring any gymnasium environment to the form in which the platform steps it.

Observations become a flat Dict of uint8 images, depth images and float32 vectors; Box actions
run from -1 to 1. What an environment returns is compared with the space it declared at every
step, because an array of the wrong shape or type shows its harm only far away, in the replay.
"""

from __future__ import annotations

import inspect
import logging
import math
import numbers
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from reverie.errors import ContractBroken
from reverie.native_spaces import NativeObs, NativeSpaces
from reverie.types import (
    FLAG_KEYS,
    LOG_PREFIX,
    RESERVED_KEYS,
    ROW_KEYS,
    STEP_ID,
    Array,
    ArraySpec,
    Rows,
    Spaces,
)
from reverie_envs.actions import action_form, native_action

log = logging.getLogger(__name__)
_said: set[str] = set()
"""What was logged in this process: environments are built again and again."""
PICTURE_SIDE = 32
"""Least sides of a matrix of floats that counts as a picture."""
SMALLEST_PICTURE = 8
"""Least sides of floats [H, W, C] that do."""
TAKEN_KEYS = frozenset((*ROW_KEYS, *FLAG_KEYS, *RESERVED_KEYS, STEP_ID))

Convert = Callable[[Any], Array]
Info = dict[str, Any]


class ContractError(ContractBroken):
    """An environment returned something else than its spaces declare."""


class WrongCode(ContractError):
    """It will do so again: another type, shape, number of values or signature."""

    will_repeat = True


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


def standardise(env: gymnasium.Env[Any, Any], name: str | None = None) -> gymnasium.Env[Any, Any]:
    """Return `env` with flat Dict observations and normalised actions, checked at every step.

    An environment that is in that form already is returned as it is.

    Args:
        env: Any gymnasium environment.
        name: What error messages call it; by default what `env_name` finds.

    Raises:
        ValueError: a space that is not supported, naming its key.
    """
    if isinstance(env, NormalActions):
        return env
    # One that a suite made has the form already, and knows what the environment gave before.
    if not isinstance(env, DictObservations) or name not in (None, env.name):
        env = DictObservations(env, name)
    return NormalActions(env)


def spaces_of(env: gymnasium.Env[Any, Any]) -> Spaces:
    """Return the plain-data spaces of `env`, which is standardised for this if it is not yet."""
    env = standardise(env)
    assert isinstance(env, NormalActions)
    native = NativeSpaces({leaf.key: leaf.form for leaf in env.leaves}, env.convert.form)
    return Spaces({leaf.key: leaf.spec for leaf in env.leaves}, env.spec_of_action, native)


def env_name(env: gymnasium.Env[Any, Any]) -> str:
    """Name `env` in messages: the name a suite gave it, its gymnasium id, or its class."""
    for layer in layers(env):
        if isinstance(layer, DictObservations):
            return layer.name
    if env.spec is not None:
        return env.spec.id
    kind = type(env.unwrapped)
    return f"{kind.__module__}:{kind.__qualname__}"


def layers(env: gymnasium.Env[Any, Any]) -> Iterator[gymnasium.Env[Any, Any]]:
    """Yield `env` and everything it wraps, outermost first."""
    while True:
        yield env
        if not isinstance(env, gymnasium.Wrapper):
            return
        env = env.env


class DictObservations(gymnasium.Wrapper, RecordConstructorArgs):  # type: ignore[type-arg]
    """Flat Dict observations, whatever `env` gives; actions stay native.

    Image arrays and float32 vectors are passed on without a copy. Pictures of bytes are resized to
    `size` x `size`, if that is given, by area.
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], name: str | None = None, size: int | None = None
    ) -> None:
        RecordConstructorArgs.__init__(self, name=name, size=size)  # `gymnasium.make` repeats it
        gymnasium.Wrapper.__init__(self, env)
        self.name = name or env_name(env)
        _check_calls(env, self.name)
        self.leaves = tuple(_leaves(_space(env, "observation_space"), self.name, size))
        self.observation_space = spaces.Dict({leaf.key: leaf.space for leaf in self.leaves})

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Rows, Info]:
        """Start an episode. Raises: ContractError."""
        returned = self.env.reset(seed=seed, options=options)
        obs, info = _parts(returned, ("observation", "info"), "reset", self.name)
        return self._rows(obs), _checked_info(info, self.name)

    def step(self, action: Any) -> tuple[Rows, float, bool, bool, Info]:
        """Take one decision. Raises: ContractError."""
        returned = self.env.step(action)
        parts = ("observation", "reward", "terminated", "truncated", "info")
        obs, reward, terminated, truncated, info = _parts(returned, parts, "step", self.name)
        reward = _checked_reward(reward, self.name)
        for what, flag in (("terminated", terminated), ("truncated", truncated)):
            if not isinstance(flag, bool | np.bool_):
                raise WrongCode(f"{self.name}: {what} is {flag!r}, expected a bool")
        info = _checked_info(info, self.name)
        return self._rows(obs), reward, bool(terminated), bool(truncated), info

    def _rows(self, obs: Any) -> Rows:
        return {
            leaf.key: _checked(leaf, _lookup(leaf, obs, self.name), self.name)
            for leaf in self.leaves
        }


class NormalActions(gymnasium.Wrapper, RecordConstructorArgs):  # type: ignore[type-arg]
    """Actions as `ActionSpec` describes them: Box from -1 to 1, discrete ones from 0.

    What they become is said at `NativeActions`.
    """

    def __init__(self, env: DictObservations) -> None:
        RecordConstructorArgs.__init__(self)
        gymnasium.Wrapper.__init__(self, env)
        self.leaves = env.leaves
        self.name = env.name
        self.spec_of_action, self.action_space = action_form(_space(env, "action_space"), env.name)
        self.convert = native_action(env.action_space, env.name).converter()

    def step(self, action: Any) -> tuple[Rows, float, bool, bool, Info]:
        """Take one decision. Raises: ContractError, ValueError for a non-finite action."""
        return self.env.step(self.convert(action))  # type: ignore[return-value]


# Observation spaces


def _space(env: gymnasium.Env[Any, Any], name: str) -> Any:
    """A space of `env`; None, which is refused as any other is, where it declares none."""
    return getattr(env, name, None)


def _leaves(space: spaces.Space[Any], name: str, size: int | None) -> Iterator[Leaf]:
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
    return iter(found)


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


# What environments return


def _check_calls(env: gymnasium.Env[Any, Any], name: str) -> None:
    """Refuse methods that cannot be called as they will be, of `env` and of all that it wraps.

    Raises: WrongCode.
    """
    for layer in layers(env):
        where = f"{name}: {type(layer).__name__}"
        _check_call(layer.reset, f"{where}.reset", "seed=None, options=None", seed=0, options=None)
        _check_call(layer.step, f"{where}.step", "action", 0)


def _check_call(
    method: Callable[..., Any], where: str, wanted: str, *args: Any, **kwargs: Any
) -> None:
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):  # no signature: some of what is written in C
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        own = "self, *, " if kwargs else "self, "
        seed = " and begin it with super().reset(seed=seed)" if kwargs else ""
        raise WrongCode(
            f"{where}{signature}: {error}; write def {method.__name__}({own}{wanted}){seed}"
        ) from None


def _parts(returned: Any, names: tuple[str, ...], call: str, name: str) -> tuple[Any, ...]:
    if isinstance(returned, tuple) and len(returned) == len(names):
        return returned
    size = f"{len(returned)} values" if isinstance(returned, tuple) else type(returned).__name__
    old = call == "step" and isinstance(returned, tuple) and len(returned) == 4
    hint = "; split `done` of old gym into `terminated` and `truncated`" if old else ""
    raise WrongCode(
        f"{name}: {call} returned {size}, expected ({', '.join(names)}) as in gymnasium{hint}"
    )


def _lookup(leaf: Leaf, obs: Any, name: str) -> Any:
    for part in leaf.path:
        if not isinstance(obs, Mapping) or part not in obs:
            there = sorted(map(str, obs)) if isinstance(obs, Mapping) else type(obs).__name__
            raise WrongCode(f"{name}: observation {leaf.key!r} is missing; returned: {there}")
        obs = obs[part]
    return obs


def _checked(leaf: Leaf, value: Any, name: str) -> Array:
    """Convert `value` after comparing it with the native space. Raises: ContractError."""
    fault = _fault(leaf.native, value)
    if fault is None:
        array = leaf.convert(value)
        floats = [each for each in (array, value) if np.asarray(each).dtype.kind == "f"]
        if not floats or (finite := np.isfinite(floats[0])).all():
            return array
        at = int(np.argmin(finite))
        fault = f"is not finite as float32: it holds {np.ravel(value)[at]}"
        raise ContractError(f"{name}: observation {leaf.key!r} {fault}")
    raise WrongCode(f"{name}: observation {leaf.key!r} {fault}")


def _fault(space: spaces.Space[Any], value: Any) -> str | None:
    if isinstance(space, spaces.Discrete):
        inside = isinstance(value, numbers.Integral | np.ndarray) and space.contains(value)
        return None if inside else f"is {value!r}, its space says {space}"
    if not isinstance(value, np.ndarray | np.generic):
        return f"is a {type(value).__name__}, its space says an array {space.shape}"
    if value.shape != space.shape:
        return f"has shape {value.shape}, its space says {space.shape}"
    if isinstance(space, spaces.Box):
        same = value.dtype == space.dtype
    else:
        same = value.dtype.kind in "iub"
    return None if same else f"has dtype {value.dtype}, its space says {space.dtype}"


def _checked_reward(reward: Any, name: str) -> float:
    value = math.nan
    if np.shape(reward) == () and not isinstance(reward, str):
        with suppress(TypeError, ValueError):
            value = float(reward)
    with np.errstate(over="ignore"):
        if np.isfinite(np.float32(value)):  # as it is kept
            return value
    kind = ContractError if np.shape(reward) == () and _is_number(reward) else WrongCode
    raise kind(
        f"{name}: reward is {reward!r}, expected one finite number of float32 (below 3.4e38)"
    )


def _checked_info(info: Any, name: str) -> Info:
    if not isinstance(info, dict):
        raise WrongCode(f"{name}: info is a {type(info).__name__}, expected a dict")
    for key, value in info.items():
        if isinstance(key, str) and key.startswith(LOG_PREFIX) and not _is_number(value):
            raise WrongCode(
                f"{name}: info[{key!r}] is {value!r}, expected one number: what stands under"
                f" {LOG_PREFIX!r} is averaged into the metrics; give anything else another key"
            )
    return info


def _is_number(value: Any) -> bool:
    """Whether it is one number or truth value, alone or in an array."""
    if not isinstance(value, numbers.Real | np.bool_ | np.ndarray):
        return False
    array: Array = np.asarray(value)
    return array.size == 1 and array.dtype.kind in "biuf"
