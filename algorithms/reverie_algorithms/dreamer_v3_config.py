"""Settings of DreamerV3-2023 and its named sizes; sources are places in the specification."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from reverie.types import STRICT
from reverie_algorithms.harmony import HarmonyConfig
from reverie_algorithms.observations import ObsNetConfig
from reverie_algorithms.rssm import RSSMConfig
from reverie_algorithms.world_model import HEADS, HeadConfig, HeadName


@dataclass(frozen=True, kw_only=True, slots=True)
class LossScales:
    """Fixed weights of the losses; those of harmonised groups do not apply (spec 3.3)."""

    __pydantic_config__: ClassVar[Any] = STRICT

    image: float = 1.0
    """Squared error, summed over pixels and image keys (spec 2.1)."""
    vector: float = 1.0
    """Squared error of symlog values, summed over entries (spec 2.1)."""
    reward: float = 1.0
    """Two-hot cross-entropy (spec 2.1)."""
    cont: float = 1.0
    """Continuation log-likelihood (spec 2.1)."""
    dyn: float = 0.5
    """KL that trains the prior (spec 2.1)."""
    rep: float = 0.1
    """KL that trains the posterior (spec 2.1)."""
    slow_critic: float = 1.0
    """Pull of the critic towards its slow copy (spec 2.1)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DreamerV3Config:
    """Settings of DreamerV3-2023; the defaults are those of its Atari100K runs."""

    __pydantic_config__: ClassVar[Any] = STRICT

    name: str = "dreamerv3"
    """Name in the registry."""
    dialect: Literal["2023"] = "2023"
    """Published version of the algorithm."""
    size: str = "small"
    """Named network sizes: small, medium, large, xlarge (spec 2.1), or our own tiny for CPUs."""
    rssm: RSSMConfig = field(default_factory=RSSMConfig)
    """Latent state."""
    encoder: ObsNetConfig = field(default_factory=ObsNetConfig)
    """Networks that read observations."""
    decoder: ObsNetConfig = field(default_factory=ObsNetConfig)
    """Networks that rebuild observations."""
    heads: HeadConfig = field(default_factory=HeadConfig)
    """Reward, continuation, actor and critic."""
    harmony: HarmonyConfig = field(default_factory=HarmonyConfig)
    """How losses are balanced (spec 3.3)."""
    loss_scales: LossScales = field(default_factory=LossScales)
    """Fixed weights of the losses."""
    free_nats: float = 1.0
    """KL below which a step is not trained on, per element (spec 2.1)."""
    grad_heads: tuple[HeadName, ...] = HEADS
    """Heads whose loss reaches the latent state; all but `cont` on Meta-World (spec 7, item 8)."""
    horizon: int = 15
    """Imagined steps (spec 2.1)."""
    gamma: float = 1 - 1 / 333
    """Discount per step (spec 2.1)."""
    gae_lambda: float = 0.95
    """Lambda of the lambda-return (spec 2.1)."""
    entropy_scale: float = 3e-4
    """Weight of the policy's entropy (spec 2.1)."""
    actor_unimix: float = 0.01
    """Share of a uniform distribution in a discrete policy (spec 2.1)."""
    actor_min_std: float = 0.1
    """Least standard deviation of a continuous policy (spec 2.1)."""
    actor_max_std: float = 1.0
    """Largest standard deviation of a continuous policy (spec 2.1)."""
    return_low: float = 0.05
    """Lower percentile of the return range, as a fraction (spec 2.1)."""
    return_high: float = 0.95
    """Upper percentile of the return range, as a fraction (spec 2.1)."""
    return_rate: float = 0.01
    """Weight of the newest percentiles in their moving averages (spec 2.1)."""
    return_min_scale: float = 1.0
    """Least scale that advantages are divided by (spec 2.1)."""
    slow_critic_fraction: float = 0.02
    """Step of the slow critic towards the critic, per update (spec 2.1)."""
    world_model_lr: float = 1e-4
    """Learning rate of the world model (spec 2.1)."""
    world_model_eps: float = 1e-8
    """Adam's epsilon for the world model (spec 2.1)."""
    world_model_clip: float = 1000.0
    """Largest gradient norm of the world model (spec 2.1)."""
    actor_lr: float = 3e-5
    """Learning rate of the actor (spec 2.1)."""
    actor_eps: float = 1e-5
    """Adam's epsilon for the actor (spec 2.1)."""
    actor_clip: float = 100.0
    """Largest gradient norm of the actor (spec 2.1)."""
    critic_lr: float = 3e-5
    """Learning rate of the critic (spec 2.1)."""
    critic_eps: float = 1e-5
    """Adam's epsilon for the critic (spec 2.1)."""
    critic_clip: float = 100.0
    """Largest gradient norm of the critic (spec 2.1)."""


class Size(NamedTuple):
    """One column of the size table (spec 2.1)."""

    deter: int
    units: int
    layers: int
    depth: int
    stoch: int = 32
    classes: int = 32

    def defaults(self) -> dict[str, Any]:
        """The config values this size implies."""
        net = {"depth": self.depth, "layers": self.layers, "units": self.units}
        latent = {"stoch": self.stoch, "classes": self.classes}
        return {
            "rssm": {"deter": self.deter, "units": self.units, **latent},
            "encoder": net,
            "decoder": dict(net),
            "heads": {"layers": self.layers, "units": self.units},
        }


SIZES = {
    "tiny": Size(128, 128, 1, 8, 16, 16),
    "small": Size(512, 512, 2, 32),
    "medium": Size(1024, 640, 3, 48),
    "large": Size(2048, 768, 4, 64),
    "xlarge": Size(4096, 1024, 5, 96),
}
"""All of spec 2.1 but `tiny`, which is ours: it trains on two CPU cores in minutes."""
