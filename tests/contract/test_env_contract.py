"""Every registered suite keeps the promises of `Suite`, every environment those of `check_env`.

And what an environment returns is what the rows of its chunks hold, also when it falls over.
"""

import functools
import itertools
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from reverie import registry
from reverie.agent_actor import make_agent_actor
from reverie.config import resolve_config
from reverie.env_factory import spaces_of
from reverie.env_loop import EnvLoop
from reverie.protocols import EvalProtocol, Suite, VectorEnv
from reverie.replay.coordinator import StreamTicket
from reverie.types import StreamId
from reverie_envs import mujoco_camera
from reverie_envs.contract import check_env
from tests.fakes import tree

TRIED = {
    "crafter": ["reward"],
    "factory": ["reverie_envs.toy:TwoCameras"],
    "gym": ["CartPole-v1", "Pendulum-v1", "Taxi-v3"],
    "distracting": ["reacher_easy"],
    "dmc": ["ball_in_cup_catch", "finger_spin", "quadruped_escape", "lqr_lqr_2_1", "reach_duplo"],
    "dmcr": ["pendulum_swingup"],
    "isolated": ["reverie_envs.toy:TwoCameras"],
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
    "atari100k": 30,
    "crafter": 12,
    "distracting": 8,
    "dmc": 8,
    "dmcr": 8,
    "metaworld": 5,
    "robodesk": 3,
    "robosuite": 8,
}
"""Decisions per episode; games go on for thousands, MuJoCo draws 40 frames a second."""
FALLS_AT = 5
"""Step at which the environments of the crash test fall over, once."""


def every_task():
    for name in registry.ENVS:
        try:
            suite = registry.suite(name)
            if lack := suite.missing():
                raise ImportError(lack)
        except ImportError as error:
            yield pytest.param(name, "", marks=pytest.mark.skip(reason=str(error)))
            continue
        tasks = suite.tasks()
        yield from ((name, task) for task in TRIED.get(name, tasks))


def one_task_each():
    """The first task of every suite."""
    for _, params in itertools.groupby(
        every_task(), lambda param: getattr(param, "values", param)[0]
    ):
        yield next(params)


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


def test_no_suite_is_left_out():
    assert {getattr(param, "values", param)[0] for param in every_task()} == set(registry.ENVS)


class Noted(gymnasium.Wrapper):
    """Keeps what an environment returns; the first of them falls over at step `FALLS_AT`."""

    def __init__(self, env, lives):
        super().__init__(env)
        self.rows, self.steps, self.falls = [], 0, not lives
        lives.append(self)

    def reset(self, **kwargs):
        obs, info = self.env.reset(**kwargs)
        self.note(obs, 0.0, False, False)
        return obs, info

    def step(self, action):
        self.steps += 1
        if self.falls and self.steps == FALLS_AT:
            raise OSError("the simulator fell over")
        obs, *row, info = self.env.step(action)
        self.note(obs, *row)
        return obs, *row, info

    def note(self, obs, reward, terminated, truncated):
        kept = {key: np.copy(value) for key, value in obs.items()}
        flags = {"is_last": terminated or truncated, "is_terminal": terminated}
        self.rows.append({**kept, **flags, "reward": reward})


@pytest.fixture
def contexts(monkeypatch):
    """Every OpenGL context of MuJoCo that is opened during a test."""
    opened, open_context = [], mujoco_camera._open_context

    def noting(size):
        opened.append(open_context(size))
        return opened[-1]

    monkeypatch.setattr(mujoco_camera, "_open_context", noting)
    return opened


def children():
    return {
        int(pid)
        for path in Path("/proc/self/task").glob("*/children")
        for pid in path.read_text().split()
    }


@pytest.mark.parametrize(("name", "task"), list(one_task_each()))
def test_what_falls_over_is_counted_and_rebuilt_and_no_row_is_lost(
    name, task, monkeypatch, contexts
):
    suite, lives, before = type(registry.suite(name)), [], children()
    options = {"suite": name, "task": task, **OPTIONS.get(name, {})}
    config = resolve_config(tree() | {"env": options})
    spaces, make, numbers = spaces_of(config.env), suite.make, itertools.count()
    monkeypatch.setattr(suite, "make", lambda *args: Noted(make(*args), lives))
    loop = EnvLoop(
        config.env,
        make_agent_actor(config, spaces, seed=0, mode="train"),
        lambda: [StreamTicket(StreamId(0, 0, life), life, 0) for life in [next(numbers)]],
        chunk_length=4,
        first_index=0,
        seed=0,
        max_restarts=1,
    )
    found = [loop.run(8, random=True) for _ in range(2)]
    loop.close()
    assert "the simulator fell over" in found[0].fault
    assert (found[1].fault, loop.restarts, len(lives)) == (None, 1, 2)
    assert [part.env_steps for part in found] == [FALLS_AT, 8]
    for life, (part, noted) in enumerate(zip(found, lives, strict=True)):
        assert {chunk.stream for _, chunk in part.chunks} == {StreamId(0, 0, life)}
        assert_rows_are(noted.rows, [chunk.data for _, chunk in part.chunks])
    assert [context for context in contexts if context._context] == []
    assert children() <= before


def assert_rows_are(noted, chunks):
    """All that was noted, but perhaps the last row: that one still waits for its action."""
    rows = {key: np.concatenate([data[key] for data in chunks]) for key in chunks[0]}
    assert len(noted) - len(rows["reward"]) in (0, 1)
    for index, wanted in enumerate(noted[: len(rows["reward"])]):
        for key in wanted.keys() & rows.keys():
            np.testing.assert_array_equal(
                rows[key][index], np.asarray(wanted[key], rows[key].dtype)
            )
    starts = [True, *(row["is_last"] for row in noted)]
    assert rows["is_first"].tolist() == starts[: len(rows["reward"])]


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
