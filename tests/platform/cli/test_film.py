"""What a person is shown is what the environment gave, from the first frame to the last."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np
import pytest
import yaml

from reverie import registry
from reverie.cli import film as module
from reverie.cli.film import Episode, RandomPlayer, choose_env, file_name, film_episodes
from reverie.errors import ConfigError, EnvFailed
from reverie.types import STRICT
from tests.fakes import Counting, tree

LENGTH = 6


class Shown(gymnasium.Env[Any, Any]):
    """Its pictures, or what it draws, hold the number of decisions taken.

    The arrays are the same at every step, as those of some simulators.
    """

    def __init__(self, kind: str) -> None:
        box = gymnasium.spaces.Box
        cameras = {
            "rgb": box(0, 255, (8, 8, 3), np.uint8),
            "gray": box(0, 255, (4, 4), np.uint8),
            "depth": box(0, np.inf, (2, 2, 1), np.float32),
        }
        vector = {"count": box(0, 99, (1,), np.float32)}
        self.kind, self.count = kind, 0
        self.observation_space = gymnasium.spaces.Dict(cameras if kind == "cameras" else vector)
        self.arrays = {
            key: np.zeros(space.shape, space.dtype) for key, space in self.observation_space.items()
        }
        self.action_space = gymnasium.spaces.Discrete(3, start=5)
        self.render_mode = None if kind == "vector" else "rgb_array"

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.count = 0
        return self.look(), {}

    def step(self, action: int) -> Any:
        assert self.action_space.contains(action)
        self.count += 1
        if self.kind == "raises" and self.count == 3:
            raise ZeroDivisionError("fell over")
        if self.kind == "leaves" and self.count == 3:
            sys.exit(3)
        if self.kind == "hangs" and self.count == 3:
            time.sleep(5)
        return self.look(), float(action), self.count == LENGTH, False, {}

    def look(self) -> Any:
        for array in self.arrays.values():
            array[...] = self.count
        return self.arrays

    def render(self) -> Any:
        return np.full((600, 1200, 3), self.count, np.uint8)


class ShownSuite(Counting):
    """The task is the kind."""

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """One option, as the suites for MuJoCo have it."""

        __pydantic_config__: ClassVar[Any] = STRICT
        obs: Literal["state", "both"] = "state"
        """Nothing happens."""

    def tasks(self) -> tuple[str, ...]:
        return ("cameras", "vector", "draws", "raises", "leaves", "hangs")

    def make(self, task: str, config: Any) -> gymnasium.Env[Any, Any]:
        return Shown("cameras" if config.obs == "both" else task)


@pytest.fixture(autouse=True)
def _suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.ENVS, "shown", f"{__name__}:ShownSuite")


def played(
    name: str, *options: str, episodes: int = 1, steps: int = 100, seed: int = 0
) -> list[Episode]:
    config = choose_env(name, list(options))

    def player(spaces: Any) -> RandomPlayer:
        return RandomPlayer(spaces, seed)

    return film_episodes(config, player, episodes=episodes, steps=steps, seed=seed)


def test_every_camera_is_shown_from_the_reset_to_the_last_row() -> None:
    (episode,) = played("shown/cameras")
    assert sorted(episode.films) == ["depth", "gray", "rgb"]
    for film in episode.films.values():
        assert film[:, 0, 0, 0].tolist() == list(range(LENGTH + 1))
    assert (episode.steps, episode.finished) == (LENGTH, True)
    assert 5 * LENGTH <= episode.ret <= 7 * LENGTH


def test_the_limit_on_steps_holds_over_all_episodes_and_cuts_the_last() -> None:
    episodes = played("shown/cameras", episodes=5, steps=2 * LENGTH + 2)
    assert [episode.steps for episode in episodes] == [LENGTH, LENGTH, 2]
    assert [episode.finished for episode in episodes] == [True, True, False]
    assert "2 steps, cut off" in episodes[-1].text()
    assert len(played("shown/cameras", episodes=2, steps=LENGTH)) == 1


def test_the_seed_decides_episodes_and_actions() -> None:
    first, again, other = (played("toy/two_cameras", seed=seed)[0] for seed in (3, 3, 4))
    assert first.ret == again.ret != other.ret
    assert (first.films["image"] == again.films["image"]).all()
    assert not (first.films["image"][0] == other.films["image"][0]).all()
    one, two = played("toy/two_cameras", episodes=2)
    assert not (one.films["image"][0] == two.films["image"][0]).all()


def test_without_an_image_the_environment_draws_itself() -> None:
    (episode,) = played("shown/draws")
    film = episode.films["render"]
    assert film.shape == (LENGTH + 1, 200, 400, 3)
    assert film[:, 0, 0, 0].tolist() == list(range(LENGTH + 1))


def test_what_shows_nothing_says_how_to_show_something() -> None:
    with pytest.raises(
        ConfigError, match=r"shown/vector shows no picture: .* count .*env\.obs=both"
    ):
        played("shown/vector")
    assert played("shown/vector", "obs=both")[0].steps == LENGTH
    with pytest.raises(ConfigError, match=r"set env\.render=true"):
        played("gym/CartPole-v1")
    with pytest.raises(ConfigError, match=r"render_mode='rgb_array'"):
        played(f"factory/{__name__}:vector")


def vector() -> Any:
    return Shown("vector")


def test_an_environment_that_fails_or_hangs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUILD_S", 0.0)
    for task, words in {"raises": "fell over", "leaves": "SystemExit: 3"}.items():
        with pytest.raises(EnvFailed, match=rf"shown/{task} failed:\n(.|\n)*{words}") as error:
            played(f"shown/{task}")
        assert {"test_film.py"} == set(re.findall(r"\w+\.py", str(error.value)))
    with pytest.raises(EnvFailed, match=r"shown/hangs failed:(.|\n)*no answer within"):
        played("shown/hangs", "env.step_timeout_s=0.3")


def test_options_need_no_prefix_and_another_environment_forgets_those_of_the_run(
    tmp_path: Path,
) -> None:
    settings = tree(suite="Counting", env__length=3, env__step_timeout_s=7.0)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    own = choose_env(None, ["delay_s=0.5", "env.at=2"], tmp_path)
    assert (own.options.length, own.options.delay_s, own.options.at) == (3, 0.5, 2)
    other = choose_env("toy/catch", ["continuous=true"], tmp_path)
    assert (other.suite, other.task, other.options.continuous) == ("toy", "catch", True)
    assert other.step_timeout_s == 7
    with pytest.raises(FileNotFoundError, match="not a run folder: no config"):
        choose_env("toy/catch", [], tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        (None, [], "expected an environment"),
        ("tyo/catch", [], "did you mean toy"),
        ("toy/ctch", [], "did you mean catch"),
        ("catch", [], "expected SUITE/TASK, got 'catch'; did you mean toy/catch?"),
        ("toy/catch", ["continue=true"], "env.continue: unknown key; did you mean continuous"),
    ],
)
def test_what_is_written_wrongly_is_named(name: str | None, options: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        choose_env(name, options)


def test_file_names_hold_no_separators() -> None:
    assert file_name(choose_env("toy/two_cameras", [])) == "toy-two_cameras"
    config = choose_env("factory/my/../my_file:make_env", [])
    assert file_name(config) == "factory-my-..-my_file-make_env"
