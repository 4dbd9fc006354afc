"""H.264 mp4 files of frames as they are."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from reverie.data.codecs import EXTRA
from reverie.extras import load_extra
from reverie.types import Array
from reverie.video import CRF

DEFAULT_FPS = 25.0
"""Of clips whose frame rate is not known."""


class Mp4Writer:
    """Encodes frames uint8 [H, W, 3] into a file; odd sides are padded with their last line."""

    def __init__(self, container: Any, shape: tuple[int, int, int], fps: float) -> None:
        self._av: Any = load_extra("av", "writing mp4 files", EXTRA)
        self._container, (height, width, _) = container, shape
        self._padding = ((0, height % 2), (0, width % 2), (0, 0))
        rate = Fraction(fps).limit_denominator(1001)
        self._stream = container.add_stream("libx264", rate=rate, options={"crf": CRF, "bf": "0"})
        self._stream.height, self._stream.width = height + height % 2, width + width % 2
        self._stream.pix_fmt = "yuv420p"

    def add(self, frames: Array) -> None:
        """Add frames uint8 [T, H, W, 3]."""
        for frame in frames:
            padded = np.ascontiguousarray(np.pad(frame, self._padding, mode="edge"))
            picture = self._av.VideoFrame.from_ndarray(padded, format="rgb24")
            self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        """Encode what is left."""
        self._container.mux(self._stream.encode())


@contextmanager
def new_mp4(path: Path, shape: tuple[int, int, int], fps: float) -> Generator[Mp4Writer]:
    """Open a new mp4 that takes its name once the block ends without an error."""
    av: Any = load_extra("av", "writing mp4 files", EXTRA)
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = path.with_name(f".{path.name}")
    try:
        with av.open(str(tmp), mode="w", format="mp4") as container:
            writer = Mp4Writer(container, shape, fps)
            yield writer
            writer.close()
        tmp.replace(path)
    finally:
        tmp.unlink(missing_ok=True)
