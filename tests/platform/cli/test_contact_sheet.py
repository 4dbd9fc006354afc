"""Contact sheets: every frame in its place, whatever the sizes and lengths."""

from __future__ import annotations

import numpy as np
import pytest

from reverie.cli.contact_sheet import CELL, GAP, LABEL, NUMBER, PAPER, Strip, draw_sheet


def counting(length: int, height: int = 64, width: int = 64) -> np.ndarray:
    shades = np.arange(1, length + 1, dtype=np.uint8)[:, None, None, None]
    return np.broadcast_to(shades, (length, height, width, 3))


def shades(sheet: np.ndarray, cell_width: int, top: int = LABEL) -> list[int]:
    row = sheet[top + 1, GAP :: cell_width + GAP]
    return [int(pixel[0]) for pixel in row if tuple(pixel) != PAPER]


@pytest.mark.parametrize(
    ("length", "shown"),
    [(1, [1]), (3, [1, 2, 3]), (8, list(range(1, 9))), (64, [1, 10, 19, 28, 37, 46, 55, 64])],
)
def test_frames_are_spread_from_the_first_to_the_last(length: int, shown: list[int]) -> None:
    sheet = draw_sheet([Strip("x", counting(length))])
    assert shades(sheet, CELL) == shown
    assert sheet.shape[0] == LABEL + CELL + NUMBER + GAP


@pytest.mark.parametrize(
    ("size", "drawn"),
    [((8, 8), (128, 128)), ((84, 84), (84, 84)), ((512, 256), (128, 64)), ((3, 5), (126, 210))],
)
def test_frames_of_any_size_become_readable(size: tuple[int, int], drawn: tuple[int, int]) -> None:
    sheet = draw_sheet([Strip("x", counting(2, *size))])
    height, width = drawn
    assert sheet.shape[0] == LABEL + height + NUMBER + GAP
    assert (sheet[LABEL : LABEL + height, GAP : GAP + width] == 1).all()
    assert tuple(sheet[LABEL, GAP + width]) == PAPER


def test_wide_frames_are_fewer_and_the_last_is_among_them() -> None:
    sheet = draw_sheet([Strip("x", counting(50, 64, 192))])
    assert shades(sheet, 384) == [1, 50]


def test_rows_of_other_widths_and_of_text_stand_below_each_other() -> None:
    strips = [
        Strip("a", counting(2)),
        Strip("b", text="pip install b\n" + "long " * 80),
        Strip("c", counting(8)),
    ]
    sheet = draw_sheet(strips)
    row = LABEL + CELL + NUMBER + GAP
    assert shades(sheet, CELL) == [1, 2]
    assert shades(sheet, CELL, sheet.shape[0] - row + LABEL) == list(range(1, 9))
    words = sheet[row:-row]
    assert len(words) == LABEL * (1 + 1 + 4) + GAP
    for top in range(0, LABEL * 6, LABEL):
        assert (words[top : top + LABEL] > 150).any()
