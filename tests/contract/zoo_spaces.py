"""Spaces of the odd environments, by name: what is seen, and what is done."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

from tests.contract.zoo_env import CAMERA

INF, LARGEST = np.inf, float(np.finfo(np.float32).max)
PART = Box(-1, 1, (2,))


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
