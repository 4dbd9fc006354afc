"""Small DreamerV3-2025 agents and random batches with a context row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reverie.protocols import AgentContext
from reverie.types import STEP_ID, ActionSpec, ArraySpec, Counters, Spaces, step_ids
from reverie_algorithms.dreamer.harmony import HarmonyConfig
from reverie_algorithms.dreamer_v3_2025.agent import DreamerV32025
from reverie_algorithms.dreamer_v3_2025.config import DreamerV32025Config
from reverie_algorithms.dreamer_v3_2025.images import ObsNetConfig
from reverie_algorithms.dreamer_v3_2025.rssm import RSSMConfig
from reverie_algorithms.dreamer_v3_2025.world_model import HeadConfig
from tests.algorithms.small_2023 import DISCRETE, IMAGE, SHAPE

NET = ObsNetConfig(depth=2, layers=1, units=8)
NANO: dict[str, Any] = {
    "rssm": RSSMConfig(deter=32, units=8, stoch=4, classes=4),
    "encoder": NET,
    "decoder": NET,
    "heads": HeadConfig(units=8, behavior_layers=2),
    "horizon": 3,
    "lr": 1e-3,
    "warmup": 1,
}
"""Networks that exist only to be tested."""
NANO_TREE: dict[str, Any] = {
    "name": "dreamerv3",
    "dialect": "2025",
    "size": "1m",
    "horizon": 3,
    "rssm": {"deter": 32, "units": 8, "stoch": 4, "classes": 4, "blocks": 4},
    "encoder": {"depth": 2, "units": 8},
    "decoder": {"depth": 2, "units": 8},
    "heads": {"units": 8},
}
"""Such as a configuration names them."""


def nano_agent(
    obs: Mapping[str, ArraySpec] = IMAGE,
    action: ActionSpec = DISCRETE,
    mode: Any = "off",
    context: Mapping[str, Any] | None = None,
    **options: Any,
) -> DreamerV32025:
    config = DreamerV32025Config(**{**NANO, "harmony": HarmonyConfig(mode=mode), **options})
    settings = {"batch_size": SHAPE[0], "batch_length": SHAPE[1], "seed": 0, **(context or {})}
    return DreamerV32025(config, Spaces(dict(obs), action), AgentContext(**settings))


def random_batch(spaces: Spaces, seed: int = 0) -> dict[str, Tensor]:
    """Windows of one more row than is trained on, as the platform hands them over."""
    rng, shape = np.random.default_rng(seed), (SHAPE[0], SHAPE[1] + 1)
    rows: dict[str, Any] = {
        key: rng.integers(0, 256, (*shape, *spec.shape)).astype(spec.dtype)
        for key, spec in spaces.obs.items()
    }
    action = spaces.action.sample(rng, shape[0] * shape[1])
    rows["action"] = action.reshape(*shape, *spaces.action.shape)
    rows["reward"] = rng.normal(size=shape).astype(np.float32)
    rows["is_last"] = rng.random(shape) < 0.2
    rows["is_terminal"] = rows["is_last"] & (rng.random(shape) < 0.5)
    rows["is_first"] = np.roll(rows["is_last"], 1, 1)
    rows["policy_version"] = np.zeros(shape, np.int64)
    rows[STEP_ID] = np.stack([step_ids(n, 9, shape[1]) for n in range(shape[0])])
    return {key: torch.from_numpy(value) for key, value in rows.items()}


def update(agent: DreamerV32025, seed: int = 0) -> dict[str, Tensor]:
    return agent.update({"replay": random_batch(agent.spaces, seed)}, Counters())[0]


def stored(batch: Mapping[str, Tensor], feedback: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The batch as it is drawn again after the feedback was written to the replay."""
    zeros = {k: torch.zeros_like(v[:, :1]) for k, v in feedback.items() if k != STEP_ID}
    side = {f"side/{k}": torch.cat([zero, feedback[k]], 1) for k, zero in zeros.items()}
    valid = torch.ones_like(batch["is_first"])
    valid[:, 0] = False
    return {**batch, **side, "side/valid": valid}
