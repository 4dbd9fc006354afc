"""Settings of DreamerV3-2023 (danijar/dreamerv3@8fa35f8) and its named sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from reverie.ranges import Clip, Epsilon, LearningRate, Weight
from reverie.types import STRICT
from reverie_algorithms.dreamer.config import V3Config
from reverie_algorithms.dreamer_v3_2023.nets import ObsNetConfig
from reverie_algorithms.dreamer_v3_2023.rssm import RSSMConfig
from reverie_algorithms.dreamer_v3_2023.world_model import HEADS, HeadConfig, HeadName


@dataclass(frozen=True, kw_only=True, slots=True)
class LossScales:
    """Fixed weights of the losses; those of harmonised groups do not apply."""

    __pydantic_config__: ClassVar[Any] = STRICT
    SOURCE: ClassVar[str] = "danijar/dreamerv3@8fa35f8"

    image: Weight = 1.0
    """Squared error, summed over pixels and image keys."""
    vector: Weight = 1.0
    """Squared error of symlog values, summed over entries."""
    reward: Weight = 1.0
    """Two-hot cross-entropy."""
    cont: Weight = 1.0
    """Continuation log-likelihood."""
    dyn: Weight = 0.5
    """KL that trains the prior."""
    rep: Weight = 0.1
    """KL that trains the posterior."""
    slow_critic: Weight = 1.0
    """Pull of the critic towards its slow copy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DreamerV32023Config(V3Config):
    """Settings of DreamerV3-2023; the defaults are those of its Atari100K runs."""

    SOURCE: ClassVar[str] = "danijar/dreamerv3@8fa35f8"

    dialect: Literal["2023"] = "2023"
    """Published version of the algorithm (ours)."""
    size: str = "small"
    """Network sizes: `small`, `medium`, `large` or `xlarge` as published, or `tiny`, which is ours
    and trains on two CPU cores in minutes."""
    rssm: RSSMConfig = field(default_factory=RSSMConfig)
    """Latent state."""
    encoder: ObsNetConfig = field(default_factory=ObsNetConfig)
    """Networks that read observations."""
    decoder: ObsNetConfig = field(default_factory=ObsNetConfig)
    """Networks that rebuild observations."""
    heads: HeadConfig = field(default_factory=HeadConfig)
    """Reward, continuation, actor and critic."""
    loss_scales: LossScales = field(default_factory=LossScales)
    """Fixed weights of the losses."""
    grad_heads: tuple[HeadName, ...] = HEADS
    """Heads whose loss reaches the latent state; HarmonyDream's Meta-World runs leave out
    `cont`."""
    world_model_lr: LearningRate = 1e-4
    """Learning rate of the world model."""
    world_model_eps: Epsilon = 1e-8
    """Adam's epsilon for the world model."""
    world_model_clip: Clip = 1000.0
    """Largest gradient norm of the world model."""
    actor_lr: LearningRate = 3e-5
    """Learning rate of the actor."""
    actor_eps: Epsilon = 1e-5
    """Adam's epsilon for the actor."""
    actor_clip: Clip = 100.0
    """Largest gradient norm of the actor."""
    critic_lr: LearningRate = 3e-5
    """Learning rate of the critic."""
    critic_eps: Epsilon = 1e-5
    """Adam's epsilon for the critic."""
    critic_clip: Clip = 100.0
    """Largest gradient norm of the critic."""


class Size(NamedTuple):
    """One named size: layer widths of all networks.

    The source's size blocks set `layers`, `units` and `cnn_depth`. Those of the MLP for vectors are
    called `mlp_layers` and `mlp_units` there: it is the same at every published size.
    """

    deter: int
    units: int
    layers: int
    depth: int
    stoch: int = 32
    classes: int = 32
    vector_layers: int = 5
    vector_units: int = 1024

    def defaults(self) -> dict[str, Any]:
        """The config values this size implies."""
        vector = {"layers": self.vector_layers, "units": self.vector_units}
        net = {"depth": self.depth, **vector}
        latent = {"stoch": self.stoch, "classes": self.classes}
        return {
            "rssm": {"deter": self.deter, "units": self.units, **latent},
            "encoder": net,
            "decoder": dict(net),
            "heads": {"layers": self.layers, "units": self.units},
        }


SIZES = {
    "tiny": Size(128, 128, 1, 8, 16, 16, 1, 128),
    "small": Size(512, 512, 2, 32),
    "medium": Size(1024, 640, 3, 48),
    "large": Size(2048, 768, 4, 64),
    "xlarge": Size(4096, 1024, 5, 96),
}
"""`tiny` is ours: it trains on two CPU cores in minutes. The others are the published ones."""
