"""Control tasks before moving backgrounds, with drifting colours and a wandering camera.

The background is HarmonyDream's natural one (thuml/HarmonyDream@0a22e33
wmlib-torch/wmlib/envs/natural_bg_dmc.py): grey video frames take the place of every pixel whose
blue is above its red and green, in models whose floors are grey or a strong blue.

Differs from that code: every episode starts anew at a frame of its own seed. There the video
runs on over the end of an episode, and a seed does not decide what is seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np

from reverie.protocols import EvalProtocol
from reverie.ranges import Few
from reverie.types import STRICT, Array, Rows
from reverie_envs.distractors import SCALES, Background, Colours, Intensity, Viewpoint
from reverie_envs.dmc import Dmc, DmcConfig, DmcEnv, split_task
from reverie_envs.frame_pools import drawn_pool, fingerprint, video_pool
from reverie_envs.names import DISTRACTING, UNSEEN
from reverie_envs.rendered import RenderedSuite, warn_of_fast
from reverie_envs.suites import protocol_id

GREY_FLOORS = ("cheetah", "hopper", "stacker", "walker")
"""Domains whose floor stays before the video."""
GREY = ((25, 25, 25), (51, 51, 51))
BLUE = ((25, 25, 102), (51, 51, 204))
"""Darker and lighter squares of a floor."""
DECORATION = (0.7, 0.5, 0.3)
"""Colour of rails and walls that stand on a blue floor, blue themselves in dm_control."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DistractingConfig(DmcConfig):
    """What distracts; the rest is as in `dmc`."""

    __pydantic_config__: ClassVar[Any] = STRICT
    background: Literal["video", "off"] = "video"
    """`video` replaces blue pixels by frames; `off` leaves model and pixels as in `dmc`."""
    videos: str = ""
    """Folder with videos (mp4 and others); by default frames are generated, and the protocol's
    id says so. HarmonyDream used driving_car of Kinetics-400."""
    frames: Few = 1000
    """Frames that are read or generated; after the last one comes the first
    (source: thuml/HarmonyDream@0a22e33)."""
    grey: bool = True
    """Show the videos of the folder without their colours (source: thuml/HarmonyDream@0a22e33)."""
    colours: Intensity = "off"
    """How far the materials' colours are moved: 0.1, 0.2 or 0.3 (arXiv:2101.02722v1)."""
    viewpoint: Intensity = "off"
    """How far the camera is moved: turns of 9, 18 or 27 degrees (arXiv:2101.02722v1)."""
    dynamic: bool = True
    """Colours and camera also move during an episode (arXiv:2101.02722v1)."""

    def __post_init__(self) -> None:
        if not self.grey and not self.videos:
            raise ValueError("grey: generated frames have no colours; set env.videos as well")


class Distracting(RenderedSuite):
    """DeepMind Control before moving backgrounds, with colours and a camera that wander."""

    Config = DistractingConfig
    name = "distracting"
    package = "dm_control"
    extra = "dmc"

    def tasks(self) -> tuple[str, ...]:
        """Those of `dmc` in which something is left to be seen before the background."""
        return DISTRACTING

    def knows(self, task: str) -> bool:
        """Whether `task` is a task's name or another spelling of one."""
        return Dmc().knows(task)

    def protocol(self, task: str, config: DistractingConfig) -> EvalProtocol:
        """10 episodes, best actions. Raises: ValueError for a folder without videos."""
        source = f"videos-{fingerprint(config.videos)}" if config.videos else "generated"
        kind = source if config.background == "video" else "plain"
        plain = replace(config, videos="", grey=True)
        colour = "-grey=False" if not config.grey else ""
        return EvalProtocol(protocol_id(f"distracting-{kind}-v1{colour}", plain), "mode", 10)

    def make(self, task: str, config: DistractingConfig) -> gymnasium.Env[Rows, Any]:
        """Build the task.

        Raises:
            KeyError: no such task.
            ImportError: a package is missing, or no OpenGL backend works; with the remedy.
            ValueError: a task of which too little would be seen, no videos in the folder
                `videos`, or one that cannot be read.
        """
        domain, name = split_task(task, "distracting")
        if task in UNSEEN:
            raise ValueError(
                f"distracting/{task}: too little would be left to be seen before the background,"
                f" there is no such task; dmc/{task} can be played"
            )
        warn_of_fast(f"distracting/{task}", config)
        return DistractingEnv(domain, name, config)


class DistractingEnv(DmcEnv):
    """One task with its distractors. The same seed starts the task itself as in `dmc`."""

    _config: DistractingConfig

    def __init__(self, domain: str, task: str, config: DistractingConfig) -> None:
        super().__init__(domain, task, config)
        model, data = self._env.physics.model.ptr, self._env.physics.data.ptr
        self._background = self._colours = self._viewpoint = None
        if config.background == "video":
            recolour(model, blue=domain not in GREY_FLOORS)
            self._background = Background(_pool(config))
        if config.colours != "off":
            self._colours = Colours(model, SCALES[config.colours], config.dynamic)
        if config.viewpoint != "off":
            scale = SCALES[config.viewpoint]
            self._viewpoint = Viewpoint(model, data, self._camera_id, scale, config.dynamic)

    def render(self) -> Array:
        """Return the image, uint8 [size, size, 3]. Raises: ImportError."""
        image = super().render()
        return image if self._background is None else self._background.paint(image)

    def _begin(self, seed: int) -> dict[str, Any]:
        info = super()._begin(seed)
        # One generator each: switching one distractor off leaves the others as they are.
        self._rng = [np.random.default_rng((seed, number)) for number in range(3)]
        if self._background is not None:
            self._background.begin(self._rng[0])
        if self._colours is not None:
            self._colours.begin(self._rng[1])
        return info

    def _obs(self, moment: Any) -> Rows:
        self._distract(first=moment.first())
        return super()._obs(moment)

    def _distract(self, first: bool) -> None:
        _, for_colours, for_viewpoint = self._rng
        steps = 0 if first else self._config.repeat
        if self._background is not None and not first:
            self._background.advance()
        if self._colours is not None:
            for _ in range(steps):
                self._colours.advance(for_colours)
        if self._viewpoint is not None:
            if first:
                self._viewpoint.begin(for_viewpoint)
            for _ in range(steps):
                self._viewpoint.advance(for_viewpoint)
            self._viewpoint.apply()


def recolour(model: Any, blue: bool) -> None:
    """Make a model's floor blue for a video to show, or grey to hide it; stars become black."""
    for texture in range(model.ntex):
        name = model.texture(texture).name
        start, height = model.tex_adr[texture], model.tex_height[texture]
        width = model.tex_width[texture]
        pixels = model.tex_data[start : start + height * width * 3].reshape(height, width, 3)
        if name == "skybox":
            pixels[(pixels == 255).all(-1)] = 0
        elif name == "grid":
            darker, lighter = BLUE if blue else GREY
            squares = pixels[..., :1] == pixels[..., 0].min()
            pixels[:] = np.where(squares, darker, lighter)
            pixels[[0, -1]] = pixels[:, [0, -1]] = darker
    if blue:
        for material in range(model.nmat):
            if model.material(material).name == "decoration":
                model.mat_rgba[material, :3] = DECORATION


def _pool(config: DistractingConfig) -> Array:
    if config.videos:
        return video_pool(config.videos, config.frames, config.size, config.grey)
    return drawn_pool(config.frames, config.size)
