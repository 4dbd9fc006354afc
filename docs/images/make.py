"""Draws the pictures of the pages: `python docs/images/make.py RUN [SHEET]`.

`imagined.png` is made from the newest film of a run: six windows side by side, each with the real
frames above the imagined ones above their difference (`reverie_algorithms.dreamer.open_loop`).
`suites.png` is the `all.png` of `reverie play --all SUITE ...`, made smaller. All of it needs
`reverie[video]`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
from PIL import Image

from reverie.cli.contact_sheet import Strip, draw_sheet

COLUMNS, ROWS = 6, 3
CONTEXT = 3
"""Frames of a window of ten that the model sees."""
WINDOWS = (0, 1)
"""Which of the windows are drawn."""
SHRINK = 0.65
HERE = Path(__file__).parent


def draw_imagined(run: Path) -> None:
    """Real above imagined frames of some windows of the newest film."""
    film = max((run / "videos").glob("open_loop_image-*.mp4"))
    with av.open(str(film)) as container:
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    height, width = frames.shape[1] // ROWS, frames.shape[2] // COLUMNS
    strips: list[Strip] = []
    for window in WINDOWS:
        own = frames[:, :, window * width : (window + 1) * width]
        seen = f"what happened (frames 0 to {CONTEXT - 1} are shown to the model)"
        strips.append(Strip(seen, own[:, :height]))
        strips.append(Strip("what the model imagines", own[:, height : 2 * height]))
    save(Image.fromarray(draw_sheet(strips, len(frames))), "imagined.png", 64)


def draw_suites(sheet: Path) -> None:
    """A contact sheet, smaller."""
    picture = Image.open(sheet).convert("RGB")
    size = (round(picture.width * SHRINK), round(picture.height * SHRINK))
    save(picture.resize(size, Image.Resampling.LANCZOS), "suites.png", 255)


def save(picture: Image.Image, name: str, colours: int) -> None:
    """Write it with few colours."""
    few = picture.quantize(colours, Image.Quantize.MEDIANCUT, 3, dither=Image.Dither.NONE)
    few.save(HERE / name, optimize=True)


if __name__ == "__main__":
    draw_imagined(Path(sys.argv[1]))
    for path in sys.argv[2:]:
        draw_suites(Path(path))
