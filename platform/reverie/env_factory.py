"""Builds environments from their settings, and the seeds of their episodes."""

from __future__ import annotations

import traceback
from typing import Any

import numpy as np

from reverie import registry
from reverie.config import ConfigError, resolve_env
from reverie.env_thread import EnvThread
from reverie.errors import EnvFailed, is_refusal
from reverie.protocols import EnvSeed, VectorEnv
from reverie.settings import EnvConfig
from reverie.types import Spaces

BUILD_S = 10.0
"""Least seconds that building an environment may take: simulators load slower than they step."""


def derive_seed(*path: int) -> int:
    """Mix non-negative integers into one 31-bit seed; different paths give unrelated seeds."""
    return int(np.random.SeedSequence(path).generate_state(1)[0] >> 1)


def make_env(name: str | EnvConfig, **options: Any) -> Any:
    """Build one environment, e.g. `make_env("atari100k/pong")`: a plain `gymnasium.Env`.

    Raises:
        ConfigError: an unknown suite, task or option.
    """
    config = name if isinstance(name, EnvConfig) else resolve_env(_env_tree(name, options))
    return registry.suite(config.suite).make(config.task, config.options)


def make_vector_env(config: EnvConfig, count: int, seeds: EnvSeed) -> VectorEnv:
    """Build `count` environments behind one `VectorEnv`, natively where the suite can."""
    suite = registry.suite(config.suite)
    if hasattr(suite, "make_vector"):
        return suite.make_vector(config.task, config.options, count, seeds)
    makers = [lambda: suite.make(config.task, config.options)] * count
    return registry.load(registry.VECTOR_ENV)(makers, seeds)


def spaces_of(config: EnvConfig) -> Spaces:
    """Read the spaces of an environment by building one and closing it again.

    Waits at most `env.step_timeout_s` seconds for it, or `BUILD_S` if that is longer.

    Raises:
        ConfigError: what the suite itself refuses, e.g. an unknown task.
        ImportError: a package is missing.
        EnvFailed: the environment raised or hung; the message ends with its own traceback.
    """
    limit_s = config.step_timeout_s
    thread = EnvThread(max(limit_s, BUILD_S) if limit_s else 0.0)
    try:
        vector = thread.call(lambda: make_vector_env(config, 1, lambda env, episode: 0))
        thread.call(vector.close)
    except ImportError:
        raise
    except Exception as error:
        if is_refusal(error, type(registry.suite(config.suite))):
            raise ConfigError(f"env: {error.args[0]}") from error
        trace = "".join(traceback.format_exception(error))
        name = f"{config.suite}/{config.task}"
        raise EnvFailed(f"environment {name} cannot be built:\n{trace}") from error
    finally:
        thread.stop()
    return vector.spaces


def _env_tree(name: str, options: dict[str, Any]) -> dict[str, Any]:
    suite, _, task = name.partition("/")
    return {"suite": suite, "task": task, **options}
