"""Small agents and random batches for the algorithm tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reverie.protocols import AgentContext
from reverie.types import ActionSpec, ArraySpec, Counters, Spaces
from reverie_algorithms.dreamer.harmony import HarmonyConfig
from reverie_algorithms.dreamer.imagination import Noise
from reverie_algorithms.dreamer_v3_2023.agent import DreamerV32023
from reverie_algorithms.dreamer_v3_2023.config import DreamerV32023Config
from reverie_algorithms.dreamer_v3_2023.nets import ObsNetConfig
from reverie_algorithms.dreamer_v3_2023.rssm import RSSMConfig
from reverie_algorithms.dreamer_v3_2023.world_model import HeadConfig

IMAGE = {"image": ArraySpec((16, 16, 3), "uint8")}
TWO_IMAGES = {
    "image": ArraySpec((16, 16, 3), "uint8"),
    "wrist": ArraySpec((8, 16, 1), "uint8"),
    "proprio": ArraySpec((3,), "float32"),
    "count": ArraySpec((), "int64"),
    "log/speed": ArraySpec((), "float32"),
    "task_id": ArraySpec((), "int64"),
}
BOX = ActionSpec("box", (), 2)
DISCRETE = ActionSpec("discrete", (3,))
MULTI = ActionSpec("multidiscrete", (3, 2))
SHAPE = (3, 6)
"""Windows and rows per window."""
NET = ObsNetConfig(depth=4, layers=1, units=16)
NANO: dict[str, Any] = {
    "rssm": RSSMConfig(deter=16, units=12, stoch=4, classes=5),
    "encoder": NET,
    "decoder": NET,
    "heads": HeadConfig(layers=1, units=16),
    "horizon": 4,
    "world_model_lr": 1e-3,
    "actor_lr": 1e-3,
    "critic_lr": 1e-3,
}
"""Networks that exist only to be tested."""


def sized(size: str, **options: Any) -> DreamerV32023Config:
    """Build the config of a named size, as the platform does."""
    raw = DreamerV32023.config_defaults({"size": size})
    return DreamerV32023Config(
        size=size,
        rssm=RSSMConfig(**raw["rssm"]),
        encoder=ObsNetConfig(**raw["encoder"]),
        decoder=ObsNetConfig(**raw["decoder"]),
        heads=HeadConfig(**raw["heads"]),
        **options,
    )


def nano_agent(
    obs: Mapping[str, ArraySpec] = IMAGE,
    action: ActionSpec = DISCRETE,
    mode: Any = "paper",
    context: Mapping[str, Any] | None = None,
    **options: Any,
) -> DreamerV32023:
    config = DreamerV32023Config(**{**NANO, "harmony": HarmonyConfig(mode=mode), **options})
    settings = {"batch_size": SHAPE[0], "batch_length": SHAPE[1], "seed": 0, **(context or {})}
    return DreamerV32023(config, Spaces(dict(obs), action), AgentContext(**settings))


def random_batch(spaces: Spaces, seed: int = 0) -> dict[str, Tensor]:
    """Rows as the platform hands them over, with episode ends here and there."""
    rng = np.random.default_rng(seed)
    rows: dict[str, Any] = {
        key: rng.integers(0, 256, (*SHAPE, *spec.shape)).astype(spec.dtype)
        for key, spec in spaces.obs.items()
    }
    action = spaces.action.sample(rng, SHAPE[0] * SHAPE[1])
    rows["action"] = action.reshape(*SHAPE, *spaces.action.shape)
    rows["reward"] = rng.normal(size=SHAPE).astype(np.float32)
    rows["is_last"] = rng.random(SHAPE) < 0.2
    rows["is_terminal"] = rows["is_last"] & (rng.random(SHAPE) < 0.5)
    rows["is_first"] = np.roll(rows["is_last"], 1, 1)
    rows["policy_version"] = np.zeros(SHAPE, np.int64)
    return {key: torch.from_numpy(value) for key, value in rows.items()}


def observation(spaces: Spaces, count: int, is_first: bool = True) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    obs = {
        key: rng.integers(0, 256, (count, *spec.shape)).astype(spec.dtype)
        for key, spec in spaces.obs.items()
    }
    return {**obs, "is_first": np.full(count, is_first)}


def update(agent: DreamerV32023, seed: int = 0) -> dict[str, Tensor]:
    batch = random_batch(agent.spaces, seed)
    return agent.update({"replay": batch}, Counters())[0]


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def stoch_noise(agent: Any) -> Tensor:
    """What the RSSM of a Dreamer wants for one batch."""
    return agent.rssm.noise(SHAPE, agent.learn_generator)


def rollout_noise(agent: Any) -> Noise:
    """What a Dreamer draws for the rollouts from one batch."""
    shape, generator = (agent.config.horizon, SHAPE[0] * SHAPE[1]), agent.learn_generator
    return Noise(agent.actions.noise(shape, generator), agent.rssm.noise(shape, generator))
