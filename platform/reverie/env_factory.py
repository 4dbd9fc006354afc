"""Builds environments from their settings."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from reverie import registry
from reverie.call_thread import CallThread, CallTimeout, own_traceback
from reverie.config import resolve_env
from reverie.errors import ConfigError, ContractBroken, EnvFailed, is_refusal
from reverie.protocols import EnvSeed, VectorEnv
from reverie.settings import EnvConfig
from reverie.types import Array, Json, JsonTree, Rows, Spaces

if TYPE_CHECKING:
    import gymnasium

T = TypeVar("T")
log = logging.getLogger(__name__)

BUILD_S = 10.0
"""Least seconds that building an environment may take: simulators load slower than they step."""
LIMIT = "env.step_timeout_s"
"""Where the time limit of an environment's calls is set."""


def make_env(name: str | EnvConfig, **options: Json) -> gymnasium.Env[Rows, Array | np.int64]:
    """Build one environment, e.g. `make_env("atari100k/pong")`: a plain `gymnasium.Env`.

    Raises:
        ConfigError: an unknown suite, task or option.
    """
    config = name if isinstance(name, EnvConfig) else resolve_env(_env_tree(name, options))
    return registry.suite(config.suite).make(config.task, config.options)


def make_vector_env(config: EnvConfig, count: int, seeds: EnvSeed) -> VectorEnv:
    """Build `count` environments behind one `VectorEnv`, natively where the suite can."""
    suite = registry.suite(config.suite)
    native = suite.make_vector(config.task, config.options, count, seeds)
    if native is not None:
        return native
    makers = [lambda: suite.make(config.task, config.options)] * count
    return registry.load(registry.VECTOR_ENV)(makers, seeds)


class EnvFault(Exception):
    """An environment raised or hung; the text is its own traceback, the cause what it raised."""

    @property
    def will_repeat(self) -> bool:
        """Whether a rebuilt environment would do the same: a breach of its contract in its code.
        A crash, a hang and a lost connection may pass.
        """
        return isinstance(self.__cause__, ContractBroken) and self.__cause__.will_repeat


class GuardedVectorEnv:
    """A `VectorEnv` whose environments live in a thread of their own, each call with a time limit.

    A call waits at most `env.step_timeout_s` seconds, building at least `BUILD_S`.

    Raises, from every method but `close`:
        EnvFault: an environment raised or hung.
    """

    def __init__(self, config: EnvConfig, count: int, seeds: EnvSeed) -> None:
        self._name, self._is_closed = config.name, False
        self._thread = CallThread(config.step_timeout_s, LIMIT)
        try:
            self._vector = self._call(lambda: make_vector_env(config, count, seeds), BUILD_S)
        except EnvFault:
            self._thread.stop()
            raise
        self.num_envs, self.spaces = self._vector.num_envs, self._vector.spaces

    def step(self, actions: Array, mask: Array) -> Rows:
        """See `reverie.protocols.VectorEnv.step`."""
        return self._call(lambda: self._vector.step(actions, mask))

    def restart(self, mask: Array) -> None:
        """See `reverie.protocols.VectorEnv.restart`."""
        self._call(lambda: self._vector.restart(mask))

    def close(self) -> None:
        """Close the environments, unless they hang or are closed. A failure is only logged."""
        if self._thread.is_lost or self._is_closed:
            return
        self._is_closed = True
        try:
            self._call(self._vector.close)
        except EnvFault as fault:
            log.warning("environment %s failed as it was closed:\n%s", self._name, fault)
        self._thread.stop()

    def _call(self, function: Callable[[], T], at_least_s: float = 0.0) -> T:
        try:
            found = self._thread.outcome(function, at_least_s)
        except CallTimeout as error:
            raise EnvFault(own_traceback(error)) from error
        if found[1] is not None:  # its own, a KeyboardInterrupt too: Ctrl-C arrives in ours
            raise EnvFault(own_traceback(found[1])) from found[1]
        return found[0]


def spaces_of(config: EnvConfig) -> Spaces:
    """Read the spaces of an environment by building one and closing it again.

    Waits as `GuardedVectorEnv` does.

    Raises:
        ConfigError: what the suite itself refuses, e.g. an unknown task.
        ImportError: a package is missing.
        EnvFailed: the environment raised or hung; the message ends with its own traceback.
    """
    try:
        vector = GuardedVectorEnv(config, 1, lambda env, episode: 0)
        vector.close()
    except EnvFault as fault:
        error = fault.__cause__
        assert error is not None
        raise explained(error, config, "env", "cannot be built") from error
    return vector.spaces


def explained(error: BaseException, config: EnvConfig, where: str, what: str) -> Exception:
    """What to raise for an error of an environment, so that its user can act on it.

    Returns:
        The suite's own refusals as a `ConfigError` about `where`; anything else as an `EnvFailed`
        that says `what` and shows the environment's own lines.

    Raises:
        ImportError: `error` itself, if a package is missing.
    """
    if isinstance(error, ImportError):
        raise error
    suite = registry.suite(config.suite)
    if isinstance(error, Exception) and is_refusal(error, type(suite)):
        return ConfigError(f"{where}: {error.args[0]}")
    return EnvFailed(f"environment {config.name} {what}:\n{own_traceback(error)}")


def _env_tree(name: str, options: JsonTree) -> JsonTree:
    suite, _, task = name.partition("/")
    return {"suite": suite, "task": task, **options}
