"""Video files, decoded by PyAV in one thread: one clip per file."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reverie.data.codecs import EXTRA
from reverie.data.index import Column
from reverie.data.options import ImportOptions
from reverie.data.sources.source import BrokenSource, Facts, FileSource, Recording, centre
from reverie.extras import load_extra
from reverie.types import Array

SUFFIXES = (".mp4", ".webm", ".avi", ".mkv", ".mov", ".m4v")
MISSING_SHARE, MISSING_FRAMES = 0.02, 2
"""How many of the frames that a header names may be missing: headers count some that are never
shown. A file that was cut off lacks more."""
SOON_S = 1e-3
"""Seconds by which a frame may come late: timestamps are rounded."""

Scale = Callable[[Any], Array]


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoSource(FileSource):
    """One file."""

    frames: int | None = None
    """That a list gives it; of more frames the first ones are meant."""

    def frame_size(self) -> tuple[int, int]:
        with opened(self.path) as container:
            frame = next(iter(container.decode(video=0)), None)
            if frame is None:
                raise BrokenSource("no frame in it")
            sides = frame.height, frame.width
            return sides[::-1] if _quarters(frame) % 2 else sides

    def columns(self, options: ImportOptions) -> Sequence[Column]:
        return ()

    def read(self, options: ImportOptions) -> Recording:
        held = ExitStack()  # let go by `_frames`, which decodes
        container = held.enter_context(opened(self.path))
        rate = container.streams.video[0].average_rate
        native = float(rate) / options.stride if rate else None
        frames = self._frames(held, container, options)
        return Recording(frames, facts=Facts(fps=options.fps or native))

    def _frames(self, held: ExitStack, container: Any, options: ImportOptions) -> Iterator[Array]:
        count = 0
        with held:
            stream = container.streams.video[0]
            scale = scaler(options)
            decoded = _counted(container.decode(stream), _promised(container, stream))
            shown = decoded if options.fps is None else _resampled(decoded, options)
            for position, frame in enumerate(shown):
                if count == self.frames:
                    return
                if options.fps is not None or options.keeps(position, position):
                    yield scale(frame)
                    count += 1
        if self.frames is not None and count < self.frames:
            raise BrokenSource(f"the list gives it {self.frames} frames, got {count}")


@contextmanager
def opened(path: str) -> Generator[Any]:
    """The PyAV container of a file that has a video stream; decoding errors are told as broken."""
    av: Any = load_extra("av", "reading video files", EXTRA)
    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise BrokenSource("no video stream in it")
            context = container.streams.video[0].codec_context
            context.thread_count, context.thread_type = 1, "SLICE"
            yield container
    except av.FFmpegError as error:
        raise BrokenSource(f"cannot be decoded: {error.strerror}") from error


def scaler(options: ImportOptions) -> Scale:
    """A function from a PyAV frame to uint8 [H, W, 3]: scaled by area, then cropped and turned
    upright.
    """
    reformatter: Any = load_extra("av.video.reformatter", "reading video", EXTRA)
    reformat: Any = reformatter.VideoReformatter().reformat  # keeps its tables between frames

    size, quarters = options.size, None

    def scale(frame: Any) -> Array:
        nonlocal quarters
        if quarters is None:
            quarters = _quarters(frame)
        width, height = _scaled_size(frame.width, frame.height, options)
        small = reformat(frame, width, height, "rgb24", interpolation="AREA").to_ndarray()
        if size is not None and width != height:
            small = centre(small, size)
        return np.ascontiguousarray(np.rot90(small, quarters)) if quarters else small

    return scale


def _scaled_size(width: int, height: int, options: ImportOptions) -> tuple[int, int]:
    size = options.size
    if size is None:
        return width, height
    if options.crop == "stretch":
        return size, size
    shorter = min(width, height)
    return max(size, round(width * size / shorter)), max(size, round(height * size / shorter))


def _quarters(frame: Any) -> int:
    """Quarter turns to the left by which a film stands upright, as a player shows it: telephones
    film sideways and note how they were held.
    """
    return round(getattr(frame, "rotation", 0) / 90) % 4


def _promised(container: Any, stream: Any) -> int:
    """Frames that the header of the file names or that fill its duration; 0 where neither is known.

    The duration of a file with sound may be that of its sound.
    """
    if stream.frames or container.streams.audio or not container.duration:
        return stream.frames
    rate = stream.average_rate or 0
    return int(container.duration * rate / 1_000_000)


def _counted(frames: Iterator[Any], promised: int) -> Iterator[Any]:
    """The frames; broken if there are fewer than the header of the file names (0: it does not)."""
    count = 0
    for frame in frames:
        count += 1
        yield frame
    if count < promised - max(MISSING_FRAMES, MISSING_SHARE * promised):
        raise BrokenSource(f"cut off: expected {promised} frames by its header, got {count}")


def _resampled(frames: Iterator[Any], options: ImportOptions) -> Iterator[Any]:
    """What is seen at 0, 1/fps, 2/fps, ... s after the first frame that is not skipped."""
    assert options.fps is not None
    begin, moment, shown = 0.0, 0, None
    for position, frame in enumerate(frames):
        if position < options.skip:
            continue
        if frame.time is None:
            raise BrokenSource("no timestamps for --fps; use --stride")
        if shown is None:
            begin, shown = frame.time, frame
        while begin + moment / options.fps + SOON_S < frame.time:
            yield shown
            moment += 1
        shown = frame
    if shown is not None and begin + moment / options.fps <= shown.time + SOON_S:
        yield shown


def find(paths: Sequence[Path], names: Sequence[str], root: Path) -> list[VideoSource]:
    """The files, in the order of their names."""
    return [
        VideoSource(name=name, path=str(path), label=_label(path, root))
        for name, path in zip(names, paths, strict=True)
    ]


def _label(path: Path, root: Path) -> str | None:
    """The folder it lies in, as data sets of actions have it."""
    return path.parent.name if path.parent != root and root.is_dir() else None
