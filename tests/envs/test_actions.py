"""Native action spaces and their normalised forms."""

import numpy as np
import pytest
from gymnasium import spaces

from reverie.types import ActionSpec
from reverie_envs.actions import Rescale, action_form


@pytest.mark.parametrize(
    ("space", "spec"),
    [
        (spaces.Box(-2, 2, (3,)), ActionSpec("box", (), 3)),
        (spaces.Box(-np.inf, np.inf, (2, 2)), ActionSpec("box", (), 4)),
        (spaces.Discrete(5, start=-1), ActionSpec("discrete", (5,))),
        (spaces.MultiDiscrete([3, 2]), ActionSpec("multidiscrete", (3, 2))),
        (spaces.MultiDiscrete([[3, 2], [4, 5]]), ActionSpec("multidiscrete", (3, 2, 4, 5))),
        (spaces.MultiBinary(3), ActionSpec("multidiscrete", (2, 2, 2))),
    ],
)
def test_every_sample_of_the_normalised_space_is_a_native_action(space, spec):
    found, normal, convert = action_form(space, "env")
    assert found == spec
    for action in spec.sample(np.random.default_rng(0), 20):
        assert normal.contains(action)
        assert space.contains(convert(action))


def test_the_ends_of_the_range_are_the_native_bounds():
    space = spaces.Box(np.array([-0.1, 3], np.float32), np.array([0.7, 4], np.float32))
    rescale = Rescale.of(space)
    np.testing.assert_array_equal(rescale(np.array([-1, -1])), space.low)
    np.testing.assert_array_equal(rescale(np.array([1, 1])), space.high)
    np.testing.assert_array_equal(rescale(np.array([5, -5])), [space.high[0], space.low[1]])


def test_components_without_bounds_are_passed_on():
    space = spaces.Box(np.array([-np.inf, 0], np.float32), np.array([np.inf, 4], np.float32))
    assert Rescale.of(space)(np.array([7.0, 7.0])).tolist() == [7, 4]


def test_an_action_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="action is not finite"):
        Rescale.of(spaces.Box(-1, 1, (2,)))(np.array([np.nan, 0]))


def test_an_unsupported_action_space_is_named():
    with pytest.raises(ValueError, match="my_env: the action space Tuple"):
        action_form(spaces.Tuple([spaces.Discrete(2)]), "my_env")
