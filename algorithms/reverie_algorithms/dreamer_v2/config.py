"""Settings of DreamerV2 as in thuml/HarmonyDream@0a22e33, wmlib-torch, and its named sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from reverie.types import STRICT
from reverie_algorithms.dreamer.elu_images import ObsNetV2Config
from reverie_algorithms.dreamer.elu_rssm import RSSMV2Config
from reverie_algorithms.dreamer.harmony import HarmonyConfig
from reverie_algorithms.dreamer_v2.world_model import HeadV2Config, KLConfig

RewardTransform = Literal["identity", "tanh"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LossScalesV2:
    """Fixed weights of the losses; those of harmonised groups do not apply."""

    __pydantic_config__: ClassVar[Any] = STRICT

    image: float = 1.0
    """Half the squared error, summed over pixels and image keys
    (source: thuml/HarmonyDream@0a22e33)."""
    vector: float = 1.0
    """Half the squared error, summed over entries (source: thuml/HarmonyDream@0a22e33)."""
    reward: float = 1.0
    """Half the squared error (source: thuml/HarmonyDream@0a22e33)."""
    discount: float = 1.0
    """Log-likelihood of the discount (source: thuml/HarmonyDream@0a22e33)."""
    kl: float = 1.0
    """Balanced KL; 0.1 on RLBench (source: thuml/HarmonyDream@0a22e33)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DreamerV2Config:
    """Settings of DreamerV2; the defaults are those of HarmonyDream's Meta-World runs."""

    __pydantic_config__: ClassVar[Any] = STRICT

    name: str = "dreamerv2"
    """Name in the registry."""
    size: str = "1024"
    """Width of the latent state's networks: `1024` (robotics) or `200` (DMC) as published, or
    `tiny`, which is ours and trains on two CPU cores in minutes
    (source: thuml/HarmonyDream@0a22e33)."""
    rssm: RSSMV2Config = field(default_factory=RSSMV2Config)
    """Latent state."""
    encoder: ObsNetV2Config = field(default_factory=ObsNetV2Config)
    """Networks that read observations."""
    decoder: ObsNetV2Config = field(default_factory=ObsNetV2Config)
    """Networks that rebuild observations."""
    heads: HeadV2Config = field(default_factory=HeadV2Config)
    """Reward, discount, actor and critic."""
    harmony: HarmonyConfig = field(default_factory=HarmonyConfig)
    """How losses are balanced."""
    loss_scales: LossScalesV2 = field(default_factory=LossScalesV2)
    """Fixed weights of the losses."""
    kl: KLConfig = field(default_factory=KLConfig)
    """How prior and posterior are drawn towards each other."""
    discount_head: bool = False
    """Predict where episodes end, for tasks that terminate; without it every imagined step counts
    `gamma` (source: thuml/HarmonyDream@0a22e33)."""
    reward_transform: RewardTransform = "identity"
    """What is done to rewards before they are learned; `tanh` on RLBench
    (source: thuml/HarmonyDream@0a22e33)."""
    prioritize_ends: bool = True
    """Give the last window of an episode as many extra slots as it has rows
    (source: thuml/HarmonyDream@0a22e33)."""
    horizon: int = 15
    """Imagined steps, at least 2 (source: thuml/HarmonyDream@0a22e33)."""
    gamma: float = 0.99
    """Discount per step (source: thuml/HarmonyDream@0a22e33)."""
    gae_lambda: float = 0.95
    """Lambda of the lambda-return (source: thuml/HarmonyDream@0a22e33)."""
    entropy_scale: float = 1e-4
    """Weight of the policy's entropy; 2e-3 on RLBench (source: thuml/HarmonyDream@0a22e33)."""
    actor_min_std: float = 0.1
    """Least standard deviation of a continuous policy before its cut
    (source: thuml/HarmonyDream@0a22e33)."""
    target_period: int = 100
    """Updates between two copies of the critic (source: thuml/HarmonyDream@0a22e33)."""
    world_model_lr: float = 3e-4
    """Learning rate of the world model; 1e-4 on RLBench (source: thuml/HarmonyDream@0a22e33)."""
    actor_lr: float = 8e-5
    """Learning rate of the actor (source: thuml/HarmonyDream@0a22e33)."""
    critic_lr: float = 8e-5
    """Learning rate of the critic; 2e-4 on RLBench (source: thuml/HarmonyDream@0a22e33)."""
    adam_eps: float = 1e-5
    """Adam's epsilon, of all three optimizers (source: thuml/HarmonyDream@0a22e33)."""
    weight_decay: float = 1e-6
    """L2 penalty inside Adam, of all three optimizers (source: thuml/HarmonyDream@0a22e33)."""
    clip: float = 100.0
    """Largest gradient norm, of each optimizer (source: thuml/HarmonyDream@0a22e33)."""

    def __post_init__(self) -> None:
        if self.horizon < 2:
            raise ValueError(f"horizon: wanted at least 2 imagined steps, got {self.horizon}")
        if self.target_period < 1:
            raise ValueError(f"target_period: wanted at least 1 update, got {self.target_period}")


class SizeV2(NamedTuple):
    """One named size: layer widths of all networks (source: thuml/HarmonyDream@0a22e33)."""

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


SIZES_V2 = {
    "tiny": SizeV2(128, 8, 2, 128, 16, 16),
    "200": SizeV2(200),
    "1024": SizeV2(1024),
}
"""`tiny` is ours: it trains on two CPU cores in minutes. The others are the published ones."""
