"""Atari: the same pixels as gymnasium's preprocessing, and start states that only seeds decide."""

import json
import sys

import cv2
import numpy as np
import pytest

pytest.importorskip("ale_py")

from reverie.config_check import build
from reverie_envs.atari import NOOP, Atari100k, AtariConfig
from tests.conftest import SHARED

SUITE = Atari100k()


def make(game, **options):
    return SUITE.make(game, AtariConfig(**options))


def play(env, steps, seed=0, reset_seed=0):
    rng = np.random.default_rng(seed)
    shown = [(env.reset(seed=reset_seed)[0]["image"], 0.0)]
    for _ in range(steps):
        obs, reward, terminated, truncated, _ = env.step(rng.integers(env.action_space.n))
        shown.append((obs["image"], reward))
        if terminated or truncated:
            break
    return shown


def same(first, second):
    return len(first) == len(second) and all(
        a[1] == b[1] and np.array_equal(a[0], b[0]) for a, b in zip(first, second, strict=True)
    )


def shrunk_screen(env):
    return cv2.resize(env._ale.getScreenRGB(), (64, 64), interpolation=cv2.INTER_AREA)


def test_there_are_26_games():
    assert len(SUITE.tasks()) == 26
    assert "bank_heist" in SUITE.tasks()


@pytest.mark.parametrize("game", ["pong", "seaquest"])
def test_pixels_and_rewards_equal_gymnasium_preprocessing(game):
    import ale_py
    import gymnasium
    from gymnasium.wrappers import AtariPreprocessing

    gymnasium.register_envs(ale_py)
    raw = gymnasium.make(
        f"ALE/{game.capitalize()}-v5",
        frameskip=1,
        repeat_action_probability=0.0,
        full_action_space=False,
    )
    peer = AtariPreprocessing(raw, noop_max=0, screen_size=64, grayscale_obs=False)
    env, rng = make(game, noops=0), np.random.default_rng(0)
    np.testing.assert_array_equal(env.reset(seed=0)[0]["image"], peer.reset(seed=0)[0])
    for _ in range(300):
        action = rng.integers(env.action_space.n)
        ours, theirs = env.step(action), peer.step(action)
        assert ours[1:4] == theirs[1:4]
        if not ours[2]:  # a decision cut short shows the peer's frames of the last decision
            np.testing.assert_array_equal(ours[0]["image"], theirs[0])


def test_bilinear_frames_are_pillow_s():
    from PIL import Image

    env, area = (make("boxing", noops=0, resize=how) for how in ("bilinear", "area"))
    (shown, _), (other, _) = env.reset(seed=0), area.reset(seed=0)
    wanted = Image.fromarray(env._ale.getScreenRGB()).resize((64, 64), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(shown["image"], np.array(wanted))
    assert not np.array_equal(shown["image"], other["image"])
    protocol = SUITE.protocol("pong", AtariConfig(resize="bilinear"))
    assert protocol.id == "atari100k-v1-resize=bilinear"


@pytest.mark.parametrize("game", ["boxing", "freeway", "amidar", "qbert"])
def test_an_episode_does_not_depend_on_the_one_before(game):
    env = make(game)
    fresh = play(env, 60)
    play(env, 150, seed=1, reset_seed=1)
    assert same(play(env, 60), fresh)
    assert same(play(make(game), 60), fresh)


def test_without_noops_the_first_image_is_not_left_over_from_the_last_episode():
    env = make("breakout", noops=0)
    fresh = play(env, 20)
    assert same(play(env, 0), fresh[:1])


def test_a_decision_that_the_end_cuts_short_shows_the_last_frame_alone():
    env = make("pong", repeat=9)  # the last point falls within a decision
    env.reset(seed=0)
    over = False
    while not over:
        obs, _, over, _, _ = env.step(NOOP)
    left = env._frames % 9
    assert left
    np.testing.assert_array_equal(obs["image"], shrunk_screen(env))


def test_the_seed_decides_the_number_of_noops_and_nothing_else_does():
    env = make("pong")
    frames = []
    for seed in range(300):
        obs, _ = env.reset(seed=seed)
        frames.append(env._ale.getEpisodeFrameNumber())
        if frames[-1] > env._frames_at_start:
            np.testing.assert_array_equal(obs["image"], shrunk_screen(env))
        assert env._frames == 0
        if seed >= 120 and len(set(frames)) == 30:
            break
    assert max(frames) - min(frames) == 29
    assert len(set(frames)) == 30


def test_the_frame_cap_is_a_time_out():
    env = make("pong", frame_cap=40)
    env.reset(seed=0)
    ends = [env.step(NOOP)[2:4] for _ in range(10)]
    assert ends == [(False, False)] * 9 + [(False, True)]


def test_the_end_of_the_game_is_terminal():
    env = make("pong")
    env.reset(seed=0)
    for _ in range(2000):
        obs, reward, terminated, truncated, _ = env.step(NOOP)
        if terminated:
            break
    assert (terminated, truncated, reward) == (True, False, -1.0)
    assert obs["image"].any()


def test_images_are_not_overwritten():
    env = make("breakout")
    obs, _ = env.reset(seed=0)
    kept = obs["image"].copy()
    for _ in range(30):
        env.step(1)
    np.testing.assert_array_equal(obs["image"], kept)


def test_sticky_actions_follow_the_seed_and_change_the_game():
    sticky = play(make("pong", sticky=0.5), 60)
    assert same(play(make("pong", sticky=0.5), 60), sticky)
    assert not same(play(make("pong"), 60), sticky)


def test_without_ale_py_the_pip_line_is_named(monkeypatch):
    assert SUITE.missing() is None
    monkeypatch.setitem(sys.modules, "ale_py", None)
    assert SUITE.missing().endswith('needs ale-py: pip install "reverie[atari]"')
    with pytest.raises(ImportError, match=r'needs ale-py: pip install "reverie\[atari\]"'):
        make("pong")


def test_both_spellings_of_james_bond_work():
    assert SUITE.knows("james_bond")
    assert SUITE.protocol("james_bond", AtariConfig()).human_score == 302.8


def test_the_protocol_has_the_published_scores():
    protocol = SUITE.protocol("pong", AtariConfig())
    assert (protocol.id, protocol.mode, protocol.episodes) == ("atari100k-v1", "sample", 100)
    assert protocol.normalised(14.6) == pytest.approx(1)
    assert protocol.normalised(-20.7) == pytest.approx(0)
    assert SUITE.protocol("pong", AtariConfig(frame_cap=5400)).id == "atari100k-v1-frame_cap=5400"


@pytest.mark.parametrize(
    ("curves", "mean", "median"),
    [("harmony_dreamerv3", 1.364, 0.671), ("dreamerv3_2023_reproduced", 1.074, 0.416)],
)
def test_published_scores_normalise_to_the_published_mean_and_median(curves, mean, median):
    path = SHARED / f"reference/atari100k-{curves}.json"
    if not path.exists():
        pytest.skip(f"needs the published curves in {path}")
    last = {
        game: np.array(s)[:, -1].mean() for game, s in json.loads(path.read_text())["score"].items()
    }
    normalised = [SUITE.protocol(g, AtariConfig()).normalised(score) for g, score in last.items()]
    assert len(normalised) == 26
    assert np.mean(normalised) == pytest.approx(mean, abs=5e-4)
    assert np.median(normalised) == pytest.approx(median, abs=5e-4)


@pytest.mark.parametrize("options", [{"repeat": 0}, {"sticky": 1.0}, {"noops": -1}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=r"env\.\w+: expected a .*number"):
        build(AtariConfig, options, "env")
