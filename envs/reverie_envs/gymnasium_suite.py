"""Any environment that gymnasium knows by an id, or that a function of the user returns."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import load_env_creator
from gymnasium.error import DependencyNotInstalled, UnregisteredEnv
from gymnasium.utils import RecordConstructorArgs
from pydantic import JsonValue

from reverie.extras import load_extra
from reverie.protocols import MAX_STEPS, EvalProtocol, Suite
from reverie.ranges import Pixels
from reverie.types import STRICT, Rows
from reverie_envs.suites import protocol_id, unknown_task
from reverie_envs.wrappers import DictObservations

Env = gymnasium.Env[Any, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class GymConfig:
    """What is added to a gymnasium environment."""

    __pydantic_config__: ClassVar[Any] = STRICT
    render: bool = False
    """Add the key `image`: what the environment's rgb_array rendering shows."""
    size: Pixels | None = None
    """Height and width to which all pictures are resized, by area; by default they stay as they
    are, and that of `render` has 64."""
    kwargs: dict[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    """Arguments of the environment, e.g. `env.kwargs.continuous=true`."""


class GymSuite(Suite):
    """The suite `gym`: `gym/CartPole-v1`, or `gym/my_module:MyEnv-v0` to import a module first.

    The module may lie in the current folder.
    """

    Config = GymConfig
    extra = None
    deterministic = True

    def tasks(self) -> tuple[str, ...]:
        return ()

    def rendering(self) -> str:
        return "its own"

    def examples(self) -> list[tuple[str, dict[str, Any]]]:
        """A classic, drawn by pygame."""
        return [("CartPole-v1", {"render": True, "size": 128})]

    def action_repeat(self, config: GymConfig) -> int:
        return 1

    def protocol(self, task: str, config: GymConfig) -> EvalProtocol:
        spec = gymnasium.registry.get(task)
        limit = max(spec.max_episode_steps or 0 if spec else 0, MAX_STEPS)
        return EvalProtocol(protocol_id(f"gym-v1-{task}", config), max_steps=limit)

    def make(self, task: str, config: GymConfig) -> Env:
        """Build the environment with that id.

        Raises:
            KeyError: no such id, with the nearest ones.
            ImportError: a package it needs is missing, with the `pip install` line; no such module.
            ValueError: an observation space that is not supported, arguments that do not fit.
        """
        module, colon, name = task.rpartition(":")
        if colon:
            _import_module(module, f"env.task={task!r}")
        if name.startswith("ALE/"):
            _register_atari()
        kwargs = {**config.kwargs, **({"render_mode": "rgb_array"} if config.render else {})}
        _check_id_arguments(name, config.kwargs, task)
        try:
            # The passive checker of gymnasium is left out: `DictObservations` checks every step.
            env = gymnasium.make(name, disable_env_checker=True, **kwargs)
        except UnregisteredEnv:
            raise unknown_task(name, "gym", gymnasium.registry) from None
        except DependencyNotInstalled as error:
            raise ImportError(f"{task}: {error}") from error
        env = DictObservations(env, task, config.size)
        return Rendered(env, config.size or 64) if config.render else env


def _register_atari() -> None:
    try:
        import ale_py
    except ImportError as error:
        raise ImportError('ALE games need ale-py: pip install "reverie[atari]"') from error
    gymnasium.register_envs(ale_py)


class Rendered(gymnasium.Wrapper, RecordConstructorArgs):  # type: ignore[type-arg]
    """Adds the rendering of `env`, resized, to its Dict observations as `image`."""

    def __init__(self, env: Env, size: int) -> None:
        RecordConstructorArgs.__init__(self, size=size)
        gymnasium.Wrapper.__init__(self, env)
        assert isinstance(env.observation_space, spaces.Dict), env.observation_space
        if "image" in env.observation_space.spaces:
            raise ValueError(f"{env}: env.render=true would hide the key 'image' that it has")
        self._size = size
        image = spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.observation_space = spaces.Dict({"image": image, **env.observation_space.spaces})

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Rows, dict[str, Any]]:
        """Start an episode. Raises: ImportError if rendering needs a package."""
        obs, info = self.env.reset(seed=seed, options=options)
        return self._with_image(obs), info

    def step(self, action: Any) -> tuple[Rows, Any, bool, bool, dict[str, Any]]:
        """Take one decision."""
        obs, *rest = self.env.step(action)
        return (self._with_image(obs), *rest)  # type: ignore[return-value]

    def _with_image(self, obs: Rows) -> Rows:
        try:
            frame: Any = self.env.render()
        except DependencyNotInstalled as error:
            raise ImportError(f"env.render=true: {error}") from error
        size = (self._size, self._size)
        cv2 = load_extra("cv2", "env.render=true", "video")
        return {"image": cv2.resize(frame, size, interpolation=cv2.INTER_AREA), **obs}


@dataclass(frozen=True, kw_only=True, slots=True)
class FactoryConfig:
    """What a factory is called with, and what is made of its pictures."""

    __pydantic_config__: ClassVar[Any] = STRICT
    size: Pixels | None = None
    """Height and width to which all pictures are resized, by area; by default they stay as they
    are."""
    kwargs: dict[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    """Arguments of the function, e.g. `env.kwargs.level=2`."""


class FactorySuite(Suite):
    """The suite `factory`: the task is `module:function`, called with `env.kwargs`.

    The module may lie in the current folder.
    """

    Config = FactoryConfig
    extra = None
    deterministic = False
    """Nothing is known about it; `reverie check-env` looks."""

    def tasks(self) -> tuple[str, ...]:
        return ()

    def rendering(self) -> str:
        return "its own"

    def examples(self) -> list[tuple[str, dict[str, Any]]]:
        """A toy task as if it were a user's."""
        return [("reverie_envs.toy:TwoCameras", {})]

    def action_repeat(self, config: FactoryConfig) -> int:
        return 1

    def protocol(self, task: str, config: FactoryConfig) -> EvalProtocol:
        return EvalProtocol(protocol_id(f"factory-v1-{task}", config))

    def make(self, task: str, config: FactoryConfig) -> Env:
        """Call the function.

        Raises:
            ValueError: not written as `module:function`, no such function, or other arguments.
            ImportError: no such module.
            TypeError: it returned something else than a gymnasium.Env.
        """
        env = _load_function(task, config.kwargs)(**config.kwargs)
        if not isinstance(env, gymnasium.Env):
            kind = f"{type(env).__module__}.{type(env).__qualname__}"
            raise TypeError(
                f"{task} returned {kind}, expected a gymnasium.Env (old gym: shimmy converts them)"
            )
        return DictObservations(env, task, config.size)


def _load_function(task: str, kwargs: Mapping[str, Any]) -> Callable[..., Any]:
    module_name, colon, function = task.partition(":")
    if not (module_name and colon and function):
        raise ValueError(f"env.factory={task!r}: expected module:function, e.g. my_file:make_env")
    module = _import_module(module_name, f"env.factory={task!r}")
    found = getattr(module, function, None)
    if callable(found):
        _check_arguments(found, kwargs, f"env.factory={task!r}")
        return found
    names = [name for name, value in vars(module).items() if callable(value)]
    near = difflib.get_close_matches(function, names, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it defines {names}"
    raise ValueError(
        f"env.factory={task!r}: {module.__file__} has no function {function!r}; {hint}"
    )


def _check_id_arguments(name: str, kwargs: Mapping[str, Any], task: str) -> None:
    """As `_check_arguments`, for what is registered as `name`, if anything is."""
    try:
        spec = gymnasium.spec(name)
        entry = spec.entry_point
        creator = load_env_creator(entry) if isinstance(entry, str) else entry
    except (gymnasium.error.Error, ImportError):  # `gymnasium.make` says it
        return
    if creator is not None:
        _check_arguments(creator, {**spec.kwargs, **kwargs}, f"env.task={task!r}")


def _check_arguments(function: Callable[..., Any], kwargs: Mapping[str, Any], where: str) -> None:
    """Refuse what cannot be called with these arguments, where its signature is known."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # no signature: some of what is written in C
        return
    try:
        signature.bind(**kwargs)
    except TypeError as error:
        takes = ", ".join(str(each) for each in signature.parameters.values()) or "no arguments"
        raise ValueError(
            f"{where}: {error}; it takes {takes}, and env.kwargs gives them, e.g. "
            "env.kwargs.level=2"
        ) from None


def _import_module(name: str, where: str) -> Any:
    folder = str(Path.cwd())
    if folder not in sys.path:
        # For good: the module may import its neighbours later.
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise ImportError(
            f"{where}: no module {error.name!r} in {folder} nor among"
            " the installed packages; run from the folder of"
            f" {name.partition('.')[0]}.py"
        ) from error
