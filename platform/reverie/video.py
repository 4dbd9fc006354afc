"""Videos of episodes and of imagined futures; pictures of any kind made visible."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Concatenate, ParamSpec

import numpy as np

from reverie.extras import load_extra
from reverie.names import identifier
from reverie.types import Array

P = ParamSpec("P")
logger = logging.getLogger(__name__)

IMAGINED_FPS = 8
"""Frames per second of imagined beside real futures: slow enough to compare them."""
MIN_SIDE = 256
"""Pixels; smaller frames are enlarged by a whole factor, so that one can see something."""
LINE = 128
"""Grey between two cameras."""
EXTRA = "video"
CRF = "18"
"""Constant quality of H.264; 18 is hard to tell from the original."""


def write_video(path: Path, frames: Array, fps: float) -> Path:
    """Write frames uint8 [T, H, W, 3], shown at `fps` per second, as H.264 (yuv420p) in an mp4.

    Odd sizes are padded to even ones by repeating the last row or column. Without PyAV the video
    becomes a GIF beside `path`, drawn by pillow.

    Returns:
        The path that was written; its suffix is .mp4 or .gif.

    Raises:
        ValueError: frames of another shape or type, or none.
        ImportError: neither PyAV nor pillow is installed.
    """
    _check_frames(frames)
    if not fps > 0:
        raise ValueError(f"{path}: expected a positive fps, got {fps}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        av = importlib.import_module("av")
    except ImportError:
        logger.info('%s becomes a GIF; for mp4: pip install "reverie[video]"', path)
        return _write_whole(path.with_suffix(".gif"), _write_gif, frames, fps)
    return _write_whole(path.with_suffix(".mp4"), _write_mp4, frames, fps, av)


def check_can_write(suffix: str) -> None:
    """Raise an ImportError that names the extra if files of that kind cannot be written."""
    if suffix != ".mp4" or importlib.util.find_spec("av") is None:
        _pillow()


@cache
def can_film() -> bool:
    """Whether videos can be written here; the log says once why not."""
    try:
        check_can_write(".mp4")
    except ImportError as error:
        logger.warning("no videos: %s", error)
        return False
    return True


def write_run_video(run: Path, name: str, env_steps: int, frames: Array, fps: float) -> Path:
    """Write the video `kind/key` of a run as `<run>/videos/<kind>_<key>-<env_steps>.mp4`, the key
    as an identifier; returns the path.
    """
    kind, slash, key = name.partition("/")
    stem = identifier(kind) + (f"_{identifier(key)}" if slash else "")
    path = run / "videos" / f"{stem}-{env_steps:08d}.mp4"
    return write_video(path, frames, fps)


def side_by_side(pictures: Mapping[str, Array]) -> Array:
    """Put films [T, H, W, C] of several cameras side by side: uint8 [T, H, W', 3].

    A grey line stands between two of them; smaller ones are enlarged by a whole factor. Depth
    (uint16, float32) runs from black, the least finite value of its film, to white, the largest.
    Of two channels, or more than four, the last is shown.
    """
    films = [visible(film) for film in pictures.values()]
    tallest = max(film.shape[1] for film in films)
    grown = [enlarged(film, tallest // film.shape[1]) for film in films]
    line = np.full((len(films[0]), tallest, max(1, tallest // 32), 3), LINE, np.uint8)
    parts = [part for film in grown for part in (line, _padded(film, tallest))]
    return np.concatenate(parts[1:], axis=2)


def visible(film: Array) -> Array:
    """Turn one film [T, H, W, C] of any type into uint8 [T, H, W, 3] that a person can see."""
    if film.ndim == 3:
        film = film[..., None]
    channels = film.shape[-1]
    if film.dtype == np.uint8 and channels in (3, 4):
        return film[..., :3]
    film = film[..., -1:]
    if film.dtype != np.uint8:
        film = _stretched(film)
    return film.repeat(3, axis=-1)


def is_blank(film: Array) -> bool:
    """Whether every frame is of one colour: nothing was drawn."""
    return bool((film == film[:1, :1, :1]).all())


def enlarged(film: Array, factor: int) -> Array:
    """Repeat each pixel of a film [T, H, W, C] `factor` times along height and width."""
    return film.repeat(factor, axis=1).repeat(factor, axis=2)


def shrunk(frame: Array, side: int) -> Array:
    """Average whole blocks of uint8 [H, W, C] until neither side is longer than `side`."""
    factor = -(-max(frame.shape[:2]) // side)
    return frame if factor == 1 else np.asarray(_pillow().fromarray(frame).reduce(factor))


def with_pauses(films: Sequence[Array], count: int) -> Array:
    """Put films [T, H, W, 3] one after the other; the last frame of each stays for `count` more."""
    held = [frames for film in films for frames in (film, film[-1:].repeat(count, axis=0))]
    return np.concatenate(held)


def watchable_fps(count: int) -> float:
    """Frames per second for `count` frames: 30, or fewer (at least 4) so that they last 4 s."""
    return min(30.0, max(4.0, count / 4))


def filmstrip(frames: Array, count: int) -> Array:
    """Put up to `count` evenly spaced frames of uint8 [T, H, W, 3] side by side: [H, n * W, 3].

    The first and the last frame are always among them, if `count` is 2 or more.
    """
    _check_frames(frames)
    return np.concatenate(list(frames[spread(len(frames), count)]), axis=1)


def spread(length: int, count: int) -> Array:
    """Choose up to `count` evenly spaced indices of `length` frames: the first, ..., the last."""
    return np.linspace(0, length - 1, min(count, length)).round().astype(int)


def write_picture(path: Path, picture: Array) -> Path:
    """Write uint8 [H, W, 3] as a PNG; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return _write_whole(path, _pillow().fromarray(picture).save)


def _pillow() -> ModuleType:
    return load_extra("PIL.Image", "writing videos and pictures", EXTRA)


def _padded(film: Array, height: int) -> Array:
    below = height - film.shape[1]
    return np.pad(film, ((0, 0), (0, below), (0, 0), (0, 0))) if below else film


def _stretched(film: Array) -> Array:
    """Stretch finite values over 0 to 255; what is not finite becomes white."""
    finite = np.isfinite(film)
    low, high = (film[finite].min(), film[finite].max()) if finite.any() else (0, 0)
    span = max(float(high) - float(low), 1e-12)
    share = (np.where(finite, film, high).astype(np.float64) - float(low)) / span
    return np.round(255 * share).astype(np.uint8)


def _check_frames(frames: Array) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
        raise ValueError(
            f"frames: expected uint8 [T, H, W, 3] with T >= 1, got {frames.dtype} {frames.shape}"
        )


def _write_whole(
    path: Path, write: Callable[Concatenate[Path, P], None], *args: P.args, **kwargs: P.kwargs
) -> Path:
    """Write to a temporary file first: what stands at `path` is always playable."""
    tmp = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        write(tmp, *args, **kwargs)
        os.replace(tmp, path)
    finally:
        tmp.unlink(missing_ok=True)
    return path


def _write_mp4(path: Path, frames: Array, fps: float, av: ModuleType) -> None:
    with av.open(str(path), mode="w") as container:
        rate = Fraction(fps).limit_denominator(1000)
        stream = container.add_stream("libx264", rate=rate, options={"crf": CRF})
        stream.height, stream.width = next(_shown(frames)).shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in _shown(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def _write_gif(path: Path, frames: Array, fps: float) -> None:
    first, *rest = [_pillow().fromarray(frame) for frame in _shown(frames)]
    # GIF counts hundredths of a second, and players take less than 2 of them for 10.
    duration_ms = max(20, 10 * round(100 / fps))
    first.save(path, save_all=True, append_images=rest, duration=duration_ms, loop=0)


def _shown(frames: Array) -> Iterator[Array]:
    """Frames as they are shown: enlarged by a whole factor, of even height and width."""
    height, width = frames.shape[1:3]
    factor = -(-MIN_SIDE // min(height, width))
    padding = ((0, height * factor % 2), (0, width * factor % 2), (0, 0))
    for frame in frames:
        large = frame.repeat(factor, axis=0).repeat(factor, axis=1)
        yield np.ascontiguousarray(np.pad(large, padding, mode="edge"))
