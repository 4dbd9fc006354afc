"""Environments by gymnasium id and by a user's function."""

import sys

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from reverie.config import load_config, resolve_config
from reverie.config_tree import apply_overrides
from reverie.evaluator import protocol_of
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


def make_factory(task, **kwargs):
    return FACTORY.make(task, FACTORY.Config(kwargs=kwargs))


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


def test_what_was_made_can_be_made_again_from_its_spec(drawn):
    env = GYM.make(drawn, GYM.Config(render=True, size=32))
    again = gymnasium.make(env.spec, disable_env_checker=True)
    assert again.observation_space == env.observation_space
    assert env_name(again) == drawn
    arguments = [wrapper.kwargs for wrapper in env.spec.additional_wrappers]
    assert arguments == [{"name": drawn, "size": 32}, {"size": 32}]


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

class Levels(Mine):  # without `render_mode`, which few need
    def __init__(self, level, wide=False):
        self.observation_space = spaces.Box(-1, 1, (level + 4 * wide,))

gymnasium.register("LevelsForTest-v0", Levels)
gymnasium.register("TextForTest-v0", "my_file_for_test:Levels", kwargs={"level": 2})
"""
DOORS = {
    "factory": "my_file_for_test:Levels",
    "gym": "my_file_for_test:LevelsForTest-v0",
    "gym by text": "my_file_for_test:TextForTest-v0",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "my_file_for_test.py").write_text(SOURCE)
    (tmp_path / "my_broken_file.py").write_text("import no_such_package")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("my_file_for_test", "my_broken_file"):
        sys.modules.pop(name, None)
    for name in ("LevelsForTest-v0", "TextForTest-v0"):
        gymnasium.registry.pop(name, None)


@pytest.mark.parametrize("door", DOORS)
def test_both_doors_find_modules_here_and_take_arguments_that_overrides_vary(door, folder):
    name = f"env={'gym' if 'gym' in door else 'factory'}/{DOORS[door]}"
    config = load_config("dreamerv3/cartpole", [name, "env.kwargs.level=3", "env.kwargs.wide=true"])
    config = resolve_config(apply_overrides(config.to_dict(), ["env.kwargs.level=1"]))
    suite = {"factory": FACTORY}.get(door, GYM)
    assert spaces_of(suite.make(config.env.task, config.env.options)).obs["proprio"].shape == (5,)
    assert protocol_of(config).id.endswith("-kwargs.level=1-kwargs.wide=True")


@pytest.mark.parametrize("door", DOORS)
def test_arguments_that_do_not_fit_are_explained(door, folder):
    suite = {"factory": FACTORY}.get(door, GYM)
    wanted = r"^env\..*unexpected.*'no'; it takes level, wide=False, and"
    with pytest.raises(ValueError, match=wanted):
        suite.make(DOORS[door], suite.Config(kwargs={"level": 1, "no": 2}))


@pytest.mark.parametrize("door", ["factory", "gym"])
def test_a_missing_argument_is_explained(door, folder):
    suite = {"factory": FACTORY, "gym": GYM}[door]
    with pytest.raises(ValueError, match=r"missing a required argument: 'level'.* env\.kwargs\."):
        suite.make(DOORS[door], suite.Config())


@pytest.mark.parametrize("door", ["factory", "gym"])
def test_both_doors_resize_pictures_by_area(door):
    pytest.importorskip("cv2")
    gymnasium.register("WideForTest-v0", Wide)
    suite, task = (FACTORY, f"{__name__}:Wide") if door == "factory" else (GYM, "WideForTest-v0")
    try:
        assert spaces_of(suite.make(task, suite.Config())).obs["image"].shape == (84, 96, 6)
        env = suite.make(task, suite.Config(size=42))
        shown = env.reset(seed=0)[0]
    finally:
        gymnasium.registry.pop("WideForTest-v0", None)
    assert env.observation_space.contains(shown)
    assert shown["image"].shape == (42, 42, 6)
    assert shown["small"].shape == (3,)
    np.testing.assert_array_equal(shown["image"][:, 0], round(255 * 42 / 96))
    assert shown["image"][:, 3:].max() == 0
    assert suite.protocol(task, suite.Config(size=42)).id.endswith("-size=42")


class Wide(gymnasium.Env):
    """Six channels, whose first column alone is white."""

    observation_space = spaces.Dict(
        {"image": spaces.Box(0, 255, (84, 96, 6), np.uint8), "small": spaces.Box(0, 9, (3,))}
    )
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        picture = np.zeros((84, 96, 6), np.uint8)
        picture[:, 0] = 255
        return {"image": picture, "small": np.zeros(3, np.float32)}, {}


def test_a_missing_module_of_an_id_is_explained(folder):
    with pytest.raises(ImportError, match=r"env\.task='my_fil:X-v0': no module 'my_fil' in /"):
        make_gym("my_fil:X-v0")


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
        ("os:system", ValueError, "missing a required argument: .command.; it takes command, and"),
        ("my_broken_file:make_env", ModuleNotFoundError, "^No module named 'no_such_package'$"),
    ],
)
def test_a_wrong_factory_is_explained(folder, task, kind, words):
    with pytest.raises(kind, match=words):
        make_factory(task)
