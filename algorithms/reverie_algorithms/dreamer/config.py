"""Settings that Dreamers share; a paper adds its own, and its own defaults.

`SOURCE` says where a class's defaults come from; a field that says otherwise comes from there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from annotated_types import Interval

from reverie.ranges import (
    Batch,
    Clip,
    Count,
    Deviation,
    Epsilon,
    Horizon,
    LearningRate,
    Share,
    Weight,
)
from reverie.types import STRICT
from reverie_algorithms.dreamer.elu_images import EluObsConfig
from reverie_algorithms.dreamer.elu_nets import EluHeadConfig
from reverie_algorithms.dreamer.elu_rssm import EluRSSMConfig, KLConfig
from reverie_algorithms.dreamer.harmony import HarmonyConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class DreamerConfig:
    """Settings of every Dreamer."""

    __pydantic_config__: ClassVar[Any] = STRICT

    batch_size: Batch | None = None
    """Windows per update; null takes `learner.batch_size` (ours)."""
    batch_length: Batch | None = None
    """Trained rows per window; null takes `learner.batch_length` (ours)."""
    harmony: HarmonyConfig = field(default_factory=HarmonyConfig)
    """How losses are balanced."""
    horizon: Horizon = 15
    """Imagined steps."""
    gae_lambda: Share = 0.95
    """Lambda of the lambda-returns."""
    actor_min_std: Deviation = 0.1
    """Least standard deviation of a continuous policy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class V2Config(DreamerConfig):
    """Settings of DreamerV2 and of what is built on it."""

    horizon: Annotated[int, Interval(ge=2, le=1000)] = 15
    """Imagined steps, at least 2."""
    actor_min_std: Deviation = 0.1
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
    gamma: Share = 0.99
    """Discount per step."""
    entropy_scale: Weight = 1e-4
    """Weight of the policy's entropy; 2e-3 on RLBench."""
    target_period: Count = 100
    """Updates between two copies of the critic."""
    world_model_lr: LearningRate = 3e-4
    """Learning rate of the world model; 1e-4 on RLBench."""
    actor_lr: LearningRate = 8e-5
    """Learning rate of the actor."""
    critic_lr: LearningRate = 8e-5
    """Learning rate of the critic; 2e-4 on RLBench."""
    adam_eps: Epsilon = 1e-5
    """Adam's epsilon, of all three optimizers."""
    weight_decay: Weight = 1e-6
    """L2 penalty inside Adam, of all three optimizers."""
    clip: Clip = 100.0
    """Largest gradient norm, of each optimizer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class V3Config(DreamerConfig):
    """Settings of both dialects of DreamerV3."""

    name: str = "dreamerv3"
    """Name in the registry (ours)."""
    free_nats: Weight = 1.0
    """KL below which a step is not trained on, per element."""
    gamma: Share = 1 - 1 / 333
    """Discount per step."""
    entropy_scale: Weight = 3e-4
    """Weight of the policy's entropy."""
    actor_unimix: Share = 0.01
    """Share of a uniform distribution in a discrete policy."""
    actor_max_std: Deviation = 1.0
    """Largest standard deviation of a continuous policy."""
    return_low: Share = 0.05
    """Lower percentile of the return range, as a fraction."""
    return_high: Share = 0.95
    """Upper percentile of the return range, as a fraction."""
    return_rate: Share = 0.01
    """Weight of the newest percentiles in their moving averages."""
    return_min_scale: Deviation = 1.0
    """Least scale that advantages are divided by."""
    slow_critic_fraction: Share = 0.02
    """Step of the slow critic towards the critic, per update."""

    def __post_init__(self) -> None:
        if not self.return_low < self.return_high:
            raise ValueError(
                f"return_low: expected less than return_high, {self.return_high}, "
                f"got {self.return_low}"
            )
        if self.actor_min_std > self.actor_max_std:
            raise ValueError(
                f"actor_min_std: expected at most actor_max_std, {self.actor_max_std}, "
                f"got {self.actor_min_std}"
            )
