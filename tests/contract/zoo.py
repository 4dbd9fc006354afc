"""Odd environments, `env.factory=tests.contract.zoo:<name>`, and what may be refused of them.

`benchmarks/odd_envs.py` trains every agent in each of them.
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
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

from tests.contract import zoo_env
from tests.contract.zoo_env import CAMERA, SEEN, TWO_MOTORS, ZooEnv

INF, LARGEST = np.inf, float(np.finfo(np.float32).max)
PART = Box(-1, 1, (2,))
Factory = Callable[..., Any]


def box(low: Any, high: Any, dtype: Any = np.float32) -> Box:
    """With bounds of each component."""
    return Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)


def picture(*shape: int, high: float = 255, dtype: Any = np.uint8) -> Box:
    return Box(0, high, shape, dtype)


def seen_as(*keys: Any) -> Dict:
    """A picture and a vector by these names."""
    return Dict(dict(zip(keys, (CAMERA, PART), strict=True)))


VECTORS: dict[str, spaces.Space[Any]] = {
    "float16": Box(-1, 1, (3,), np.float16),
    "float32": Box(-1, 1, (3,)),
    "float64": Box(-1, 1, (3,), np.float64),
    "int8": Box(-128, 127, (3,), np.int8),
    "int16": Box(-999, 999, (3,), np.int16),
    "int32": Box(-9, 9, (3,), np.int32),
    "int64": Box(-(2**40), 2**40, (3,), np.int64),
    "uint8": Box(0, 255, (7,), np.uint8),
    "uint16": Box(0, 65535, (3,), np.uint16),
    "uint32": Box(0, 2**32 - 1, (3,), np.uint32),
    "flags": Box(0, 1, (4,), np.bool_),
    "half": Box(0, INF, (3,)),
    "below": Box(-INF, 5, (3,), np.float64),
    "unbounded": Box(-INF, INF, (3,), np.float64),
    "each_its_own": box([0, -INF, -INF, 3], [INF, 0, INF, 4]),
    "narrow": Box(0, 1e-6, (3,)),
    "constant": Box(2, 2, (3,)),
    "number": Box(-1, 1, ()),
    "whole_number": Box(0, 9, (), np.int64),
    "one": Box(-1, 1, (1,)),
    "matrix": Box(-1, 1, (2, 3)),
    "whole_matrix": Box(-9, 9, (2, 3), np.int32),
    "lidar": Box(0, 9, (4, 5, 6)),
    "four_axes": Box(-1, 1, (2, 3, 4, 5)),
    "wide": Box(-1, 1, (3000,)),
    "place": Discrete(5),
    "place_from_two": Discrete(5, start=2),
    "place_below_zero": Discrete(3, start=-7),
    "one_place": Discrete(1),
    "many_places": Discrete(500),
    "dials": MultiDiscrete([3, 4]),
    "dials_from": MultiDiscrete([3, 4], start=[-2, 5]),
    "table_of_dials": MultiDiscrete(np.array([[2, 3], [4, 5]])),
    "switches": MultiBinary(4),
    "board_of_switches": MultiBinary((2, 3)),
    "one_switch": MultiBinary(1),
}
DICTS: dict[str, spaces.Space[Any]] = {
    "nested": Dict({"robot": Dict({"q": PART, "v": PART}), "goal": Discrete(4, start=-2)}),
    "deep": Dict({"a": Dict({"b": Dict({"c": Dict({"d": PART, "eye": CAMERA})})})}),
    "all_kinds": Dict(
        {
            "camera": CAMERA,
            "place": Discrete(3),
            "dials": MultiDiscrete([2, 2]),
            "switches": MultiBinary(2),
            "number": Box(-1, 1, ()),
            "counts": Box(0, 9, (2,), np.int16),
        }
    ),
    "many_keys": Dict({f"sensor{number}": PART for number in range(40)}),
    "dots": seen_as("observation.images.top", "observation.state"),
    "slashes": seen_as("front/rgb", "agent/pos"),
    "blanks": seen_as("eye in hand", " joint angles "),
    "unicode": seen_as("\u76ee", "gr\xf6\xdfe"),
    "punctuation": seen_as("a:b*c?", "<d>|'\"\\"),
    "upper_and_lower": seen_as("State", "state"),
    "whole_names": Dict({0: CAMERA, 1: PART, 10: PART}),
    "mixed_names": Dict({"a": PART, 1: CAMERA}),
    "empty_name": Dict({"": PART, "b": CAMERA}),
    "long_name": seen_as("x" * 200, "y" * 300),
    "names_of_torch": seen_as("forward", "training"),
    "dunder_names": seen_as("__class__", "__dict__"),
    "names_of_tables": seen_as("side/rgb", "side/pos"),
    "names_of_figures": seen_as("loss/image", "eval/score"),
    "swapped_names": seen_as("proprio", "image"),
    "double_underscore": Dict({"a__b": PART, "a": Dict({"c": PART})}),
    "empty_part": Dict({"state": PART, "goal": Dict({})}),
    "nothing_in_one": Dict({"state": PART, "mask": Box(-1, 1, (0,))}),
    "nothing_at_all": Box(-1, 1, (0,)),
    "empty_dict": Dict({}),
    "joined_twice": Dict({"a_b": PART, "a": Dict({"b": PART})}),
    "taken_reward": Dict({"reward": PART, "camera": CAMERA}),
    "taken_first": Dict({"is_first": Discrete(2), "camera": CAMERA}),
    "taken_action": Dict({"action": PART, "camera": CAMERA}),
    "taken_log": Dict({"log/speed": PART, "camera": CAMERA}),
    "taken_id": Dict({"step_id": PART, "camera": CAMERA}),
    "taken_mask": Dict({"action_mask": MultiBinary(2), "camera": CAMERA}),
}
PICTURES: dict[str, spaces.Space[Any]] = {
    "tiny": picture(8, 8, 3),
    "grey": picture(64, 64),
    "grey_one": picture(64, 64, 1),
    "two_channels": picture(32, 32, 2),
    "four_channels": picture(84, 84, 4),
    "five_channels": picture(32, 32, 5),
    "six_channels": picture(64, 64, 6),
    "square": picture(64, 64, 3),
    "racing": picture(96, 96, 3),
    "low": picture(84, 96, 3),
    "odd_sides": picture(75, 101, 3),
    "atari": picture(210, 160, 3),
    "strip": picture(8, 64, 3),
    "from_a_half": Box(128, 255, (16, 16, 3), np.uint8),
    "rgb_from_zero_to_one": picture(64, 64, 3, high=1, dtype=np.float32),
    "rgb_of_float64": picture(32, 32, 3, high=1, dtype=np.float64),
    "rgb_of_float16": picture(32, 32, 3, high=1, dtype=np.float16),
    "rgb_of_255_floats": picture(32, 32, 3, high=255, dtype=np.float32),
    "grey_of_floats": picture(64, 64, high=1, dtype=np.float32),
    "around_zero": Box(-1, 1, (16, 16, 3)),
    "depth_in_mm": picture(32, 32, high=65535, dtype=np.uint16),
    "depth_of_one_channel": picture(32, 32, 1, high=9999, dtype=np.uint16),
    "depth_in_m": picture(32, 32, 1, high=10, dtype=np.float32),
    "depth_without_end": picture(32, 32, high=INF, dtype=np.float32),
    "mask": Box(0, 1, (16, 16), np.bool_),
    "rgb_of_int32": picture(16, 16, 3, dtype=np.int32),
    "two_cameras": Dict({"left": picture(64, 64, 3), "wrist": picture(32, 48, 1)}),
    "five_cameras": Dict({f"camera{number}": CAMERA for number in range(5)}),
    "colour_and_depth": Dict(
        {"rgb": CAMERA, "depth": picture(16, 16, 1, high=10, dtype=np.float32)}
    ),
    "channel_first": picture(3, 64, 64),
    "grey_channel_first": picture(1, 64, 64),
    "stack_of_grey": picture(4, 84, 84),
    "floats_channel_first": picture(3, 64, 64, high=1, dtype=np.float32),
    "stack_of_rgb": picture(4, 32, 32, 3),
}
UNSUPPORTED: dict[str, spaces.Space[Any]] = {
    "tuple": spaces.Tuple((PART, Discrete(3))),
    "text": spaces.Text(9),
    "sequence": spaces.Sequence(PART),
    "graph": spaces.Graph(PART, Discrete(2)),
    "either": spaces.OneOf((PART, Discrete(3))),
    "tuple_inside": Dict({"a": PART, "b": spaces.Tuple((PART, PART))}),
    "text_inside": Dict({"camera": CAMERA, "mission": spaces.Text(9)}),
}
ACTIONS: dict[str, spaces.Space[Any]] = {
    "one_motor": Box(-1, 1, (1,)),
    "twenty_motors": Box(-1, 1, (20,)),
    "from_zero": Box(0, 10, (1,)),
    "upwards": Box(0, INF, (1,)),
    "downwards": Box(-INF, -3, (2,), np.float64),
    "each_its_own": box([0, -INF, -5, -INF, 100, 2], [INF, 0, INF, INF, INF, 800]),
    "unbounded": Box(-INF, INF, (2,)),
    "huge": Box(-LARGEST, LARGEST, (2,)),
    "narrow": Box(1, 1 + 1e-6, (2,), np.float64),
    "fixed": box([-1, 2], [1, 2]),
    "tenths": Box(0.1, 0.3, (2,)),
    "float16": Box(-3, 1, (2,), np.float16),
    "float64": Box(-3, 1, (2,), np.float64),
    "whole": Box(-4, 9, (2,), np.int32),
    "int64_upwards": box([0, 5], [np.iinfo(np.int64).max, 9], np.int64),
    "bytes": Box(0, 255, (2,), np.uint8),
    "truths": Box(0, 1, (2,), np.bool_),
    "scalar": Box(-2, 2, ()),
    "matrix": Box(-3, 1, (2, 3)),
    "cube": Box(-1, 1, (1, 2, 1)),
    "from_five": Discrete(3, start=5),
    "below_zero": Discrete(2, start=-1),
    "only_one": Discrete(1),
    "thousand": Discrete(1000),
    "int32_choice": Discrete(4, dtype=np.int32),
    "keys_and_mouse": MultiDiscrete([3, 3, 2, 2, 2, 11, 11]),
    "dials_below_zero": MultiDiscrete([3, 4], start=[-1, -4]),
    "some_without_choice": MultiDiscrete([1, 3]),
    "table": MultiDiscrete(np.array([[2, 3], [4, 5]])),
    "switch": MultiBinary(1),
    "switches": MultiBinary((2, 2)),
    "none": Box(-1, 1, (0,)),
    "dict": Dict({"move": Discrete(3), "aim": PART}),
    "tuple": spaces.Tuple((Discrete(2), PART)),
    "text": spaces.Text(3),
    "sequence": spaces.Sequence(Discrete(2)),
}


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
    print("a step", flush=True)
    os.write(1, b"of a C library\n")
    print("an error", file=sys.stderr)
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
    "long": partial(ZooEnv, length=70),
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
    "huge_numbers": partial(
        ZooEnv, Dict({"arm": Box(-LARGEST, LARGEST, (3,))}), show=arm(np.copy)
    ),
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

OWN_ACTION: dict[str, spaces.Space[Any]] = {"nested": Discrete(3), "place": Discrete(4, start=1)}
ENVS: dict[str, Factory] = {
    **{f"vector_{k}": partial(ZooEnv, s, OWN_ACTION.get(k, TWO_MOTORS)) for k, s in VECTORS.items()},
    **{f"dict_{k}": partial(ZooEnv, s, OWN_ACTION.get(k, TWO_MOTORS)) for k, s in DICTS.items()},
    **{f"picture_{k}": partial(ZooEnv, s) for k, s in PICTURES.items()},
    **{f"unsupported_{k}": partial(ZooEnv, s) for k, s in UNSUPPORTED.items()},
    **{f"action_{k}": partial(ZooEnv, SEEN, s) for k, s in ACTIONS.items()},
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

TAKEN = "observation key .* is taken by Reverie; rename it"
CHANNELS = "looks channel-first; expected .H, W, C."
OBSERVATION = "is not supported; expected Box, Discrete, MultiDiscrete, MultiBinary or a Dict"
ACTION = "the action space .* is not supported; supported: Box"
REFUSED: Mapping[str, str] = {
    "dict_nothing_at_all": "holds no numbers",
    "dict_empty_dict": "holds no numbers",
    "dict_joined_twice": "two observations are called 'a_b'",
    **{name: TAKEN for name in ENVS if name.startswith("dict_taken")},
    **{name: CHANNELS for name in ENVS if name.endswith("channel_first")},
    "picture_stack_of_grey": CHANNELS,
    "picture_stack_of_rgb": "give each camera a key and do not stack frames",
    **{name: OBSERVATION for name in ENVS if name.startswith("unsupported")},
    **{f"action_{kind}": ACTION for kind in ("none", "dict", "tuple", "text", "sequence")},
    "call_no_spaces": OBSERVATION,
    "call_not_an_env": "expected a gymnasium.Env",
    "call_no_env_at_all": "expected a gymnasium.Env",
    "call_wants_arguments": "missing a required argument: 'level'.* env.kwargs gives them",
    "call_no_seed": "write def reset.self, .*super.*seed=seed",
    "call_no_options": "write def reset.self, .*super.*seed=seed",
    "call_step_with_two": "write def step.self, action.",
}
"""What no agent can learn from, since it has no arrays of numbers, or says too little: the words
with which it is refused before its first step."""
DEPTH = {
    *("picture_depth_in_mm", "picture_depth_of_one_channel", "picture_depth_in_m"),
    *("picture_depth_without_end", "picture_colour_and_depth"),
}
"""What every agent refuses, with what to do: how far the far end is, nobody knows."""
ENDS: Mapping[str, str] = {
    "reward_array": "reward is array.* expected one finite number",
    "reward_list": "reward is .0.5., expected one finite number",
    "reward_text": "reward is '0.5', expected one finite number",
    "reward_none": "reward is None, expected one finite number",
    "reward_complex": "reward is 1j, expected one finite number",
    "reward_nan": "reward is nan, expected one finite number",
    "reward_inf": "reward is -inf, expected one finite number",
    "reward_beyond_float32": "reward is 1e.39, expected one finite number of float32",
    "info_logged_text": "info.'log/name'. is 'abc', expected one number",
    "info_logged_array": "info.'log/speed'. is array.*expected one number",
    "info_logged_none": "info.'log/speed'. is None, expected one number",
    "info_none": "info is a NoneType, expected a dict",
    "info_list": "info is a list, expected a dict",
    "call_old_step": "step returned 4 values, .*split .done. of old gym",
    "call_six_values": "step returned 6 values, expected",
    "call_list_of_values": "step returned list, expected",
    "call_old_reset": "reset returned dict, expected .observation, info.",
    "call_flags_of_int": "terminated is 0, expected a bool",
    "call_flags_in_arrays": "terminated is array.False., expected a bool",
    "return_as_list": "'arm' is a list, its space says an array",
    "return_as_float64": "'arm' has dtype float64, its space says float32",
    "return_big_endian": "'arm' has dtype >f4, its space says float32",
    "return_as_objects": "'arm' has dtype object, its space says float32",
    "return_another_shape": "'arm' has shape .2,., its space says .3,.",
    "return_growing": "'arm' has shape .4,., its space says .3,.",
    "return_key_missing": "'arm' is missing; returned: .'camera'.",
    "return_changing_space": "'arm' has shape .4,., its space says .3,.",
    "return_nan": "'arm' is not finite",
    "return_none": "'arm' is missing; returned: NoneType",
    "return_place_outside": "is np.int64.3., its space says Discrete.3.",
    "fault_raises_at_build": "OSError: no licence server",
    "fault_raises_at_reset": "OSError: no licence server",
    "fault_raises_at_step": "ZeroDivisionError: physics",
    "fault_raises_in_lines": "ValueError: one\ntwo %s {three}",
    "fault_raises_nothing_said": "AssertionError",
    "fault_raises_what_cannot_be_shown": "Unprintable",
    "fault_stops_iteration": "StopIteration: no more levels",
    "fault_exits": "SystemExit: 3",
    "fault_interrupts": "KeyboardInterrupt",
    "fault_lacks_a_package": "ImportError: No module pybullet",
    "fault_hangs_at_reset": "no answer within",
}
"""What breaks its word, or down, as it runs: what the message says of it."""
FAILS_CHECK = {"return_shared", "return_out_of_range", "reward_nan_once", "fault_raises_once"}
"""What trains, although `check-env` rightly finds a breach."""
