"""Settings of DreamerV3-2025 (danijar/dreamerv3@e3f0224) and its named sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from reverie.types import STRICT
from reverie_algorithms.dreamer.harmony import HarmonyConfig, LossGroup
from reverie_algorithms.dreamer_v3_2025.heads import RMSHeadConfig
from reverie_algorithms.dreamer_v3_2025.images import RMSObsNetConfig
from reverie_algorithms.dreamer_v3_2025.rssm import BlockRSSMConfig

GROUPS = {
    "image": LossGroup({"image": 1.0}),
    "reward": LossGroup({"reward": 1.0}),
    "kl": LossGroup({"dyn": 1 / 1.1, "rep": 0.1 / 1.1}),
}
"""Harmonised groups; `dyn` and `rep` keep their ratio. Our port: arXiv:2310.00344 used V3-2023."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LossScales2025:
    """Fixed weights of the losses; those of harmonised groups do not apply."""

    __pydantic_config__: ClassVar[Any] = STRICT

    image: float = 1.0
    """Squared error, summed over pixels and image keys (source: danijar/dreamerv3@e3f0224)."""
    vector: float = 1.0
    """Squared error of symlog values, summed over entries (source: danijar/dreamerv3@e3f0224)."""
    reward: float = 1.0
    """Two-hot cross-entropy (source: danijar/dreamerv3@e3f0224)."""
    cont: float = 1.0
    """Continuation log-likelihood (source: danijar/dreamerv3@e3f0224)."""
    dyn: float = 1.0
    """KL that trains the prior (source: danijar/dreamerv3@e3f0224)."""
    rep: float = 0.1
    """KL that trains the posterior (source: danijar/dreamerv3@e3f0224)."""
    actor: float = 1.0
    """Policy gradient with entropy bonus (source: danijar/dreamerv3@e3f0224)."""
    critic: float = 1.0
    """Two-hot cross-entropy with imagined returns (source: danijar/dreamerv3@e3f0224)."""
    replay_critic: float = 0.3
    """The same with returns of real rewards; trains the world model too
    (source: danijar/dreamerv3@e3f0224)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DreamerV32025Config:
    """Settings of DreamerV3-2025; the defaults are those of size `12m`."""

    __pydantic_config__: ClassVar[Any] = STRICT

    name: str = "dreamerv3"
    """Name in the registry."""
    dialect: Literal["2025"] = "2025"
    """Published version of the algorithm."""
    size: str = "12m"
    """Network sizes, named by their parameters: `1m`, `12m`, `25m`, `50m`, `100m`, `200m`, `400m`;
    the code's own default is 200m (source: danijar/dreamerv3@e3f0224)."""
    rssm: BlockRSSMConfig = field(default_factory=BlockRSSMConfig)
    """Latent state."""
    encoder: RMSObsNetConfig = field(default_factory=RMSObsNetConfig)
    """Networks that read observations."""
    decoder: RMSObsNetConfig = field(default_factory=RMSObsNetConfig)
    """Networks that rebuild observations."""
    heads: RMSHeadConfig = field(default_factory=RMSHeadConfig)
    """Reward, continuation, actor and critic."""
    harmony: HarmonyConfig = field(default_factory=HarmonyConfig)
    """How losses are balanced. At this learning rate the sigmas of mode `paper` hardly move within
    100,000 env steps; `own_group` lets them."""
    loss_scales: LossScales2025 = field(default_factory=LossScales2025)
    """Fixed weights of the losses."""
    free_nats: float = 1.0
    """KL below which a step is not trained on, per element (source: danijar/dreamerv3@e3f0224)."""
    horizon: int = 15
    """Imagined steps (source: danijar/dreamerv3@e3f0224)."""
    gamma: float = 1 - 1 / 333
    """Discount per step (source: danijar/dreamerv3@e3f0224)."""
    discounted_cont: bool = True
    """The continuation head predicts gamma (1 - is_terminal) and so discounts imagined returns;
    else it predicts 1 - is_terminal, and gamma comes on top (source: danijar/dreamerv3@e3f0224)."""
    gae_lambda: float = 0.95
    """Lambda of the lambda-returns (source: danijar/dreamerv3@e3f0224)."""
    entropy_scale: float = 3e-4
    """Weight of the policy's entropy (source: danijar/dreamerv3@e3f0224)."""
    actor_unimix: float = 0.01
    """Share of a uniform distribution in a discrete policy, as in the code's one-hot policy; its
    categorical one, which it uses by default, has none (source: danijar/dreamerv3@e3f0224)."""
    actor_min_std: float = 0.1
    """Least standard deviation of a continuous policy (source: danijar/dreamerv3@e3f0224)."""
    actor_max_std: float = 1.0
    """Largest standard deviation of a continuous policy (source: danijar/dreamerv3@e3f0224)."""
    return_low: float = 0.05
    """Lower percentile of the return range, as a fraction (source: danijar/dreamerv3@e3f0224)."""
    return_high: float = 0.95
    """Upper percentile of the return range, as a fraction (source: danijar/dreamerv3@e3f0224)."""
    return_rate: float = 0.01
    """Weight of the newest percentiles in their moving averages
    (source: danijar/dreamerv3@e3f0224)."""
    return_min_scale: float = 1.0
    """Least scale that advantages are divided by (source: danijar/dreamerv3@e3f0224)."""
    slow_critic_fraction: float = 0.02
    """Step of the slow critic towards the critic, per update
    (source: danijar/dreamerv3@e3f0224)."""
    lr: float = 4e-5
    """Learning rate of all parts (source: danijar/dreamerv3@e3f0224)."""
    warmup: int = 1000
    """Updates over which the learning rate rises from 0 (source: danijar/dreamerv3@e3f0224)."""
    clip: float = 0.3
    """Largest gradient norm of a tensor, in units of its own norm
    (source: danijar/dreamerv3@e3f0224)."""


class Size2025(NamedTuple):
    """One named size: layer widths of all networks (source: danijar/dreamerv3@e3f0224)."""

    deter: int
    units: int
    classes: int

    def defaults(self) -> dict[str, Any]:
        """The config values this size implies; depth equals the number of classes."""
        net = {"depth": self.classes, "units": self.units}
        return {
            "rssm": {"deter": self.deter, "units": self.units, "classes": self.classes},
            "encoder": net,
            "decoder": dict(net),
            "heads": {"units": self.units},
        }


SIZES_2025 = {
    "1m": Size2025(512, 64, 4),
    "12m": Size2025(2048, 256, 16),
    "25m": Size2025(3072, 384, 24),
    "50m": Size2025(4096, 512, 32),
    "100m": Size2025(6144, 768, 48),
    "200m": Size2025(8192, 1024, 64),
    "400m": Size2025(12288, 1536, 96),
}
