"""Every kind of space, and every way an environment can break what it declared."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from reverie.types import ActionSpec, ArraySpec
from reverie_envs.vector import SyncVectorEnv
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


class NoSeed(Fixed):
    def reset(self):
        return self.obs, {}


class NoOptions(Fixed):
    def reset(self, seed=None):
        return self.obs, {}


class NoAction(Fixed):
    def step(self):
        return self.obs, 0.0, False, False, {}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (
            NoSeed,
            r"NoSeed\.reset\(\): .*'seed'; write def reset\(self, \*, seed=None, options=None\)",
        ),
        (
            NoOptions,
            r"NoOptions\.reset\(seed=None\): .*'options'; write .* super\(\)\.reset\(seed=",
        ),
        (NoAction, r"NoAction\.step\(\): .*; write def step\(self, action\)$"),
    ],
)
def test_a_method_that_cannot_be_called_is_refused_before_it_is(kind, words):
    env = kind(spaces.Box(-1, 1, (2,)), np.zeros(2, np.float32))
    with pytest.raises(ContractError, match=f"^mine: {words}") as error:
        standardise(gymnasium.wrappers.TimeLimit(env, 3), "mine")
    assert error.value.will_repeat


class OldStep(Fixed):
    def step(self, action):
        return self.obs, 0.0, False, {}


def test_the_step_of_old_gym_is_told_what_to_do():
    env = standardise(OldStep(spaces.Box(-1, 1, (2,)), np.zeros(2, np.float32)))
    with pytest.raises(ContractError, match=r"4 values, .*; split `done` of old gym into") as error:
        env.step(0)
    assert error.value.will_repeat


LOW, FINE = spaces.Box(-1, 1, (2,)), np.zeros(2, np.float32)


@pytest.mark.parametrize("value", ["abc", None, [1.0], np.zeros(2), np.array(["a"]), 1j])
def test_a_log_that_is_no_number_names_its_key_and_the_rule(value):
    env = standardise(Fixed(LOW, FINE, info={"log/x": value}))
    with pytest.raises(
        ContractError, match=r"info\['log/x'\] is .*expected one number: .*another key"
    ):
        env.step(0)


@pytest.mark.parametrize("value", [1, 2.5, True, np.bool_(False), np.array([3]), np.float32(1)])
def test_a_log_of_one_number_is_fine_beside_keys_of_any_kind(value):
    env = Fixed(LOW, FINE, info={"log/x": value, 0: "agent", ("a", 1): object()})
    vector = SyncVectorEnv([lambda: env], lambda index, episode: 0)
    for _ in range(2):
        rows = vector.step(np.zeros(1, np.int64), np.ones(1, bool))
    assert rows["log/x"] == np.float32(np.asarray(value).item())
    assert all(isinstance(key, str) for key in rows)


@pytest.mark.parametrize(
    ("obs", "reward", "repeats"),
    [
        (FINE * np.nan, 0.0, False),
        (FINE, np.nan, False),
        (FINE, None, True),
        (FINE, np.zeros(2), True),
        (FINE, np.zeros(1), True),
        (FINE.astype(np.float64), 0.0, True),
        (np.zeros(3, np.float32), 0.0, True),
    ],
)
def test_a_value_may_pass_but_a_type_will_repeat(obs, reward, repeats):
    with pytest.raises(ContractError) as error:
        standardise(Fixed(LOW, obs, reward=reward)).step(0)
    assert error.value.will_repeat == repeats


@pytest.mark.parametrize(
    ("shape", "high", "dtype"),
    [
        ((64, 64, 3), 1, np.float32),
        ((8, 9, 4), 1, np.float64),
        ((64, 64, 1), 1, np.float32),
        ((32, 40), 1, np.float32),
        ((64, 64, 3), 255, np.float32),
        ((32, 32, 3), 1, np.float16),
    ],
)
def test_floats_in_the_range_of_pictures_are_pictures_and_that_is_said_once(
    shape, high, dtype, caplog
):
    caplog.set_level("INFO")
    space = spaces.Box(0, high, shape, dtype)
    obs = np.full(shape, 0.1985 * high, dtype)  # 50.6 of 255
    obs.flat[0] = high
    for _ in range(2):
        image = standardise(Fixed(space, obs), f"{shape}{high}").reset()[0]["image"]
    assert (image.dtype, image.shape) == (np.uint8, (*shape, 1)[: max(3, len(shape))])
    assert (image.flat[0], image.flat[1]) == (255, 51)
    assert caplog.text.count("is taken as a picture") == 1
    obs.flat[5] = np.nan
    with pytest.raises(ContractError, match="not finite"):
        standardise(Fixed(space, obs)).reset()


def test_a_table_of_floats_is_no_picture():
    for shape in ((8, 10), (2, 3, 3), (5, 64)):
        space = spaces.Box(0, 1, shape, np.float32)
        assert list(spaces_of(Fixed(space, None)).obs) == ["proprio"]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1, 1, (32, 33, 3), np.float32),
        spaces.Box(0, 255, (32, 34, 3), np.int32),
        spaces.Box(0, 1, (32, 35), np.bool_),
    ],
)
def test_a_matrix_that_is_learned_as_a_wide_vector_is_said(space, caplog):
    caplog.set_level("INFO")
    assert list(spaces_of(Fixed(space, None)).obs) == ["proprio"]
    assert f"{space.shape} is learned as a vector of" in caplog.text


class Bare(gymnasium.Env):
    """Declares nothing."""


def test_an_environment_without_numbers_to_see_or_to_choose_is_refused():
    nothing = spaces.Box(-1, 1, (0,))
    for space in (nothing, spaces.Dict(), spaces.Dict({"a": nothing})):
        with pytest.raises(ValueError, match="holds no numbers"):
            standardise(Fixed(space, None))
    assert spaces_of(Fixed(spaces.Dict({"a": nothing, "b": LOW}), None)).obs["a"].size == 0
    env = Fixed(LOW, None)
    env.action_space = nothing
    with pytest.raises(ValueError, match=r"action space Box.* is not supported; .*one number"):
        standardise(env)
    with pytest.raises(ValueError, match="observation space is None, which is not supported"):
        standardise(Bare())
    env = Bare()
    env.observation_space = LOW
    with pytest.raises(ValueError, match="the action space None is not supported"):
        standardise(env)


def test_floats_that_look_channel_first_are_refused():
    with pytest.raises(ValueError, match="looks channel-first"):
        standardise(Fixed(spaces.Box(0, 1, (3, 64, 64), np.float32), None))


def test_depth_in_rows_and_columns_is_depth():
    specs = spaces_of(Fixed(spaces.Box(0, 20, (64, 64), np.float32), None)).obs
    assert specs == {"image": ArraySpec((64, 64, 1), "float32")}


def test_keys_that_are_no_text_become_text():
    low = spaces.Box(-1, 1, (2,), np.float32)
    space = spaces.Dict({0: spaces.Dict({1: low}), 2: low})
    assert sorted(seen(space, {0: {1: np.zeros(2, np.float32)}, 2: np.ones(2, np.float32)})) == [
        "0_1",
        "2",
    ]
    env = standardise(Fixed(space, {2: np.ones(2, np.float32), "x": 0}))
    with pytest.raises(
        ContractError, match=r"observation '0_1' is missing; returned: \['2', 'x'\]"
    ):
        env.reset()


@pytest.mark.parametrize(
    ("space", "key", "shape", "dtype"),
    [
        (spaces.Box(0, 255, (8, 9, 3), np.uint8), "image", (8, 9, 3), "uint8"),
        (spaces.Box(0, 255, (8, 9), np.uint8), "image", (8, 9, 1), "uint8"),
        (spaces.Box(0, 9, (8, 9, 1), np.uint16), "image", (8, 9, 1), "uint16"),
        (spaces.Box(0, 20, (8, 9, 1)), "image", (8, 9, 1), "float32"),
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
