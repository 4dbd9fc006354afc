"""Settings of DrQ-v2 (arXiv:2107.09645; facebookresearch/drqv2@c0c650b) and its named sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from reverie.types import STRICT


@dataclass(frozen=True, kw_only=True, slots=True)
class DrQV2Config:
    """Settings of DrQ-v2; the defaults are those of its medium DMC tasks."""

    __pydantic_config__: ClassVar[Any] = STRICT

    name: str = "drqv2"
    """Name in the registry."""
    size: str = "medium"
    """Group of tasks: `easy`, `medium` or `hard` as published, which differ in exploration, or
    `tiny`, which is ours and trains on two CPU cores in minutes
    (source: facebookresearch/drqv2@c0c650b)."""
    stack: int = 3
    """Frames the agent sees at once, the newest included
    (source: facebookresearch/drqv2@c0c650b)."""
    channels: int = 32
    """Channels of every convolution (source: facebookresearch/drqv2@c0c650b)."""
    features: int = 50
    """Width of the bottleneck behind the convolutions (source: facebookresearch/drqv2@c0c650b)."""
    hidden: int = 1024
    """Width of the hidden layers of actor and critics (source: facebookresearch/drqv2@c0c650b)."""
    num_steps: int = 3
    """Rewards summed up before the critic's value takes over; 1 for the walker tasks
    (source: facebookresearch/drqv2@c0c650b)."""
    gamma: float = 0.99
    """Discount per step (source: facebookresearch/drqv2@c0c650b)."""
    lr: float = 1e-4
    """Learning rate of encoder, actor and critic (source: facebookresearch/drqv2@c0c650b)."""
    adam_eps: float = 1e-8
    """Adam's epsilon (source: facebookresearch/drqv2@c0c650b)."""
    target_fraction: float = 0.01
    """Step of the target critic towards the critic, per update
    (source: facebookresearch/drqv2@c0c650b)."""
    noise_start: float = 1.0
    """Standard deviation of the exploration noise at the start
    (source: facebookresearch/drqv2@c0c650b)."""
    noise_end: float = 0.1
    """Standard deviation of the exploration noise in the end
    (source: facebookresearch/drqv2@c0c650b)."""
    noise_steps: int = 500_000
    """Env steps in which it falls linearly from the one to the other
    (source: facebookresearch/drqv2@c0c650b)."""
    noise_clip: float = 0.3
    """Largest noise on actions in updates; acting does not clip it
    (source: facebookresearch/drqv2@c0c650b)."""


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
