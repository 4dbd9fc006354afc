"""DeepMind Control: dm_control's own pixels, states and rewards; a time-out is not an end."""

import logging

import numpy as np
import pytest

pytest.importorskip("dm_control")

import dm_env

from reverie.config_check import build
from reverie_envs.dmc import ALL, Dmc, DmcConfig, control_suite
from reverie_envs.names import DMC_DOMAINS, DMC_VISION

DMC, CONTROL = Dmc(), control_suite()


def make(task, **options):
    return DMC.make(task, DmcConfig(**options))


def random_actions(env, count):
    low, high = np.maximum(env.action_space.low, -1), np.minimum(env.action_space.high, 1)
    return np.random.default_rng(0).uniform(low, high, (count, *low.shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "camera"), [("walker_walk", 0), ("quadruped_escape", 2)], ids=["flat", "terrain"]
)
def test_pixels_states_and_rewards_equal_those_of_dm_control(name, camera):
    env = make(name, obs="both")
    env.reset(seed=4)
    obs, _ = env.reset(seed=5)
    bare = CONTROL.load(*ALL[name], task_kwargs={"random": 5})
    moment, reward, wanted = bare.reset(), 0.0, 0.0
    for action in random_actions(env, 3):
        obs, reward, *_ = env.step(action)
        moments = [bare.step(action) for _ in range(2)]
        moment, wanted = moments[-1], sum(each.reward for each in moments)
    assert reward == wanted
    flat = np.concatenate([np.ravel(part) for part in moment.observation.values()])
    np.testing.assert_array_equal(obs["proprio"], flat.astype(np.float32))
    np.testing.assert_array_equal(obs["image"], bare.physics.render(64, 64, camera_id=camera))
    env.close()
    bare.physics.free()


@pytest.mark.parametrize(("repeat", "decisions"), [(2, 500), (1, 1000), (3, 334)])
def test_a_thousand_control_steps_are_a_time_out(repeat, decisions):
    env = make("point_mass_easy", obs="state", repeat=repeat)
    env.reset(seed=0)
    ends = [env.step(np.zeros(2))[2:4] for _ in range(decisions)]
    assert ends[-1] == (False, True)
    assert set(ends[:-1]) == {(False, False)}


def test_a_task_without_a_time_limit_gets_one():
    env = make("lqr_lqr_2_1", obs="state", repeat=3)
    env.reset(seed=0)
    ends = [env.step(np.array([10.0 * (i % 2)]))[2:4] for i in range(334)]
    assert env._steps == 1000
    assert ends[-1] == (False, True)
    assert set(ends[:-1]) == {(False, False)}


def test_only_a_discount_of_zero_is_terminal(monkeypatch):
    env = make("cartpole_balance", obs="state", repeat=3)
    env.reset(seed=0)
    state = env._env.task.get_observation(env._env.physics)
    steps = [dm_env.transition(1.0, state), dm_env.termination(0.5, state)]
    monkeypatch.setattr(env._env, "step", lambda action: steps.pop(0))
    assert env.step(np.zeros(1))[1:4] == (1.5, True, False)


def test_the_seed_decides_the_episode_whatever_was_played_before():
    env = make("cheetah_run", obs="state")
    first = env.reset(seed=3)[0]["proprio"]
    for action in random_actions(env, 20):
        env.step(action)
    np.testing.assert_array_equal(env.reset(seed=3)[0]["proprio"], first)
    assert not np.array_equal(env.reset()[0]["proprio"], env.reset()[0]["proprio"])


@pytest.mark.parametrize(
    ("obs", "shapes"),
    [
        ("pixels", {"image": (84, 84, 3)}),
        ("state", {"proprio": (24,)}),
        ("both", {"image": (84, 84, 3), "proprio": (24,)}),
    ],
)
def test_observations_are_pixels_or_state_or_both(obs, shapes):
    env = make("walker_walk", obs=obs, size=84, quality="fast")
    assert {key: space.shape for key, space in env.observation_space.items()} == shapes
    assert {key: value.shape for key, value in env.reset(seed=0)[0].items()} == shapes


def test_light_is_nearly_the_native_image_and_fast_is_not():
    native, light, fast = (
        make("walker_walk", quality=quality).reset(seed=0)[0]["image"].astype(int)
        for quality in ("native", "light", "fast")
    )
    assert 0 < np.abs(light - native).mean() < 0.2 < np.abs(fast - native).mean() < 3


def test_reach_duplo_is_that_of_the_manipulation_tasks():
    from dm_control import manipulation

    env = make("reach_duplo", obs="both", size=84)
    env.reset(seed=4)
    obs, _ = env.reset(seed=5)
    pixels, state = (manipulation.load(f"reach_duplo_{k}", seed=5) for k in ("vision", "features"))
    moments = pixels.reset(), state.reset()
    for action in np.random.default_rng(0).uniform(-0.5, 0.5, (3, 9)).astype(np.float32):
        flat = np.concatenate([np.ravel(part) for part in moments[1].observation.values()])
        np.testing.assert_array_equal(obs["proprio"], flat.astype(np.float32))
        np.testing.assert_array_equal(obs["image"], moments[0].observation["front_close"][0])
        obs, reward, *_ = env.step(action)
        rewards = [pixels.step(action).reward, (last := pixels.step(action)).reward]
        assert reward == sum(rewards)
        moments = last, [state.step(action) for _ in range(2)][-1]
    env.close()
    pixels.close()


def test_reach_duplo_ends_after_250_control_steps_and_that_is_a_time_out():
    env = make("reach_duplo", obs="state", repeat=50)
    env.reset(seed=0)
    ends = [env.step(np.zeros(9))[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(False, True)]


def test_a_camera_that_the_model_lacks_is_refused():
    with pytest.raises(ValueError, match=r"env.camera: walker has cameras 0 to 1, got 9"):
        make("walker_walk", camera=9, obs="state")


def test_the_quadruped_works_with_the_installed_numpy():
    assert make("quadruped_walk", obs="state").reset(seed=0)[0]["proprio"].shape == (78,)


def test_the_tasks_are_those_of_dm_control_and_one_more():
    listed = [(domain, task) for domain, tasks in DMC_DOMAINS.items() for task in tasks]
    assert listed == list(CONTROL.ALL_TASKS)
    assert sorted(DMC.tasks()) == sorted(ALL)
    assert set(ALL.values()) - set(listed) == {("manipulation", "reach_duplo")}


def test_the_twenty_vision_tasks_come_first():
    assert len(DMC_VISION) == 20
    assert DMC.tasks()[:20] == DMC_VISION
    assert DMC.knows("cup_catch")
    assert make("cup_catch", obs="state").observation_space["proprio"].shape == (8,)


def test_a_typo_names_the_nearest_task():
    with pytest.raises(KeyError, match="did you mean walker_walk"):
        make("walker_wakl")


def test_protocols_name_what_changes_scores(caplog):
    assert DMC.protocol("walker_walk", DmcConfig()).id == "dmc-v1"
    fast = DmcConfig(repeat=1, quality="fast")
    protocol = DMC.protocol("walker_walk", fast)
    assert (protocol.id, protocol.mode, protocol.episodes) == (
        "dmc-v1-repeat=1-quality=fast",
        "mode",
        10,
    )
    with caplog.at_level(logging.WARNING):
        DMC.make("cartpole_balance", fast)
    assert "quality=fast changes pixels" in caplog.text


@pytest.mark.parametrize("options", [{"repeat": 0}, {"size": 0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=r"expected a whole number from 1 to .*, got 0"):
        build(DmcConfig, options, "env")
