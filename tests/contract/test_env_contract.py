"""Every registered suite keeps the promises of `Suite`, every environment those of `check_env`."""

import functools

import numpy as np
import pytest

from reverie import registry
from reverie.protocols import EvalProtocol, Suite, VectorEnv
from reverie_envs.contract import check_env

TRIED = {
    "crafter": ["reward"],
    "gym": ["CartPole-v1", "Pendulum-v1", "Taxi-v3"],
    "distracting": ["reacher_easy"],
    "dmc": ["ball_in_cup_catch", "finger_spin", "quadruped_escape", "lqr_lqr_2_1"],
    "dmcr": ["pendulum_swingup"],
    "metaworld": ["door-lock", "reach"],
    "robodesk": ["open_slide", "push_red"],
    "robosuite": ["lift"],
}
"""Tasks tried of suites that take any name, or whose tasks are slow to draw and alike."""
OPTIONS = {
    "distracting": {"quality": "fast", "colours": "hard", "viewpoint": "hard"},
    "dmc": {"quality": "fast", "obs": "both"},
    "dmcr": {"quality": "fast", "obs": "both"},
    "metaworld": {"quality": "fast", "obs": "both"},
}
MAX_STEPS = {
    "crafter": 40,
    "distracting": 8,
    "dmc": 8,
    "dmcr": 8,
    "metaworld": 5,
    "robodesk": 3,
    "robosuite": 8,
}
"""Decisions per episode; games go on for thousands, MuJoCo draws 40 frames a second."""


def every_task():
    for name in registry.ENVS:
        try:
            suite = registry.suite(name)
            if lack := getattr(suite, "missing", lambda: None)():
                raise ImportError(lack)
        except ImportError as error:
            yield pytest.param(name, "", marks=pytest.mark.skip(reason=str(error)))
            continue
        tasks = suite.tasks()
        yield from ((name, task) for task in TRIED.get(name, tasks))


def maker(name, task):
    suite = registry.suite(name)
    return functools.partial(suite.make, task, suite.Config(**OPTIONS.get(name, {})))


@pytest.mark.parametrize(("name", "task"), list(every_task()))
def test_environment_keeps_its_promises(name, task):
    suite = registry.suite(name)
    results = check_env(
        maker(name, task),
        episodes=1,
        deterministic=suite.deterministic,
        max_steps=MAX_STEPS.get(name, 100),
    )
    assert [result for result in results if not result.ok] == []


@pytest.mark.parametrize("name", registry.ENVS)
def test_suite_has_what_the_platform_asks(name):
    suite, task = registry.suite(name), "module:function"
    assert isinstance(suite, Suite)
    config = suite.Config()
    if suite.tasks():
        task = suite.tasks()[0]
        with pytest.raises(KeyError, match=f"unknown task 'no_such_task' of suite '{name}'"):
            suite.make("no_such_task", config)
    assert suite.action_repeat(config) >= 1
    assert isinstance(suite.protocol(task, config), EvalProtocol)
    assert np.all(
        [field.default is not None for field in suite.Config.__dataclass_fields__.values()]
    )


@pytest.mark.parametrize(("name", "task"), [("toy", "two_cameras"), ("gym", "Pendulum-v1")])
def test_start_states_do_not_depend_on_how_environments_are_spread(name, task):
    vector_env = registry.load(registry.VECTOR_ENV)
    make = maker(name, task)
    together: VectorEnv = vector_env([make] * 2, lambda i, e: 10 * i + e)
    alone: VectorEnv = vector_env([make], lambda i, e: 10 + e)
    actions = np.random.default_rng(0).uniform(-1, 1, (120, 2, *together.spaces.action.shape))
    for action in actions:
        both = together.step(action, np.ones(2, bool))
        one = alone.step(action[1:], np.ones(1, bool))
        for key in one:
            np.testing.assert_array_equal(both[key][1], one[key][0])


def test_a_tuple_observation_gets_a_clear_message():
    results = check_env(maker("gym", "Blackjack-v1"))
    assert [(result.name, result.ok) for result in results] == [("build", False)]
    assert "Blackjack-v1: the observation space is Tuple" in results[0].message
