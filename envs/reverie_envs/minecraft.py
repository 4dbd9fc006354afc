"""Minecraft: HarmonyDream's hunt_cow on MineDojo, and MineRL's own tasks, in their own Python.

`minecraft_child.py` is the part that runs there; a Minecraft client needs Java 8, an X server and,
once, a network to build it. `reverie doctor minecraft` says what a machine lacks. A reset may take
minutes: set `env.step_timeout_s` above `env.answer_s`.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import gymnasium
import numpy as np
from annotated_types import Interval
from gymnasium import spaces

from reverie.protocols import Check, EvalProtocol, Suite
from reverie.ranges import Count, CountOrNone, Seconds
from reverie.types import STRICT, Array, Rows
from reverie_envs import minecraft_child as child
from reverie_envs import venvs
from reverie_envs.hunt_cow import HuntCow
from reverie_envs.isolated import IsolatedConfig, isolate
from reverie_envs.minecraft_controls import NVEC, Controls, shrink
from reverie_envs.suites import protocol_id, unknown_task
from reverie_envs.wrappers import DictObservations

Info = dict[str, Any]
Env = gymnasium.Env[Any, Any]
FILE = Path(child.__file__)
HEADLESS = {"MINEDOJO_HEADLESS": "1"}


@dataclass(frozen=True, slots=True)
class Task:
    """A task of MineRL."""

    length: int
    """Decisions before the time-out, as registered there."""
    success: float
    """Sum of rewards, or with `single` one reward, at which it counts as done."""
    single: bool = False
    venvs: tuple[str, ...] = ("minerl-0.4.4", "minerl-1.0")


TASKS = {
    "treechop": Task(8000, 64.0),
    "navigate": Task(6000, 100.0, single=True),
    "obtain_diamond": Task(18000, 1024.0, single=True, venvs=("minerl-0.4.4",)),
    "obtain_diamond_shovel": Task(18000, 2048.0, single=True, venvs=("minerl-1.0",)),
}
"""Lengths and rewards: minerllabs/minerl@v0.4.4 and @v1.0.2, minerl/herobraine/env_specs."""
NAMES = ("hunt_cow", *TASKS)


@dataclass(frozen=True, kw_only=True, slots=True)
class MinecraftConfig:
    """How the tasks are shown and played. MineRL's options do not touch hunt_cow."""

    __pydantic_config__: ClassVar[Any] = STRICT
    size: Literal[0, 64, 128] = 0
    """Height and width of the image in pixels; 0 takes the published 128 for hunt_cow and 64 for
    the others (source: thuml/HarmonyDream@0a22e33)."""
    hard_reset_every: Count = 5
    """hunt_cow: episodes in one world; published evaluations have `eval.env.hard_reset_every=1`
    (source: thuml/HarmonyDream@0a22e33)."""
    minerl: Literal["0.4.4", "1.0"] = "0.4.4"
    """Version of MineRL for the tasks that both have."""
    dense: bool = False
    """navigate pays for coming nearer, obtain_diamond for every item collected."""
    break_speed: Annotated[float, Interval(gt=0, le=1e6)] = 1.0
    """MineRL: how much faster blocks break; DreamerV3 takes 100
    (source: danijar/dreamerv3@8fa35f8)."""
    sticky_attack: CountOrNone = 0
    """Decisions for which an attack goes on; DreamerV3 takes 30 at break_speed 1
    (source: danijar/dreamerv3@8fa35f8)."""
    sticky_jump: CountOrNone = 0
    """Decisions for which a jump goes on, forward; DreamerV3 takes 10
    (source: danijar/dreamerv3@8fa35f8)."""
    pitch_limit: Annotated[int, Interval(ge=0, le=180)] = 0
    """Degrees beyond which looks up and down are ignored; 0 for none, DreamerV3 takes 60
    (source: danijar/dreamerv3@8fa35f8)."""
    python: str = ""
    """Interpreter that has MineDojo or MineRL; empty for that of `reverie env install`."""
    answer_s: Seconds = 600.0
    """Seconds one answer of the client may take; the first reset starts Minecraft."""


class Minecraft(Suite):
    """Minecraft by MineDojo (hunt_cow) and MineRL; needs Java, see `reverie doctor minecraft`."""

    Config = MinecraftConfig
    extra = None
    deterministic = False

    def tasks(self) -> tuple[str, ...]:
        return NAMES

    def rendering(self) -> str:
        return "its client"

    def missing(self) -> str | None:
        """What has to be done before any task can be used."""
        lacks = [venvs.missing(name) for name in ("minedojo", "minerl-0.4.4", "minerl-1.0")]
        return None if None in lacks else "; ".join(str(lack) for lack in lacks[:2])

    def checks(self) -> list[Check]:
        """What this machine has of what a client needs, for `reverie doctor`."""
        return [_java(), _display(), *map(_package, ("minedojo", "minerl-0.4.4", "minerl-1.0"))]

    def action_repeat(self, config: MinecraftConfig) -> int:
        return 1

    def protocol(self, task: str, config: MinecraftConfig) -> EvalProtocol:
        """20 episodes. Raises: KeyError."""
        _check(task)
        shown = dataclasses.replace(config, python="", answer_s=600.0)
        return EvalProtocol(protocol_id(f"minecraft-v1-{task}", shown), "sample", 20)

    def make(self, task: str, config: MinecraftConfig) -> Env:
        """Start the process that will start a client at the first reset.

        Raises:
            KeyError: no such task.
            ValueError: the chosen version of MineRL has no such task.
            ImportError: the package has no Python of its own yet.
        """
        _check(task)
        controls = Controls(config.sticky_attack, config.sticky_jump, config.pitch_limit)
        if task == "hunt_cow":
            size = config.size or 128
            client = _client("minedojo", "Cow", config, {"size": 2 * size})
            env: Env = HuntCow(client, size, controls, config.hard_reset_every)
        else:
            size = config.size or 64
            kwargs = {
                "task": task,
                "size": size,
                "dense": config.dense,
                "break_speed": config.break_speed,
            }
            client = _client(_venv_of(task, config), "MineRL", config, kwargs)
            env = MineRLTask(client, task, size, controls)
        return DictObservations(env, f"minecraft/{task}")


class MineRLTask(gymnasium.Env[Rows, Any]):
    """A task of MineRL with its own rewards, its image in `size` and our choices as actions.

    Beside the image: `compass` (-1 to 1) where there is one, `inventory` (counts) and `equipped`
    (one-hot) where there are items. `client` is `minecraft_child.MineRL`, in its process.
    """

    def __init__(self, client: Env, task: str, size: int, controls: Controls) -> None:
        self._client, self._task = client, TASKS[task]
        self._size, self._controls = size, controls
        self._count, self._sum = 0, 0.0
        assert isinstance(client.observation_space, spaces.Dict), client.observation_space
        shown = dict(client.observation_space.spaces)
        shown["image"] = spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.observation_space = spaces.Dict(shown)
        commands = child.COMMANDS.get(task)
        self.action_space = spaces.MultiDiscrete([*NVEC, *([len(commands)] if commands else [])])

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Rows, Info]:
        """Start an episode in the world that `seed` gives."""
        super().reset(seed=seed)
        self._count, self._sum, self._succeeded = 0, 0.0, False
        self._controls.reset()
        raw, _ = self._client.reset(seed=seed)
        return self._obs(raw), {"log/success": 0.0}

    def step(self, action: Any) -> tuple[Rows, float, bool, bool, Info]:
        """Take one decision; what ends at the time limit, by whoever's clock, is no terminal."""
        raw, reward, done, _, _ = self._client.step(self._controls(action))
        self._count, self._sum = self._count + 1, self._sum + float(reward)
        reached = float(reward) if self._task.single else self._sum
        self._succeeded |= reached >= self._task.success
        timed_out = self._count >= self._task.length
        info = {"log/success": float(self._succeeded)}
        return self._obs(raw), float(reward), done and not timed_out, timed_out, info

    def close(self) -> None:
        self._client.close()

    def _obs(self, raw: Rows) -> dict[str, Array]:
        return {**raw, "image": shrink(raw["image"], self._size)}


def _check(task: str) -> None:
    if task not in NAMES:
        raise unknown_task(task, "minecraft", NAMES)


def _venv_of(task: str, config: MinecraftConfig) -> str:
    """The environment that has the task: the only one, or that of `env.minerl`."""
    names = TASKS[task].venvs
    return names[0] if len(names) == 1 else f"minerl-{config.minerl}"


def _client(venv: str, kind: str, config: MinecraftConfig, kwargs: dict[str, Any]) -> Env:
    if not config.python and (lack := venvs.missing(venv)):
        raise ImportError(f"{lack}; `reverie doctor minecraft` says what else is needed")
    isolated = IsolatedConfig(
        python=config.python or venvs.python_of(venv),
        kwargs=kwargs,
        variables=HEADLESS,
        answer_s=config.answer_s,
    )
    return isolate(f"{FILE}:{kind}", isolated)


def _java() -> Check:
    remedy = venvs.JAVA[1]
    if shutil.which("java") is None:
        return "java", "broken", f"missing: {remedy}"
    said = subprocess.run(["java", "-version"], capture_output=True, text=True).stderr
    found = re.search(r'version "([^"]+)"', said)
    version = found[1] if found else said.strip()
    if not version.startswith("1.8."):
        return "java", "broken", f"version {version}, but Minecraft's mods need 8: {remedy}"
    if shutil.which("javac") is None:
        return "java", "broken", f"{version} without javac, which builds the client: {remedy}"
    return "java", "ok", version


def _display() -> Check:
    if os.environ.get("DISPLAY"):
        return "display", "ok", os.environ["DISPLAY"]
    if shutil.which("Xvfb") and shutil.which("xvfb-run"):
        return "display", "ok", "Xvfb, started with each client"
    return "display", "broken", f"neither DISPLAY nor Xvfb: {venvs.SCREEN[1]}"


def _package(venv: str) -> Check:
    lack = venvs.missing(venv)
    return (venv, "note", lack) if lack else (venv, "ok", str(venvs.folder_of(venv)))
