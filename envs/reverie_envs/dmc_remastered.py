"""DMC Remastered: control tasks whose colours, textures, light and camera differ each episode.

Every reset draws a visual seed and a seed for the task itself, as HarmonyDream and ContextWM
train and evaluate (thuml/HarmonyDream@0a22e33 wmlib-torch/wmlib/envs/dmc_remastered.py). The
scenes are those of arXiv:2010.06740, set in dm_control's own compiled models: nothing is built
anew at a reset.

Differs from the published code: the side of the shadow map does not vary (1548 to 2548 texels,
which moves a channel by 0.03 of 255), since it belongs to the drawing context and not the scene.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import gymnasium
import numpy as np
from annotated_types import Interval

from reverie.protocols import EvalProtocol
from reverie.types import STRICT, Array, Rows
from reverie_envs.dmc import ALIASES, DmcConfig, DmcEnv, split_task
from reverie_envs.looks import STAGES, Look, Stage, Triple, draw_look
from reverie_envs.names import DMCR
from reverie_envs.pictures import Pictures, open_pictures
from reverie_envs.rendered import RenderedSuite, warn_of_fast
from reverie_envs.suites import protocol_id

FACTORS = ("bg", "floor", "body", "target", "reflectance", "camera", "light")
HELD = {"hopper": ("camera",), "fish": ("bg",)}
"""Domain -> factors that the published runs left as they are. (The fish has a sky of its own.)"""
STATISTICS = ("center", "extent", "meaninertia", "meanmass", "meansize")
"""What MuJoCo knows of a model as a whole; its extent decides what is too near to be seen."""
VISUAL_SEEDS, DYNAMICS_SEEDS = 1_000_000, 100_000
"""Seeds are drawn from 1 up to and including these."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DmcrConfig(DmcConfig):
    """What varies, and from where its pictures come; the rest is as in `dmc`."""

    __pydantic_config__: ClassVar[Any] = STRICT
    vary: str | tuple[str, ...] = "published"
    """Factors that are drawn at each reset: any of bg, floor, body, target, reflectance, camera
    and light. `published` is all of them, for the hopper all but camera; `all` is all of them
    (source: thuml/HarmonyDream@0a22e33)."""
    assets: str = ""
    """Folder with the published pictures of skies and floors; by default they are generated,
    and the protocol's id says so."""
    visual_seed: Annotated[int, Interval(ge=0, le=VISUAL_SEEDS)] = 0
    """The one scene to show, 1 to 1,000,000; 0 draws one at each reset."""
    dynamics_seed: Annotated[int, Interval(ge=0, le=DYNAMICS_SEEDS)] = 0
    """The one seed of the task to use, 1 to 100,000; 0 draws one at each reset."""

    def __post_init__(self) -> None:
        _check_factors(self.vary)
        if self.camera not in ("auto", 0):
            raise ValueError(f"camera: DMC Remastered is seen by camera 0, got {self.camera}")

    def factors(self, domain: str) -> tuple[str, ...]:
        """Return which factors vary in `domain`."""
        if self.vary in ("published", "all"):
            held = HELD.get(domain, ()) if self.vary == "published" else ()
            return tuple(factor for factor in FACTORS if factor not in held)
        return tuple(factor for factor in FACTORS if factor in _names(self.vary))


def _names(vary: str | tuple[str, ...]) -> tuple[str, ...]:
    return (vary,) if isinstance(vary, str) else vary


def _check_factors(vary: str | tuple[str, ...]) -> None:
    words = ("published", "all", *FACTORS) if isinstance(vary, str) else FACTORS
    for name in _names(vary):
        if name not in words:
            near = difflib.get_close_matches(name, words, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(words)}"
            raise ValueError(f"vary: unknown factor {name!r}; {hint}")


class DmcRemastered(RenderedSuite):
    """DMC Remastered: seven visual factors drawn anew at each reset."""

    Config = DmcrConfig
    name = "dmcr"
    package = "dm_control"
    extra = "dmc"

    def tasks(self) -> tuple[str, ...]:
        return DMCR

    def knows(self, task: str) -> bool:
        """Whether `task` is a task's name or another spelling of one."""
        return ALIASES.get(task, task) in DMCR

    def protocol(self, task: str, config: DmcrConfig) -> EvalProtocol:
        """10 episodes, best actions. Raises: ValueError for a folder without pictures."""
        pictures = open_pictures(config.assets)
        name = protocol_id(f"dmcr-{pictures.id}-v1", replace(config, assets="", vary="published"))
        if config.vary != "published":
            factors = ("all",) if config.vary == "all" else config.factors(task)
            name += f"-vary={'+'.join(factors) or 'none'}"
        return EvalProtocol(name, "mode", 10)

    def make(self, task: str, config: DmcrConfig) -> gymnasium.Env[Rows, Any]:
        """Build the task.

        Raises:
            KeyError: no such task.
            ImportError: dm_control is missing, or no OpenGL backend works; with the remedy.
            ValueError: no pictures in the folder `assets`.
        """
        domain, name = split_task(task, "dmcr", DMCR)
        warn_of_fast(f"dmcr/{task}", config)
        return DmcrEnv(domain, name, config)


class DmcrEnv(DmcEnv):
    """One task in changing scenes. `log/visual_seed` and `log/dynamics_seed` name an episode."""

    _config: DmcrConfig

    def __init__(self, domain: str, task: str, config: DmcrConfig) -> None:
        super().__init__(domain, task, config)
        physics = self._env.physics
        self._pictures, self._stage = open_pictures(config.assets), STAGES[domain]
        self._scene = Scene(
            physics.model.ptr, physics.data.ptr, self._stage, config.factors(domain)
        )

    def _begin(self, seed: int) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        visual, dynamics = rng.integers(1, (VISUAL_SEEDS + 1, DYNAMICS_SEEDS + 1))
        visual = self._config.visual_seed or int(visual)
        dynamics = self._config.dynamics_seed or int(dynamics)
        info = super()._begin(dynamics)
        look = draw_look(self._stage, visual, self._pictures.skies, self._pictures.floors)
        changed = self._scene.show(look, self._pictures)
        if self._camera is not None:
            self._camera.upload_textures(changed)
        return {**info, "log/visual_seed": float(visual), "log/dynamics_seed": float(dynamics)}


class Scene:
    """Shows looks in a compiled model; what does not vary is as the published models have it."""

    def __init__(self, model: Any, data: Any, stage: Stage, vary: tuple[str, ...]) -> None:
        self._mujoco = importlib.import_module("mujoco")
        self._model, self._data, self._vary = model, data, vary
        self._grid = model.material("grid").id
        model.mat_texrepeat[self._grid] = 3
        if stage.ground is not None:
            model.geom("ground").size = stage.ground
        if stage.standing_camera is not None:
            self._place(stage.standing_camera, None, stage.standing_tilt)
        if stage.standing_light is not None:
            model.light_pos[0] = stage.standing_light

    def show(self, look: Look, pictures: Pictures) -> list[int]:
        """Show `look` from now on; return the textures that changed. The pose is lost."""
        model = self._model
        if "reflectance" in self._vary:
            model.mat_reflectance[self._grid] = look.reflectance
        if "body" in self._vary:
            model.material("self").rgba = look.body
            model.material("effector").rgba = look.effector
        if "target" in self._vary:
            model.material("target").rgba = look.target
        if "light" in self._vary:
            self._illuminate(look)
        if "camera" in self._vary:
            self._place(look.camera, look.euler, look.tilt)
        self._settle()
        return self._hang(look, pictures)

    def _illuminate(self, look: Look) -> None:
        head, model = self._model.vis.headlight, self._model
        head.ambient, head.diffuse, head.specular = look.ambient, look.diffuse, look.specular
        if look.light is not None:
            model.light_pos[0] = look.light
        if look.lamp_diffuse is not None:
            model.light_diffuse[0], model.light_specular[0] = look.lamp_diffuse, look.lamp_specular

    def _place(self, place: Triple, euler: Triple | None, tilt: float | None) -> None:
        mujoco, model = self._mujoco, self._model
        model.cam_pos[0] = place
        if euler is not None:
            mujoco.mju_euler2Quat(model.cam_quat[0], np.deg2rad(euler), "xyz")
        if tilt is not None:
            up = np.array([0.0, tilt, 1.0]) / np.hypot(tilt, 1.0)
            axes = np.stack([(1.0, 0.0, 0.0), up, (0.0, -up[2], up[1])], axis=1)
            mujoco.mju_mat2Quat(model.cam_quat[0], axes.ravel())

    def _settle(self) -> None:
        """Take over the places of cameras and lights that follow a body.

        The model keeps them relative to the body's first pose.
        """
        stat = self._model.stat
        kept = {name: np.copy(getattr(stat, name)) for name in STATISTICS}
        self._mujoco.mj_setConst(self._model, self._data)
        # Also computes these anew, where dm_control's models give them: near things would vanish.
        for name, value in kept.items():
            setattr(stat, name, value)

    def _hang(self, look: Look, pictures: Pictures) -> list[int]:
        changed: list[int] = []
        if "bg" in self._vary:
            changed.append(self._paint("skybox", pictures.sky(look.sky)))
        if "floor" in self._vary:
            changed.append(self._paint("grid", pictures.floor(look.floor)))
        return changed

    def _paint(self, name: str, picture: Array) -> int:
        """Fill a texture of the model; a square sky is shown on all sides alike."""
        model = self._model
        texture = self._mujoco.mj_name2id(model, self._mujoco.mjtObj.mjOBJ_TEXTURE, name)
        model.tex_height[texture], model.tex_width[texture] = picture.shape[:2]
        start = model.tex_adr[texture]
        model.tex_data[start : start + picture.size] = picture.ravel()
        return texture
