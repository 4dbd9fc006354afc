"""Many environments stepped one after the other in this process, as rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import gymnasium
import numpy as np

from reverie.protocols import EnvSeed
from reverie.types import FLAG_KEYS, LOG_PREFIX, Array, Rows, Spaces
from reverie_envs.wrappers import spaces_of, standardise

EnvMaker = Callable[[], gymnasium.Env[Any, Any]]


class SyncVectorEnv:
    """A `VectorEnv` over environments that the makers build, standardised here.

    Episode e of environment i always starts with `reset(seed=seeds(i, e))`, so that what it
    shows does not depend on how environments are spread over workers.
    A `log/*` key joins the rows when an environment first reports it, and stays; where it is
    missing from a step it is 0.
    Atari comes this way too: ale-py's own vector environment takes as much CPU time
    (`benchmarks/env_rate.py`), steps all its games or none, and draws later starts itself.
    """

    def __init__(self, makers: Sequence[EnvMaker], seeds: EnvSeed) -> None:
        """Build the environments.

        Raises:
            ValueError: no makers, an unsupported space, or environments whose spaces differ.
        """
        self.num_envs = len(makers)
        if not makers:
            raise ValueError("SyncVectorEnv: expected at least one environment maker, got none")
        self._seeds = seeds
        with ExitStack() as stack:
            self._envs = [_build(maker, stack) for maker in makers]
            self.spaces = _common_spaces(self._envs)
            self._close = stack.pop_all().close
        self._rows = _empty_rows(self.spaces, self.num_envs)
        self._episodes = [0] * self.num_envs
        self._needs_reset = np.ones(self.num_envs, bool)

    def step(self, actions: Array, mask: Array) -> Rows:
        """See `reverie.protocols.VectorEnv.step`. The arrays are reused by the next call."""
        for index in np.flatnonzero(mask):
            if self._needs_reset[index]:
                self._reset(int(index))
            else:
                self._step(int(index), actions[index])
        return dict(self._rows)

    def restart(self, mask: Array) -> None:
        """See `reverie.protocols.VectorEnv.restart`."""
        self._needs_reset |= mask

    def close(self) -> None:
        """Close every environment, also when closing one of them fails."""
        self._close()

    def _reset(self, index: int) -> None:
        seed = self._seeds(index, self._episodes[index])
        obs, info = self._envs[index].reset(seed=seed)
        self._episodes[index] += 1
        self._write(index, obs, info, 0.0, (True, False, False))

    def _step(self, index: int, action: Array) -> None:
        obs, reward, terminated, truncated, info = self._envs[index].step(action)
        self._write(index, obs, info, float(reward), (False, terminated or truncated, terminated))

    def _write(
        self, index: int, obs: Rows, info: dict[str, Any], reward: float, flags: tuple[bool, ...]
    ) -> None:
        for key, value in obs.items():
            self._rows[key][index] = value
        self._rows["reward"][index] = reward
        for key, value in zip(FLAG_KEYS, flags, strict=True):
            self._rows[key][index] = value
        self._write_logs(index, info)
        self._needs_reset[index] = self._rows["is_last"][index]

    def _write_logs(self, index: int, info: dict[str, Any]) -> None:
        for key in info:
            # Other keys, not all of them text, are the environment's own business.
            if isinstance(key, str) and key.startswith(LOG_PREFIX) and key not in self._rows:
                self._rows[key] = np.zeros(self.num_envs, np.float32)
        for key, column in self._rows.items():
            if key.startswith(LOG_PREFIX):
                column[index] = np.asarray(info.get(key, 0.0), np.float32).item()


def _build(maker: EnvMaker, stack: ExitStack) -> gymnasium.Env[Any, Any]:
    env = standardise(maker())
    stack.callback(env.close)
    return env


def _common_spaces(envs: list[gymnasium.Env[Any, Any]]) -> Spaces:
    first = spaces_of(envs[0])
    for index, env in enumerate(envs[1:], start=1):
        if (other := spaces_of(env)) != first:
            raise ValueError(
                f"environment {index} has other spaces than environment 0:"
                f" {other} instead of {first}"
            )
    return first


def _empty_rows(spaces: Spaces, count: int) -> Rows:
    keys = (*spaces.obs, "reward", *FLAG_KEYS)
    specs = spaces.row_spec()
    return {key: np.zeros((count, *specs[key].shape), specs[key].dtype) for key in keys}
