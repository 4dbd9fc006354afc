"""Rows of several environments: flags, masks, seeds and logs."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from reverie_envs.vector import SyncVectorEnv


class Count(gymnasium.Env):
    """Shows (seed of the episode, steps so far); ends after `length` steps."""

    def __init__(self, length=2, terminal=True, width=2):
        self.observation_space = spaces.Box(-1, 1e9, (width,))
        self.action_space = spaces.Discrete(5)
        self.length, self.terminal, self.closed = length, terminal, False

    def reset(self, *, seed=None, options=None):
        self.seed, self.steps = seed, 0
        return self._obs(), {}

    def step(self, action):
        if action == 4:
            raise OSError("simulator died")
        self.steps += 1
        over = self.steps == self.length
        info = {"log/action": action} if self.steps == 1 else {}
        return self._obs(), 0.5, over and self.terminal, over and not self.terminal, info

    def close(self):
        self.closed = True

    def _obs(self):
        return np.array([self.seed, self.steps], np.float32)


def vector(*envs):
    return SyncVectorEnv([lambda env=env: env for env in envs], lambda i, e: 100 * i + e)


def play(env, actions, mask=None):
    mask = np.ones(env.num_envs, bool) if mask is None else np.array(mask)
    return {key: value.copy() for key, value in env.step(np.array(actions), mask).items()}


def test_an_episode_of_two_decisions_has_three_rows_and_resets_with_its_seed():
    env = vector(Count(terminal=True), Count(terminal=False))
    rows = [play(env, [1, 2]) for _ in range(4)]
    assert [row["is_first"][0] for row in rows] == [True, False, False, True]
    assert [row["is_last"].all() for row in rows] == [False, False, True, False]
    assert not any(row["is_last"].any() for row in rows[:2])
    assert rows[2]["is_terminal"].tolist() == [True, False]
    assert [row["reward"].tolist() for row in rows] == [[r, r] for r in (0, 0.5, 0.5, 0)]
    assert [row["proprio"][1].tolist() for row in rows] == [[100, 0], [100, 1], [100, 2], [101, 0]]


def test_rows_outside_the_mask_repeat_and_their_environments_rest():
    env = vector(Count(length=9), Count(length=9))
    play(env, [0, 0])
    before = play(env, [1, 2])
    after = play(env, [3, 3], [True, False])
    assert after["proprio"].tolist() == [[0, 2], [100, 1]]
    for key in after:
        np.testing.assert_array_equal(after[key][1], before[key][1])


def test_an_environment_never_stepped_is_reset_when_its_turn_comes():
    env = vector(Count(), Count())
    assert play(env, [0, 0], [True, False])["is_first"].tolist() == [True, False]
    rows = play(env, [0, 0])
    assert rows["is_first"].tolist() == [False, True]


def test_a_log_key_stays_and_is_zero_where_it_is_missing():
    env = vector(Count(length=9), Count(length=9))
    assert "log/action" not in play(env, [3, 2])
    rows = play(env, [3, 2])
    assert rows["log/action"].tolist() == [3, 2]
    assert rows["log/action"].dtype == np.float32
    assert play(env, [3, 2])["log/action"].tolist() == [0, 0]


def test_exceptions_pass_through_unchanged():
    env = vector(Count())
    play(env, [0])
    with pytest.raises(OSError, match=r"^simulator died$"):
        play(env, [4])


def test_close_closes_all_of_them():
    envs = [Count(), Count()]
    vector(*envs).close()
    assert all(env.closed for env in envs)


def test_different_spaces_are_refused_and_closed():
    envs = [Count(), Count(width=3)]
    with pytest.raises(ValueError, match="environment 1 has other spaces than environment 0"):
        vector(*envs)
    assert all(env.closed for env in envs)


def test_no_makers_are_refused():
    with pytest.raises(ValueError, match="at least one environment maker"):
        vector()
