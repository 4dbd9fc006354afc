"""Meta-World: 50 tasks of a robot arm with shaped rewards, from pixels or from the state.

The environments are version 3 of the benchmark. Papers before 2025 used version 2 on an older
simulator: rewards and physics differ, so that scores do not compare, and the protocol's id says
which rewards were given. An episode is 500 simulator steps; success is reported as `log/success`
and never ends it. Each episode begins with places of its own, drawn from the seed.
"""

from __future__ import annotations

import functools
import logging
import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import gymnasium
from annotated_types import Interval
from gymnasium import spaces

from reverie.protocols import EvalProtocol
from reverie.ranges import Few, Pixels
from reverie.types import STRICT, Rows
from reverie_envs.mujoco_camera import MujocoCamera, Quality, import_simulator
from reverie_envs.names import METAWORLD
from reverie_envs.rendered import RenderedEnv, RenderedSuite, warn_of_fast
from reverie_envs.suites import drawn_seed, protocol_id, unknown_task

UPSIDE_DOWN = ("corner", "corner2", "corner3", "corner4")
"""Cameras that the models have upside down. Published code shows them reflected, top to bottom, so
that the table lies below and left and right are exchanged; so do we (thuml/HarmonyDream@0a22e33,
thuml/iVideoGPT, NM512/r2dreamer)."""
CORNER2 = (0.75, 0.075, 0.7)
"""Where published code puts the camera `corner2` (metres), nearer than the model has it."""
LONGEST = 500
"""Simulator steps that the environments allow."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class MetaWorldConfig:
    """How the tasks are shown and played."""

    __pydantic_config__: ClassVar[Any] = STRICT
    obs: Literal["pixels", "state", "both"] = "pixels"
    """`pixels`: the key `image`; `state`: the key `proprio`, 39 numbers with the goal among them;
    or both keys."""
    size: Pixels = 64
    """Height and width of the image in pixels (source: thuml/HarmonyDream@0a22e33)."""
    repeat: Few = 1
    """Simulator steps per decision, their rewards summed; 1 in HarmonyDream, 2 in iVideoGPT
    (source: thuml/HarmonyDream@0a22e33)."""
    camera: Literal[
        "corner", "corner2", "corner3", "corner4", "topview", "behindGripper", "gripperPOV"
    ] = "corner"
    """Camera of the model; `corner2` stands nearer than there, as in published runs
    (source: thuml/HarmonyDream@0a22e33)."""
    success_bonus: float = 0.0
    """Added to the reward of a decision in which the task is solved; iVideoGPT gives 10."""
    time_limit: Annotated[int, Interval(ge=1, le=LONGEST)] = 500
    """Simulator steps per episode, at most 500 (source: thuml/HarmonyDream@0a22e33)."""
    quality: Quality = "native"
    """`native`: every pixel as the simulator draws it; `light`: smaller shadow maps, half the time
    for 0.16 of 255 per channel; `fast`: also no antialiasing, a quarter of the time, not
    comparable with published scores."""


class MetaWorld(RenderedSuite):
    """50 tasks of a robot arm, version 3; success is logged and never terminal."""

    Config = MetaWorldConfig
    name = "metaworld"
    package = "metaworld"
    extra = "metaworld"

    def tasks(self) -> tuple[str, ...]:
        return METAWORLD

    def knows(self, task: str) -> bool:
        """Whether `task` is a task's name; `-v3`, `-v2` and underscores are accepted."""
        return _stem(task) in METAWORLD

    def protocol(self, task: str, config: MetaWorldConfig) -> EvalProtocol:
        """10 episodes, best actions."""
        name = protocol_id("metaworld-v1-rewards=v3", config)
        return EvalProtocol(name, "mode", 10, max_steps=-(-config.time_limit // config.repeat))

    def make(self, task: str, config: MetaWorldConfig) -> gymnasium.Env[Rows, Any]:
        """Build the task.

        Raises:
            KeyError: no such task.
            ImportError: metaworld is missing, or no OpenGL backend works; with the remedy.
        """
        name = _stem(task)
        if name not in METAWORLD:
            raise unknown_task(task, "metaworld", METAWORLD)
        if task.endswith("2"):
            _warn_of_version(task, name)
        warn_of_fast(f"metaworld/{task}", config)
        return MetaWorldEnv(name, config)


def _stem(task: str) -> str:
    return re.sub(r"-v[23]$", "", task.replace("_", "-"))


@functools.cache
def _warn_of_version(task: str, name: str) -> None:
    logger.warning(
        "metaworld/%s runs as %s-v3: rewards and physics differ from version 2, so that scores"
        " do not compare with those of papers that used it",
        task,
        name,
    )


class MetaWorldEnv(RenderedEnv):
    """One task, with new places of object and goal in every episode."""

    def __init__(self, name: str, config: MetaWorldConfig) -> None:
        self._env: Any = environments()[name](seed=0)
        # The published protocol: places drawn anew at each reset, here from the seeded generator.
        self._env._freeze_rand_vec = False
        self._env.seeded_rand_vec = True
        self._camera_id = _place_camera(self._env.model, config.camera)
        self._steps = 0
        self.action_space = spaces.Box(-1.0, 1.0, (4,))
        super().__init__(config, self._env.observation_space.shape[0], self._env.dt)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Rows, dict[str, Any]]:
        """Start an episode with places drawn from `seed`."""
        super().reset(seed=seed)
        self._env.seed(drawn_seed(self, seed))
        self._steps = 0
        state, _ = self._env.reset()
        for site, place in self._env._target_site_config:
            # Left to the simulator, the first image has the goal elsewhere in half of the tasks.
            self._env._set_pos_site(site, place)
        return self._shown(lambda: state), {"log/success": 0.0}

    def step(self, action: Any) -> tuple[Rows, float, bool, bool, dict[str, Any]]:
        """Apply one action for `repeat` simulator steps, fewer where the time is over."""
        reward, success, left = 0.0, False, self._config.repeat
        while True:
            state, step_reward, _, _, info = self._env.step(action)
            reward += float(step_reward)
            success |= bool(info["success"])
            self._steps += 1
            left -= 1
            timed_out = self._steps >= self._config.time_limit
            if timed_out or not left:
                break
        reward += self._config.success_bonus * success
        return self._shown(lambda: state), reward, False, timed_out, {"log/success": float(success)}

    def close(self) -> None:
        """Free what drawing needed."""
        super().close()
        self._env.close()

    def _new_camera(self) -> MujocoCamera:
        env, config = self._env, self._config
        return MujocoCamera(
            env.model,
            env.data,
            self._camera_id,
            config.size,
            config.quality,
            upside_down=config.camera in UPSIDE_DOWN,
        )


def environments() -> dict[str, Any]:
    """Return task -> class of its environment whose observations hold the goal.

    Raises:
        ImportError: metaworld is missing, or no OpenGL backend works; with the remedy.
    """
    env_dict = import_simulator("metaworld.env_dict", MetaWorld.remedy())
    found = env_dict.ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE
    return {name.removesuffix("-v3-goal-observable"): cls for name, cls in found.items()}


def _place_camera(model: Any, name: str) -> int:
    """Return the index of a camera, moving `corner2` to where published runs have it."""
    index = int(model.camera(name).id)
    if name == "corner2":
        model.cam_pos[index] = CORNER2
    return index
