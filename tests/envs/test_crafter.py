"""Crafter: the package's own worlds, but the same for the same seed, with achievements logged."""

import importlib
import math
import sys

import numpy as np
import pytest

pytest.importorskip("crafter")

import crafter
from crafter import constants

from reverie.config_check import build
from reverie_envs.crafter import (
    ACHIEVEMENTS,
    ACTIONS,
    Crafter,
    CrafterConfig,
    begin,
    crafter_score,
    make_world,
)

SUITE = Crafter()
NOOP, SLEEP = 0, 6


@pytest.fixture(scope="module")
def world():
    return make_world(seed=0)


def make(task="reward", **options):
    return SUITE.make(task, CrafterConfig(**options))


def unlock(env, *names):
    for name in names:
        env._world._player.achievements[name] = 1


def test_images_and_rewards_equal_those_of_the_package():
    env, bare = make(), crafter.Env(seed=11)
    np.testing.assert_array_equal(env.reset(seed=11)[0]["image"], bare.reset())
    for action in np.random.default_rng(0).integers(17, size=60):
        obs, reward, *_ = env.step(action)
        image, wanted, *_ = bare.step(int(action))
        np.testing.assert_array_equal(obs["image"], image)
        assert reward == wanted


def test_which_creature_vanishes_does_not_depend_on_addresses(world, monkeypatch):
    begin(world, 3)
    creatures, seen = world._world.objects[:6], []
    monkeypatch.setattr(crafter.Env, "_balance_chunk", lambda self, chunk, objs: seen.append(objs))
    ordered = make_world(seed=0)
    ordered._balance_chunk(None, creatures)
    ordered._balance_chunk(None, creatures[::-1])
    assert seen[0] == seen[1]
    assert set(seen[0]) == set(creatures)


def test_the_seed_decides_the_world_whatever_was_played_before(world):
    first = begin(world, 5)
    for _ in range(5):
        world.step(1)
    np.testing.assert_array_equal(begin(world, 5), first)
    assert not np.array_equal(begin(world, 6), first)


def test_an_achievement_is_logged_in_the_step_that_unlocks_it():
    env = make()
    _, logs = env.reset(seed=0)
    assert len(logs) == 22
    assert set(logs.values()) == {0.0}
    unlock(env, "collect_wood", "eat_cow")
    _, reward, _, _, first = env.step(NOOP)
    second = env.step(NOOP)[-1]
    assert reward == 1.0
    assert first == {"log/achievement_collect_wood": 1.0, "log/achievement_eat_cow": 1.0}
    assert second == {}


def test_without_reward_achievements_are_logged_all_the_same():
    env = make("no_reward")
    env.reset(seed=0)
    unlock(env, "collect_wood")
    _, reward, _, _, logs = env.step(NOOP)
    assert reward == 0.0
    assert logs == {"log/achievement_collect_wood": 1.0}


def test_death_is_terminal_and_the_length_is_a_time_out():
    env = make(length=2)
    env.reset(seed=0)
    assert [env.step(NOOP)[2:4] for _ in range(2)] == [(False, False), (False, True)]
    env.reset(seed=0)
    env._world._player.health = 0
    assert env.step(NOOP)[2:4] == (True, False)


def test_the_score_is_a_geometric_mean_of_percentages():
    assert crafter_score([0.0] * 22) == 0.0
    assert crafter_score([1.0] * 22) == pytest.approx(100.0)
    assert crafter_score([0.0, 0.03]) == pytest.approx(math.sqrt(1 * 4) - 1)


def test_the_suite_scores_the_rates_of_success_over_episodes():
    means = dict.fromkeys((f"achievement_{name}_max" for name in ACHIEVEMENTS), 0.5)
    others = {"achievement_eat_cow_sum": 3.0, "speed_max": 9.0}
    assert SUITE.scores(means | others) == {"crafter_score": pytest.approx(50.0)}
    assert SUITE.scores(means | {"achievement_eat_cow_max": 0.0})["crafter_score"] < 45


def test_the_protocol_has_the_published_scores():
    protocol = SUITE.protocol("reward", CrafterConfig())
    assert (protocol.id, protocol.mode) == ("crafter-v1-reward", "sample")
    assert protocol.normalised(14.3) == pytest.approx(1)
    assert SUITE.protocol("no_reward", CrafterConfig(length=500)).normalised(1.0) is None


def test_achievements_and_actions_are_those_of_the_package():
    assert tuple(constants.achievements) == ACHIEVEMENTS
    assert tuple(constants.actions) == ACTIONS
    assert make().action_space.n == len(ACTIONS)


def test_without_crafter_only_making_an_environment_fails(monkeypatch):
    assert SUITE.missing() is None
    monkeypatch.setitem(sys.modules, "crafter", None)
    monkeypatch.delitem(sys.modules, "reverie_envs.crafter")
    module = importlib.import_module("reverie_envs.crafter")
    suite, config = module.Crafter(), module.CrafterConfig()
    assert suite.tasks() == SUITE.tasks()
    assert suite.protocol("reward", config) == SUITE.protocol("reward", CrafterConfig())
    assert 'pip install "reverie[crafter]"' in suite.missing()
    with pytest.raises(ImportError, match=r'pip install "reverie\[crafter\]"'):
        suite.make("reward", config)


def test_a_typo_names_the_nearest_task():
    with pytest.raises(KeyError, match="did you mean reward"):
        make("rewards")


@pytest.mark.parametrize("options", [{"size": 8}, {"length": 0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=r"env\.\w+: expected a .*number"):
        build(CrafterConfig, options, "env")
