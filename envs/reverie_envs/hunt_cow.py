"""Hunt Cow: HarmonyDream's Minecraft task, on MineDojo's combat task with a dense reward.

Source: thuml/HarmonyDream@0a22e33, wmlib-torch/wmlib/envs/minecraft.py and minedojo_utils, which
has the reward from MineDojo/MineCLIP@e6c06a0.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from reverie.types import Array, Rows
from reverie_envs.minecraft_controls import NVEC, Controls, shrink, to_minedojo
from reverie_envs.suites import drawn_seed

Info = dict[str, Any]
HIT, APPROACH = 5.0, 1.0
"""Rewards for a hit, and per block that the nearest cow in sight comes nearer."""
LENGTH = 500


class DenseReward:
    """What is added to the reward for the kill: hits, and coming nearer.

    A hit is a step in which the sword wears by exactly 1. `distance` is the least distance so far
    of any cow in sight; a hit forgets it, because the cow runs away. An episode that begins with
    no cow in sight begins with a distance of 0, so that the first sight of one pays nothing.
    """

    def reset(self, obs: Rows) -> None:
        self._least = math.inf
        self._sword = float(obs["sword"])
        seen = self._sight(obs)
        self._last = 0.0 if seen is None else seen

    def step(self, obs: Rows) -> float:
        sword = float(obs["sword"])
        hit = self._sword - sword == 1.0  # at death the sword is gone and shows 0
        self._sword = sword
        nearer = 0.0
        seen = self._sight(obs)
        if seen is not None:
            nearer, self._last = max(0.0, self._last - seen), seen
        if hit:
            self._least = math.inf
        return HIT * hit + APPROACH * nearer

    def _sight(self, obs: Rows) -> float | None:
        """Update and return the least distance if a cow is in sight, else None."""
        distances = obs["distance"][obs["cow"].astype(bool)]
        if not len(distances):
            return None
        self._least = min(self._least, float(distances.min()))
        return self._least


class HuntCow(gymnasium.Env[Rows, Any]):
    """Find and kill a cow within 500 decisions; a kill gives 200 and ends the episode.

    Args:
        client: `minecraft_child.Cow`, in its process; or what imitates it.
        hard_reset_every: episodes played in one world before a new one is made.
    """

    def __init__(
        self, client: gymnasium.Env[Any, Any], size: int, controls: Controls, hard_reset_every: int
    ) -> None:
        self._client, self._size, self._controls = client, size, controls
        self._hard_reset_every = hard_reset_every
        self._episodes, self._count = 0, 0
        self._reward = DenseReward()
        self.observation_space = spaces.Dict(
            {"image": spaces.Box(0, 255, (size, size, 3), np.uint8)}
        )
        self.action_space = spaces.MultiDiscrete(NVEC)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Rows, Info]:
        """Start an episode; every `hard_reset_every` of them in a new world made from `seed`."""
        super().reset(seed=seed)
        hard = self._episodes % self._hard_reset_every == 0
        self._episodes, self._count = self._episodes + 1, 0
        self._controls.reset()
        raw, _ = self._client.reset(seed=drawn_seed(self, seed), options={"hard": hard})
        self._reward.reset(raw)
        return self._obs(raw), {"log/success": 0.0}

    def step(self, action: Any) -> tuple[Rows, float, bool, bool, Info]:
        """Take one decision; death and the kill are terminal, the time-out is not."""
        native = to_minedojo(self._controls(action))
        raw, reward, done, _, info = self._client.step(native)
        self._count += 1
        reward = float(reward) + self._reward.step(raw)
        timed_out = self._count >= LENGTH and not done
        return self._obs(raw), reward, done, timed_out, {"log/success": float(info["success"])}

    def close(self) -> None:
        self._client.close()

    def _obs(self, raw: Rows) -> dict[str, Array]:
        return {"image": shrink(raw["image"], self._size)}
