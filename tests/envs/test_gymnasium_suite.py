"""Environments by gymnasium id and by a user's function."""

import sys

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from reverie_envs.gymnasium_suite import FactorySuite, GymSuite
from reverie_envs.wrappers import env_name, spaces_of

GYM, FACTORY = GymSuite(), FactorySuite()


class Drawn(gymnasium.Env):
    """Renders a picture that is red on the left and black on the right."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 1}

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        self.observation_space = spaces.Box(-1, 1, (2,))
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), 0.0, False, False, {}

    def render(self):
        picture = np.zeros((90, 120, 3), np.uint8)
        picture[:, :60, 0] = 255
        return picture


@pytest.fixture
def drawn():
    gymnasium.register("DrawnForTest-v0", entry_point=Drawn)
    yield "DrawnForTest-v0"
    gymnasium.registry.pop("DrawnForTest-v0")


def make_gym(task, **options):
    return GYM.make(task, GYM.Config(**options))


def make_factory(task):
    return FACTORY.make(task, FACTORY.Config())


def test_a_known_id_is_built_and_named():
    env = make_gym("CartPole-v1")
    assert list(env.observation_space) == ["proprio"]
    assert env_name(env) == "CartPole-v1"


def test_an_unknown_id_names_the_nearest():
    with pytest.raises(KeyError, match="'CartPol-v1' of suite 'gym'; did you mean CartPole-v1"):
        make_gym("CartPol-v1")


def test_a_tuple_observation_is_explained():
    with pytest.raises(ValueError, match="Blackjack-v1: the observation space is Tuple"):
        make_gym("Blackjack-v1")


def test_rendering_is_added_as_an_image(drawn):
    env = make_gym(drawn, render=True, size=32)
    assert set(spaces_of(env).obs) == {"image", "proprio"}
    for obs in (env.reset(seed=0)[0], env.step(0)[0]):
        assert obs["image"].shape == (32, 32, 3)
        assert obs["image"][:, 0, 0].min() == 255
        assert not obs["image"][:, -1].any()


def test_the_protocol_names_the_options(drawn):
    assert GYM.protocol(drawn, GYM.Config(render=True)).id == f"gym-v1-{drawn}-render=True"


SOURCE = """
import gymnasium, numpy as np
from gymnasium import spaces

class Mine(gymnasium.Env):
    observation_space = spaces.Box(-1, 1, (4,))
    action_space = spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        return np.zeros(3, np.float32), {}

def make_env():
    return Mine()

def make_text():
    return "env"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "my_file_for_test.py").write_text(SOURCE)
    (tmp_path / "my_broken_file.py").write_text("import no_such_package")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("my_file_for_test", "my_broken_file"):
        sys.modules.pop(name, None)


def test_a_function_of_the_current_folder_is_called(folder):
    env = make_factory("my_file_for_test:make_env")
    with pytest.raises(ValueError, match=r"my_file_for_test:make_env: .* has shape \(3,\)"):
        env.reset()


@pytest.mark.parametrize(
    ("task", "kind", "words"),
    [
        ("my_file_for_test", ValueError, "expected module:function"),
        ("my_fil:make_env", ImportError, "no module 'my_fil' in /.*run from the folder"),
        ("my_file_for_test:make_en", ValueError, "no function 'make_en'; did you mean make_env"),
        (
            "my_file_for_test:make_text",
            TypeError,
            "returned builtins.str, expected a gymnasium.Env",
        ),
        ("os:system", ValueError, "needs no arguments; missing a required argument: .command"),
        ("my_broken_file:make_env", ModuleNotFoundError, "^No module named 'no_such_package'$"),
    ],
)
def test_a_wrong_factory_is_explained(folder, task, kind, words):
    with pytest.raises(kind, match=words):
        make_factory(task)
