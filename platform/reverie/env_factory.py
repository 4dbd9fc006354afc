"""Builds environments from their settings, and the seeds of their episodes."""

from __future__ import annotations

from typing import Any

import numpy as np

from reverie import registry
from reverie.config import resolve_env
from reverie.protocols import EnvSeed, VectorEnv
from reverie.settings import EnvConfig
from reverie.types import Spaces


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
    """Read the spaces of an environment by building one and closing it again."""
    vector = make_vector_env(config, 1, lambda env, episode: 0)
    try:
        return vector.spaces
    finally:
        vector.close()


def _env_tree(name: str, options: dict[str, Any]) -> dict[str, Any]:
    suite, _, task = name.partition("/")
    return {"suite": suite, "task": task, **options}
