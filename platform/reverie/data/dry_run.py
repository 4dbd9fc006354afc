"""What an import would cost: a few sources are decoded, nothing is written."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reverie.data.codecs import CODECS, open_codec
from reverie.data.options import ImportOptions
from reverie.data.sources.source import BrokenSource, Source
from reverie.errors import ConfigError
from reverie.types import Array

SAMPLE = 20
"""Sources that are decoded, drawn at random, the same at every call."""
ENCODED = 500
"""Frames that are encoded with each codec, at the most."""
GIB = 1 << 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What the sample says of the whole."""

    sources: int
    sampled: int
    broken: Sequence[str]
    """Of the sample: each with its reason."""
    frames: int
    """That would be kept of all sources."""
    cpu_hours: float
    cores: int
    bytes_per_frame: dict[str, float]
    """By codec; without those that are not installed."""
    free_bytes: int
    """On the disk of the target."""

    def bytes_of(self, codec: str) -> float:
        """Of the data set."""
        return self.bytes_per_frame[codec] * self.frames


def estimate(sources: Sequence[Source], target: Path, options: ImportOptions) -> Estimate:
    """Decode `SAMPLE` sources and reckon from them.

    Raises:
        ConfigError: none of them can be read.
    """
    sample = random.Random(0).sample(list(sources), min(SAMPLE, len(sources)))
    broken: list[str] = []
    frames: list[Array] = []
    counted = 0
    begin = time.process_time()
    for source in sample:
        try:
            for frame in source.read(options).frames:
                counted += 1
                if counted % max(1, len(sample) // 4) == 0 and len(frames) < ENCODED:
                    frames.append(frame)
        except (BrokenSource, OSError) as error:
            broken.append(f"{source.name}: {error}")
    cpu_s = time.process_time() - begin
    if not frames:
        raise ConfigError(
            f"none of {len(sample)} sources drawn can be used: {'; '.join(broken[:3])}"
        )
    scale = len(sources) / len(sample)
    return Estimate(
        sources=len(sources),
        sampled=len(sample),
        broken=broken,
        frames=round(counted * scale),
        cpu_hours=cpu_s * scale / 3600,
        cores=os.cpu_count() or 1,
        bytes_per_frame=_bytes_per_frame(frames, options.codec),
        free_bytes=shutil.disk_usage(_existing(target)).free,
    )


def check_room(found: Estimate, target: Path, codec: str) -> None:
    """Raises ConfigError if the disk of the target is too small."""
    wanted = found.bytes_of(codec)
    if wanted > found.free_bytes:
        raise ConfigError(
            f"{target}: expected room for about {wanted / GIB:.1f} GiB with --codec {codec}, got"
            f" {found.free_bytes / GIB:.1f} GiB; free some, or choose another codec or size"
        )


def _bytes_per_frame(frames: Sequence[Array], wanted: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for name in CODECS:
        try:
            codec = open_codec(name)
        except ImportError:
            if name == wanted:
                raise
            continue
        found[name] = sum(len(bytes(codec.encode(frame))) for frame in frames) / len(frames)
    return found


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
