"""Native action spaces and their normalised forms."""

import numpy as np
import pytest
from gymnasium import spaces

from reverie.types import ActionSpec
from reverie_envs.actions import action_form, native_action

INF = np.inf


def box(low, high, dtype=np.float32):
    return spaces.Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)


def converter(space):
    return native_action(space, "env").converter()


@pytest.mark.parametrize(
    ("space", "spec"),
    [
        (spaces.Box(-2, 2, (3,)), ActionSpec("box", (), 3)),
        (spaces.Box(-INF, INF, (2, 2)), ActionSpec("box", (), 4)),
        (spaces.Box(0, 1, (), np.float64), ActionSpec("box", (), 1)),
        (spaces.Box(0, INF, (2,)), ActionSpec("box", (), 2)),
        (box([0, -INF, -5, 100], [INF, 0, INF, INF]), ActionSpec("box", (), 4)),
        (box([2e10, -3e10], [3e10, -2e10]), ActionSpec("box", (), 2)),
        (box([0.1, 1 / 3], [0.7, 2 / 3], np.float16), ActionSpec("box", (), 2)),
        (spaces.Box(0, 9, (2,), np.int32), ActionSpec("box", (), 2)),
        (spaces.Box(0, 255, (2,), np.uint8), ActionSpec("box", (), 2)),
        (spaces.Discrete(5, start=-1), ActionSpec("discrete", (5,))),
        (spaces.MultiDiscrete([3, 2]), ActionSpec("multidiscrete", (3, 2))),
        (spaces.MultiDiscrete([3, 2], start=[-1, 4]), ActionSpec("multidiscrete", (3, 2))),
        (spaces.MultiDiscrete([[3, 2], [4, 5]]), ActionSpec("multidiscrete", (3, 2, 4, 5))),
        (spaces.MultiBinary(3), ActionSpec("multidiscrete", (2, 2, 2))),
        (spaces.MultiBinary((2, 1)), ActionSpec("multidiscrete", (2, 2))),
    ],
)
def test_every_action_of_an_agent_is_a_native_one(space, spec):
    found, normal = action_form(space, "env")
    assert found == spec
    convert, drawn = converter(space), spec.sample(np.random.default_rng(0), 20)
    if spec.kind == "box":
        drawn[:4] = np.array([-1, 1, -1e6, 1e6])[:, None]
    for action, native in zip(drawn, convert(drawn), strict=True):
        alone = convert(action)
        assert space.contains(alone), (action, alone)
        assert alone.dtype == space.dtype
        np.testing.assert_array_equal(native, alone)
        assert spec.kind == "box" or normal.contains(action)


def test_the_ends_of_the_range_are_the_native_bounds():
    space = box([-0.1, 3], [0.7, 4])
    convert = converter(space)
    np.testing.assert_array_equal(convert(np.array([-1, -1])), space.low)
    np.testing.assert_array_equal(convert(np.array([1, 1])), space.high)
    np.testing.assert_array_equal(convert(np.array([5, -5])), [space.high[0], space.low[1]])


def test_components_without_bounds_are_passed_on():
    assert converter(box([-INF, 0], [INF, 4]))(np.array([7.0, 7.0])).tolist() == [7, 4]
    largest = np.finfo(np.float32).max
    assert converter(box([-largest], [largest]))(np.array([-0.5])).tolist() == [-0.5]


@pytest.mark.parametrize(
    ("low", "high", "least", "most"),
    [(0, INF, 0, 2), (-INF, 0, -2, 0), (-5, INF, -1, 1), (-0.5, INF, -0.5, 1.5), (9, INF, 9, 11)],
)
def test_a_component_with_one_bound_moves_as_little_as_brings_it_inside(low, high, least, most):
    convert = converter(box([low], [high]))
    assert [float(convert(np.array([end]))[0]) for end in (-1, 1)] == [least, most]


def test_whole_numbers_are_rounded_and_not_cut_off():
    convert = converter(spaces.Box(0, 9, (2,), np.int32))
    assert convert(np.array([0.97, -0.97])).tolist() == [9, 0]
    assert convert(np.array([0.5, -0.5])).tolist() == [7, 2]


def test_what_gymnasium_declares_survives_a_file():
    space = box([0, -INF], [INF, 1 / 3])
    native = native_action(space, "env")
    assert (native.low, native.high) == ((0.0, None), (None, float(np.float32(1 / 3))))


def test_an_action_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="action is not finite"):
        converter(spaces.Box(-1, 1, (2,)))(np.array([np.nan, 0]))


def test_an_unsupported_action_space_is_named():
    with pytest.raises(ValueError, match="my_env: the action space Tuple"):
        action_form(spaces.Tuple([spaces.Discrete(2)]), "my_env")
