"""Any environment, run by another Python with its own packages.

`env.isolated.python=<interpreter> env.isolated.factory=<module:function>` or, the same,
`env=isolated/<module:function> env.python=<interpreter>`. The interpreter needs Python 3.8 and
numpy; of Reverie it runs `isolated_child.py` alone. The function may return an environment of old
gym, of gymnasium or of dm_env. Frames travel through shared memory. POSIX systems only.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from reverie.protocols import EvalProtocol, Suite
from reverie.ranges import Seconds
from reverie.types import STRICT, Array
from reverie_envs.isolated_process import IsolatedProcess, find_python
from reverie_envs.wrappers import DictObservations

Info = dict[str, Any]
Description = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class IsolatedConfig:
    """Which Python runs the environment, and how."""

    __pydantic_config__: ClassVar[Any] = STRICT
    python: str = ""
    """Interpreter, e.g. `old_gym/bin/python`; empty takes the Python that runs Reverie, so that
    only crashes and hangs are kept away."""
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    """Arguments of the factory."""
    variables: dict[str, str] = field(default_factory=dict[str, str])
    """Environment variables of the process, e.g. `{MUJOCO_GL: egl}`, written to the run folder."""
    inherit: tuple[str, ...] = ()
    """Names of further variables that the process gets as they are here. Of itself it gets those
    of paths, language, graphics and threads (`PASSED` in `isolated_process.py`): no tokens."""
    answer_s: Seconds = 50.0
    """Seconds that building, a reset or a step may take before the process is killed. Keep it
    below `env.step_timeout_s`, whose message knows less."""


class Isolated(Suite):
    """Any environment in a Python of its own: isolated/<module:function>."""

    Config = IsolatedConfig
    extra = None
    deterministic = False
    """Nothing is known about it; `reverie check-env` looks."""

    def tasks(self) -> tuple[str, ...]:
        return ()

    def rendering(self) -> str:
        return "in its own process"

    def examples(self) -> list[tuple[str, dict[str, Any]]]:
        """A toy task in the Python that runs Reverie."""
        return [("reverie_envs.toy:TwoCameras", {})]

    def action_repeat(self, config: IsolatedConfig) -> int:
        return 1

    def protocol(self, task: str, config: IsolatedConfig) -> EvalProtocol:
        """10 episodes; named after the factory and its arguments."""
        arguments = [f"{key}={value}" for key, value in config.kwargs.items()]
        return EvalProtocol("-".join([f"isolated-v1-{Path(task).name}", *arguments]))

    def make(self, task: str, config: IsolatedConfig) -> gymnasium.Env[Any, Any]:
        """Start the process and build the environment in it.

        Raises:
            ValueError: no such interpreter or function, or spaces that are not supported.
            ImportError: a module, package or numpy is missing there, or its Python is too old.
            IsolatedFailed: the factory raised, died or hung.
        """
        return DictObservations(isolate(task, config), f"isolated/{task}")


def isolate(factory: str, config: IsolatedConfig) -> IsolatedEnv:
    """Build the environment of `factory` in a process, with its spaces as they are there.

    Raises: as `Isolated.make`.
    """
    name = f"isolated/{factory}"
    python = find_python(config.python)
    known = {key: os.environ[key] for key in config.inherit if key in os.environ}
    process = IsolatedProcess(python, name, config.answer_s, {**known, **config.variables})
    try:
        return IsolatedEnv(process, factory, config.kwargs)
    except BaseException:
        process.kill()
        raise


class IsolatedEnv(gymnasium.Env[Any, Any]):
    """An environment that lives in `process`; nested observation keys are joined with `_`.

    Observations are copies: the process writes the next one into the same memory.
    """

    def __init__(self, process: IsolatedProcess, factory: str, kwargs: Mapping[str, Any]) -> None:
        self._process = process
        answer = process.ask("building", b"b", {"factory": factory, "kwargs": dict(kwargs)})
        layout = process.read_json(answer.text, "building")
        try:
            leaves, action = layout["observation"], layout["action"]
            memory = process.map(layout["size"])
            self._views = {leaf["key"]: _view(leaf, memory) for leaf in leaves}
            self._action = _view(action, memory)
            found = {leaf["key"]: SPACES[leaf["kind"]](leaf) for leaf in leaves}
            self.action_space = SPACES[action["kind"]](action)
        except (TypeError, LookupError, ValueError, AttributeError, AssertionError) as error:
            got = f"spaces that cannot be built ({type(error).__name__}: {error})"
            raise process.nonsense("building", got) from None
        if len(self._views) < len(leaves):
            raise ValueError(
                f"isolated/{factory}: two observations have the same name once nested keys are"
                f" joined with '_': {[leaf['key'] for leaf in leaves]}; rename one in the factory"
            )
        self._plain = list(self._views) == [""]
        self.observation_space = found[""] if self._plain else spaces.Dict(found)

    @property
    def process(self) -> IsolatedProcess:
        return self._process

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Start an episode; the seed also goes to the global generators of that process.

        Raises: as `IsolatedProcess.ask`.
        """
        super().reset(seed=seed)
        self._process.trim_log()
        answer = self._process.ask("reset", b"r", {"seed": seed, "options": options or None})
        return self._obs(), self._info("reset", answer.text)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Info]:
        """Take one decision. Raises: as `IsolatedProcess.ask`."""
        self._action[...] = action
        text, reward, terminated, truncated = self._process.ask("step", b"s")
        return self._obs(), reward, terminated, truncated, self._info("step", text)

    def close(self) -> None:
        """Close the environment and end its process; may be repeated."""
        self._process.close()

    def _info(self, what: str, text: str) -> Info:
        info = self._process.read_json(text, what) if text else {}
        if not isinstance(info, dict):
            raise self._process.nonsense(what, f"an info that is no dict: {text[:80]}")
        return info

    def _obs(self) -> Any:
        if self._plain:
            return self._views[""].copy()
        return {key: view.copy() for key, view in self._views.items()}


def _view(leaf: Description, memory: mmap.mmap) -> Array:
    """The array in the shared memory; numpy itself takes an offset below zero."""
    dtype, shape, offset = np.dtype(leaf["dtype"]), tuple(leaf["shape"]), leaf["offset"]
    if dtype.kind not in "biuf":
        raise TypeError(f"expected numbers, got dtype {leaf['dtype']!r}")
    end = offset + dtype.itemsize * math.prod(shape)
    if min((offset, *shape)) < 0 or end > len(memory):
        raise ValueError(f"expected {len(memory)} bytes, got shape {shape} at {offset}")
    return np.ndarray(shape, dtype, memory, offset)


def _box(leaf: Description) -> spaces.Space[Any]:
    dtype = np.dtype(leaf["dtype"])
    low, high = (np.full(leaf["shape"], leaf[bound], dtype) for bound in ("low", "high"))
    return spaces.Box(low, high, tuple(leaf["shape"]), dtype.type)


def _discrete(leaf: Description) -> spaces.Space[Any]:
    return spaces.Discrete(leaf["n"], start=leaf["start"])


def _multidiscrete(leaf: Description) -> spaces.Space[Any]:
    return spaces.MultiDiscrete(np.array(leaf["nvec"]), start=np.array(leaf["start"]))


def _multibinary(leaf: Description) -> spaces.Space[Any]:
    return spaces.MultiBinary(leaf["shape"])


SPACES: dict[str, Callable[[Description], spaces.Space[Any]]] = {
    "box": _box,
    "discrete": _discrete,
    "multidiscrete": _multidiscrete,
    "multibinary": _multibinary,
}
