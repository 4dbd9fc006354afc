"""Settings of DrQ-v2 (arXiv:2107.09645; facebookresearch/drqv2@c0c650b) and its named sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from reverie.ranges import (
    Batch,
    CountOrNone,
    Depth,
    Epsilon,
    Horizon,
    Layers,
    LearningRate,
    Share,
    Weight,
    Width,
)
from reverie.types import STRICT


@dataclass(frozen=True, kw_only=True, slots=True)
class DrQV2Config:
    """Settings of DrQ-v2; the defaults are those of its medium DMC tasks."""

    __pydantic_config__: ClassVar[Any] = STRICT
    SOURCE: ClassVar[str] = "facebookresearch/drqv2@c0c650b"

    name: str = "drqv2"
    """Name in the registry (ours)."""
    batch_size: Batch | None = None
    """Transitions per update; null takes `learner.batch_size` (ours)."""
    size: str = "medium"
    """Group of tasks: `easy`, `medium` or `hard` as published, which differ in exploration, or
    `tiny`, which is ours and trains on two CPU cores in minutes."""
    stack: Layers = 3
    """Frames the agent sees at once, the newest included."""
    channels: Depth = 32
    """Channels of every convolution."""
    features: Width = 50
    """Width of the bottleneck after the convolutions."""
    hidden: Width = 1024
    """Width of the hidden layers of actor and critics."""
    num_steps: Horizon = 3
    """Rewards summed up before the critic's value takes over; 1 for the walker tasks."""
    gamma: Share = 0.99
    """Discount per step."""
    lr: LearningRate = 1e-4
    """Learning rate of encoder, actor and critic."""
    adam_eps: Epsilon = 1e-8
    """Adam's epsilon."""
    target_fraction: Share = 0.01
    """Step of the target critic towards the critic, per update."""
    noise_start: Weight = 1.0
    """Standard deviation of the exploration noise at the start."""
    noise_end: Weight = 0.1
    """Standard deviation of the exploration noise in the end."""
    noise_steps: CountOrNone = 500_000
    """Env steps in which it falls linearly from the one to the other."""
    noise_clip: Weight = 0.3
    """Largest noise on actions in updates; acting does not clip it."""

    def noise_std(self, env_steps: int) -> float:
        """Standard deviation of the noise after so many env steps, falling linearly."""
        mix = min(env_steps / max(self.noise_steps, 1), 1.0)
        return (1 - mix) * self.noise_start + mix * self.noise_end


SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "channels": 8,
        "features": 32,
        "hidden": 128,
        "lr": 1e-3,
        "noise_steps": 4_000,
    },
    "easy": {"noise_steps": 100_000},
    "medium": {"noise_steps": 500_000},
    "hard": {"noise_steps": 2_000_000, "lr": 8e-5, "features": 100},
}
"""The settings a size implies. The published hard tasks are those of the humanoid."""
