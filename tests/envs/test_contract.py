"""Environments broken on purpose: each is caught by the right check, in words one can act on."""

import subprocess
import threading

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from reverie_envs.contract import check_env


class Good(gymnasium.Env):
    """Keeps every promise; subclasses break one."""

    length = 6

    def __init__(self):
        self.observation_space = spaces.Dict({"state": spaces.Box(-2, 2, (3,))})
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.obs(), {}

    def step(self, action):
        self.steps += 1
        return self.obs(), 1.0, self.steps == self.length, False, {}

    def obs(self):
        return {"state": self.np_random.uniform(-1, 1, 3).astype(np.float32)}


class Float64(Good):
    def obs(self):
        return {"state": np.zeros(3)}


class WrongShape(Good):
    def obs(self):
        return {"state": np.zeros(2, np.float32)}


class OutOfRange(Good):
    def obs(self):
        return {"state": np.array([0, 5, 0], np.float32)}


class MissingKey(Good):
    def obs(self):
        return {}


class NanReward(Good):
    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, float("nan"), *rest


class IntFlag(Good):
    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, int(terminated), truncated, info


class Unseeded(Good):
    def obs(self):
        return {"state": np.random.default_rng().uniform(-1, 1, 3).astype(np.float32)}


class ReusesItsBuffer(Good):
    def __init__(self):
        super().__init__()
        self.buffer = np.zeros(3, np.float32)

    def obs(self):
        self.buffer[:] = super().obs()["state"]
        return {"state": self.buffer}


class ForgetsToReset(Good):
    """After the first episode the step counter goes on, and every step is the last one."""

    steps = 0

    def reset(self, *, seed=None, options=None):
        gymnasium.Env.reset(self, seed=seed)
        return self.obs(), {}

    def step(self, action):
        self.steps += 1
        return self.obs(), 1.0, self.steps >= self.length, False, {}


class Raises(Good):
    def step(self, action):
        raise OSError("simulator died")


class OldReset(Good):
    def reset(self):
        return self.obs()


class Hangs(Good):
    def step(self, action):
        threading.Event().wait(20)


class LeavesAProcess(Good):
    def __init__(self):
        super().__init__()
        self.child = subprocess.Popen(["sleep", "12"])


class ClosesOnlyOnce(Good):
    opened = 0

    def __init__(self):
        type(self).opened += 1
        if type(self).opened > 3:
            raise OSError("address in use")
        super().__init__()


class Odd(spaces.Discrete):
    def contains(self, x):
        return x % 2 == 1


class RefusesItsActions(Good):
    def __init__(self):
        super().__init__()
        self.action_space = Odd(2)


class Unsupported(Good):
    def __init__(self):
        super().__init__()
        self.observation_space = spaces.Tuple([spaces.Discrete(2)])


def failures(make, **options):
    results = check_env(make, **{"limit_s": 20.0, **options})
    return {result.name: result.message for result in results if not result.ok}


def test_a_good_environment_passes_every_check():
    results = check_env(Good)
    assert [result.name for result in results if not result.ok] == []
    assert len(results) == 9


@pytest.mark.parametrize(
    ("broken", "check", "words"),
    [
        (Float64, "play", "observation 'state' has dtype float64, its space says float32"),
        (WrongShape, "play", "observation 'state' has shape (2,), its space says (3,)"),
        (MissingKey, "play", "observation 'state' is missing; returned: []"),
        (NanReward, "play", "reward is nan, expected one finite number"),
        (IntFlag, "play", "terminated is 0, expected a bool"),
        (OutOfRange, "range", "observation 'state' is 5.0 at index (1,), its space says -2.0"),
        (ReusesItsBuffer, "kept rows", "observation 'state' was overwritten by the following"),
        (Unseeded, "seeding", "two environments with the same seed and actions differ"),
        (ForgetsToReset, "seeding", "does not begin anew after an earlier episode"),
        (RefusesItsActions, "actions", "the action np.int64(0) (int64) is not in the action space"),
        (Raises, "play", "step raised OSError: simulator died (test_contract.py:"),
        (OldReset, "build", "write def reset(self, *, seed=None, options=None)"),
        (LeavesAProcess, "close", "close left child processes behind: ["),
        (ClosesOnlyOnce, "close", "make raised OSError: address in use"),
        (Unsupported, "build", "the observation space is Tuple"),
        (lambda: "env", "build", "make returned str, expected a gymnasium.Env"),
    ],
)  # fmt: skip
def test_a_broken_environment_is_caught(broken, check, words, monkeypatch):
    monkeypatch.setattr("reverie_envs.contract.CLOSE_GRACE_S", 0.5)
    found = failures(broken)
    assert words in found[check]
    assert list(found) == [check]


def test_an_environment_that_hangs_is_reported_and_not_waited_for():
    found = failures(Hangs, limit_s=0.3)
    assert found == {"play": "step did not return within 0.3 s"}


def test_an_environment_declared_not_deterministic_is_not_asked_to_repeat():
    assert failures(Unseeded, deterministic=False) == {}


def test_episodes_that_never_end_are_a_warning():
    class Endless(Good):
        length = -1

    results = {result.name: result for result in check_env(Endless, max_steps=50)}
    assert results["ends"].ok
    assert results["ends"].message.startswith("warning: no episode ended within 50 steps")
