"""Small DrQ-v2 agents and random windows for their tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reverie.protocols import AgentContext
from reverie.types import ActionSpec, ArraySpec, Counters, Spaces
from reverie_algorithms.drq_v2.agent import DrQV2
from tests.algorithms.small_2023 import BOX

BATCH = 5
IMAGE = {"image": ArraySpec((21, 21, 3), "uint8")}
MIXED = {
    "image": ArraySpec((21, 21, 3), "uint8"),
    "wrist": ArraySpec((15, 18, 1), "uint8"),
    "proprio": ArraySpec((3,), "float32"),
    "count": ArraySpec((), "int64"),
    "log/speed": ArraySpec((), "float32"),
}
NANO: dict[str, Any] = {"channels": 4, "features": 6, "hidden": 12, "noise_steps": 1000}


def drq_agent(
    obs: Mapping[str, ArraySpec] = IMAGE,
    action: ActionSpec = BOX,
    context: Mapping[str, Any] | None = None,
    **options: Any,
) -> DrQV2:
    settings = {"batch_size": BATCH, "batch_length": 1, "seed": 0, **(context or {})}
    config = DrQV2.Config(**{**NANO, **options})
    return DrQV2(config, Spaces(dict(obs), action), AgentContext(**settings))


def windows(agent: DrQV2, seed: int = 0) -> dict[str, Tensor]:
    """Windows as the platform hands them over, without ends of episodes."""
    rng = np.random.default_rng(seed)
    spec = agent.streams()["replay"]
    shape = (spec.batch_size, spec.window_length)
    rows: dict[str, Any] = {
        key: rng.integers(0, 256, (*shape, *spec.shape)).astype(spec.dtype)
        for key, spec in agent.spaces.obs.items()
    }
    rows["action"] = rng.uniform(-1, 1, (*shape, agent.spaces.action.width)).astype(np.float32)
    rows["reward"] = rng.normal(size=shape).astype(np.float32)
    rows |= {key: np.zeros(shape, bool) for key in ("is_first", "is_last", "is_terminal")}
    return {key: torch.from_numpy(value) for key, value in rows.items()}


def update(agent: DrQV2, seed: int = 0, env_steps: int = 0) -> dict[str, Tensor]:
    batches = {"replay": windows(agent, seed)}
    return agent.update(batches, Counters(env_steps=env_steps))[0]


def draws(agent: DrQV2, batch_size: int = BATCH) -> tuple[Tensor, Tensor]:
    """Shifts and noise of one update."""
    return agent.learner.draws(batch_size, agent.learn_generator)
