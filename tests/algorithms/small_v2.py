"""Small DreamerV2 agents for the algorithm tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reverie.protocols import AgentContext
from reverie.types import ActionSpec, ArraySpec, Spaces
from reverie_algorithms.dreamer.elu_images import EluObsConfig
from reverie_algorithms.dreamer.elu_nets import EluHeadConfig
from reverie_algorithms.dreamer.elu_rssm import EluRSSMConfig, KLConfig
from reverie_algorithms.dreamer.harmony import HarmonyConfig
from reverie_algorithms.dreamer_v2.agent import DreamerV2
from reverie_algorithms.dreamer_v2.config import DreamerV2Config
from tests.algorithms.small_2023 import DISCRETE, IMAGE, SHAPE

NET = {"depth": 2, "layers": 1, "units": 16}
NANO: dict[str, Any] = {
    "rssm": EluRSSMConfig(deter=16, hidden=12, stoch=4, classes=5),
    "encoder": EluObsConfig(**NET),
    "decoder": EluObsConfig(**NET),
    "heads": EluHeadConfig(layers=1, units=16),
    "horizon": 4,
    "world_model_lr": 1e-3,
    "actor_lr": 1e-3,
    "critic_lr": 1e-3,
}
"""Networks that exist only to be tested."""
RESNET: dict[str, Any] = {
    "encoder": EluObsConfig(kind="resnet", **NET),
    "decoder": EluObsConfig(kind="resnet", **NET),
}


def sized(size: str, **options: Any) -> DreamerV2Config:
    """Build the config of a named size, as the platform does."""
    raw = DreamerV2.config_defaults({"size": size})
    kind = options.pop("kind", "plain")
    return DreamerV2Config(
        size=size,
        rssm=EluRSSMConfig(**raw["rssm"]),
        encoder=EluObsConfig(kind=kind, **raw["encoder"]),
        decoder=EluObsConfig(kind=kind, **raw["decoder"]),
        heads=EluHeadConfig(**raw["heads"]),
        **options,
    )


def nano_v2(
    obs: Mapping[str, ArraySpec] = IMAGE,
    action: ActionSpec = DISCRETE,
    mode: Any = "paper",
    context: Mapping[str, Any] | None = None,
    **options: Any,
) -> DreamerV2:
    kl = KLConfig(free_nats=options.pop("free_nats", 0.0))
    harmony = HarmonyConfig(mode=mode)
    config = DreamerV2Config(**{**NANO, "harmony": harmony, "kl": kl, **options})
    settings = {"batch_size": SHAPE[0], "batch_length": SHAPE[1], "seed": 0, **(context or {})}
    return DreamerV2(config, Spaces(dict(obs), action), AgentContext(**settings))
