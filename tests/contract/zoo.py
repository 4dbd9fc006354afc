"""Odd environments: `env.factory=tests.contract.zoo:<name>`.

`benchmarks/odd_envs.py` trains every agent in each of them; `zoo_fates` tells what becomes of those
in which no agent can.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.spaces import Box, Dict, Discrete

from tests.contract import zoo_env, zoo_spaces
from tests.contract.zoo_env import CAMERA, SEEN, TWO_MOTORS, ZooEnv
from tests.contract.zoo_spaces import INF, LARGEST, PART

Factory = Callable[..., Any]


# Habits


def at(step: int, value: Any, otherwise: Any = 0.5) -> Callable[[ZooEnv, Any], Any]:
    """A reward that is `value` at one step of an environment's life."""
    return lambda env, action: value if env.life == step else otherwise


def once(step: int, value: Any, otherwise: Any = 0.5) -> Callable[[ZooEnv, Any], Any]:
    """The same at one step of all environments."""
    return lambda env, action: value if zoo_env.Calls.steps == step else otherwise


def always(value: Any) -> Callable[[ZooEnv, Any], Any]:
    return lambda env, action: value


def arm(change: Callable[[Any], Any]) -> Callable[[ZooEnv, Any], Any]:
    """An observation whose vector is changed."""
    return lambda env, obs: obs | {"arm": change(obs["arm"])}


def raising(
    error: BaseException | type[BaseException], call: str = "step", every: int = 1, life: int = 0
) -> Callable[[ZooEnv, str], None]:
    """Raise in a call: at every so many steps, or only at step `life` of all environments."""

    def before(env: ZooEnv, now: str) -> None:
        due = zoo_env.Calls.steps == life if life else env.life % every == every - 1
        if now == call and due:
            raise error

    return before


def doing(call: str, function: Callable[[ZooEnv], Any]) -> Callable[[ZooEnv, str], None]:
    return lambda env, now: function(env) and None if now == call else None


class Unprintable(Exception):
    """An exception that cannot even be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def hang_once(env: ZooEnv) -> None:
    if zoo_env.Calls.steps == 40:
        time.sleep(3600)


def print_all(env: ZooEnv) -> None:
    print("a step", flush=True)  # noqa: T201
    os.write(1, b"of a C library\n")
    print("an error", file=sys.stderr)  # noqa: T201
    logging.getLogger("simulator").warning("a warning")
    warnings.warn("another one", stacklevel=1)


def growing(env: ZooEnv, obs: Any) -> Any:
    return obs | {"arm": np.zeros(4, np.float32)} if env.life > 20 else obs


def changing_space(env: ZooEnv) -> None:
    if env.life > 20:
        env.observation_space = Dict({"camera": CAMERA, "arm": Box(-1, 1, (4,))})


def shared(env: ZooEnv, obs: Any) -> Any:
    kept = env.__dict__.setdefault("kept", obs)
    for key, value in obs.items():
        kept[key][...] = value
    return kept


def readonly(env: ZooEnv, obs: Any) -> Any:
    for value in obs.values():
        value.flags.writeable = False
    return obs


def strided(env: ZooEnv, obs: Any) -> Any:
    camera = np.asfortranarray(obs["camera"])[::-1, ::-1]
    return {"camera": camera, "arm": np.repeat(obs["arm"], 2)[::-2]}


def masked(env: ZooEnv, obs: Any) -> Any:
    return {key: np.ma.masked_array(value) for key, value in obs.items()}


def leave_a_child(env: ZooEnv) -> None:
    env.__dict__["child"] = subprocess.Popen(["sleep", "60"])


def end_the_child(env: ZooEnv, call: str) -> None:
    if call == "build":
        leave_a_child(env)
    if call == "close" and "child" in env.__dict__:
        env.__dict__["child"].kill()
        env.__dict__["child"].wait()


def seed_all(env: ZooEnv) -> None:
    """What some simulators do to everybody's generators."""
    np.random.seed(0)  # noqa: NPY002
    np.seterr(all="raise")


LENGTHS: dict[str, Factory] = {
    "one_step": partial(ZooEnv, length=1),
    "two_steps": partial(ZooEnv, length=2),
    "long": partial(ZooEnv, length=50),
    "of_any_length": partial(ZooEnv, length=lambda env: int(env.np_random.integers(4, 20))),
    "without_end": partial(ZooEnv, length=None),
    "cut": partial(ZooEnv, cut=True),
    "terminated_and_cut": partial(ZooEnv, ends=lambda over, _: (over, over)),
    "with_a_time_limit": lambda: gymnasium.wrappers.TimeLimit(ZooEnv(length=None), 9),
}
REWARDS: dict[str, Factory] = {
    name: partial(ZooEnv, reward=reward)
    for name, reward in {
        "of_float32": always(np.float32(0.5)),
        "whole": always(1),
        "of_int64": always(np.int64(-1)),
        "truth": always(True),
        "truth_of_numpy": always(np.True_),
        "array_of_no_axes": always(np.array(0.5)),
        "fraction": always(Fraction(1, 3)),
        "decimal": always(Decimal("0.25")),
        "nothing_ever": always(0.0),
        "large": lambda env, _: 1e6 * (env.steps % 2),
        "very_large": at(9, 1e20),
        "array": always(np.array([0.5])),
        "list": always([0.5]),
        "text": always("0.5"),
        "none": always(None),
        "complex": always(1j),
        "nan": always(float("nan")),
        "nan_once": once(30, float("nan")),
        "inf": always(-INF),
        "beyond_float32": always(1e39),
    }.items()
}
INFOS: dict[str, Factory] = {
    name: partial(ZooEnv, info=lambda env, value=value: value)
    for name, value in {
        "whole_names": {0: "agent", 1: 2.0},
        "texts": {"why": "because", "name": "\u76ee"},
        "arrays": {"map": np.zeros((300, 300)), "state": [1, 2]},
        "none_in_it": {"goal": None},
        "nested": {"a": {"b": {"c": object()}}},
        "functions": {"reset": print, "rows": (row for row in "ab")},
        "logged": {"log/speed": 0.5, "log/success": True},
        "logged_by_numpy": {"log/speed": np.float64(0.5), "log/n": np.array([3])},
        "logged_names": {"log/a/b c": 1.0, "log/gr\xf6\xdfe": 2.0, "log/\u76ee.x": 3},
        "logged_as_ours": {"log/return": 1.0, "log/score": 2.0, "log/length": 3.0},
        "of_gymnasium": {"episode": {"r": 1.0, "l": 2}, "final_observation": None},
        "logged_without_name": {"log/": 1.0},
        "logged_inf": {"log/speed": INF},
        "logged_nan": {"log/speed": float("nan")},
        "logged_text": {"log/name": "abc"},
        "logged_array": {"log/speed": np.zeros(3)},
        "logged_none": {"log/speed": None},
        "none": None,
        "list": ["a"],
    }.items()
} | {
    "logged_late": partial(
        ZooEnv, info=lambda env: {"log/won": 1.0} if env.steps == env.limit else {}
    ),
    "logged_anew": partial(ZooEnv, info=lambda env: {f"log/step{env.steps}": 1.0}),
}
CALLS: dict[str, Factory] = {
    "any_keywords": zoo_env.AnyKeywords,
    "step_with_more": zoo_env.StepWithMore,
    "flags_of_numpy": partial(ZooEnv, ends=lambda *ends: tuple(map(np.bool_, ends))),
    "wrapped_often": lambda: gymnasium.wrappers.RecordEpisodeStatistics(
        gymnasium.wrappers.OrderEnforcing(
            gymnasium.wrappers.TransformReward(ZooEnv(), lambda reward: 0.1 * reward)
        )
    ),
    "checked_by_gymnasium": lambda: gymnasium.wrappers.PassiveEnvChecker(ZooEnv()),
    "stacked_vectors": lambda: gymnasium.wrappers.FrameStackObservation(ZooEnv(PART), 4),
    "flattened": lambda: gymnasium.wrappers.FlattenObservation(
        ZooEnv(Dict({"a": PART, "b": Discrete(3)}))
    ),
    "rescaled_actions": lambda: gymnasium.wrappers.RescaleAction(
        ZooEnv(action=Box(0, 10, (2,))), np.float32(-1), np.float32(1)
    ),
    "clipped_actions": lambda: gymnasium.wrappers.ClipAction(ZooEnv()),
    "autoreset": lambda: gymnasium.wrappers.Autoreset(ZooEnv()),
    "by_id": lambda: gymnasium.make("MountainCarContinuous-v0", max_episode_steps=9),
    "with_arguments": lambda level=1, **more: ZooEnv(length=4 + level),
    "old_step": zoo_env.OldStep,
    "six_values": zoo_env.SixValues,
    "list_of_values": zoo_env.ListStep,
    "old_reset": zoo_env.OldReset,
    "no_seed": zoo_env.NoSeed,
    "no_options": zoo_env.NoOptions,
    "seed_without_default": zoo_env.SeedWithoutDefault,
    "step_with_two": zoo_env.StepWithTwo,
    "flags_of_int": partial(ZooEnv, ends=lambda *ends: tuple(map(int, ends))),
    "flags_in_arrays": partial(ZooEnv, ends=lambda *ends: tuple(map(np.array, ends))),
    "no_spaces": zoo_env.NoSpaces,
    "not_an_env": zoo_env.NotAnEnv,
    "no_env_at_all": lambda: None,
    "wants_arguments": lambda level: ZooEnv(length=4 + level),
}
RETURNS: dict[str, Factory] = {
    "more_keys": partial(ZooEnv, show=lambda env, obs: obs | {"more": "left aside"}),
    "readonly": partial(ZooEnv, show=readonly),
    "strided": partial(ZooEnv, show=strided),
    "masked": partial(ZooEnv, show=masked),
    "shared": partial(ZooEnv, show=shared),
    "out_of_range": partial(ZooEnv, show=arm(lambda value: 7 * value)),
    "huge_numbers": partial(ZooEnv, Dict({"arm": Box(-LARGEST, LARGEST, (3,))}), show=arm(np.copy)),
    "as_list": partial(ZooEnv, show=arm(list)),
    "as_float64": partial(ZooEnv, show=arm(np.float64)),
    "big_endian": partial(ZooEnv, show=arm(lambda value: value.astype(">f4"))),
    "as_objects": partial(ZooEnv, show=arm(lambda value: value.astype(object))),
    "another_shape": partial(ZooEnv, show=arm(lambda value: value[:2])),
    "growing": partial(ZooEnv, show=growing),
    "key_missing": partial(ZooEnv, show=lambda env, obs: {"camera": obs["camera"]}),
    "nan": partial(ZooEnv, show=arm(lambda value: value * np.float32("nan"))),
    "none": partial(ZooEnv, show=always(None)),
    "place_outside": partial(ZooEnv, Discrete(3), show=always(np.int64(3))),
    "changing_space": partial(ZooEnv, before=doing("reset", changing_space)),
}
FAULTS: dict[str, Factory] = {
    "prints": partial(ZooEnv, before=doing("step", print_all)),
    "slow": partial(ZooEnv, before=doing("step", lambda env: time.sleep(0.005))),
    "slow_to_build": partial(ZooEnv, before=doing("build", lambda env: time.sleep(0.7))),
    "seeds_all": partial(ZooEnv, before=doing("reset", seed_all)),
    "moves_away": partial(ZooEnv, before=doing("build", lambda env: os.chdir("/"))),
    "has_a_child": partial(ZooEnv, before=end_the_child),
    "raises_once": partial(ZooEnv, before=raising(OSError("lost the simulator"), life=30)),
    "raises_at_times": partial(ZooEnv, before=raising(OSError("diverged"), every=60)),
    "hangs_once": partial(ZooEnv, before=doing("step", hang_once)),
    "raises_at_close": partial(ZooEnv, before=raising(OSError("no such window"), "close")),
    "raises_at_build": partial(ZooEnv, before=raising(OSError("no licence server"), "build")),
    "raises_at_reset": partial(ZooEnv, before=raising(OSError("no licence server"), "reset")),
    "raises_at_step": partial(ZooEnv, before=raising(ZeroDivisionError("physics"))),
    "raises_in_lines": partial(ZooEnv, before=raising(ValueError("one\ntwo %s {three}\n"))),
    "raises_nothing_said": partial(ZooEnv, before=raising(AssertionError())),
    "raises_what_cannot_be_shown": partial(ZooEnv, before=raising(Unprintable())),
    "stops_iteration": partial(ZooEnv, before=raising(StopIteration("no more levels"))),
    "exits": partial(ZooEnv, before=raising(SystemExit(3))),
    "interrupts": partial(ZooEnv, before=raising(KeyboardInterrupt())),
    "lacks_a_package": partial(ZooEnv, before=raising(ImportError("No module pybullet"))),
    "hangs_at_reset": partial(ZooEnv, before=doing("reset", lambda env: time.sleep(3600))),
}

CHOICES: dict[str, spaces.Space[Any]] = {"nested": Discrete(3), "place": Discrete(4, start=1)}
"""Actions of environments that need not move two motors."""


def seeing(obs: spaces.Space[Any], action: spaces.Space[Any] | None = None) -> Factory:
    return partial(ZooEnv, obs, TWO_MOTORS if action is None else action)


ENVS: dict[str, Factory] = {
    **{f"vector_{k}": seeing(space, CHOICES.get(k)) for k, space in zoo_spaces.VECTORS.items()},
    **{f"dict_{k}": seeing(space, CHOICES.get(k)) for k, space in zoo_spaces.DICTS.items()},
    **{f"picture_{k}": seeing(space) for k, space in zoo_spaces.PICTURES.items()},
    **{f"unsupported_{k}": seeing(space) for k, space in zoo_spaces.UNSUPPORTED.items()},
    **{f"action_{k}": seeing(SEEN, space) for k, space in zoo_spaces.ACTIONS.items()},
    **{f"length_{k}": factory for k, factory in LENGTHS.items()},
    **{f"reward_{k}": factory for k, factory in REWARDS.items()},
    **{f"info_{k}": factory for k, factory in INFOS.items()},
    **{f"call_{k}": factory for k, factory in CALLS.items()},
    **{f"return_{k}": factory for k, factory in RETURNS.items()},
    **{f"fault_{k}": factory for k, factory in FAULTS.items()},
}
globals().update(ENVS)

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "length_one_step": ("learner.batch_length=2",),
    "length_two_steps": ("learner.batch_length=3",),
    "picture_atari": ("env.size=64",),
    "call_with_arguments": ("env.kwargs.level=3", "env.kwargs.name=a b"),
    **{name: ("env.step_timeout_s=2",) for name in ENVS if name.startswith("fault_hangs")},
}
"""Keys that a user of this environment has to set, or may."""
