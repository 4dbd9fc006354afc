"""Films a few episodes so that a person can look: `reverie play`.

Unlike the evaluator it keeps every picture, whatever its form, and asks environments without an
image among their observations to draw themselves. It scores nothing.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from reverie import registry
from reverie.call_thread import CallThread
from reverie.config import resolve_env
from reverie.config_tree import apply_overrides, read_yaml
from reverie.env_factory import BUILD_S, LIMIT, explained, make_env
from reverie.errors import ConfigError
from reverie.seeds import derive_seed, make_rng
from reverie.settings import EnvConfig
from reverie.types import Array, JsonTree, Rows, Spaces
from reverie.video import shrunk

if TYPE_CHECKING:
    import gymnasium

    from reverie.policy import Policy

T = TypeVar("T")

DRAWS = {"obs": "env.obs=both", "render": "env.render=true"}
"""Option that a suite may have -> what to write so that its environments show a picture."""

MAX_SIDE = 512
"""Pixels to which what `render()` draws is shrunk: a film of it is held in memory."""


class Player(Protocol):
    """Something that acts."""

    def reset(self) -> None:
        """Get ready for a new episode."""
        ...

    def act(self, obs: Rows) -> Array:
        """Choose the normalised action for one observation."""
        ...


class RandomPlayer:
    """Draws each action uniformly."""

    def __init__(self, spaces: Spaces, seed: int) -> None:
        self._spec, self._rng = spaces.action, make_rng(seed)

    def reset(self) -> None: ...

    def act(self, obs: Rows) -> Array:
        return self._spec.sample(self._rng, 1)[0]


class TrainedPlayer:
    """A policy in the environment as the platform steps it."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def reset(self) -> None:
        """Begin an episode."""
        self._policy.reset()

    def act(self, obs: Rows) -> Array:
        """What the agent chooses, before it is turned into the environment's own form."""
        return self._policy.act(obs, normalised=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Episode:
    """What one episode looked like and brought."""

    films: dict[str, Array]
    """[steps + 1, H, W, C] per picture, as the environment gave them."""
    steps: int
    """Decisions."""
    ret: float
    """Undiscounted sum of rewards."""
    finished: bool
    """False where the limit on steps cut it off."""

    def text(self) -> str:
        cut = "" if self.finished else ", cut off"
        return f"{self.steps:,} steps{cut}, return {self.ret:g}"


def choose_env(name: str | None, overrides: list[str], run: Path | None = None) -> EnvConfig:
    """Read which environment to play: `name`, else that of `run`, with options laid over it.

    Options may be written with or without the leading `env.`.

    Raises:
        ConfigError: an unknown suite, task or option, or nothing to play.
        FileNotFoundError: `run` is no run folder.
    """
    tree: JsonTree = {}
    if run is not None:
        from reverie.policy import acting_config_file

        tree = {"env": read_yaml(acting_config_file(run)).get("env")}
    if name is not None:
        tree = apply_overrides(tree, {"env": name})
    tree = apply_overrides(tree, [_under_env(text) for text in overrides])
    if not tree:
        raise ConfigError(
            "play: expected an environment, e.g. toy/catch, or --run <run folder>, or --all;"
            " `reverie envs` lists them"
        )
    return resolve_env(tree["env"])


def trained_player(run: Path, config: EnvConfig, spaces: Spaces, seed: int) -> Player:
    """Load the policy of the newest checkpoint of `run`; it acts as evaluations of the run do.

    Raises:
        FileNotFoundError: no run folder, or no checkpoint in it yet.
        ConfigError: the environment has other spaces than the run had.
    """
    from reverie.config import load_run_config
    from reverie.policy import acting_config_file, load

    protocol = registry.suite(config.suite).protocol(config.task, config.options)
    mode = load_run_config(acting_config_file(run)).eval.mode or protocol.mode
    policy = load(run, mode=mode, seed=seed)
    if policy.spaces != spaces:
        raise ConfigError(
            f"{config.name} has other spaces than {run} was trained with: expected"
            f" {_spaces_text(policy.spaces)}, got {_spaces_text(spaces)}; leave the environment"
            " out to take the run's own"
        )
    return TrainedPlayer(policy)


def film_episodes(
    config: EnvConfig,
    make_player: Callable[[Spaces], Player],
    *,
    episodes: int,
    steps: int,
    seed: int,
) -> list[Episode]:
    """Play up to `episodes` episodes and, over all of them, `steps` decisions.

    Waits for each step at most as long as `env.step_timeout_s` says.

    Raises:
        ConfigError: what the suite refuses, or an environment that shows no picture.
        ImportError: a package is missing.
        EnvFailed: the environment raised or hung.
    """
    stage = Stage(config)
    try:
        player = make_player(stage.spaces)
        played: list[Episode] = []
        while len(played) < episodes and steps > 0:
            episode = _film_one(stage, player, steps, derive_seed(seed, len(played)))
            played.append(episode)
            steps -= episode.steps
        return played
    finally:
        stage.close()


def _film_one(stage: Stage, player: Player, limit: int, seed: int) -> Episode:
    player.reset()
    obs = stage.reset(seed)
    pictures, ret, finished = [stage.pictures], 0.0, False
    while not finished and len(pictures) <= limit:
        obs, reward, finished = stage.step(player.act(obs))
        pictures.append(stage.pictures)
        ret += reward
    films = {key: np.stack([shown[key] for shown in pictures]) for key in pictures[0]}
    return Episode(films=films, steps=len(pictures) - 1, ret=ret, finished=finished)


class Stage:
    """One standardised environment that is shown, in a thread with a time limit."""

    def __init__(self, config: EnvConfig) -> None:
        """Build it. Raises: as `film_episodes`."""
        self._config, self._thread = config, CallThread(config.step_timeout_s, LIMIT)
        self.pictures: dict[str, Array] = {}
        """What the last observation showed: [H, W, C] by name."""
        try:
            self._env, self.spaces = self._call(self._build, BUILD_S)
        except BaseException:
            self._thread.stop()
            raise
        self._keys = [key for key, spec in self.spaces.obs.items() if spec.is_image]
        if not self._keys and self._env.render_mode != "rgb_array":
            self.close()
            raise ConfigError(self._without_picture())

    def reset(self, seed: int) -> Rows:
        """Start an episode. Raises: as `film_episodes`."""
        return self._call(lambda: self._look(self._env.reset(seed=seed)[0]))

    def step(self, action: Array) -> tuple[Rows, float, bool]:
        """Take one decision: observation, reward, whether the episode is over.

        Raises: as `film_episodes`.
        """

        def step() -> tuple[Rows, float, bool]:
            obs, reward, terminated, truncated, _ = self._env.step(action)
            return self._look(obs), float(reward), terminated or truncated

        return self._call(step)

    def close(self) -> None:
        """Close it, unless it hangs."""
        if not self._thread.is_lost:
            with suppress(Exception):
                self._thread.call(self._env.close)
        self._thread.stop()

    def _build(self) -> tuple[gymnasium.Env[Rows, Array], Spaces]:
        env = registry.load(registry.STANDARDISE)(make_env(self._config))
        return env, registry.load(registry.SPACES_OF)(env)

    def _look(self, obs: Rows) -> Rows:
        if self._keys:
            self.pictures = {key: obs[key].copy() for key in self._keys}
        else:
            self.pictures = {"render": self._drawn()}
        return obs

    def _drawn(self) -> Array:
        frame = np.asarray(self._env.render())
        if frame.dtype != np.uint8 or frame.ndim != 3:
            raise ConfigError(
                f"{self._config.name}: render() returned {frame.dtype} {frame.shape}, expected"
                " a picture uint8 [H, W, 3]"
            )
        return shrunk(frame, MAX_SIDE)

    def _call(self, function: Callable[[], T], at_least_s: float = 0.0) -> T:
        """Run `function` in the environment's thread; what it raises becomes ours."""
        try:
            return self._thread.call(function, at_least_s)
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:
            raise explained(error, self._config, self._config.name, "failed") from error

    def _without_picture(self) -> str:
        fields = {field.name for field in dataclasses.fields(self._config.options)}
        ways = [text for option, text in DRAWS.items() if option in fields]
        remedy = (
            " or ".join(ways) or "render_mode='rgb_array' where it is made, or give it an image"
        )
        return (
            f"{self._config.name} shows no picture: its observations are"
            f" {', '.join(self.spaces.obs)} and it does not draw itself; set {remedy}"
        )


def file_name(config: EnvConfig) -> str:
    """`config.name` as part of the name of a file."""
    return re.sub(r"[^\w.]+", "-", config.name).strip("-")


def _spaces_text(spaces: Spaces) -> str:
    parts = [f"{key} {spec.dtype} {list(spec.shape)}" for key, spec in spaces.obs.items()]
    action = spaces.action
    return f"{', '.join(parts)} and {action.kind} actions {list(action.num) or action.width}"


def _under_env(text: str) -> str:
    head = text.partition("=")[0].partition(".")[0]
    return text if head == "env" else f"env.{text}"
