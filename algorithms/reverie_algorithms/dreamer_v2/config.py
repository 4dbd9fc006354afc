"""Settings of DreamerV2 as in thuml/HarmonyDream@0a22e33, wmlib-torch, and its named sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from reverie.ranges import Weight
from reverie.types import STRICT
from reverie_algorithms.dreamer.config import V2Config

RewardTransform = Literal["identity", "tanh"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LossScales:
    """Fixed weights of the losses; those of harmonised groups do not apply."""

    __pydantic_config__: ClassVar[Any] = STRICT
    SOURCE: ClassVar[str] = "thuml/HarmonyDream@0a22e33"

    image: Weight = 1.0
    """Half the squared error, summed over pixels and image keys."""
    vector: Weight = 1.0
    """Half the squared error, summed over entries."""
    reward: Weight = 1.0
    """Half the squared error."""
    discount: Weight = 1.0
    """Log-likelihood of the discount."""
    kl: Weight = 1.0
    """Balanced KL; 0.1 on RLBench."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DreamerV2Config(V2Config):
    """Settings of DreamerV2; the defaults are those of HarmonyDream's Meta-World runs."""

    SOURCE: ClassVar[str] = "thuml/HarmonyDream@0a22e33"

    name: str = "dreamerv2"
    """Name in the registry (ours)."""
    size: str = "1024"
    """Width of the latent state's networks: `1024` (robotics) or `200` (DMC) as published, or
    `tiny`, which is ours and trains on two CPU cores in minutes."""
    loss_scales: LossScales = field(default_factory=LossScales)
    """Fixed weights of the losses."""
    reward_transform: RewardTransform = "identity"
    """What is done to rewards before they are learned; `tanh` on RLBench."""
    prioritize_ends: bool = True
    """Give the last window of an episode as many extra slots as it has rows."""


class Size(NamedTuple):
    """One named size: layer widths of all networks."""

    width: int
    depth: int = 48
    layers: int = 4
    units: int = 400
    stoch: int = 32
    classes: int = 32

    def defaults(self) -> dict[str, Any]:
        """The config values this size implies."""
        heads = {"layers": self.layers, "units": self.units}
        latent = {"stoch": self.stoch, "classes": self.classes}
        return {
            "rssm": {"deter": self.width, "hidden": self.width, **latent},
            "encoder": {"depth": self.depth, **heads},
            "decoder": {"depth": self.depth, **heads},
            "heads": heads,
        }


SIZES = {
    "tiny": Size(128, 8, 2, 128, 16, 16),
    "200": Size(200),
    "1024": Size(1024),
}
"""`tiny` is ours: it trains on two CPU cores in minutes. The others are the published ones."""
