"""DMC Remastered: the published draws, shown in one compiled model without touching physics."""

import logging

import cv2
import numpy as np
import pytest

pytest.importorskip("dm_control")

from reverie.config_check import build
from reverie_envs import pictures, textures
from reverie_envs.dmc import Dmc, DmcConfig
from reverie_envs.dmc_remastered import FACTORS, DmcrConfig, DmcRemastered
from reverie_envs.looks import STAGES, draw_look

SUITE = DmcRemastered()
SHOWN_BY = {
    "bg": {"tex_data", "tex_height", "tex_width"},
    "floor": {"tex_data"},
    "body": {"mat_rgba"},
    "target": {"mat_rgba"},
    "reflectance": {"mat_reflectance"},
    "camera": {"cam_pos", "cam_pos0", "cam_poscom0"},
    "light": {"light_pos", "light_pos0", "light_poscom0", "headlight"},
}
"""Factor -> what it changes in the model of ball in cup."""


def make(task, **options):
    return SUITE.make(task, DmcrConfig(**options))


def model_of(env):
    return env._env.physics.model.ptr


def contents(env):
    """Copies of all arrays of the model, by name."""
    model = model_of(env)
    arrays = {name: getattr(model, name) for name in dir(model) if not name.startswith("_")}
    head = model.vis.headlight
    kept = {name: a.copy() for name, a in arrays.items() if isinstance(a, np.ndarray)}
    return {**kept, "headlight": np.stack([head.ambient, head.diffuse, head.specular])}


def differing(before, after):
    return {name for name in before if not np.array_equal(before[name], after[name])}


# Draws


@pytest.mark.parametrize(
    ("domain", "camera", "light"),
    [
        ("walker", (0.01319, -1.96933, 0.7921), None),
        ("cheetah", (0.01099, -2.87732, 0.23025), (-0.8415, 1.06443, 3.81688)),
        ("finger", (0.00088, -0.99387, 0.98815), (-0.3366, 0.42577, 2.40844)),
        ("pendulum", (0.16134, -0.97514, 1.38689), (0.26611, 0.08169, 2.25821)),
    ],
)
def test_seed_17_looks_as_in_the_published_code(domain, camera, light):
    look = draw_look(STAGES[domain], 17)
    assert look.camera == pytest.approx(camera, abs=1e-5)
    assert look.light == (light and pytest.approx(light, abs=1e-5))
    assert (look.sky, look.floor) == (66, 212)
    assert look.reflectance == pytest.approx(0.40334538)
    assert look.body == pytest.approx((0.28963, 0.76611, 0.70422, 0.99012), abs=1e-5)
    assert look.effector == pytest.approx((0.11016, 0.02694, 0.38417, 0.91535), abs=1e-5)
    assert look.target == pytest.approx((0.25238, 0.5016, 0.31744, 0.9366), abs=1e-5)
    assert look.ambient == pytest.approx((0.73695, 0.68259, 0.74227), abs=1e-5)
    assert look.diffuse == pytest.approx((0.49362, 0.50616, 0.36128), abs=1e-5)
    assert look.specular == pytest.approx((0.22875, 0.2446, 0.21479), abs=1e-5)


def test_a_light_of_its_own_strength_is_drawn_for_the_finger_only():
    finger = draw_look(STAGES["finger"], 17)
    assert finger.lamp_diffuse == pytest.approx((0.88124, 0.87791, 0.8922), abs=1e-5)
    assert finger.lamp_specular == pytest.approx((0.88577, 0.89574, 0.88837), abs=1e-5)
    assert draw_look(STAGES["cheetah"], 17).lamp_diffuse is None


@pytest.mark.parametrize(
    ("task", "quaternion"),
    [
        ("hopper_stand", (0.71937, 0.69401, 0.00435, 0.02894)),
        ("pendulum_swingup", (0.85157, 0.52424, 0.0, 0.0)),
    ],
)
def test_cameras_turn_as_in_the_published_code(task, quaternion):
    env = make(task, obs="state", vary=("camera",), visual_seed=17)
    env.reset(seed=0)
    assert model_of(env).cam_quat[0] == pytest.approx(quaternion, abs=1e-5)


# Factors


@pytest.mark.parametrize("factor", FACTORS)
def test_a_factor_changes_what_it_is_called_after_and_nothing_else(factor):
    plain = make("ball_in_cup_catch", obs="state", vary=())
    env = make("ball_in_cup_catch", obs="state", vary=(factor,))
    for each in (plain, env):
        each.reset(seed=3)
    assert differing(contents(plain), contents(env)) == SHOWN_BY[factor]


def test_a_factor_looks_the_same_whether_others_vary_or_not():
    alone = make("reacher_easy", obs="state", vary=("light",), visual_seed=5)
    together = make("reacher_easy", obs="state", vary="all", visual_seed=5)
    for env in (alone, together):
        env.reset(seed=0)
    assert differing(contents(alone), contents(together)).isdisjoint(SHOWN_BY["light"])


def test_the_published_runs_leave_some_factors_alone():
    published, everything = DmcrConfig(), DmcrConfig(vary="all")
    assert published.factors("walker") == FACTORS == everything.factors("hopper")
    assert set(FACTORS) - set(published.factors("hopper")) == {"camera"}
    assert set(FACTORS) - set(published.factors("fish")) == {"bg"}
    assert DmcrConfig(vary="bg").factors("hopper") == ("bg",)


@pytest.mark.parametrize("task", ["walker_walk", "finger_turn_hard", "fish_swim", "cheetah_run"])
def test_looks_leave_the_task_as_it_is_in_dmc(task):
    env, bare = make(task, obs="state"), Dmc().make(task, DmcConfig(obs="state"))
    rng = np.random.default_rng(0)
    for episode in range(2):
        obs, info = env.reset(seed=episode)
        wanted, _ = bare.reset(seed=int(info["log/dynamics_seed"]))
        np.testing.assert_array_equal(obs["proprio"], wanted["proprio"])
        for action in rng.uniform(-1, 1, (20, *env.action_space.shape)):
            ours, theirs = env.step(action), bare.step(action)
            np.testing.assert_array_equal(ours[0]["proprio"], theirs[0]["proprio"])
            assert ours[1:] == theirs[1:]


def test_near_things_do_not_vanish_after_a_reset():
    # mj_setConst makes the walker's scene as large as its floor: the near plane hid the walker.
    env = make("walker_walk", obs="state")
    statistic = repr(model_of(env).stat)
    env.reset(seed=0)
    assert repr(model_of(env).stat) == statistic


# Episodes


def test_the_seed_decides_the_episode_and_the_log_names_it():
    env, other = make("walker_walk", quality="fast"), make("walker_walk", quality="fast")
    first, info = env.reset(seed=1)
    second, later = env.reset()
    assert 1 <= info["log/visual_seed"] <= 1_000_000
    assert 1 <= info["log/dynamics_seed"] <= 100_000
    assert later != info
    assert not np.array_equal(first["image"], second["image"])
    assert env.step(np.zeros(6))[4] == {}
    again, _ = other.reset(seed=1)
    np.testing.assert_array_equal(again["image"], first["image"])
    seeds = {key.removeprefix("log/"): int(value) for key, value in later.items()}
    repeated, info = make("walker_walk", quality="fast", **seeds).reset(seed=9)
    np.testing.assert_array_equal(repeated["image"], second["image"])
    assert info == later


def test_a_new_sky_is_seen_at_the_next_reset():
    env = make("pendulum_swingup", quality="fast", vary=("bg",), dynamics_seed=1)
    top = [env.reset(seed=seed)[0]["image"][:8].astype(int) for seed in range(3)]
    assert np.abs(top[0] - top[1]).mean() > 10
    assert np.abs(top[1] - top[2]).mean() > 10


# Pictures


@pytest.mark.parametrize("draw", [textures.sky, textures.floor])
def test_generated_pictures_are_decided_by_their_number(draw):
    drawn = [draw(number, 64) for number in range(10)]
    for number, picture in enumerate(drawn):
        assert (picture.shape, picture.dtype) == ((64, 64, 3), np.uint8)
        assert picture.std() > 4
        np.testing.assert_array_equal(picture, draw(number, 64))
    assert len({picture.tobytes() for picture in drawn}) == 10


def test_noise_is_seamless():
    field = textures.noise(np.random.default_rng(0), 64, 1.8)
    inside = np.abs(np.diff(field, axis=0)).mean()
    assert np.abs(field[0] - field[-1]).mean() < 1.5 * inside
    assert 0 <= field.min() < 0.3 < 0.7 < field.max() <= 1


@pytest.fixture
def folder(tmp_path):
    """Skies of another size, red and blue, and one floor, blue on top and red below."""
    for kind in ("skies", "floors"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "licence.txt").write_text("not a picture")
    for name, blue, red in (("b.png", 250, 0), ("c.png", 250, 0), ("a.png", 0, 250)):
        picture = np.full((50, 40, 3), (blue, 0, red), np.uint8)
        cv2.imwrite(str(tmp_path / "skies" / name), picture)
    halves = np.zeros((300, 300, 3), np.uint8)
    halves[:150, :, 0] = halves[150:, :, 2] = 250
    cv2.imwrite(str(tmp_path / "floors" / "only.png"), halves)
    return tmp_path


def test_pictures_of_a_folder_are_shown_upright_in_their_colours(folder):
    found = pictures.open_pictures(str(folder))
    assert (found.skies, found.floors) == (3, 1)
    assert found.sky(0).shape == (800, 800, 3)
    shown = [found.sky(number)[400, 400].tolist() for number in range(3)]
    assert shown == [[250, 0, 0], [0, 0, 250], [0, 0, 250]]
    assert found.floor(0)[[0, -1], 0].tolist() == [[0, 0, 250], [250, 0, 0]]
    env = make("reacher_easy", assets=str(folder), quality="fast", vary=("floor", "bg"))
    image = env.reset(seed=0)[0]["image"].astype(int)
    assert (image[..., 0] - image[..., 1]).max() > 100  # the red of the floor
    assert (image[..., 2] - image[..., 1]).max() > 100


def test_a_missing_folder_is_named_with_the_remedy(folder):
    remedy = "github.com/QData/dmc_remastered; without env.assets pictures are generated"
    with pytest.raises(ValueError, match=f"nowhere is not there; .*{remedy}"):
        make("walker_walk", assets=str(folder / "nowhere"))
    (folder / "floors" / "only.png").unlink()
    with pytest.raises(ValueError, match="floors holds no png or jpg"):
        make("walker_walk", assets=str(folder))


def test_a_file_that_is_no_picture_is_named(folder):
    (folder / "floors" / "only.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"only\.png is not a picture that can be read; replace"):
        make("walker_walk", assets=str(folder), obs="state").reset(seed=0)


# The suite


def test_scores_from_generated_pictures_carry_an_id_of_their_own(folder):
    def name(**options):
        return SUITE.protocol("walker_walk", DmcrConfig(**options)).id

    own = pictures.open_pictures(str(folder)).id
    assert name() == "dmcr-generated-v1"
    assert name(assets=str(folder)) == f"dmcr-{own}-v1"
    assert name(vary="all", repeat=4) == "dmcr-generated-v1-repeat=4-vary=all"
    assert name(vary=("floor", "bg")) == "dmcr-generated-v1-vary=bg+floor"
    assert name(vary=()) == "dmcr-generated-v1-vary=none"
    assert own.startswith("pictures-")


def test_the_published_pictures_are_known_by_their_names_and_sizes(folder, monkeypatch):
    own = pictures.open_pictures(str(folder)).id.removeprefix("pictures-")
    monkeypatch.setattr(pictures, "PUBLISHED", own)
    assert SUITE.protocol("walker_walk", DmcrConfig(assets=str(folder))).id == "dmcr-published-v1"


def test_every_task_has_a_stage():
    assert {Dmc().knows(task) for task in SUITE.tasks()} == {True}
    assert {task.replace("ball_in_cup", "cup").split("_")[0] for task in SUITE.tasks()} == {
        domain.replace("ball_in_cup", "cup") for domain in STAGES
    }
    assert SUITE.knows("cup_catch")


def test_a_task_with_a_typo_gets_the_nearest_names():
    with pytest.raises(KeyError, match=r"suite 'dmcr'; did you mean .*walker_walk"):
        make("walker_wlak")
    with pytest.raises(KeyError, match="unknown task 'quadruped_run' of suite 'dmcr'"):
        make("quadruped_run")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vary": ("bg", "flooor")}, "unknown factor 'flooor'; did you mean floor"),
        ({"vary": "everything"}, "unknown factor 'everything'; known: published, all, bg"),
        ({"camera": 1}, "seen by camera 0, got 1"),
        (
            {"visual_seed": 1_000_001},
            "visual_seed: expected a whole number from 0 to 1_000_000",
        ),
        (
            {"dynamics_seed": -1},
            "dynamics_seed: expected a whole number from 0 to 100_000",
        ),
        ({"repeat": 0}, "env.repeat: expected a whole number from 1 to"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(DmcrConfig, options, "env")


def test_fast_drawing_is_marked_in_the_log(caplog):
    with caplog.at_level(logging.WARNING):
        make("walker_walk", quality="fast")
    assert "dmcr/walker_walk: quality=fast changes pixels" in caplog.text
