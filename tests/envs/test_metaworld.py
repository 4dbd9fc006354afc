"""Meta-World: its own pixels the right way up, success that is logged and never ends an episode."""

import logging

import numpy as np
import pytest

pytest.importorskip("metaworld")

from reverie.config_check import build
from reverie_envs import metaworld
from reverie_envs.metaworld import UPSIDE_DOWN, MetaWorld, MetaWorldConfig

SUITE, ALL = MetaWorld(), metaworld.environments()
STILL = np.zeros(4, np.float32)


def make(task="door-lock", **options):
    return SUITE.make(task, MetaWorldConfig(**options))


def solved(env, flags, monkeypatch):
    """Let the simulator report a reward of 1 and these success flags."""
    steps = iter(flags)
    state = env.reset(seed=0)[0]["proprio"].astype(float)
    monkeypatch.setattr(
        env._env, "step", lambda action: (state, 1.0, False, False, {"success": next(steps)})
    )


def test_the_tasks_are_those_of_the_package():
    assert SUITE.tasks() == tuple(ALL)
    assert len(ALL) == 50


def test_pixels_states_and_rewards_equal_those_of_the_package():
    env = make(obs="both")
    bare = ALL["door-lock"](seed=0, render_mode="rgb_array")
    bare._freeze_rand_vec, bare.seeded_rand_vec = False, True
    bare.mujoco_renderer.camera_id = bare.model.camera("corner").id
    bare.mujoco_renderer.width = bare.mujoco_renderer.height = 64
    obs, _ = env.reset(seed=4)
    bare.seed(4)
    state, _ = bare.reset()
    np.testing.assert_array_equal(obs["proprio"], state.astype(np.float32))
    for action in np.random.default_rng(0).uniform(-1, 1, (3, 4)).astype(np.float32):
        obs, reward, *_ = env.step(action)
        state, wanted, *_ = bare.step(action)
    assert reward == wanted
    np.testing.assert_array_equal(obs["proprio"], state.astype(np.float32))
    np.testing.assert_array_equal(obs["image"], bare.render()[::-1])
    bare.close()


def test_the_table_lies_below_and_empty_space_above():
    image = make(quality="fast").reset(seed=0)[0]["image"]
    top, bottom = image[:16, 48:], image[48:, 48:]
    assert top.std() < 10 < bottom.std()


@pytest.mark.parametrize("camera", ["corner", "corner2", "corner3", "corner4", "behindGripper"])
def test_cameras_that_hang_upside_down_are_reflected(camera):
    env = make(obs="state", camera=camera)
    env.reset(seed=0)
    up = env._env.data.camera(camera).xmat.reshape(3, 3)[2, 1]
    assert (up < 0) == (camera in UPSIDE_DOWN)


def test_corner2_stands_where_published_runs_have_it():
    env = make(obs="state", camera="corner2")
    env.reset(seed=0)
    assert env._env.data.camera("corner2").xpos == pytest.approx((0.75, 0.075, 0.7))


def test_each_seed_has_its_own_places_and_always_the_same():
    env = make("reach", obs="state")
    first = env.reset(seed=1)[0]["proprio"]
    other = env.reset(seed=2)[0]["proprio"]
    for _ in range(10):
        env.step(np.ones(4, np.float32))
    np.testing.assert_array_equal(env.reset(seed=1)[0]["proprio"], first)
    assert not np.array_equal(first[-3:], other[-3:])
    assert not np.array_equal(env.reset()[0]["proprio"], env.reset()[0]["proprio"])


def test_the_first_image_has_the_goal_where_the_second_has_it():
    env = make("reach", obs="state")
    goal = env.reset(seed=1)[0]["proprio"][-3:]
    assert env._env.data.site("goal").xpos == pytest.approx(goal, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "decisions"),
    [
        ({}, 500),
        ({"repeat": 2}, 250),
        ({"repeat": 3}, 167),
        ({"repeat": 2, "time_limit": 200}, 100),
    ],
)
def test_the_time_limit_counts_simulator_steps(options, decisions):
    env = make(obs="state", **options)
    env.reset(seed=0)
    ends = [env.step(STILL)[2:4] for _ in range(decisions)]
    assert ends[-1] == (False, True)
    assert set(ends[:-1]) == {(False, False)}


def test_success_is_logged_and_neither_ends_nor_shortens_a_decision(monkeypatch):
    env = make(obs="state", repeat=2)
    solved(env, [0.0, 0.0, 1.0, 0.0, 1.0, 1.0], monkeypatch)
    seen = [env.step(STILL)[1:] for _ in range(3)]
    assert seen == [(2.0, False, False, {"log/success": flag}) for flag in (0.0, 1.0, 1.0)]


def test_the_bonus_is_given_once_per_decision(monkeypatch):
    env = make(obs="state", repeat=2, success_bonus=10.0)
    solved(env, [0.0, 0.0, 1.0, 1.0], monkeypatch)
    assert [env.step(STILL)[1] for _ in range(2)] == [2.0, 12.0]


def test_the_first_row_is_no_success():
    assert make(obs="state").reset(seed=0)[1] == {"log/success": 0.0}


@pytest.mark.parametrize("name", ["door-lock-v3", "door_lock", "door-lock-v2"])
def test_other_spellings_are_known(name):
    assert SUITE.knows(name)
    assert type(make(name, obs="state")._env) is ALL["door-lock"]


def test_the_names_of_version_2_are_warned_of(caplog):
    metaworld._warn_of_version.cache_clear()
    with caplog.at_level(logging.WARNING):
        make("reach-v3", obs="state")
        assert caplog.text == ""
        make("reach-v2", obs="state")
    assert "runs as reach-v3: rewards and physics differ" in caplog.text


def test_protocols_name_the_version_of_the_rewards():
    protocol = SUITE.protocol("door-lock", MetaWorldConfig(repeat=2, success_bonus=10.0))
    assert protocol.id == "metaworld-v1-rewards=v3-repeat=2-success_bonus=10.0"
    assert (protocol.mode, protocol.episodes) == ("mode", 10)


def test_a_typo_names_the_nearest_task():
    with pytest.raises(KeyError, match="did you mean door-lock"):
        make("door-lokc")


@pytest.mark.parametrize("options", [{"repeat": 0}, {"size": 0}, {"time_limit": 501}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=r"env\.\w+: expected a .*number"):
        build(MetaWorldConfig, options, "env")
