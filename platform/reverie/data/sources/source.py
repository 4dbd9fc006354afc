"""What every format offers: sources, each of which becomes one clip."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from reverie.data.codecs import EXTRA
from reverie.data.index import Column
from reverie.data.options import ImportOptions
from reverie.extras import load_extra
from reverie.types import Array, Rows


class BrokenSource(Exception):
    """A source that cannot be read; the message says why."""


class Facts(NamedTuple):
    """What is known of a clip as a whole."""

    fps: float | None = None
    """Frames per second of those that are kept."""
    task: str | None = None
    success: bool | None = None


class Recording(NamedTuple):
    """One source, opened."""

    frames: Iterator[Array]
    """Those that are kept, uint8 [H, W, 3] in their final size."""
    columns: Rows = {}
    """float32 [T] or [T, width] by name, one row per kept frame."""
    facts: Facts = Facts()


class Stat(NamedTuple):
    """By which a source that changed is told."""

    num_bytes: int
    time_ns: int


class Source(Protocol):
    """What becomes one clip. Travels to other processes."""

    @property
    def name(self) -> str:
        """Unique among the sources of an import."""
        ...

    @property
    def label(self) -> str | None: ...

    def stat(self) -> Stat:
        """Size and time of its files. Raises: OSError."""
        ...

    def frame_size(self) -> tuple[int, int]:
        """Height and width of its frames as they are. Raises: BrokenSource, OSError."""
        ...

    def columns(self, options: ImportOptions) -> Sequence[Column]:
        """What comes with each frame. Raises: BrokenSource, OSError."""
        ...

    def read(self, options: ImportOptions) -> Recording:
        """Open it; frames are decoded as they are taken. Raises: BrokenSource, OSError."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSource:
    """The part that sources of one file share."""

    name: str
    path: str
    label: str | None = None

    def stat(self) -> Stat:
        return file_stat(Path(self.path))


def file_stat(*paths: Path) -> Stat:
    """Size and time of files, as one."""
    stats = [path.stat() for path in paths]
    return Stat(sum(one.st_size for one in stats), max(one.st_mtime_ns for one in stats))


def fit(frame: Array, options: ImportOptions) -> Array:
    """Bring a frame uint8 [H, W, 3] to the size that is asked for: cropped, then scaled by area."""
    size = options.size
    if size is None or frame.shape[:2] == (size, size):
        return frame
    if options.crop == "centre":
        frame = centre(frame, min(frame.shape[:2]))
    cv2: Any = load_extra("cv2", "scaling frames", EXTRA)
    return cv2.resize(np.ascontiguousarray(frame), (size, size), interpolation=cv2.INTER_AREA)


def centre(frame: Array, side: int) -> Array:
    """The middle square of a frame [H, W, 3]."""
    top, left = ((length - side) // 2 for length in frame.shape[:2])
    return frame[top : top + side, left : left + side]


def kept_by_time(times: Sequence[float], fps: float) -> list[int]:
    """Which of the frames shown from `times` on (in s, rising) are seen at 0, 1/fps, 2/fps, ...

    Time counts from the first one. At each moment the frame is seen that was shown last; a frame
    that comes within a millisecond counts as there.
    """
    moments = np.arange(0, times[-1] - times[0] + 1e-3, 1 / fps) + times[0]
    return (np.searchsorted(np.asarray(times), moments + 1e-3, side="right") - 1).tolist()


def unique_names(paths: Sequence[Path], root: Path) -> list[str]:
    """Paths below `root` without their suffixes, where that leaves them apart."""
    plain = [path.relative_to(root).with_suffix("").as_posix() for path in paths]
    counts: Mapping[str, int] = {name: plain.count(name) for name in _twice(plain)}
    return [
        path.relative_to(root).as_posix() if name in counts else name
        for path, name in zip(paths, plain, strict=True)
    ]


def _twice(names: Sequence[str]) -> set[str]:
    seen, twice = set[str](), set[str]()
    for name in names:
        (twice if name in seen else seen).add(name)
    return twice


def natural(text: str) -> list[Any]:
    """Sort key by which `clip2` comes before `clip10`."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]
