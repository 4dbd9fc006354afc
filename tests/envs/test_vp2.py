"""RoboDesk and robosuite: what is asked of their processes, and what they show if installed."""

import subprocess
import sys

import numpy as np
import pytest
from gymnasium import spaces

from reverie.config_check import build
from reverie_envs import venvs, vp2
from reverie_envs.vp2 import Robodesk, RobodeskConfig, Robosuite, RobosuiteConfig

SUITES = {"robodesk": Robodesk(), "robosuite": Robosuite()}


def installed(name):
    return pytest.mark.skipif(venvs.missing(name) is not None, reason=str(venvs.missing(name)))


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("REVERIE_VENVS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("name", "task"), [("robodesk", "open_slide"), ("robosuite", "lift")])
def test_without_its_python_a_suite_names_the_command(nowhere, name, task):
    suite = SUITES[name]
    assert f"reverie env install {name}" in suite.missing()
    with pytest.raises(ImportError, match=f"{nowhere}/{name}: reverie env install {name}"):
        suite.make(task, suite.Config())


@pytest.fixture
def asked(monkeypatch):
    """What would be started, instead of starting it."""
    found = []

    def isolate(factory, config):
        found.append((factory.rpartition(":")[2], config))
        raise InterruptedError

    monkeypatch.setattr(vp2, "isolate", isolate)
    return found


def ask(name, task, config, asked):
    with pytest.raises(InterruptedError):
        SUITES[name].make(task, config)
    return asked[-1]


def test_robodesk_is_asked_for_as_in_vp2(asked):
    kind, config = ask("robodesk", "push_red", RobodeskConfig(python="p"), asked)
    assert kind == "Desk"
    assert config.python == "p"
    assert config.kwargs == {
        "task": "push_red",
        "size": 64,
        "repeat": 50,
        "length": 15,
        "reward": "dense",
        "state": False,
    }
    assert SUITES["robodesk"].action_repeat(RobodeskConfig()) == 50


def test_robosuite_is_asked_for_by_its_own_name(asked):
    kind, config = ask("robosuite", "pick_place_can", RobosuiteConfig(python="p"), asked)
    assert (kind, config.kwargs["task"]) == ("Arm", "PickPlaceCan")
    assert config.kwargs["controller"] == "OSC_POSITION"


def test_the_backend_of_the_user_is_kept(asked, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    _, config = ask("robosuite", "lift", RobosuiteConfig(python="p"), asked)
    assert config.variables == {"MUJOCO_GL": "osmesa"}
    monkeypatch.setenv("MUJOCO_GL", "")
    _, config = ask("robosuite", "lift", RobosuiteConfig(python="p"), asked)
    assert config.variables == {"MUJOCO_GL": "egl"}


def test_a_protocol_does_not_depend_on_where_the_python_lies():
    config = RobodeskConfig(python="p", answer_s=9.0, repeat=5)
    assert SUITES["robodesk"].protocol("stack", config).id == "robodesk-v1-repeat=5"


def test_counts_below_1_are_refused():
    with pytest.raises(ValueError, match=r"env\.repeat: expected a whole number from 1 to"):
        build(RobodeskConfig, {"repeat": 0}, "env")


def test_a_failed_installation_leaves_nothing(nowhere, monkeypatch):
    calls = []

    def run(command, **_):
        calls.append(command)
        (nowhere / "robodesk").mkdir(exist_ok=True)
        return subprocess.CompletedProcess(command, len(calls) - 1, "", "no such version")

    monkeypatch.setattr(subprocess, "run", run)
    lines = []
    with pytest.raises(RuntimeError, match=r"pip install .*ended with 1:\nno such version"):
        venvs.install("robodesk", "", lines.append)
    assert not (nowhere / "robodesk").exists()
    assert calls[0] == [sys.executable, "-m", "venv", str(nowhere / "robodesk")]
    assert calls[1][0] == str(nowhere / "robodesk/bin/python")
    assert "numpy==1.26.4" in calls[1]
    assert len(lines) == 2


def test_what_an_installation_needs_is_looked_for_first(nowhere, monkeypatch):
    with pytest.raises(ValueError, match=r"no environment of its own for 'toy'; there are \["):
        venvs.install("toy", "", print)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="minedojo needs javac, which is not on the PATH: a JDK 8"):
        venvs.install("minedojo", "", print)
    monkeypatch.setitem(venvs.RECIPES, "old", venvs.Recipe((), "3.1"))
    with pytest.raises(ValueError, match=r"needs python3.1, which is not here: --python="):
        venvs.install("old", "", print)


@pytest.mark.slow
@installed("robodesk")
def test_robodesk_steps_in_its_own_python():
    env = SUITES["robodesk"].make("open_slide", RobodeskConfig(repeat=2, length=3, state=True))
    assert env.observation_space["qpos_objects"].shape == (29,)
    assert env.action_space == spaces.Box(-1, 1, (5,), np.float32)
    first, _ = env.reset(seed=1)
    rows = [env.step(np.zeros(5, np.float32)) for _ in range(3)]
    again, _ = env.reset(seed=1)
    other, _ = env.reset(seed=2)
    env.close()
    assert [row[2:4] for row in rows] == [(False, False), (False, False), (False, True)]
    np.testing.assert_array_equal(first["image"], again["image"])
    assert not np.array_equal(first["qpos_objects"], other["qpos_objects"])
    red, green, blue = first["image"][2:8, 20:40].reshape(-1, 3).mean(0)
    assert red > 140 > blue  # the upper shelf of the desk is yellow
    assert green > blue


@pytest.mark.slow
@installed("robosuite")
def test_robosuite_draws_every_frame():
    env = SUITES["robosuite"].make("lift", RobosuiteConfig(length=4))
    assert env.action_space.shape == (4,)
    first, _ = env.reset(seed=1)
    rows = [env.step(env.action_space.sample()) for _ in range(4)]
    again, _ = env.reset(seed=1)
    other, _ = env.reset(seed=2)
    env.close()
    assert [row[3] for row in rows] == [False, False, False, True]
    np.testing.assert_array_equal(first["image"], again["image"])
    assert not np.array_equal(first["image"], other["image"])
    for obs in (first, *(row[0] for row in rows)):
        assert obs["image"][40:].mean() > 200  # the white table fills the lower part
        assert obs["image"][:8].mean() < 180
