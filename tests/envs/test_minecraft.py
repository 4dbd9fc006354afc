"""Minecraft without Minecraft: rewards, resets, actions and spaces on scripted clients.

What the imitated packages look like was read off the real ones; see `minecraft_stubs`.
"""

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from reverie.config import load_config
from reverie.config_check import build
from reverie.errors import ConfigError
from reverie.evaluator import protocol_of
from reverie_envs import minecraft, minecraft_child
from reverie_envs.contract import check_env
from reverie_envs.hunt_cow import DenseReward, HuntCow
from reverie_envs.isolated import IsolatedConfig, isolate
from reverie_envs.isolated_child import GymEnv
from reverie_envs.minecraft import Minecraft, MinecraftConfig, MineRLTask
from reverie_envs.minecraft_controls import Controls, shrink, to_minedojo
from reverie_envs.wrappers import standardise
from tests.conftest import ROOT
from tests.envs import minecraft_stubs as stubs

SUITE = Minecraft()
SWORD = 1561.0
NOTHING = [0, 0, 0, 0, 0]


# Actions


@pytest.mark.parametrize(
    ("action", "native"),
    [
        ([0, 0, 0, 0, 0], [0, 0, 0, 12, 12, 0, 0, 0]),
        ([1, 2, 3, 1, 2], [1, 2, 3, 11, 12, 3, 0, 0]),
        ([2, 1, 1, 2, 1], [2, 1, 1, 13, 12, 1, 0, 0]),
        ([0, 0, 2, 3, 0], [0, 0, 2, 12, 11, 0, 0, 0]),
        ([0, 0, 0, 4, 2], [0, 0, 0, 12, 13, 3, 0, 0]),
    ],
)
def test_choices_become_minedojo_s_eight_numbers(action, native):
    # MineDojo turns 11 and 13 into camera moves of -15 and 15 degrees, and 3 into an attack.
    assert to_minedojo(Controls()(action)).tolist() == native


def sent(controls, *actions):
    """For each action the buttons pressed and the camera."""
    found = []
    for action in actions:
        values = controls(action)
        names = {key for key, on in zip(minecraft_child.KEYS, values, strict=False) if on}
        found.append((names, values[9], values[10]))
    return found


def test_an_attack_goes_on_and_keeps_the_feet_on_the_ground():
    attack, jump = [0, 0, 0, 0, 2], [0, 0, 1, 0, 0]
    found = sent(Controls(sticky_attack=3), attack, jump, NOTHING, jump)
    assert [names for names, *_ in found] == [{"attack"}, {"attack"}, {"attack"}, {"jump"}]


def test_a_jump_goes_on_forward():
    found = sent(Controls(sticky_jump=2), [0, 0, 1, 0, 0], [2, 0, 2, 0, 0], NOTHING)
    assert [names for names, *_ in found] == [{"jump", "forward"}, {"jump", "forward"}, set()]


def test_a_new_episode_lets_go_of_the_buttons():
    controls = Controls(sticky_attack=30, sticky_jump=10, pitch_limit=15)
    sent(controls, [0, 0, 1, 1, 2])
    controls.reset()
    assert sent(controls, [0, 0, 0, 1, 0]) == [(set(), -15, 0)]


def test_looks_beyond_the_limit_are_ignored():
    up, down, right = [0, 0, 0, 1, 0], [0, 0, 0, 2, 0], [0, 0, 0, 4, 0]
    found = sent(Controls(pitch_limit=30), up, up, up, right, down)
    assert [camera for _, *camera in found] == [[-15, 0], [-15, 0], [0, 0], [0, 15], [15, 0]]


def test_halving_an_image_averages_four_pixels():
    image = np.zeros((4, 4, 3), np.uint8)
    image[0, 0] = 100
    assert shrink(image, 2)[0, 0].tolist() == [25] * 3
    assert shrink(image, 4) is image


# Hunt Cow


def raw(distance, sword=SWORD):
    cow = np.zeros(27, np.int8)
    distances = np.full(27, 0.5, np.float32)  # no cow: must not count
    if distance is not None:
        cow[[4, 9]] = 1
        distances[[4, 9]] = distance, distance + 3
    return {"cow": cow, "distance": distances, "sword": np.float32(sword)}


@pytest.mark.parametrize(
    ("shown", "rewards"),
    [
        pytest.param([(8, 0), (7, 0), (7.5, 0), (5, 0)], [1, 0, 2], id="only a new least pays"),
        pytest.param([(None, 0), (9, 0), (8, 0)], [0, 1], id="the first sight pays nothing"),
        pytest.param([(6, 0), (None, 0), (4, 0)], [0, 2], id="out of sight changes nothing"),
        pytest.param([(3, 0), (3, 1), (9, 1), (7, 1)], [5, 0, 2], id="a hit forgets the least"),
        pytest.param([(3, 0), (3, 2)], [0], id="wear by two is no hit"),
        pytest.param([(3, 0), (2, SWORD)], [1], id="a lost sword is no hit"),
    ],
)
def test_the_dense_reward(shown, rewards):
    # The same as the published wrapper gives; on 1,200 random steps of it they agreed to 1e-6.
    reward = DenseReward()
    reward.reset(raw(shown[0][0], SWORD - shown[0][1]))
    assert [reward.step(raw(d, SWORD - wear)) for d, wear in shown[1:]] == rewards


@pytest.fixture
def dojo(monkeypatch):
    """Puts the imitation in MineDojo's place and takes the script of what it shows."""
    for name in ("minedojo", "minedojo.sim", "minedojo.sim.inventory"):
        monkeypatch.setitem(sys.modules, name, None)
    stubs.install_minedojo(sys.modules)
    stubs.CALLS.clear()

    def env(*script, hard_reset_every=5):
        stubs.SCRIPT[:] = script
        client = minecraft_child.Cow(256)
        stubs.CALLS.clear()
        return HuntCow(client, 128, Controls(), hard_reset_every)

    return env


def test_the_world_is_asked_for_as_published(dojo):
    stubs.CALLS.clear()
    minecraft_child.Cow(256)
    ((name, options),) = stubs.CALLS
    assert name == "Combat"
    assert options["reward_weights"] == {"cow": 200}
    assert options["specified_biome"] == "sunflower_plains"
    assert options["initial_mobs"] == ["cow", "pig", "sheep"]
    assert options["initial_mob_spawn_range_high"] == (7, 1, 7)
    assert options["initial_inventory"][0]["name"] == "diamond_sword"
    assert options["image_size"] == (256, 256)
    rays = np.rad2deg(np.array(options["lidar_rays"])[:, :2])
    assert len(rays) == 27
    np.testing.assert_allclose(np.unique(rays[:, 0].round(9)), [0, 15, 30])
    np.testing.assert_allclose(np.unique(rays[:, 1].round(9)), np.linspace(-60, 60, 9))


def test_an_episode_ends_with_the_kill(dojo):
    env = dojo((5, SWORD), (4, SWORD, 0, False), (4, SWORD - 1, 200, True))
    obs, info = env.reset(seed=3)
    assert obs["image"].shape == (128, 128, 3)
    assert (obs["image"][..., 0] == 50).all()
    assert not obs["image"][..., 1:].any()
    assert info == {"log/success": 0.0}
    assert env.step([1, 0, 0, 0, 0])[1:] == (1.0, False, False, {"log/success": 0.0})
    assert env.step([0, 0, 0, 0, 2])[1:] == (205.0, True, False, {"log/success": 1.0})
    assert stubs.CALLS == [
        "world 3",
        [1, 0, 0, 12, 12, 0, 0, 0],
        [0, 0, 0, 12, 12, 3, 0, 0],
    ]


def test_death_is_terminal_and_no_success(dojo):
    env = dojo((5, SWORD), (5, 0, 0, True))
    env.reset(seed=3)
    assert env.step(NOTHING)[1:] == (0.0, True, False, {"log/success": 0.0})


def test_the_time_out_is_not_terminal(dojo):
    env = dojo((5, SWORD), *[(5, SWORD, 0, False)] * 500)
    env.reset(seed=3)
    ends = [env.step(NOTHING)[2:4] for _ in range(500)]
    assert ends == [(False, False)] * 499 + [(False, True)]


def test_death_at_the_last_decision_is_terminal(dojo):
    env = dojo((5, SWORD), *[(5, SWORD, 0, False)] * 499, (5, SWORD, 0, True))
    env.reset(seed=3)
    assert [env.step(NOTHING)[2:4] for _ in range(500)][-1] == (True, False)


def test_every_second_episode_gets_a_new_world_if_asked(dojo):
    env = dojo(*[(5, SWORD)] * 4, hard_reset_every=2)
    for seed in (1_000_010, 11, 12, 13):
        env.reset(seed=seed)
    swept = ["/kill @e[type=!player]", "/clear", "/kill @e[type=item]", "time 6000", "clear"]
    assert ["world 10", *swept, "back", *swept, "world 12", *swept, "back"] == stubs.CALLS


def test_hunt_cow_keeps_the_contract_through_its_own_process():
    script = [(5, SWORD), *[(5 - i / 10, SWORD, 0, False) for i in range(30)]]
    script += [(1, SWORD, 200, True)]
    paths = [Path(minecraft_child.__file__).parents[1], Path(__file__).parents[2]]
    config = IsolatedConfig(
        kwargs={"size": 256, "script": script * 3},
        variables={"PYTHONPATH": os.pathsep.join(map(str, paths))},
    )
    factory = f"{stubs.__file__}:scripted_cow"

    def make():
        return HuntCow(isolate(factory, config), 64, Controls(), 5)

    results = check_env(make, episodes=1, deterministic=False, max_steps=31)
    assert [result for result in results if not result.ok] == []


# MineRL


@pytest.fixture
def minerl(monkeypatch):
    """Puts the imitation in MineRL's place and gives the task and what it wraps."""

    def env(task, version="0.4.4", size=64, controls=None, **options):
        names = ("", ".herobraine", ".herobraine.env_specs", ".herobraine.hero")
        for name in names:
            monkeypatch.setitem(sys.modules, f"minerl{name}", None)
        stubs.install_minerl(sys.modules, version)
        options = {"dense": False, "break_speed": 1.0, "fake": True} | options
        client = minecraft_child.MineRL(task, size, **options)
        return MineRLTask(Adapted(client), task, size, controls or Controls()), client._env

    return env


class Adapted(GymEnv):
    """The client with spaces of gymnasium, as `IsolatedEnv` has them."""

    def __init__(self, client):
        super().__init__(client)
        self.close = client.close
        self.observation_space = spaces.Dict(
            {
                key: spaces.Box(box.low, box.high, box.shape, box.dtype.type)
                for key, box in client.observation_space.items()
            }
        )

    def reset(self, seed=None, options=None):
        return self.env.reset(seed, options)


@pytest.mark.parametrize(
    ("task", "version", "keys", "choices"),
    [
        ("treechop", "0.4.4", {"image"}, 5),
        ("treechop", "1.0", {"image"}, 5),
        ("navigate", "0.4.4", {"image", "compass", "inventory"}, 5),
        ("obtain_diamond", "0.4.4", {"image", "inventory", "equipped"}, 6),
        ("obtain_diamond_shovel", "1.0", {"image", "inventory"}, 6),
    ],
)
def test_spaces_hold_what_is_shown(minerl, task, version, keys, choices):
    env, inner = minerl(task, version)
    assert env.action_space.nvec.tolist()[:5] == [3, 3, 4, 5, 3]
    assert len(env.action_space.nvec) == choices
    env = standardise(env)
    obs, _ = env.reset(seed=9)
    assert inner.seeds == [9]
    assert set(obs) == keys
    assert obs["image"].shape == (64, 64, 3)
    obs, reward, *_ = env.step(np.zeros(choices, int))
    assert obs in env.observation_space
    assert reward == 1.0


def test_items_and_compass_become_vectors(minerl):
    env, _ = minerl("obtain_diamond")
    obs, _ = env.reset()
    assert obs["inventory"].tolist() == [1, 4]  # log, planks: by name
    assert obs["equipped"].tolist() == [0, 1, 0]
    env, _ = minerl("navigate")
    assert env.reset()[0]["compass"].tolist() == [-0.5]
    env, inner = minerl("obtain_diamond_shovel", "1.0")
    assert env.reset()[0]["inventory"].tolist() == [5, 1]  # kinds of wood together
    assert inner.num_steps == 0


def test_commands_reach_minerl(minerl):
    env, inner = minerl("obtain_diamond")
    env.reset()
    for number, (key, value) in enumerate(minecraft_child.CRAFTS):
        env.step([1, 0, 0, 2, 2, number])
        action = inner.sent[-1]
        assert (action["forward"], action["attack"], action["camera"].tolist()) == (1, 1, [15, 0])
        made = {name for name in stubs.CRAFT if action[name] != "none"}
        assert made == ({key} if key else set())
        assert not key or action[key] == value
    assert len(minecraft_child.CRAFTS) == 14


def test_use_places_dirt_where_there_is_no_use(minerl):
    env, inner = minerl("navigate")
    env.reset()
    env.step([0, 0, 0, 0, 1])
    assert inner.sent[-1]["place"] == "dirt"
    env, inner = minerl("obtain_diamond_shovel", "1.0")
    env.reset()
    env.step([0, 0, 0, 0, 1, 1])
    assert (inner.sent[-1]["use"], inner.sent[-1]["inventory"]) == (1, 1)


def test_blocks_break_faster_and_images_are_larger_if_asked(minerl):
    _, inner = minerl("navigate", size=128, break_speed=100.0, dense=True)
    assert inner.spec.create_agent_start() == ["iron_axe", "speed 100.0"]
    assert (inner.spec.resolution, inner.spec.dense) == ((128, 128), True)
    assert minerl("treechop")[1].spec.create_agent_start() == ["iron_axe"]


def test_a_client_that_died_is_an_error_and_not_an_end(minerl):
    env, inner = minerl("treechop")
    env.reset()
    inner.spec.info["error"] = "Socket timed out"
    with pytest.raises(RuntimeError, match="client failed: Socket timed out"):
        env.step(NOTHING)


def test_success_of_treechop_is_a_sum_and_of_others_one_reward(minerl):
    env, _ = minerl("treechop")
    env.reset()
    found = [env.step(NOTHING)[4]["log/success"] for _ in range(65)]
    assert found == [0.0] * 63 + [1.0] * 2
    env, inner = minerl("navigate")
    env.reset()
    inner.step = lambda action: (inner.spec.shown, 100.0, True, {})
    assert env.step(NOTHING)[1:] == (100.0, True, False, {"log/success": 1.0})
    env.reset()
    inner.step = lambda action: (inner.spec.shown, 50.0, False, {})
    assert [env.step(NOTHING)[4]["log/success"] for _ in range(3)] == [0.0] * 3


def test_what_ends_at_the_time_limit_is_no_terminal(minerl, monkeypatch):
    monkeypatch.setitem(minecraft.TASKS, "treechop", minecraft.Task(2, 64.0))
    env, inner = minerl("treechop")
    env.reset()
    inner.step = lambda action: (inner.spec.shown, 0.0, len(steps) == 1, {})
    steps = []
    for _ in range(2):
        steps.append(env.step(NOTHING)[2:4])
    assert steps == [(False, False), (False, True)]


def test_a_version_without_the_task_says_what_it_has(minerl):
    with pytest.raises(ValueError, match=r"no 'obtain_diamond'; it has \['navigate', 'obtain_dia"):
        minerl("obtain_diamond", "1.0")


# Suite


@pytest.fixture
def asked(monkeypatch):
    found = []

    def isolate(factory, config):
        found.append((factory.rpartition(":")[2], config))
        raise InterruptedError

    monkeypatch.setattr(minecraft, "isolate", isolate)
    return found


@pytest.mark.parametrize(
    ("task", "options", "kind", "kwargs"),
    [
        ("hunt_cow", {}, "Cow", {"size": 256}),
        ("hunt_cow", {"size": 64}, "Cow", {"size": 128}),
        ("treechop", {}, "MineRL", {"size": 64, "break_speed": 1.0, "dense": False}),
    ],
)
def test_what_is_started(asked, task, options, kind, kwargs):
    with pytest.raises(InterruptedError):
        SUITE.make(task, MinecraftConfig(python="p", **options))
    ((name, config),) = asked
    assert (name, config.python) == (kind, "p")
    assert config.kwargs == kwargs | ({} if kind == "Cow" else {"task": task})
    assert config.variables["MINEDOJO_HEADLESS"] == "1"


@pytest.mark.parametrize(
    ("task", "options", "venv"),
    [
        ("hunt_cow", {}, "minedojo"),
        ("treechop", {}, "minerl-0.4.4"),
        ("treechop", {"minerl": "1.0"}, "minerl-1.0"),
        ("obtain_diamond", {"minerl": "1.0"}, "minerl-0.4.4"),
        ("obtain_diamond_shovel", {}, "minerl-1.0"),
    ],
)
def test_without_its_python_a_task_names_the_command(monkeypatch, tmp_path, task, options, venv):
    monkeypatch.setenv("REVERIE_VENVS", str(tmp_path))
    with pytest.raises(ImportError, match=f"reverie env install {venv},"):
        SUITE.make(task, MinecraftConfig(**options))
    assert "reverie env install minedojo" in SUITE.missing()


def test_wrong_options_are_refused():
    for options in (
        *({"hard_reset_every": 0}, {"break_speed": 0}, {"answer_s": -1}),
        *({"sticky_attack": -1}, {"sticky_jump": -1}, {"pitch_limit": 181}),
    ):
        ((key, value),) = options.items()
        with pytest.raises(ConfigError, match=rf"env\.{key}: expected a .*number .*, got {value}"):
            build(MinecraftConfig, options, "env")


def test_a_protocol_names_what_changes_the_task():
    assert SUITE.protocol("hunt_cow", MinecraftConfig(python="p")).id == "minecraft-v1-hunt_cow"
    found = SUITE.protocol("treechop", MinecraftConfig(break_speed=100.0)).id
    assert found == "minecraft-v1-treechop-break_speed=100.0"


def test_the_preset_evaluates_in_a_new_world_for_every_episode():
    config = load_config(ROOT / "tune_configs/harmonydream/minecraft.yaml")
    assert config.env.options.hard_reset_every == 5
    assert config.eval_env.options.hard_reset_every == 1
    assert protocol_of(config).id == "minecraft-v1-hunt_cow-hard_reset_every=1"


def executable(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("version", "severity", "words"),
    [
        ("17.0.15", "broken", "version 17.0.15, but Minecraft's mods need 8"),
        ("1.8.0_402", "broken", "1.8.0_402 without javac"),
        (None, "broken", "missing: a JDK 8"),
    ],
)
def test_the_doctor_looks_for_java_8(monkeypatch, tmp_path, version, severity, words):
    if version:
        executable(tmp_path / "java", f"echo 'openjdk version \"{version}\"' >&2")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("DISPLAY", raising=False)
    checks = {name: (mark, text) for name, mark, text in SUITE.checks()}
    assert checks["java"][0] == severity
    assert words in checks["java"][1]
    assert checks["display"] == ("broken", "neither DISPLAY nor Xvfb: apt-get install xvfb")


def test_the_doctor_is_content_with_all_that_is_needed(monkeypatch, tmp_path):
    executable(tmp_path / "java", "echo 'openjdk version \"1.8.0_402\"' >&2")
    for name in ("javac", "Xvfb", "xvfb-run"):
        executable(tmp_path / name, "")
    for venv in ("minedojo", "minerl-0.4.4", "minerl-1.0"):
        (tmp_path / venv / "bin").mkdir(parents=True)
        executable(tmp_path / venv / "bin/python", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("REVERIE_VENVS", str(tmp_path))
    monkeypatch.delenv("DISPLAY", raising=False)
    assert {mark for _, mark, _ in SUITE.checks()} == {"ok"}
    assert SUITE.missing() is None


def test_a_display_is_started_where_there_is_none(monkeypatch, tmp_path):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="apt-get install xvfb"):
        minecraft_child.ensure_display()
    started = []

    def popen(command, pass_fds, stdin):
        started.append(command[0])
        os.write(pass_fds[0], b"77\n")

    monkeypatch.setattr(subprocess, "Popen", popen)
    minecraft_child.ensure_display()
    minecraft_child.ensure_display()
    assert os.environ["DISPLAY"] == ":77"
    assert started == ["Xvfb"]
