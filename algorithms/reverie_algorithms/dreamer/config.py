"""Settings that Dreamers share; a paper adds its own, and its own defaults.

`SOURCE` says where a class's defaults come from; a field that says otherwise comes from there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from reverie.types import STRICT
from reverie_algorithms.dreamer.elu_images import EluObsConfig
from reverie_algorithms.dreamer.elu_nets import EluHeadConfig
from reverie_algorithms.dreamer.elu_rssm import EluRSSMConfig, KLConfig
from reverie_algorithms.dreamer.harmony import HarmonyConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class DreamerConfig:
    """Settings of every Dreamer."""

    __pydantic_config__: ClassVar[Any] = STRICT

    batch_size: int | None = None
    """Windows per update; null takes `learner.batch_size` (ours)."""
    batch_length: int | None = None
    """Trained rows per window; null takes `learner.batch_length` (ours)."""
    harmony: HarmonyConfig = field(default_factory=HarmonyConfig)
    """How losses are balanced."""
    horizon: int = 15
    """Imagined steps."""
    gae_lambda: float = 0.95
    """Lambda of the lambda-returns."""
    actor_min_std: float = 0.1
    """Least standard deviation of a continuous policy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class V2Config(DreamerConfig):
    """Settings of DreamerV2 and of what is built on it."""

    horizon: int = 15
    """Imagined steps, at least 2."""
    actor_min_std: float = 0.1
    """Least standard deviation of a continuous policy before its cut."""
    rssm: EluRSSMConfig = field(default_factory=EluRSSMConfig)
    """Latent state."""
    encoder: EluObsConfig = field(default_factory=EluObsConfig)
    """Networks that read observations."""
    decoder: EluObsConfig = field(default_factory=EluObsConfig)
    """Networks that rebuild observations."""
    heads: EluHeadConfig = field(default_factory=EluHeadConfig)
    """Reward, discount, actor and critic."""
    kl: KLConfig = field(default_factory=KLConfig)
    """How prior and posterior are drawn towards each other."""
    discount_head: bool = False
    """Predict where episodes end, for tasks that terminate; without it every imagined step counts
    `gamma`."""
    gamma: float = 0.99
    """Discount per step."""
    entropy_scale: float = 1e-4
    """Weight of the policy's entropy; 2e-3 on RLBench."""
    target_period: int = 100
    """Updates between two copies of the critic."""
    world_model_lr: float = 3e-4
    """Learning rate of the world model; 1e-4 on RLBench."""
    actor_lr: float = 8e-5
    """Learning rate of the actor."""
    critic_lr: float = 8e-5
    """Learning rate of the critic; 2e-4 on RLBench."""
    adam_eps: float = 1e-5
    """Adam's epsilon, of all three optimizers."""
    weight_decay: float = 1e-6
    """L2 penalty inside Adam, of all three optimizers."""
    clip: float = 100.0
    """Largest gradient norm, of each optimizer."""

    def __post_init__(self) -> None:
        if self.horizon < 2:
            raise ValueError(f"horizon: expected at least 2 imagined steps, got {self.horizon}")
        if self.target_period < 1:
            raise ValueError(f"target_period: expected at least 1 update, got {self.target_period}")


@dataclass(frozen=True, kw_only=True, slots=True)
class V3Config(DreamerConfig):
    """Settings of both dialects of DreamerV3."""

    name: str = "dreamerv3"
    """Name in the registry (ours)."""
    free_nats: float = 1.0
    """KL below which a step is not trained on, per element."""
    gamma: float = 1 - 1 / 333
    """Discount per step."""
    entropy_scale: float = 3e-4
    """Weight of the policy's entropy."""
    actor_unimix: float = 0.01
    """Share of a uniform distribution in a discrete policy."""
    actor_max_std: float = 1.0
    """Largest standard deviation of a continuous policy."""
    return_low: float = 0.05
    """Lower percentile of the return range, as a fraction."""
    return_high: float = 0.95
    """Upper percentile of the return range, as a fraction."""
    return_rate: float = 0.01
    """Weight of the newest percentiles in their moving averages."""
    return_min_scale: float = 1.0
    """Least scale that advantages are divided by."""
    slow_critic_fraction: float = 0.02
    """Step of the slow critic towards the critic, per update."""
