"""Distractors: what is blue becomes video, the task stays as it is, episodes begin anew."""

import logging
import sys

import numpy as np
import pytest

pytest.importorskip("dm_control")

from reverie.config_check import build
from reverie_envs import frame_pools
from reverie_envs.distracting import Distracting, DistractingConfig
from reverie_envs.distractors import Background, Colours, Viewpoint
from reverie_envs.dmc import Dmc, DmcConfig
from reverie_envs.names import UNSEEN

SUITE = Distracting()
STILL = {"background": "off", "obs": "state"}
FLOORS = {
    "reacher_easy": {(25, 25, 102), (51, 51, 204)},
    "walker_walk": {(25, 25, 25), (51, 51, 51)},
}
"""Task -> colours of the squares of its floor in the published code."""


def make(task, **options):
    return SUITE.make(task, DistractingConfig(**options))


def model_of(env):
    return env._env.physics.model.ptr


def pool_of(*levels):
    """One grey frame of two by two pixels per level."""
    return np.stack([np.full((2, 2, 1), level, np.uint8) for level in levels])


# Background


def test_only_pixels_that_are_bluer_than_red_and_green_become_video():
    image = np.array([[(10, 20, 30), (30, 20, 10)], [(20, 30, 30), (30, 20, 30)]], np.uint8)
    background = Background(pool_of(77))
    painted = background.paint(image)
    assert painted[0, 0].tolist() == [77, 77, 77]
    np.testing.assert_array_equal(painted.reshape(4, 3)[1:], image.reshape(4, 3)[1:])
    assert image[0, 0].tolist() == [10, 20, 30]


def test_the_video_runs_on_and_begins_again_after_its_last_frame():
    background, shown = Background(pool_of(0, 1, 2)), []
    background.begin(np.random.default_rng(0))
    blue = np.full((2, 2, 3), (0, 0, 9), np.uint8)
    for _ in range(5):
        shown.append(int(background.paint(blue)[0, 0, 0]))
        background.advance()
    assert np.diff(shown).tolist() == [1 if level < 2 else -2 for level in shown[:-1]]


@pytest.mark.parametrize(("task", "share"), [("reacher_easy", 0.8), ("walker_walk", 0.3)])
def test_sky_and_blue_floors_are_replaced_and_the_rest_is_not(task, share):
    env = make(task, quality="fast", frames=2)
    env._background = Background(pool_of(10, 90).repeat(32, 1).repeat(32, 2))
    first = env.reset(seed=0)[0]["image"]
    env._background.advance()
    changed = (env.render() != first).any(-1)
    assert changed.mean() > share
    assert not changed[28:36, 28:36].all()  # arm and walker are in the middle
    model = model_of(env)
    start = model.tex_adr[model.texture("grid").id]
    pixels = model.tex_data[start : start + 300 * 300 * 3].reshape(-1, 3)
    assert {tuple(pixel) for pixel in np.unique(pixels, axis=0).tolist()} == FLOORS[task]


def test_rails_and_walls_on_a_blue_floor_are_not_blue():
    red, _, blue, _ = model_of(make("reacher_easy", obs="state")).material("decoration").rgba
    assert red > blue


def test_each_episode_starts_the_video_anew_where_its_seed_says():
    env, other = make("reacher_easy", quality="fast"), make("reacher_easy", quality="fast")
    first = [env.reset(seed=1)[0]]
    started = env._background._index
    first += [env.step(np.zeros(2))[0] for _ in range(2)]
    assert env._background._index == started + 2
    env.reset(seed=2)
    assert abs(env._background._index - started) > 3
    for again in (env, other):
        rows = [again.reset(seed=1)[0], *(again.step(np.zeros(2))[0] for _ in range(2))]
        for row, wanted in zip(rows, first, strict=True):
            np.testing.assert_array_equal(row["image"], wanted["image"])


def test_looking_twice_shows_the_same():
    env = make("reacher_easy", quality="fast", colours="hard", viewpoint="hard")
    obs, _ = env.reset(seed=0)
    np.testing.assert_array_equal(env.render(), obs["image"])


# The task


@pytest.mark.parametrize("task", ["walker_walk", "reacher_easy"])
def test_start_states_and_rewards_are_those_of_dmc(task):
    env = make(task, obs="state", colours="hard", viewpoint="hard")
    bare = Dmc().make(task, DmcConfig(obs="state"))
    obs, _ = env.reset(seed=3)
    np.testing.assert_array_equal(obs["proprio"], bare.reset(seed=3)[0]["proprio"])
    for action in np.random.default_rng(0).uniform(-1, 1, (20, *env.action_space.shape)):
        ours, theirs = env.step(action), bare.step(action)
        np.testing.assert_array_equal(ours[0]["proprio"], theirs[0]["proprio"])
        assert ours[1:] == theirs[1:]


def test_without_distractors_the_pixels_are_those_of_dmc():
    env, bare = make("reacher_easy", background="off"), Dmc().make("reacher_easy", DmcConfig())
    image, wanted = (each.reset(seed=0)[0]["image"] for each in (env, bare))
    np.testing.assert_array_equal(image, wanted)


# Colours and viewpoint


@pytest.mark.parametrize("dynamic", [True, False])
def test_colours_start_off_the_original_ones_and_stay_near(dynamic):
    env = make("walker_walk", colours="medium", dynamic=dynamic, **STILL)
    original = model_of(env).mat_rgba.copy()
    env.reset(seed=0)
    start = model_of(env).mat_rgba.copy()
    assert 0.1 < np.abs(start - original).max() <= 0.2 + 1e-6
    for _ in range(50):
        env.step(np.zeros(6))
    now = model_of(env).mat_rgba
    assert np.abs(now - original).max() <= 0.2 + 1e-6
    assert np.array_equal(now, start) != dynamic
    assert np.array_equal(now[:, 3], original[:, 3])


def test_colours_take_one_step_of_their_walk_per_control_step():
    env = make("walker_walk", repeat=2, **STILL)
    colours = Colours(model_of(env), 0.3, dynamic=True)
    colours.begin(np.random.default_rng((5, 1)))
    rng = np.random.default_rng((5, 1))
    colours.begin(rng)
    for _ in range(2):
        colours.advance(rng)
    wanted = model_of(env).mat_rgba.copy()
    env = make("walker_walk", repeat=2, colours="hard", **STILL)
    env.reset(seed=5)
    env.step(np.zeros(6))
    np.testing.assert_allclose(model_of(env).mat_rgba, wanted)


@pytest.mark.parametrize("task", ["cartpole_balance", "walker_walk", "reacher_easy"])
def test_the_camera_wanders_and_looks_where_it_did(task):
    env = make(task, viewpoint="hard", **STILL)
    data = env._env.physics.data
    env.reset(seed=1)
    places = []
    for _ in range(40):
        env.step(np.zeros(env.action_space.shape))
        place, axes = data.cam_xpos[0].copy(), data.cam_xmat[0].reshape(3, 3).copy()
        np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
        assert np.linalg.det(axes) == pytest.approx(1)
        env._env.physics.forward()
        _, _, target = env._viewpoint._nominal()
        towards = (target - place) / np.linalg.norm(target - place)
        if task != "reacher_easy":  # its fixed camera goes on looking at where the arm was
            np.testing.assert_allclose(-axes[:, 2], towards, atol=0.05)
        places.append(place - (data.subtree_com[1] if task == "walker_walk" else 0))
    moves = np.linalg.norm(np.diff(places, axis=0), axis=1)
    assert 0 < moves.max() <= 2 * 0.4 * 0.3 * np.linalg.norm(places[0])
    assert min(place[2] for place in places) > -1e-9


def test_a_camera_that_does_not_wander_stays_and_the_seed_says_where():
    places = []
    for seed in (1, 1, 2):
        env = make("cartpole_balance", viewpoint="easy", dynamic=False, **STILL)
        env.reset(seed=seed)
        places.append(env._env.physics.data.cam_xpos[0].copy())
        env.step(np.zeros(1))
        np.testing.assert_allclose(env._env.physics.data.cam_xpos[0], places[-1])
    np.testing.assert_array_equal(places[0], places[1])
    assert np.linalg.norm(places[0] - places[2]) > 0.01


def test_a_level_camera_keeps_the_horizon_level():
    env = make("cartpole_balance", **STILL)
    env.reset(seed=0)
    data = env._env.physics.data.ptr
    viewpoint = Viewpoint(model_of(env), data, 0, 0.3, dynamic=False)
    viewpoint.begin(np.random.default_rng(0))
    viewpoint._roll = 0.0
    viewpoint.apply()
    right, up, _ = data.cam_xmat[0].reshape(3, 3).T
    assert right[2] == pytest.approx(0)
    assert up[2] > 0


# Frames


def test_drawn_frames_move_and_are_the_same_everywhere():
    pool = frame_pools.drawn_pool(300, 32)
    assert (pool.shape, pool.dtype) == ((300, 32, 32, 1), np.uint8)
    moved = np.abs(np.diff(pool[..., 0].astype(int), axis=0)).mean((1, 2))
    assert moved.min() > 0.5
    assert moved[frame_pools.CLIP_LENGTH - 1] > 3 * np.median(moved)  # another clip begins
    frame_pools.drawn_pool.cache_clear()
    np.testing.assert_array_equal(frame_pools.drawn_pool(300, 32), pool)


def write_video(path, levels):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in levels:
            picture = np.full((48, 64, 3), (level, level, 255 - level), np.uint8)
            picture[24:] = 128
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture
def folder(tmp_path):
    """Two videos of five frames, a dark and a light one."""
    write_video(tmp_path / "dark.mp4", [10] * 5)
    write_video(tmp_path / "light.MP4", [200] * 5)
    (tmp_path / "licence.txt").write_text("no video")
    return tmp_path


def test_frames_of_a_folder_are_read_up_to_the_wanted_number(folder):
    pool = frame_pools.video_pool(str(folder), 7, 8, grey=True)
    assert (pool.shape, pool.dtype) == ((7, 8, 8, 1), np.uint8)
    upper, lower = pool[:, :3].mean((1, 2, 3)), pool[:, 5:].mean((1, 2, 3))
    np.testing.assert_allclose(lower, 128, atol=10)
    assert upper[5] - upper[4] > 50  # the second video begins
    assert len(frame_pools.video_pool(str(folder), 100, 8, grey=True)) == 10
    colours = frame_pools.video_pool(str(folder), 7, 8, grey=False)
    assert colours.shape == (7, 8, 8, 3)
    assert colours[0, 0, :, 2].mean() - colours[0, 0, :, 0].mean() > 50


def test_videos_are_shown(folder):
    env = make("reacher_easy", videos=str(folder), quality="fast", grey=False)
    assert len(env._background._pool) == 10
    env.reset(seed=0)
    env.close()


def test_a_folder_without_videos_is_named_with_the_remedy(tmp_path):
    remedy = "without env.videos moving backgrounds are generated"
    with pytest.raises(ValueError, match=f"nowhere is not a folder, .*; {remedy}"):
        make("walker_walk", videos=str(tmp_path / "nowhere"), obs="state")
    with pytest.raises(ValueError, match=rf"no \.mp4, .* in .*; {remedy}"):
        make("walker_walk", videos=str(tmp_path), obs="state")


def test_a_video_that_cannot_be_read_is_named(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(ValueError, match=r"broken\.mp4 cannot be read .*; remove or replace it"):
        make("walker_walk", videos=str(tmp_path), obs="state")


def test_without_pyav_the_pip_line_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r'pip install "reverie\[video\]"'):
        make("walker_walk", videos=str(tmp_path), obs="state")


# The suite


def test_scores_carry_the_source_of_their_backgrounds(folder):
    def name(**options):
        return SUITE.protocol("walker_walk", DistractingConfig(**options)).id

    assert name() == "distracting-generated-v1"
    own = name(videos=str(folder))
    assert own == f"distracting-videos-{frame_pools.fingerprint(str(folder))}-v1"
    assert name(videos=str(folder), grey=False) == f"{own}-grey=False"
    assert name(background="off", colours="easy") == (
        "distracting-plain-v1-background=off-colours=easy"
    )
    write_video(folder / "more.mp4", [0])
    assert name(videos=str(folder)) != own


def test_a_task_with_a_typo_gets_the_nearest_names():
    with pytest.raises(KeyError, match=r"suite 'distracting'; did you mean .*walker_walk"):
        make("walker_wlak")
    assert SUITE.knows("cup_catch")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "env.frames: expected a whole number from 1 to 10_000, got 0"),
        ({"grey": False}, "generated frames have no colours; set env.videos"),
        ({"size": 0}, "env.size: expected a whole number from 1 to 1_024, got 0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(DistractingConfig, options, "env")


def test_tasks_of_which_nothing_would_be_seen_are_refused():
    assert not set(UNSEEN) & set(SUITE.tasks())
    assert set(SUITE.tasks()) | set(UNSEEN) == set(Dmc().tasks())
    with pytest.raises(ValueError, match=r"too little would be left .* dmc/lqr_lqr_2_1 can be"):
        make("lqr_lqr_2_1")


def test_fast_drawing_is_marked_in_the_log(caplog):
    with caplog.at_level(logging.WARNING):
        make("walker_walk", quality="fast", frames=1)
    assert "distracting/walker_walk: quality=fast changes pixels" in caplog.text
