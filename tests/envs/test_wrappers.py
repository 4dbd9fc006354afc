"""Every kind of space, and every way an environment can break what it declared."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from reverie.types import ActionSpec, ArraySpec
from reverie_envs.wrappers import ContractError, env_name, spaces_of, standardise


class Fixed(gymnasium.Env):
    """Shows one observation forever and remembers the last action."""

    def __init__(self, space, obs, action_space=None, reward=0.0, info=None):
        self.observation_space = space
        self.action_space = action_space or spaces.Discrete(2)
        self.obs, self.reward, self.info = obs, reward, info or {}

    def reset(self, *, seed=None, options=None):
        return self.obs, {}

    def step(self, action):
        self.action = action
        return self.obs, self.reward, False, False, self.info


def seen(space, obs):
    env = standardise(Fixed(space, obs))
    shown = env.reset()[0]
    specs = spaces_of(env).obs
    assert {key: ArraySpec(v.shape, str(v.dtype)) for key, v in shown.items()} == specs
    return shown


@pytest.mark.parametrize(
    ("space", "key", "shape", "dtype"),
    [
        (spaces.Box(0, 255, (8, 9, 3), np.uint8), "image", (8, 9, 3), "uint8"),
        (spaces.Box(0, 255, (8, 9), np.uint8), "image", (8, 9, 1), "uint8"),
        (spaces.Box(0, 9, (8, 9, 1), np.uint16), "image", (8, 9, 1), "uint16"),
        (spaces.Box(0, 1, (8, 9, 1)), "image", (8, 9, 1), "float32"),
        (spaces.Box(-9, 9, (4,)), "proprio", (4,), "float32"),
        (spaces.Box(-9, 9, (4,), np.float64), "proprio", (4,), "float32"),
        (spaces.Box(-9, 9, (4,), np.int64), "proprio", (4,), "float32"),
        (spaces.Box(-9, 9, (2, 3)), "proprio", (6,), "float32"),
        (spaces.Box(-9, 9, ()), "proprio", (1,), "float32"),
        (spaces.MultiDiscrete([3, 4]), "proprio", (2,), "float32"),
        (spaces.MultiBinary(3), "proprio", (3,), "float32"),
    ],
)
def test_a_plain_space_becomes_one_key(space, key, shape, dtype):
    obs = space.sample()
    shown = seen(space, obs)
    assert list(shown) == [key]
    assert shown[key].shape == shape
    assert shown[key].dtype == dtype
    expected = np.asarray(obs).ravel().astype(dtype)
    np.testing.assert_array_equal(shown[key].ravel(), expected)


def test_a_discrete_observation_is_one_hot_from_its_start():
    shown = seen(spaces.Discrete(4, start=10), np.int64(12))
    assert shown["proprio"].tolist() == [0, 0, 1, 0]


def test_nested_keys_are_joined():
    inner = spaces.Dict({"joint": spaces.Box(-1, 1, (2,))})
    space = spaces.Dict({"arm": inner, "rgb": spaces.Box(0, 255, (8, 8, 3), np.uint8)})
    obs = {"arm": {"joint": np.zeros(2, np.float32)}, "rgb": np.zeros((8, 8, 3), np.uint8)}
    assert set(seen(space, obs)) == {"arm_joint", "rgb"}


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.Tuple([spaces.Discrete(2)]), r"observation space is Tuple.*ObservationWrapper"),
        (spaces.Dict({"word": spaces.Text(3)}), r"observation 'word' has the space Text"),
        (spaces.Dict({"reward": spaces.Discrete(2)}), r"'reward' is taken by Reverie; rename"),
        (spaces.Dict({"log/x": spaces.Discrete(2)}), r"'log/x' is taken"),
        (spaces.Box(0, 255, (3, 64, 64), np.uint8), r"channel-first; expected \[H, W, C\]"),
        (spaces.Box(0, 255, (4, 8, 8, 3), np.uint8), r"do not stack frames"),
        (
            spaces.Dict({"a": spaces.Dict({"b": spaces.Discrete(2)}), "a_b": spaces.Discrete(2)}),
            r"two observations are called 'a_b'",
        ),
    ],
)
def test_an_unsupported_space_is_named(space, words):
    with pytest.raises(ValueError, match=words):
        standardise(Fixed(space, None), "my_file:make_env")


VECTOR = spaces.Box(-9, 9, (4,))


@pytest.mark.parametrize(
    ("obs", "words"),
    [
        (
            np.zeros(3, np.float32),
            r"my_file:make_env: observation 'proprio' has shape \(3,\), its space says \(4,\)",
        ),
        (np.zeros(4), "observation 'proprio' has dtype float64, its space says float32"),
        ([0, 0, 0, 0], "observation 'proprio' is a list"),
        (
            np.array([0, 0, np.nan, 0], np.float32),
            "observation 'proprio' is not finite as float32: it holds nan",
        ),
    ],
)
def test_an_observation_outside_its_space_is_refused(obs, words):
    env = standardise(Fixed(VECTOR, obs), "my_file:make_env")
    with pytest.raises(ContractError, match=words):
        env.reset()


def test_a_missing_key_is_named():
    env = standardise(
        Fixed(spaces.Dict({"a": VECTOR, "b": VECTOR}), {"a": np.zeros(4, np.float32)})
    )
    with pytest.raises(ContractError, match=r"observation 'b' is missing; returned: \['a'\]"):
        env.reset()


def test_a_discrete_observation_outside_its_space_is_refused():
    with pytest.raises(ContractError, match="is 5, its space says Discrete"):
        standardise(Fixed(spaces.Discrete(4), 5)).reset()


def test_an_observation_too_large_for_float32_is_refused():
    space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    with pytest.raises(ContractError, match=r"'proprio' is not finite as float32: it holds 1e\+39"):
        standardise(Fixed(space, np.array([0, 1e39]))).reset()


@pytest.mark.parametrize("reward", [np.nan, np.inf, 1e39, -1e300, None, "1", np.zeros(2)])
def test_a_reward_that_is_no_finite_number_is_refused(reward):
    env = standardise(Fixed(VECTOR, np.zeros(4, np.float32), reward=reward))
    with pytest.raises(ContractError, match=r"reward is .* expected one finite number"):
        env.step(0)


def test_a_log_value_must_be_one_number():
    env = standardise(Fixed(VECTOR, np.zeros(4, np.float32), info={"log/x": [1, 2]}))
    with pytest.raises(ContractError, match=r"info\['log/x'\]"):
        env.step(0)


def test_an_old_style_step_is_explained():
    env = Fixed(VECTOR, np.zeros(4, np.float32))
    env.step = lambda action: (env.obs, 0.0, False, {})
    with pytest.raises(ContractError, match=r"step returned 4 values, expected .*truncated"):
        standardise(env).step(0)


def sent(action_space, action):
    env = Fixed(VECTOR, np.zeros(4, np.float32), action_space)
    standardise(env).step(action)
    return env.action


def test_actions_reach_the_environment_in_its_own_form():
    box = spaces.Box(np.array([0, -2], np.float32), np.array([10, 2], np.float32))
    assert sent(box, np.array([0.5, -3], np.float32)).tolist() == [7.5, -2]
    assert sent(spaces.Discrete(3, start=5), np.int64(2)) == 7
    binary = sent(spaces.MultiBinary((2, 2)), np.array([1, 0, 0, 1]))
    assert (binary.tolist(), binary.dtype) == ([[1, 0], [0, 1]], np.int8)


def test_standardise_leaves_a_standardised_environment_alone():
    env = standardise(Fixed(VECTOR, np.zeros(4, np.float32)), "mine")
    assert standardise(env) is env
    assert env_name(env) == "mine"


def test_spaces_of_describes_observations_and_actions():
    env = Fixed(VECTOR, None, spaces.Box(-2, 2, (2, 3)))
    assert spaces_of(env).obs == {"proprio": ArraySpec((4,), "float32")}
    assert spaces_of(env).action == ActionSpec("box", (), 6)
