"""Settings of video pre-training as in thuml/ContextWM@3a8bca8, and its named sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from reverie.ranges import Batch, Clip, Epsilon, LearningRate, Weight
from reverie.types import STRICT
from reverie_algorithms.dreamer.elu_images import EluObsConfig
from reverie_algorithms.dreamer.elu_rssm import EluRSSMConfig, KLConfig
from reverie_algorithms.dreamer.video.context import ContextConfig

ACTION_WIDTH = 50
"""Zeros that stand where an agent's actions will."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LossScales:
    """Fixed weights of the losses."""

    __pydantic_config__: ClassVar[Any] = STRICT
    SOURCE: ClassVar[str] = "thuml/ContextWM@3a8bca8"

    image: Weight = 1.0
    """Half the squared error, summed over pixels."""
    kl: Weight = 1.0
    """Balanced KL; 0.1 in the original APV (arXiv:2203.13880)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IPVConfig:
    """Settings of pre-training on video without actions."""

    __pydantic_config__: ClassVar[Any] = STRICT
    SOURCE: ClassVar[str] = "thuml/ContextWM@3a8bca8"

    name: str = "ipv"
    """Name in the registry (ours)."""
    size: str = "1024"
    """Width of the latent state's networks: `1024` as published, or `tiny`, which is ours and
    trains on two CPU cores in minutes."""
    batch_size: Batch | None = None
    """Windows per update; null takes `learner.batch_size` (ours)."""
    batch_length: Batch | None = None
    """Frames per window; null takes `learner.batch_length` (ours)."""
    rssm: EluRSSMConfig = field(default_factory=EluRSSMConfig)
    """Latent state."""
    encoder: EluObsConfig = field(default_factory=EluObsConfig)
    """Networks that read frames."""
    decoder: EluObsConfig = field(default_factory=EluObsConfig)
    """Networks that rebuild frames."""
    context: ContextConfig = field(default_factory=ContextConfig)
    """What else the decoder sees of a clip."""
    kl: KLConfig = field(default_factory=KLConfig)
    """How prior and posterior are drawn towards each other."""
    loss_scales: LossScales = field(default_factory=LossScales)
    """Fixed weights of the losses."""
    lr: LearningRate = 3e-4
    """Learning rate."""
    adam_eps: Epsilon = 1e-5
    """Adam's epsilon."""
    weight_decay: Weight = 1e-6
    """L2 penalty inside Adam."""
    shrink: Weight = 0.0
    """Share of every weight that is taken off before each step, whatever the learning rate; the
    original APV has 1e-6 in place of the L2 penalty (arXiv:2203.13880)."""
    clip: Clip = 100.0
    """Largest gradient norm."""


class Size(NamedTuple):
    """One named size: layer widths of all networks."""

    width: int
    depth: int = 48
    stoch: int = 32
    classes: int = 32

    def defaults(self) -> dict[str, Any]:
        """The config values this size implies."""
        latent = {"stoch": self.stoch, "classes": self.classes, "action_width": ACTION_WIDTH}
        images = {"kind": "resnet", "depth": self.depth}
        return {
            "rssm": {"deter": self.width, "hidden": self.width, **latent},
            "encoder": images,
            "decoder": images,
        }


SIZES = {"tiny": Size(128, 8, 16, 16), "1024": Size(1024)}
"""`tiny` is ours: it trains on two CPU cores in minutes. The other is the published one."""
