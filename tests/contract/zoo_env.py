"""The environment behind `tests.contract.zoo`: any spaces, and habits given as functions."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

CAMERA = spaces.Box(0, 255, (16, 16, 3), np.uint8)
SEEN = spaces.Dict({"camera": CAMERA, "arm": spaces.Box(-1, 1, (3,))})
"""Pictures and numbers, as most agents take them."""
TWO_MOTORS = spaces.Box(-1, 1, (2,))

Hook = Callable[["ZooEnv"], Any]


class Calls:
    """How often this process reset and stepped environments of the zoo."""

    resets = steps = 0


class ZooEnv(gymnasium.Env[Any, Any]):
    """Shows samples of its observation space; the reward tells what action came.

    Args:
        length: Decisions per episode, None for ever; a function of the environment draws it.
        show: Turns a sample into what is returned.
        reward: Of the environment and the native action.
        info: What `reset` and `step` return as info.
        before: Called with `build`, `reset`, `step` or `close` before each of these.
        ends: What becomes of (terminated, truncated) before they are returned.
        cut: Whether episodes end as truncated.
    """

    metadata = {"render_modes": []}

    def __init__(
        self,
        obs: spaces.Space[Any] = SEEN,
        action: spaces.Space[Any] = TWO_MOTORS,
        *,
        length: int | Hook | None = 7,
        show: Callable[[ZooEnv, Any], Any] | None = None,
        reward: Callable[[ZooEnv, Any], Any] | None = None,
        info: Hook | None = None,
        before: Callable[[ZooEnv, str], None] | None = None,
        ends: Callable[[bool, bool], Any] | None = None,
        cut: bool = False,
    ) -> None:
        # A space has a random generator: two environments must not share it.
        self.observation_space, self.action_space = copy.deepcopy(obs), copy.deepcopy(action)
        self._length, self._show, self._reward, self._info = length, show, reward, info
        self._before, self._ends, self._cut = before, ends, cut
        self.steps = self.life = 0
        """Decisions in this episode, and of this environment."""
        self._hook("build")

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        Calls.resets += 1
        self._hook("reset")
        self.observation_space.seed(seed)
        self.steps = 0
        self.limit = self._length(self) if callable(self._length) else self._length
        return self.see(), self.tell()

    def step(self, action: Any) -> Any:
        Calls.steps += 1
        self._hook("step")
        if not self.action_space.contains(action):
            raise AssertionError(f"{action!r} is not in {self.action_space}")
        self.steps += 1
        self.life += 1
        over = self.limit is not None and self.steps >= self.limit
        ends = (over and not self._cut, over and self._cut)
        ends = self._ends(*ends) if self._ends else ends
        return self.see(), self.pay(action), *ends, self.tell()

    def close(self) -> None:
        self._hook("close")

    def see(self) -> Any:
        sample = self.observation_space.sample()
        return self._show(self, sample) if self._show else sample

    def pay(self, action: Any) -> Any:
        if self._reward:
            return self._reward(self, action)
        return float(np.sin(np.sum(action, dtype=np.float64)))

    def tell(self) -> Any:
        return self._info(self) if self._info else {}

    def _hook(self, call: str) -> None:
        if self._before:
            self._before(self, call)


# Those who write methods otherwise


class OldStep(ZooEnv):
    """Old gym's four values."""

    def step(self, action: Any) -> Any:
        obs, reward, over, _, info = super().step(action)
        return obs, reward, over, info


class SixValues(ZooEnv):
    def step(self, action: Any) -> Any:
        return *super().step(action), "more"


class ListStep(ZooEnv):
    def step(self, action: Any) -> Any:
        return list(super().step(action))


class OldReset(ZooEnv):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed)[0]


class NoSeed(ZooEnv):
    def reset(self) -> Any:  # type: ignore[override]
        return super().reset()


class NoOptions(ZooEnv):
    def reset(self, seed: int | None = None) -> Any:  # type: ignore[override]
        return super().reset(seed=seed)


class AnyKeywords(ZooEnv):
    def reset(self, **kwargs: Any) -> Any:  # type: ignore[override]
        return super().reset(seed=kwargs.get("seed"))


class SeedWithoutDefault(ZooEnv):
    def reset(self, seed: int, options: Any) -> Any:  # type: ignore[override]
        return super().reset(seed=seed)


class StepWithMore(ZooEnv):
    def step(self, action: Any, repeat: int = 1, *, render: bool = False) -> Any:
        return super().step(action)


class StepWithTwo(ZooEnv):
    def step(self, action: Any, speed: float) -> Any:  # type: ignore[override]
        return super().step(action)


class NoSpaces(gymnasium.Env[Any, Any]):
    """Forgot to say what it shows."""


class NotAnEnv:
    """Has the methods of one, by its own word."""

    def reset(self, seed: int | None = None) -> Any:
        return np.zeros(3, np.float32), {}
