"""Whatever spaces are drawn: rows, native actions, and what a policy reads agree with them."""

from __future__ import annotations

import json
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from reverie.observations import ObservationReader, check_native
from reverie.types import Spaces
from reverie_envs.wrappers import NormalActions, spaces_of, standardise

DRAWS = 150
NAMES = ("a", "b", "state", "observation.images.top", "eye in hand", "gr\xf6\xdfe", "x/y", 0, 1, "")
FLOATS, WHOLE = ("float16", "float32", "float64"), ("int8", "uint8", "int16", "int32", "int64")
Rng = np.random.Generator


class Shows(gymnasium.Env[Any, Any]):
    """Samples of a space."""

    def __init__(self, obs: spaces.Space[Any], action: spaces.Space[Any], seed: int) -> None:
        self.observation_space, self.action_space = obs, action
        obs.seed(seed)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.shown = self.observation_space.sample()
        return self.shown, {}

    def step(self, action: Any) -> Any:
        self.taken = action
        return self.reset()[0], 0.0, False, False, {}


def pick(rng: Rng, values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def shape(rng: Rng, least: int = 1) -> tuple[int, ...]:
    return tuple(int(n) for n in rng.integers(least, 5, int(rng.integers(0, 4))))


def box(rng: Rng, least: int = 1) -> spaces.Box:
    """Bounds of each component, some of them none; whole numbers or floats."""
    dtype = np.dtype(pick(rng, (*FLOATS, *WHOLE, "bool")))
    size = shape(rng, least)
    if dtype.kind == "b":
        return spaces.Box(0, 1, size, np.bool_)
    if dtype.kind in "iu":
        ends = np.iinfo(dtype)
        low = rng.integers(max(ends.min, -(2**40)), 1, size)
        high = low + rng.integers(0, 100, size)
        return spaces.Box(low.astype(dtype), high.astype(dtype), size, dtype)
    low = rng.uniform(-50, 50, size)
    high = low + rng.uniform(0, 50, size) * rng.integers(0, 2, size)
    low = np.where(rng.random(size) < 0.2, -np.inf, low)
    high = np.where(rng.random(size) < 0.2, np.inf, high)
    return spaces.Box(low.astype(dtype), high.astype(dtype), size, dtype)


def picture(rng: Rng) -> spaces.Box:
    sides = tuple(int(n) for n in rng.integers(8, 12, 2))
    channels = pick(rng, ((), (1,), (3,), (6,)))
    high, dtype = pick(rng, ((255, np.uint8), (1, np.float32), (255, np.float64), (9, np.uint16)))
    return spaces.Box(0, high, (*sides, *channels), dtype)


def choices(rng: Rng) -> spaces.Space[Any]:
    count = shape(rng) or (2,)
    start = int(rng.integers(-5, 5))
    return pick(
        rng,
        (
            spaces.Discrete(int(rng.integers(1, 9)), start=start),
            spaces.MultiBinary(count),
            spaces.MultiDiscrete(rng.integers(1, 6, count), start=rng.integers(-5, 5, count)),
        ),
    )


def seen(rng: Rng, depth: int = 0) -> spaces.Space[Any]:
    kind = rng.random()
    if kind < 0.6 - 0.2 * depth:
        names = rng.permutation(len(NAMES))[: int(rng.integers(1, 5))]
        return spaces.Dict({NAMES[index]: seen(rng, depth + 1) for index in names})
    return pick(rng, (box, picture, choices))(rng)


def batch(obs: Any) -> Any:
    if isinstance(obs, dict):
        return {key: batch(value) for key, value in obs.items()}
    return np.stack([obs] * 3)


def names_of(obs: Any, *path: Any) -> list[str]:
    if not isinstance(obs, spaces.Dict):
        return ["_".join(map(str, path))]
    return [name for key, inner in obs.items() for name in names_of(inner, *path, key)]


def drawn(seed: int) -> NormalActions | None:
    """An environment of random spaces; None where two keys join to one name."""
    rng = np.random.default_rng(seed)
    obs, action = seen(rng), pick(rng, (box, choices))(rng)
    joined = names_of(obs)
    if len(joined) > len(set(joined)):
        with pytest.raises(ValueError, match="once nested keys are joined"):
            standardise(Shows(obs, action, seed))
        return None
    env = standardise(Shows(obs, action, seed))
    assert isinstance(env, NormalActions)
    return env


@pytest.mark.parametrize("part", range(5))
def test_random_spaces(part: int) -> None:
    tried = 0
    for seed in range(part * DRAWS // 5, (part + 1) * DRAWS // 5):
        env = drawn(seed)
        if env is not None:
            tried += 1
            check(env, np.random.default_rng(seed))
    assert tried > 0.8 * DRAWS / 5


def check(env: NormalActions, rng: Rng) -> None:
    raw: Any = env.unwrapped
    found = spaces_of(env)
    kept = Spaces.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False)))
    assert (kept, kept.native) == (found, found.native)
    check_native(kept)
    reader, convert = ObservationReader(kept), kept.native.action.converter()  # type: ignore[union-attr]
    obs, _ = env.reset()
    for action in (*found.action.sample(rng, 4), *ends(found)):
        assert_same_rows(reader, raw.shown, obs)
        assert env.observation_space.contains(obs), (env.observation_space, obs)
        obs, *_ = env.step(action)
        assert raw.action_space.contains(raw.taken), (raw.action_space, raw.taken)
        assert raw.taken.dtype == raw.action_space.dtype
        np.testing.assert_array_equal(convert(action), raw.taken)


def ends(found: Spaces) -> list[Any]:
    """The first and the last of all actions."""
    spec = found.action
    if spec.kind == "box":
        return [np.full(spec.width, end, np.float32) for end in (-1, 1)]
    last = np.array(spec.num) - 1
    return [spec.zeros(1)[0], last[0] if spec.kind == "discrete" else last]


def assert_same_rows(reader: ObservationReader, shown: Any, obs: dict[str, Any]) -> None:
    """A policy reads one observation, a batch of them, and what the agent saw, as training did."""
    for given, single in ((shown, True), (batch(shown), False), (obs, True)):
        rows, is_single = reader.read(given)
        assert is_single == single, given
        assert rows.keys() == obs.keys()
        for key, value in obs.items():
            for row in rows[key]:
                np.testing.assert_array_equal(row, value, strict=True)
