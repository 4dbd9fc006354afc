"""Contact sheets: rows of frames, a label above each."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reverie.extras import load_extra
from reverie.types import Array
from reverie.video import EXTRA, enlarged, spread

cv2 = load_extra("cv2", "drawing a contact sheet", EXTRA)

CELL = 128
"""Pixels: smaller frames are enlarged by a whole factor up to this height; larger ones, beyond
1.5 times it, are shrunk to it."""
GAP, LABEL, NUMBER = 6, 20, 14
"""Pixels between frames, of a label's height and of a step number's height."""
TEXT_WIDTH = 100
"""Characters per line where a row has text instead of frames."""
PAPER, INK, PALE = (72, 72, 72), (255, 255, 255), (190, 190, 190)
"""Grey paper: black and white frames both stand out from it."""
COLUMNS = 8


@dataclass(frozen=True, slots=True)
class Strip:
    """One row of a sheet."""

    label: str
    film: Array | None = None
    """uint8 [T, H, W, 3]; None for a row of text."""
    text: str = ""


def draw_sheet(strips: Sequence[Strip], columns: int = COLUMNS) -> Array:
    """Draw the strips below each other, up to `columns` frames of each: uint8 [H, W, 3].

    The frames of a film are evenly spaced and hold its first and its last; below each stands its
    number. A film shorter than `columns` is shown whole; of a wide one (several cameras) fewer
    frames stand in the same width.
    """
    rows = [_draw_strip(strip, columns) for strip in strips]
    width = max(row.shape[1] for row in rows)
    return np.concatenate([_widened(row, width) for row in rows])


def _draw_strip(strip: Strip, columns: int) -> Array:
    if strip.film is None:
        return _draw_text(strip)
    height, width = _fitted(strip.film[0]).shape[:2]
    picks = spread(len(strip.film), max(2, columns * CELL // max(CELL, width)))
    cells = [_fitted(strip.film[pick]) for pick in picks]
    total = max(GAP + len(cells) * (width + GAP), _text_width(strip.label) + 2 * GAP)
    row = _paper(LABEL + height + NUMBER + GAP, total)
    _write(row, strip.label, GAP, LABEL - 6, INK)
    for index, (pick, cell) in enumerate(zip(picks, cells, strict=True)):
        left = GAP + index * (width + GAP)
        row[LABEL : LABEL + height, left : left + width] = cell
        _write(row, str(pick), left, LABEL + height + NUMBER - 3, PALE)
    return row


def _draw_text(strip: Strip) -> Array:
    lines = [line for part in strip.text.splitlines() for line in textwrap.wrap(part, TEXT_WIDTH)]
    widest = max(_text_width(line) for line in (strip.label, *lines))
    row = _paper(LABEL * (1 + len(lines)) + GAP, widest + 4 * GAP)
    _write(row, strip.label, GAP, LABEL - 6, INK)
    for index, line in enumerate(lines, start=1):
        _write(row, line, 3 * GAP, LABEL * (index + 1) - 6, PALE)
    return row


def _fitted(frame: Array) -> Array:
    height, width = frame.shape[:2]
    if height > 1.5 * CELL:
        size = (max(1, round(width * CELL / height)), CELL)
        return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return enlarged(frame[None], max(1, CELL // height))[0]


def _paper(height: int, width: int) -> Array:
    return np.full((height, width, 3), PAPER, np.uint8)


def _widened(row: Array, width: int) -> Array:
    wide = _paper(row.shape[0], width)
    wide[:, : row.shape[1]] = row
    return wide


def _write(picture: Array, text: str, x: int, y: int, colour: tuple[int, int, int]) -> None:
    """Write `text` with its lower left corner at (x, y)."""
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, 1, cv2.LINE_AA)


def _text_width(text: str) -> int:
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)
    return width
