"""What the suites that MuJoCo draws share: what is missing, what draws, how fast films run."""

import pytest

from reverie_envs import rendered
from reverie_envs.distracting import Distracting
from reverie_envs.dmc import Dmc, DmcConfig
from reverie_envs.dmc_remastered import DmcRemastered
from reverie_envs.metaworld import MetaWorld, MetaWorldConfig

SUITES = (Dmc, DmcRemastered, Distracting, MetaWorld)


@pytest.mark.parametrize("kind", SUITES)
def test_a_missing_package_comes_before_a_missing_library(kind, monkeypatch):
    monkeypatch.setattr(rendered, "lacking_library", lambda: "install EGL")
    monkeypatch.setattr(rendered, "installed", lambda module: True)
    assert kind().missing() == "install EGL"
    monkeypatch.setattr(rendered, "installed", lambda module: False)
    assert kind().missing() == (
        f"the suite '{kind.name}' needs {kind.package}: pip install \"reverie[{kind.extra}]\""
    )


@pytest.mark.parametrize(
    ("chosen", "shown"), [("egl", "EGL"), ("osmesa", "OSMesa"), ("disabled", "disabled")]
)
def test_the_backend_is_named(chosen, shown, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", chosen)
    assert Dmc().rendering() == shown


def test_films_run_at_the_speed_of_the_simulation():
    pytest.importorskip("dm_control")
    pytest.importorskip("metaworld")
    cases = (
        (Dmc().make("walker_walk", DmcConfig(obs="state", repeat=2)), 20),
        (Dmc().make("reach_duplo", DmcConfig(obs="state", repeat=1)), 25),
        (MetaWorld().make("reach", MetaWorldConfig(obs="state", repeat=2)), 40),
    )
    for env, fps in cases:
        assert env.metadata["render_fps"] == fps


def test_an_environment_may_be_closed_twice() -> None:
    pytest.importorskip("dm_control")
    env = Dmc().make("reach_duplo", DmcConfig(quality="fast"))
    env.reset(seed=0)
    env.close()
    env.close()
    assert env._camera is None
