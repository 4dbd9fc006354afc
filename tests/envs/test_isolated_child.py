"""The file that runs in the other Python: its grammar, and what it makes of real spaces."""

import ast
import sys
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from reverie_envs import isolated_child as child

SOURCE = Path(child.__file__).read_text()


def test_the_file_is_python_3_8_and_imports_numpy_alone():
    tree = ast.parse(SOURCE, feature_version=(3, 8))
    names = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    ]
    names += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    others = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"__future__"}
    assert others == {"numpy"}


def leaf(space):
    (found,) = child.leaves_of(space)
    return found.to_json()


def test_spaces_of_gymnasium_are_described():
    assert leaf(spaces.Discrete(5, start=-2)) | {"n": 5, "start": -2} == leaf(
        spaces.Discrete(5, start=-2)
    )
    many = leaf(spaces.MultiDiscrete([2, 3], start=[1, 0]))
    assert (many["nvec"], many["start"], many["dtype"]) == ([2, 3], [1, 0], "int64")
    assert leaf(spaces.MultiBinary(4))["shape"] == (4,)
    box = leaf(spaces.Box(np.array([0, -1.0]), np.array([1.0, 2.0]), dtype=np.float64))
    assert (box["low"], box["high"], box["dtype"]) == ([0.0, -1.0], [1.0, 2.0], "float64")
    assert leaf(spaces.Box(0, 255, (64, 64, 3), np.uint8))["high"] == 255
    nested = spaces.Dict({"a": spaces.Dict({"b": spaces.Discrete(2)}), "c": spaces.Discrete(3)})
    assert [found.key for found in child.leaves_of(nested)] == ["a_b", "c"]


def test_specs_of_dm_env_are_described():
    specs = pytest.importorskip("dm_env.specs")
    bounded = leaf(specs.BoundedArray((2,), np.float32, -1, [1, 2]))
    assert (bounded["low"], bounded["high"]) == (-1.0, [1.0, 2.0])
    assert leaf(specs.Array((), np.float64))["high"] == np.inf
    assert leaf(specs.Array((3,), np.int32))["low"] == -(2**31)
    assert leaf(specs.DiscreteArray(4))["n"] == 4
    with pytest.raises(child.Failure, match="the space is a StringArray"):
        leaf(specs.StringArray(()))


class Dm:
    """Ends after `length` steps with `discount`."""

    def __init__(self, length, discount):
        self.dm_env = pytest.importorskip("dm_env")
        self.task = SimpleNamespace(random=np.random.RandomState(0))
        self.length, self.discount = length, discount

    def observation_spec(self):
        return {"position": self.dm_env.specs.Array((1,), np.float64)}

    def action_spec(self):
        return self.dm_env.specs.BoundedArray((1,), np.float64, -1, 1)

    def reset(self):
        self.count = 0
        return self.dm_env.restart({"position": self.task.random.rand(1)})

    def step(self, action):
        self.count += 1
        obs = {"position": action}
        if self.count < self.length:
            return self.dm_env.transition(1.0, obs)
        return self.dm_env.TimeStep(self.dm_env.StepType.LAST, 1.0, self.discount, obs)


@pytest.mark.parametrize("discount", [0.0, 1.0])
def test_a_last_step_of_dm_env_is_terminal_only_with_discount_0(discount):
    env = child.adapt(Dm(2, discount), "x:y")
    first, _ = env.reset(5, None)
    assert env.reset(5, None)[0] == first
    assert env.step(np.zeros(1))[2:4] == (False, False)
    assert env.step(np.zeros(1))[2:4] == (discount == 0, discount != 0)


class NewGym(gymnasium.Env):
    observation_space = spaces.Discrete(2)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return 0, {"seed": seed, "options": options}

    def step(self, action):
        return 1, 0.5, False, True, {}


class Middle(NewGym):
    """gym 0.22 to 0.25 without a seed of its own: a wrapper passes on what the inner refuses."""

    def reset(self, **kwargs):
        self.calls = [*getattr(self, "calls", []), kwargs]
        return self._inner(**kwargs)

    def _inner(self):
        return 0

    def seed(self, seed):
        self.seeded = seed

    def step(self, action):
        return 1, 0.5, True, {"TimeLimit.truncated": action == 1}


def test_gymnasium_gets_seed_and_options():
    env = child.adapt(NewGym(), "x:y")
    assert env.reset(3, {"hard": True}) == (0, {"seed": 3, "options": {"hard": True}})
    assert env.step(0) == (1, 0.5, False, True, {})


def test_an_environment_that_takes_no_seed_is_seeded_the_old_way():
    env = child.adapt(Middle(), "x:y")
    assert env.reset(3, None) == (0, {})
    assert env.env.seeded == 3
    env.reset(4, None)
    assert env.env.calls == [{"seed": 3}, {}, {}]
    assert env.step(0)[2:4] == (True, False)
    assert env.step(1)[2:4] == (False, True)


def test_a_wrong_keyword_inside_reset_is_not_hidden():
    class Broken(NewGym):
        def reset(self, *, seed=None):
            raise TypeError("f() got an unexpected keyword argument 'sead'")

    with pytest.raises(TypeError, match="sead"):
        child.adapt(Broken(), "x:y").reset(3, None)


def test_only_numbers_flags_and_texts_of_info_travel():
    info = {"a": np.float32(1), "b": np.zeros(3), "c": [1], "d": "x", "e": np.array([2]), 5: True}
    assert child.Server(0, 1, 2).info(info) == '{"a": 1.0, "d": "x", "e": 2, "5": true}'
