"""DeepMind Control: continuous control from pixels, from the state, or from both.

An episode is 1000 control steps in nearly every task, 500 decisions at an action repeat of 2
(the setting of DrQ-v2, arXiv:2107.09645, and of the DreamerV2 line). Its end is a time-out; only
a discount of 0 is terminal.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar, Literal

import gymnasium
import numpy as np
from annotated_types import Interval
from gymnasium import spaces

from reverie.protocols import EvalProtocol
from reverie.ranges import Few, Pixels
from reverie.types import STRICT, Array, Rows
from reverie_envs.mujoco_camera import MujocoCamera, Quality, import_simulator
from reverie_envs.names import DMC, DMC_DOMAINS, REACH_DUPLO
from reverie_envs.rendered import RenderedEnv, RenderedSuite, warn_of_fast
from reverie_envs.suites import drawn_seed, protocol_id, unknown_task

MANIPULATION = "manipulation"
"""Stands for the domain of tasks that come from dm_control.manipulation."""
ALL = {
    f"{domain}_{task}": (domain, task) for domain, tasks in DMC_DOMAINS.items() for task in tasks
} | {REACH_DUPLO: (MANIPULATION, REACH_DUPLO)}
"""Name -> domain and task."""
ALIASES = {"cup_catch": "ball_in_cup_catch"}
CAMERAS = {"quadruped": 2}
"""Domain -> camera, where it is not 0."""
EPISODE = 1000
"""Control steps after which a task without a time limit of its own (lqr) is cut off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DmcConfig:
    """How the tasks are shown and played."""

    __pydantic_config__: ClassVar[Any] = STRICT
    obs: Literal["pixels", "state", "both"] = "pixels"
    """`pixels`: the key `image`; `state`: the key `proprio`, the task's observations as one
    vector; or both keys."""
    size: Pixels = 64
    """Height and width of the image in pixels; DrQ-v2 uses 84
    (source: thuml/HarmonyDream@0a22e33)."""
    repeat: Few = 2
    """Control steps per decision, their rewards summed
    (source: facebookresearch/drqv2@c0c650b)."""
    camera: Annotated[int, Interval(ge=0, le=1000)] | Literal["auto"] = "auto"
    """Index of the camera; `auto` is 0, for the quadruped 2
    (source: facebookresearch/drqv2@c0c650b)."""
    quality: Quality = "native"
    """`native`: every pixel as dm_control draws it; `light`: smaller shadow maps, 0.65 of the time
    for 0.03 of 255 per channel; `fast`: also no antialiasing, a quarter of the time, not
    comparable with published scores."""


class Dmc(RenderedSuite):
    """DeepMind Control: the 20 tasks of the vision benchmark and all others."""

    Config = DmcConfig
    name = "dmc"
    package = "dm_control"
    extra = "dmc"

    def tasks(self) -> tuple[str, ...]:
        """The vision benchmark first."""
        return DMC

    def knows(self, task: str) -> bool:
        """Whether `task` is a task's name or another spelling of one."""
        return ALIASES.get(task, task) in ALL

    def protocol(self, task: str, config: DmcConfig) -> EvalProtocol:
        """10 episodes, best actions."""
        return EvalProtocol(protocol_id("dmc-v1", config), "mode", 10)

    def make(self, task: str, config: DmcConfig) -> gymnasium.Env[Rows, Any]:
        """Build the task.

        Raises:
            KeyError: no such task.
            ImportError: dm_control is missing, or no OpenGL backend works; with the remedy.
            ValueError: no such camera.
        """
        domain, name = split_task(task, "dmc")
        warn_of_fast(f"dmc/{task}", config)
        kind = DmcManipulationEnv if domain == MANIPULATION else DmcEnv
        return kind(domain, name, config)


def split_task(task: str, suite_name: str, known: Iterable[str] = ALL) -> tuple[str, str]:
    """Return domain and task of a name, in either spelling.

    Raises:
        KeyError: it is none of `known`.
    """
    name = ALIASES.get(task, task)
    if name not in known:
        raise unknown_task(task, suite_name, known)
    return ALL[name]


class DmcEnv(RenderedEnv):
    """One task. `reset(seed=s)` begins as a fresh dm_control task with `random=s` would."""

    def __init__(self, domain: str, task: str, config: DmcConfig) -> None:
        self._env = _load(domain, task)
        self._camera_id = _camera_of(domain, config, self._env.physics.model.ncam)
        self._steps = 0
        action = self._env.action_spec()
        low, high = (
            np.broadcast_to(bound, action.shape).astype(np.float32)
            for bound in (action.minimum, action.maximum)
        )
        self.action_space = spaces.Box(low, high)
        parts = self._env.observation_spec().values()
        width = sum(int(np.prod(part.shape)) for part in parts)
        super().__init__(config, width, self._env.control_timestep())

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Rows, dict[str, Any]]:
        """Start an episode drawn from `seed`."""
        super().reset(seed=seed)
        info = self._begin(drawn_seed(self, seed))
        self._steps = 0
        moment = self._env.reset()
        if self._camera is not None and self._env.physics.model.nhfield:
            self._camera.upload_terrain()
        return self._obs(moment), info

    def step(self, action: Any) -> tuple[Rows, float, bool, bool, dict[str, Any]]:
        """Apply one action for `repeat` control steps, fewer where the episode ends."""
        reward, left = 0.0, self._config.repeat
        while True:
            moment = self._env.step(action)
            reward += moment.reward
            self._steps += 1
            left -= 1
            over = moment.last() or self._steps >= EPISODE
            if over or not left:
                break
        terminated = moment.last() and moment.discount == 0
        return self._obs(moment), reward, terminated, over and not terminated, {}

    def _begin(self, seed: int) -> dict[str, Any]:
        """Draw the coming episode from `seed`; return what is logged of it."""
        self._env.task.random.seed(seed)
        return {}

    def _new_camera(self) -> MujocoCamera:
        physics, config = self._env.physics, self._config
        return MujocoCamera(
            physics.model.ptr, physics.data.ptr, self._camera_id, config.size, config.quality
        )

    def _obs(self, moment: Any) -> Rows:
        return self._shown(lambda: _flat(moment.observation))


class DmcManipulationEnv(DmcEnv):
    """One task of dm_control.manipulation, whose model is compiled anew for each episode.

    What is seen is the task's `_vision`, the state that of its `_features`, which has the same
    physics and start states (source: facebookresearch/drqv2@c0c650b).
    """

    def _begin(self, seed: int) -> dict[str, Any]:
        self.close()  # the camera, which sees the model of the episode before
        self._env.random_state.seed(seed)
        return {}


@functools.cache
def control_suite() -> Any:
    """Return `dm_control.suite`. Raises: ImportError, with the remedy."""
    suite = import_simulator("dm_control.suite", Dmc.remedy())
    if not hasattr(np, "in1d"):
        # numpy 2.4 dropped a name that dm_control 1.0.28 uses in this one file.
        suite.quadruped.np = SimpleNamespace(**vars(np), in1d=np.isin)
    return suite


def _load(domain: str, task: str) -> Any:
    if domain == MANIPULATION:
        manipulation = import_simulator("dm_control.manipulation", Dmc.remedy())
        return manipulation.load(f"{task}_features", seed=0)
    # The seed counts here where a model itself is drawn (lqr): it is the same in every run.
    env = control_suite().load(domain, task, task_kwargs={"random": 0})
    physics = env.physics
    if physics.model.nhfield:
        # quadruped_escape would open a context of its own to upload its terrain to.
        physics.__class__ = type("Undrawn", (type(physics),), {"contexts": None})
    return env


def _camera_of(domain: str, config: DmcConfig, count: int) -> int:
    camera = CAMERAS.get(domain, 0) if config.camera == "auto" else config.camera
    if not 0 <= camera < count:
        raise ValueError(f"env.camera: {domain} has cameras 0 to {count - 1}, got {camera}")
    return camera


def _flat(observation: Any) -> Array:
    return np.concatenate([np.ravel(part) for part in observation.values()])
