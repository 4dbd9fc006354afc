"""Settings of DreamerV3-2023 (danijar/dreamerv3@8fa35f8) and its named sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from reverie.types import STRICT
from reverie_algorithms.common.observations import ObsNetConfig
from reverie_algorithms.dreamer.harmony import HarmonyConfig
from reverie_algorithms.dreamer_v3_2023.rssm import RSSMConfig
from reverie_algorithms.dreamer_v3_2023.world_model import HEADS, HeadConfig, HeadName


@dataclass(frozen=True, kw_only=True, slots=True)
class LossScales:
    """Fixed weights of the losses; those of harmonised groups do not apply."""

    __pydantic_config__: ClassVar[Any] = STRICT

    image: float = 1.0
    """Squared error, summed over pixels and image keys (source: danijar/dreamerv3@8fa35f8)."""
    vector: float = 1.0
    """Squared error of symlog values, summed over entries (source: danijar/dreamerv3@8fa35f8)."""
    reward: float = 1.0
    """Two-hot cross-entropy (source: danijar/dreamerv3@8fa35f8)."""
    cont: float = 1.0
    """Continuation log-likelihood (source: danijar/dreamerv3@8fa35f8)."""
    dyn: float = 0.5
    """KL that trains the prior (source: danijar/dreamerv3@8fa35f8)."""
    rep: float = 0.1
    """KL that trains the posterior (source: danijar/dreamerv3@8fa35f8)."""
    slow_critic: float = 1.0
    """Pull of the critic towards its slow copy (source: danijar/dreamerv3@8fa35f8)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DreamerV3Config:
    """Settings of DreamerV3-2023; the defaults are those of its Atari100K runs."""

    __pydantic_config__: ClassVar[Any] = STRICT

    name: str = "dreamerv3"
    """Name in the registry."""
    dialect: Literal["2023"] = "2023"
    """Published version of the algorithm."""
    size: str = "small"
    """Network sizes: `small`, `medium`, `large` or `xlarge` as published, or `tiny`, which is ours
    and trains on two CPU cores in minutes (source: danijar/dreamerv3@8fa35f8)."""
    rssm: RSSMConfig = field(default_factory=RSSMConfig)
    """Latent state."""
    encoder: ObsNetConfig = field(default_factory=ObsNetConfig)
    """Networks that read observations."""
    decoder: ObsNetConfig = field(default_factory=ObsNetConfig)
    """Networks that rebuild observations."""
    heads: HeadConfig = field(default_factory=HeadConfig)
    """Reward, continuation, actor and critic."""
    harmony: HarmonyConfig = field(default_factory=HarmonyConfig)
    """How losses are balanced."""
    loss_scales: LossScales = field(default_factory=LossScales)
    """Fixed weights of the losses."""
    free_nats: float = 1.0
    """KL below which a step is not trained on, per element (source: danijar/dreamerv3@8fa35f8)."""
    grad_heads: tuple[HeadName, ...] = HEADS
    """Heads whose loss reaches the latent state; HarmonyDream's Meta-World runs leave out `cont`
    (source: danijar/dreamerv3@8fa35f8)."""
    horizon: int = 15
    """Imagined steps (source: danijar/dreamerv3@8fa35f8)."""
    gamma: float = 1 - 1 / 333
    """Discount per step (source: danijar/dreamerv3@8fa35f8)."""
    gae_lambda: float = 0.95
    """Lambda of the lambda-return (source: danijar/dreamerv3@8fa35f8)."""
    entropy_scale: float = 3e-4
    """Weight of the policy's entropy (source: danijar/dreamerv3@8fa35f8)."""
    actor_unimix: float = 0.01
    """Share of a uniform distribution in a discrete policy (source: danijar/dreamerv3@8fa35f8)."""
    actor_min_std: float = 0.1
    """Least standard deviation of a continuous policy (source: danijar/dreamerv3@8fa35f8)."""
    actor_max_std: float = 1.0
    """Largest standard deviation of a continuous policy (source: danijar/dreamerv3@8fa35f8)."""
    return_low: float = 0.05
    """Lower percentile of the return range, as a fraction (source: danijar/dreamerv3@8fa35f8)."""
    return_high: float = 0.95
    """Upper percentile of the return range, as a fraction (source: danijar/dreamerv3@8fa35f8)."""
    return_rate: float = 0.01
    """Weight of the newest percentiles in their moving averages
    (source: danijar/dreamerv3@8fa35f8)."""
    return_min_scale: float = 1.0
    """Least scale that advantages are divided by (source: danijar/dreamerv3@8fa35f8)."""
    slow_critic_fraction: float = 0.02
    """Step of the slow critic towards the critic, per update
    (source: danijar/dreamerv3@8fa35f8)."""
    world_model_lr: float = 1e-4
    """Learning rate of the world model (source: danijar/dreamerv3@8fa35f8)."""
    world_model_eps: float = 1e-8
    """Adam's epsilon for the world model (source: danijar/dreamerv3@8fa35f8)."""
    world_model_clip: float = 1000.0
    """Largest gradient norm of the world model (source: danijar/dreamerv3@8fa35f8)."""
    actor_lr: float = 3e-5
    """Learning rate of the actor (source: danijar/dreamerv3@8fa35f8)."""
    actor_eps: float = 1e-5
    """Adam's epsilon for the actor (source: danijar/dreamerv3@8fa35f8)."""
    actor_clip: float = 100.0
    """Largest gradient norm of the actor (source: danijar/dreamerv3@8fa35f8)."""
    critic_lr: float = 3e-5
    """Learning rate of the critic (source: danijar/dreamerv3@8fa35f8)."""
    critic_eps: float = 1e-5
    """Adam's epsilon for the critic (source: danijar/dreamerv3@8fa35f8)."""
    critic_clip: float = 100.0
    """Largest gradient norm of the critic (source: danijar/dreamerv3@8fa35f8)."""


class Size(NamedTuple):
    """One named size: layer widths of all networks (source: danijar/dreamerv3@8fa35f8)."""

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
"""`tiny` is ours: it trains on two CPU cores in minutes. The others are the published ones."""
