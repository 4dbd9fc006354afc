"""Bring any gymnasium environment to the form in which the platform steps it.

Observations become a flat Dict of uint8 images, depth images and float32 vectors; Box actions
run from -1 to 1. What an environment returns is compared with the space it declared at every
step, because an array of the wrong shape or type shows its harm only far away, in the replay.
"""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from reverie.errors import ContractBroken
from reverie.native_spaces import NativeSpaces
from reverie.types import LOG_PREFIX, Array, Rows, Spaces
from reverie_envs.actions import action_form, native_action
from reverie_envs.observations import Leaf, observation_leaves

Info = dict[str, Any]


class ContractError(ContractBroken):
    """An environment returned something else than its spaces declare."""


class WrongCode(ContractError):
    """It will do so again: another type, shape, number of values or signature."""

    will_repeat = True


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
        self.leaves = observation_leaves(_space(env, "observation_space"), self.name, size)
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


def _space(env: gymnasium.Env[Any, Any], name: str) -> Any:
    """A space of `env`; None, which is refused as any other is, where it declares none."""
    return getattr(env, name, None)


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
