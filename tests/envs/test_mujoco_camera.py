"""The camera of the MuJoCo suites: backends, quality, and an end of Python without noise."""

import os
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("mujoco")

import mujoco
import numpy as np

from reverie_envs import mujoco_camera
from reverie_envs.mujoco_camera import MujocoCamera, backend, lacking_library, set_quality

SCENE = """
<mujoco>
  <worldbody>
    <light pos="0 0 3"/>
    <geom type="plane" size="3 3 .1" rgba=".2 .3 .9 1"/>
    <geom type="sphere" size=".3" pos="0 0 1.2" rgba="1 0 0 1"/>
    <camera pos="0 -3 1" xyaxes="1 0 0 0 0 1"/>
  </worldbody>
</mujoco>
"""


@pytest.fixture
def scene():
    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def height_of_red(image):
    rows = np.flatnonzero((image[..., 0] > 2.0 * image[..., 2]).any(1))
    return rows.mean() / len(image)


def end_of_python(code):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )


def test_what_is_above_is_drawn_above(scene):
    camera = MujocoCamera(*scene, 0, 32, "native")
    image = camera.render()
    assert (image.shape, image.dtype) == ((32, 32, 3), np.uint8)
    assert height_of_red(image) < 0.5
    reflected = MujocoCamera(*scene, 0, 32, "native", upside_down=True)
    np.testing.assert_array_equal(reflected.render(), image[::-1])


def test_images_are_not_overwritten(scene):
    camera = MujocoCamera(*scene, 0, 32, "fast")
    kept = camera.render()
    before = kept.copy()
    scene[0].geom_pos[1] = 0.5
    mujoco.mj_forward(*scene)
    assert not np.array_equal(camera.render(), before)
    np.testing.assert_array_equal(kept, before)


def test_a_camera_that_goes_leaves_the_others_as_they_are(scene):
    stays = MujocoCamera(*scene, 0, 32, "fast")
    before = stays.render()
    goes = MujocoCamera(*scene, 0, 32, "fast")
    goes.render()
    del goes
    np.testing.assert_array_equal(stays.render(), before)


@pytest.mark.parametrize(
    ("quality", "shadows", "samples"), [("native", 2048, 4), ("light", 512, 4), ("fast", 256, 0)]
)
def test_quality_trades_shadows_and_smooth_edges(scene, quality, shadows, samples):
    model = scene[0]
    model.vis.quality.shadowsize = 2048
    set_quality(model, quality, 64)
    found = model.vis.quality
    assert (found.shadowsize, found.offsamples) == (shadows, samples)
    assert model.vis.global_.offwidth == model.vis.global_.offheight == 64


def test_the_backend_is_egl_unless_only_osmesa_is_there(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for libraries, wanted in (({"EGL", "OSMesa"}, "egl"), ({"OSMesa"}, "osmesa"), (set(), "egl")):
        monkeypatch.delenv("MUJOCO_GL", raising=False)
        monkeypatch.setattr(
            mujoco_camera,
            "_loads",
            lambda name, libraries=libraries: name[3:].partition(".")[0] in libraries,
        )
        assert backend() == wanted
    monkeypatch.setenv("MUJOCO_GL", "GLFW")
    assert backend() == "glfw"


@pytest.mark.parametrize(("name", "packages"), [("egl", "libegl1"), ("osmesa", "libosmesa6")])
def test_a_library_that_is_missing_is_named_without_opening_anything(name, packages, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", name)
    monkeypatch.setattr(mujoco_camera, "_loads", lambda library: False)
    lack = lacking_library()
    assert f"MUJOCO_GL={name}" in lack
    assert f"apt-get install {packages}" in lack
    monkeypatch.setattr(mujoco_camera, "_loads", lambda library: True)
    assert lacking_library() is None


def test_without_drawing_no_library_is_asked_for(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    monkeypatch.setattr(mujoco_camera, "_loads", lambda library: False)
    assert lacking_library() is None


def test_a_backend_that_does_not_work_names_what_to_install(scene, monkeypatch):
    monkeypatch.setattr(mujoco_camera, "choose_backend", lambda: "osmesa")
    monkeypatch.setitem(sys.modules, "mujoco.osmesa", None)
    with pytest.raises(ImportError, match=r"MUJOCO_GL=osmesa .* apt-get install libosmesa6"):
        MujocoCamera(*scene, 0, 32, "native")


def test_glfw_without_a_screen_is_refused_before_it_ends_the_process(scene, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(mujoco_camera, "choose_backend", lambda: "glfw")
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(ImportError, match=r"MUJOCO_GL=glfw .*there is no DISPLAY"):
        MujocoCamera(*scene, 0, 32, "native")


def test_without_the_package_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "some_package", None)
    with pytest.raises(ImportError, match=r"^do this .*some_package"):
        mujoco_camera.import_simulator("some_package", "do this")


def test_python_ends_without_noise_when_environments_are_left_open():
    pytest.importorskip("dm_control")
    pytest.importorskip("metaworld")
    ended = end_of_python(
        """
        import reverie
        envs = []
        for name, options in (
            ("dmc/quadruped_escape", {"obs": "state"}),
            ("dmc/cartpole_balance", {}),
            ("dmc/reach_duplo", {"quality": "light"}),
            ("dmcr/cartpole_balance", {"quality": "light"}),
            ("distracting/cartpole_balance", {"quality": "light", "frames": 2}),
            ("metaworld/reach", {"quality": "light"}),
        ):
            envs.append(reverie.make_env(name, **options))
            envs[-1].reset(seed=0)
        """
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_python_ends_without_a_crash_while_a_thread_draws():
    ended = end_of_python(
        f"""
        import mujoco, threading, time
        from reverie_envs.mujoco_camera import MujocoCamera

        model = mujoco.MjModel.from_xml_string({SCENE!r})
        data = mujoco.MjData(model)
        camera = MujocoCamera(model, data, 0, 256, "native")
        drawn = threading.Event()

        def draw():
            while True:
                camera.render()
                drawn.set()

        threading.Thread(target=draw, daemon=True).start()
        drawn.wait()
        """
    )
    assert (ended.returncode, ended.stderr) == (0, "")


DRAWN = """
import reverie, sys
import numpy as np

images = {}
for name in ("dmc/cartpole_balance", "metaworld/reach"):
    env = reverie.make_env(name, quality="light")
    images[name] = env.reset(seed=0)[0]["image"]
np.savez(sys.argv[1], **images)
"""


def test_osmesa_draws_what_egl_draws(tmp_path):
    pytest.importorskip("dm_control")
    pytest.importorskip("metaworld")
    for library in mujoco_camera.LIBRARIES.values():
        if not mujoco_camera._loads(library):
            pytest.skip(f"{library} is not installed")
    # PyOpenGL notes here which backend this process has chosen.
    kept = {key: value for key, value in os.environ.items() if key != "PYOPENGL_PLATFORM"}
    drawn = {}
    for name in mujoco_camera.LIBRARIES:
        command = [sys.executable, "-c", DRAWN, str(tmp_path / f"{name}.npz")]
        ended = subprocess.run(
            command, capture_output=True, text=True, env={**kept, "MUJOCO_GL": name}
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        drawn[name] = np.load(tmp_path / f"{name}.npz")
    for name, image in drawn["egl"].items():
        assert np.abs(image.astype(int) - drawn["osmesa"][name]).mean() < 0.1
        assert image.std() > 10
