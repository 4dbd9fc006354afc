"""Settings of DreamerV3-2025 (danijar/dreamerv3@e3f0224) and its named sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from reverie.ranges import Clip, CountOrNone, LearningRate, Share, Weight
from reverie.types import STRICT
from reverie_algorithms.dreamer.config import V3Config
from reverie_algorithms.dreamer.harmony import HarmonyConfig, LossGroup
from reverie_algorithms.dreamer_v3_2025.images import ObsNetConfig
from reverie_algorithms.dreamer_v3_2025.nets import check_blocks
from reverie_algorithms.dreamer_v3_2025.rssm import RSSMConfig
from reverie_algorithms.dreamer_v3_2025.world_model import HeadConfig

GROUPS = {
    "image": LossGroup({"image": 1.0}),
    "reward": LossGroup({"reward": 1.0}),
    "kl": LossGroup({"dyn": 1 / 1.1, "rep": 0.1 / 1.1}),
}
"""Harmonised groups; `dyn` and `rep` keep their ratio. Our port: arXiv:2310.00344 used V3-2023."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LossScales:
    """Fixed weights of the losses; those of harmonised groups do not apply."""

    __pydantic_config__: ClassVar[Any] = STRICT
    SOURCE: ClassVar[str] = "danijar/dreamerv3@e3f0224"

    image: Weight = 1.0
    """Squared error, summed over pixels and image keys."""
    vector: Weight = 1.0
    """Squared error of symlog values, summed over entries."""
    reward: Weight = 1.0
    """Two-hot cross-entropy."""
    cont: Weight = 1.0
    """Continuation log-likelihood."""
    dyn: Weight = 1.0
    """KL that trains the prior."""
    rep: Weight = 0.1
    """KL that trains the posterior."""
    actor: Weight = 1.0
    """Policy gradient with entropy bonus."""
    critic: Weight = 1.0
    """Two-hot cross-entropy with imagined returns."""
    replay_critic: Weight = 0.3
    """The same with returns of real rewards; trains the world model too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DreamerV32025Config(V3Config):
    """Settings of DreamerV3-2025; the defaults are those of size `12m`."""

    SOURCE: ClassVar[str] = "danijar/dreamerv3@e3f0224"

    dialect: Literal["2025"] = "2025"
    """Published version of the algorithm (ours)."""
    size: str = "12m"
    """Network sizes, named by their parameters: `1m`, `12m`, `25m`, `50m`, `100m`, `200m`, `400m`;
    the code's own default is 200m."""
    rssm: RSSMConfig = field(default_factory=RSSMConfig)
    """Latent state."""
    encoder: ObsNetConfig = field(default_factory=ObsNetConfig)
    """Networks that read observations."""
    decoder: ObsNetConfig = field(default_factory=ObsNetConfig)
    """Networks that rebuild observations."""
    heads: HeadConfig = field(default_factory=HeadConfig)
    """Reward, continuation, actor and critic."""
    harmony: HarmonyConfig = field(default_factory=HarmonyConfig)
    """How losses are balanced. At this learning rate the sigmas of mode `paper` hardly move within
    100,000 env steps; `own_group` lets them."""
    loss_scales: LossScales = field(default_factory=LossScales)
    """Fixed weights of the losses."""
    discounted_cont: bool = True
    """The continuation head predicts gamma (1 - is_terminal) and so discounts imagined returns;
    else it predicts 1 - is_terminal, and gamma comes on top."""
    actor_unimix: Share = 0.01
    """Share of a uniform distribution in a discrete policy, as in the code's one-hot policy; its
    categorical one, which it uses by default, has none."""
    lr: LearningRate = 4e-5
    """Learning rate of all parts."""
    warmup: CountOrNone = 1000
    """Updates over which the learning rate rises from 0."""
    clip: Clip = 0.3
    """Largest gradient norm of a tensor, in units of its own norm."""

    def __post_init__(self) -> None:
        V3Config.__post_init__(self)
        check_blocks("rssm.deter", self.rssm.deter, self.rssm.blocks)


class Size(NamedTuple):
    """One named size: layer widths of all networks."""

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


SIZES = {
    "1m": Size(512, 64, 4),
    "12m": Size(2048, 256, 16),
    "25m": Size(3072, 384, 24),
    "50m": Size(4096, 512, 32),
    "100m": Size(6144, 768, 48),
    "200m": Size(8192, 1024, 64),
    "400m": Size(12288, 1536, 96),
}
"""As in danijar/dreamerv3@e3f0224."""
