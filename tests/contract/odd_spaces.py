"""Environments with odd spaces, and an agent that acts in any: `tests.contract.odd_spaces:<name>`.

Each environment sums up the native actions that reach it, so that its return shows them, and
refuses any that its space does not contain.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from reverie.types import STEP_ID, Rows
from tests.fakes import Stub

INF, LENGTH = np.inf, 6


class Odd(gymnasium.Env[Any, Any]):
    """Shows samples of its observation space; the reward is the sum of the native action."""

    def __init__(self, action: Any, obs: Any = None) -> None:
        self.action_space = action
        self.observation_space = obs or spaces.Box(-1, 1, (3,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), (action, self.action_space)
        self.steps += 1
        reward = float(np.sum(action, dtype=np.float64))
        return self.observation_space.sample(), reward, self.steps == LENGTH, False, {}


def box(low: Any, high: Any, dtype: Any = np.float32) -> spaces.Box:
    return spaces.Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)


ACTIONS: dict[str, spaces.Space[Any]] = {
    "wide": spaces.Box(0, 10, (1,)),
    "half": spaces.Box(0, INF, (1,)),
    "each_its_own": box([0, -INF, -5, -INF, 100, 2], [INF, 0, INF, INF, INF, 800]),
    "unbounded": spaces.Box(-INF, INF, (2,)),
    "matrix": spaces.Box(-3, 1, (2, 3), np.float64),
    "scalar": spaces.Box(-2, 2, ()),
    "whole": spaces.Box(-4, 9, (2,), np.int32),
    "bytes": spaces.Box(0, 255, (2,), np.uint8),
    "from_five": spaces.Discrete(3, start=5),
    "only_one": spaces.Discrete(1),
    "below_zero": spaces.MultiDiscrete([3, 4], start=[-1, -4]),
    "table": spaces.MultiDiscrete(np.array([[2, 3], [4, 5]])),
    "switches": spaces.MultiBinary((2, 2)),
}
OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "nested": spaces.Dict(
        {
            "robot": spaces.Dict({"q": spaces.Box(-1, 1, (2, 2), np.float64)}),
            "goal": spaces.Discrete(4, start=-2),
        }
    ),
    "place": spaces.Discrete(5, start=2),
    "grey": spaces.Box(0, 255, (9, 8), np.uint8),
    "colour": spaces.Box(0, 255, (8, 8, 3), np.uint8),
    "depth": spaces.Dict({"near": spaces.Box(0, 9, (8, 8), np.uint16)}),
    "flags": spaces.MultiBinary(4),
    "dials": spaces.MultiDiscrete([3, 4]),
    "counts": spaces.Box(-100, 100, (2, 3), np.int64),
    "number": spaces.Box(-1, 1, ()),
}
ODD = {name: partial(Odd, space) for name, space in ACTIONS.items()} | {
    name: partial(Odd, spaces.Box(0, 10, (1,)), space) for name, space in OBSERVATIONS.items()
}
globals().update(ODD)


class AnySpace(Stub):
    """Acts by a fixed function of all it sees and of noise, whatever the spaces."""

    def act(self, obs: Rows, carry: Any, mode: str, counters: Any) -> Any:
        keys = [key for key in self.spaces.obs if key in obs]
        seen = sum(obs[key].reshape(len(obs[key]), -1).astype(np.float64).mean(1) for key in keys)
        seen += carry["seen"] * ~obs["is_first"]
        shape = (len(seen), self.spaces.action.flat_size)
        noise = torch.randn(shape, generator=self.act_rng).numpy()
        logits = np.sin(np.outer(seen, np.arange(1, shape[1] + 1))) + 0.1 * noise
        seen = seen % 7
        if self.spaces.action.kind == "box":
            return logits.astype(np.float32), {"seen": seen}
        ends = np.cumsum(self.spaces.action.num)[:-1]
        choice = np.stack([part.argmax(1) for part in np.split(logits, ends, 1)], 1)
        return choice.reshape(len(seen), *self.spaces.action.shape), {"seen": seen}

    def initial_carry(self, count: int) -> Any:
        return {"seen": np.zeros(count)}

    def update(self, batches: Any, counters: Any) -> Any:
        ids = batches["replay"][STEP_ID].double() % 97
        loss = self.learn(torch.stack([ids, ids], -1).float(), batches["replay"]["reward"])
        return {"loss/any": loss}, {}

    def report(self, batches: Any) -> Any:
        return {}, {}
