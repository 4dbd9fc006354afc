"""What all suites that MuJoCo draws have in common: their tasks as pixels, as state or as both."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces

from reverie.protocols import Suite
from reverie.types import Array, Rows
from reverie_envs.mujoco_camera import MujocoCamera, Quality, backend, lacking_library
from reverie_envs.suites import installed, pip_line

BACKENDS = {"egl": "EGL", "osmesa": "OSMesa", "glfw": "GLFW"}

logger = logging.getLogger(__name__)


class Shown(Protocol):
    """The options that all these suites have."""

    @property
    def obs(self) -> Literal["pixels", "state", "both"]: ...

    @property
    def size(self) -> int: ...

    @property
    def repeat(self) -> int: ...

    @property
    def quality(self) -> Quality: ...


class RenderedSuite(Suite):
    """A suite that can be asked about its tasks where its simulator is not installed."""

    name: ClassVar[str]
    package: ClassVar[str]
    """The module that has to be there."""
    deterministic = True

    def action_repeat(self, config: Shown) -> int:
        return config.repeat

    def missing(self) -> str | None:
        """What has to be done before it can be used."""
        return lacking_library() if installed(self.package) else self.remedy()

    @classmethod
    def remedy(cls) -> str:
        """What to do about the missing package."""
        return pip_line(cls.name, cls.package, cls.extra or cls.name)

    def rendering(self) -> str:
        """Return the OpenGL backend."""
        return BACKENDS.get(backend(), backend())


class RenderedEnv(gymnasium.Env[Rows, Any]):
    """A task with the observation keys `image`, `proprio` or both; the camera is opened once."""

    render_mode = "rgb_array"

    def __init__(self, config: Shown, state_width: int, step_s: float) -> None:
        """Open the camera if images are wanted; `_new_camera` has to work by now.

        Args:
            config: The suite's options.
            state_width: Numbers in the state.
            step_s: Simulated seconds per step of the simulator, of which a decision has `repeat`.

        Raises:
            ImportError: no display can be opened, with the remedy.
        """
        self._config: Any = config
        self._camera: MujocoCamera | None = None
        fps = max(1, round(1 / (step_s * config.repeat)))
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": fps}
        self.observation_space = spaces.Dict(_spaces(config, state_width))
        if config.obs != "state":
            self._open_camera()

    def render(self) -> Array:
        """Return the image, uint8 [size, size, 3]. Raises: ImportError."""
        return self._open_camera().render()

    def close(self) -> None:
        """Free what drawing needed."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None

    def _new_camera(self) -> MujocoCamera:
        """Open the camera that `config` asks for."""
        raise NotImplementedError

    def _open_camera(self) -> MujocoCamera:
        if self._camera is None:
            self._camera = self._new_camera()
        return self._camera

    def _shown(self, state: Callable[[], Array]) -> Rows:
        """Return the observation; `state` gives the vector [state_width] where that is wanted."""
        obs: Rows = {}
        if self._config.obs != "state":
            obs["image"] = self.render()
        if self._config.obs != "pixels":
            obs["proprio"] = state().astype(np.float32)
        return obs


def _spaces(config: Shown, state_width: int) -> dict[str, spaces.Space[Any]]:
    found: dict[str, spaces.Space[Any]] = {}
    if config.obs != "state":
        found["image"] = spaces.Box(0, 255, (config.size, config.size, 3), np.uint8)
    if config.obs != "pixels":
        found["proprio"] = spaces.Box(-np.inf, np.inf, (state_width,), np.float32)
    return found


def warn_of_fast(name: str, config: Shown) -> None:
    """Mark in the log that pixels are not those of published runs."""
    if config.quality == "fast":
        logger.warning("%s: quality=fast changes pixels; the protocol id says so", name)
