"""Moving backgrounds: frames of videos that a user has, or drawn ones.

A pool is read once per process and shared by its environments; every process draws the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from reverie.extras import load_extra
from reverie.types import Array
from reverie_envs import textures

SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm")
CLIP_LENGTH = 250
"""Frames of a drawn clip: the ten seconds of a Kinetics clip."""
REMEDY = "without env.videos moving backgrounds are generated"


@lru_cache(maxsize=4)
def drawn_pool(frames: int, size: int) -> Array:
    """Draw clips one after another, grey, uint8 [frames, size, size, 1]."""
    starts = range(0, frames, CLIP_LENGTH)
    clips = [
        textures.clip(number, min(CLIP_LENGTH, frames - start), size)
        for number, start in enumerate(starts)
    ]
    return np.concatenate(clips)[..., None]


@lru_cache(maxsize=4)
def video_pool(folder: str, frames: int, size: int, grey: bool) -> Array:
    """Read the first `frames` frames of the videos in a folder, taken in the order of their names.

    Images are stretched to squares as by thuml/HarmonyDream@0a22e33.

    Returns:
        uint8 [n, size, size, 1 or 3]; n is lower than `frames` where the videos have no more.

    Raises:
        ValueError: no such folder, no video in it, or one that cannot be read.
        ImportError: the package that reads videos is missing.
    """
    cv2 = load_extra("cv2", "env.videos", "dmc")
    pool: list[Array] = []
    for path in _files(folder):
        for frame in _frames(path, grey):
            small = cv2.resize(frame, (size, size), interpolation=cv2.INTER_LINEAR)
            pool.append(small.reshape(size, size, -1))
            if len(pool) == frames:
                return np.stack(pool)
    return np.stack(pool)


def fingerprint(folder: str) -> str:
    """Name the videos of a folder by their names and sizes. Raises: ValueError."""
    listing = "".join(f"{path.name} {path.stat().st_size}\n" for path in _files(folder))
    return hashlib.sha256(listing.encode()).hexdigest()[:8]


def _files(folder: str) -> list[Path]:
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise ValueError(
            f"env.videos: {root} is not a folder, expected one with mp4 files; {REMEDY}"
        )
    found = sorted(path for path in root.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise ValueError(f"env.videos: no {', '.join(SUFFIXES)} in {root}; {REMEDY}")
    return found


def _frames(path: Path, grey: bool) -> Iterator[Array]:
    av = _import_av()
    count = 0
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                count += 1
                yield frame.to_ndarray(format="gray" if grey else "rgb24")
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(
            f"env.videos: {path} cannot be read as a video after {count} frames"
            f" ({type(error).__name__}: {error}); remove or replace it"
        ) from error
    if not count:
        raise ValueError(f"env.videos: {path} has no frames; remove or replace it")


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError('env.videos needs PyAV: pip install "reverie[video]"') from error
    return av
