"""Line charts as inline SVG, coloured by CSS variables and readable by the page's script.

A chart is drawn in pixels of its `viewBox`. The script inverts them with the chart's `data-frame`
(data x from, to, y from, to, then pixels left, right, top, bottom), so that no number is written
twice; two decimals of a pixel are a hundredth of a per cent of an axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

import numpy as np

from reverie.report.numbers import tick_texts
from reverie.report.study import Axis
from reverie.types import Array

LEFT, RIGHT, TOP, BOTTOM = 46, 20, 12, 40
"""Least pixels around the data: tick labels and the axis' name."""
NAME, CHARACTER = 24, 6.6
"""Pixels of the name of y, and of a character of its tick labels."""
MARGIN = 0.04
"""Of the range of y, above and below the data."""
FAR = 0.5
"""A reference line further from the data than this times their range is left out."""


class Single(NamedTuple):
    """One run behind the line of its method."""

    xs: Array
    ys: Array
    marked: bool
    """It bears a mark, such as `unfinished`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One method in one chart."""

    index: int
    """Of the method in the report: its colour and dashes."""
    xs: Array
    ys: Array
    low: Array | None = None
    high: Array | None = None
    singles: tuple[Single, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """What is drawn, in data."""

    x: Axis
    y: Axis
    series: tuple[Series, ...]
    references: tuple[tuple[str, float], ...] = ()
    """Horizontal lines: (name, y), such as the human's score."""
    label: str
    """What a screen reader says."""
    size: tuple[int, int]
    """Width and height in pixels."""
    y_range: tuple[float, float] | None = None
    """By default that of the data."""
    kind: str = ""
    """A further CSS class."""

    def draw(self) -> str:
        """One `<svg>` element."""
        frame = _Frame.of(self)
        references = [(n, y) for n, y in self.references if frame.y0 <= y <= frame.y1]
        parts = [
            *_grid(frame, self.x, self.y),
            *(_reference(frame, *one, at) for at, one in enumerate(references)),
            *(part for series in self.series for part in _series(frame, series)),
            '<line class="cursor" hidden=""/>',
        ]
        width, height = self.size
        return (
            f'<svg class="{escape(f"chart {self.kind}".rstrip())}" viewBox="0 0 {width} {height}"'
            f' role="img" tabindex="0" aria-label="{escape(self.label)}"'
            f' data-frame="{frame.text()}" data-unit="{escape(self.x.unit)}"'
            f' data-name="{escape(self.x.name)}">{"".join(parts)}</svg>'
        )


def named(axis: Axis) -> str:
    """The axis with its unit, where its label does not say it: `Wall-clock time (h)`."""
    told = not axis.unit or axis.unit in axis.label.lower()
    return axis.label if told else f"{axis.label} ({axis.unit})"


@dataclass(frozen=True, slots=True)
class _Frame:
    """From data to pixels."""

    x0: float
    x1: float
    y0: float
    y1: float
    width: int
    height: int
    left: int

    @classmethod
    def of(cls, chart: Chart) -> _Frame:
        x0, x1 = _range([part for series in chart.series for part in _widths(series)])
        y0, y1 = chart.y_range or _y_range(chart)
        texts = tick_texts(ticks(y0, y1, 5))
        left = max(LEFT, math.ceil(NAME + CHARACTER * max(map(len, texts))))
        return cls(x0, x1, y0, y1, *chart.size, left)

    @property
    def right(self) -> int:
        return self.width - RIGHT

    @property
    def bottom(self) -> int:
        return self.height - BOTTOM

    def x(self, values: Array) -> Array:
        return self.left + (values - self.x0) / (self.x1 - self.x0) * (self.right - self.left)

    def y(self, values: Array) -> Array:
        return TOP + (self.y1 - values) / (self.y1 - self.y0) * (self.bottom - TOP)

    def text(self) -> str:
        data = [f"{each:.8g}" for each in (self.x0, self.x1, self.y0, self.y1)]
        return " ".join([*data, *map(str, (self.left, self.right, TOP, self.bottom))])


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from `low` to `high`, `most` apart at the most: 1, 2 or 5 times ten^k."""
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(times * power for times in (1, 2, 5, 10, 20) if times * power >= rough)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{each * step:.12g}") for each in range(first, last + 1)]


def _y_range(chart: Chart) -> tuple[float, float]:
    """That of the data and of references near them."""
    low, high = _range([part for series in chart.series for part in _heights(series)])
    far = FAR * (high - low)
    near = [y for _, y in chart.references if low - far <= y <= high + far]
    low, high = min([low, *near]), max([high, *near])
    return low - MARGIN * (high - low), high + MARGIN * (high - low)


def _range(parts: Sequence[Array]) -> tuple[float, float]:
    """Least and greatest; wide enough to divide by."""
    values = [part for part in parts if part.size]
    low = min((float(part.min()) for part in values), default=0.0)
    high = max((float(part.max()) for part in values), default=1.0)
    if high - low > 1e-9 * max(abs(low), abs(high)):
        return low, high
    around = abs(low) / 2 or 0.5
    return low - around, high + around


def _widths(series: Series) -> list[Array]:
    return [series.xs, *(one.xs for one in series.singles)]


def _heights(series: Series) -> list[Array]:
    bands = [part for part in (series.low, series.high) if part is not None]
    return [series.ys, *bands, *(one.ys for one in series.singles)]


def _grid(frame: _Frame, x: Axis, y: Axis) -> list[str]:
    left, right, bottom = frame.left, frame.right, frame.bottom
    parts: list[str] = []
    heights = ticks(frame.y0, frame.y1, 5)
    for value, label in zip(heights, tick_texts(heights), strict=True):
        at = float(frame.y(np.array(value)))
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{at:.2f}" y2="{at:.2f}"/>')
        parts.append(f'<text x="{left - 5}" y="{at + 3.5:.2f}">{label}</text>')
    along = ticks(frame.x0, frame.x1, max(2, (right - left) // 56))
    for value, label in zip(along, tick_texts(along), strict=True):
        at = float(frame.x(np.array(value)))
        parts.append(
            f'<line class="stub" x1="{at:.2f}" x2="{at:.2f}" y1="{bottom}" y2="{bottom + 3}"/>'
            f'<text class="x" x="{at:.2f}" y="{bottom + 15}">{label}</text>'
        )
    parts.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    x_name, y_name = escape(named(x)), escape(named(y))
    parts.append(
        f'<text class="name" x="{(left + right) / 2}" y="{frame.height - 6}">{x_name}</text>'
        f'<text class="name" transform="translate(12 {(TOP + bottom) / 2}) rotate(-90)">'
        f"{y_name}</text>"
    )
    return parts


def _reference(frame: _Frame, name: str, y: float, at: int) -> str:
    """The first one's name stands at the right end and the second's at the left: no overlap."""
    height = float(frame.y(np.array(y)))
    x, kind = (frame.left + 3, " start") if at % 2 else (frame.right - 2, "")
    return (
        f'<line class="reference" x1="{frame.left}" x2="{frame.right}"'
        f' y1="{height:.2f}" y2="{height:.2f}"/>'
        f'<text class="reference{kind}" x="{x}" y="{height - 3:.2f}">{escape(name)}</text>'
    )


def _series(frame: _Frame, series: Series) -> list[str]:
    """Single runs, the interval and the line of one method, in this order from behind."""
    parts = [
        f'<path class="single{" marked" if one.marked else ""}"'
        f' d="{_path(frame.x(one.xs), frame.y(one.ys), 1)}"/>'
        for one in series.singles
    ]
    xs, ys = frame.x(series.xs), frame.y(series.ys)
    if series.low is not None and series.high is not None:
        there_and_back = np.concatenate([xs, xs[::-1]])
        heights = np.concatenate([frame.y(series.low), frame.y(series.high)[::-1]])
        kind = "band whisker" if len(xs) == 1 else "band"
        parts.append(f'<path class="{kind}" d="{_path(there_and_back, heights)}Z"/>')
    if len(xs) == 1:
        parts.append(f'<circle class="dot" r="3" cx="{xs[0]:.2f}" cy="{ys[0]:.2f}"/>')
    parts.append(f'<path class="line" d="{_path(xs, ys)}"/>')
    return [f'<g class="m m{series.index}" data-m="{series.index}">{"".join(parts)}</g>']


def _path(xs: Array, ys: Array, digits: int = 2) -> str:
    """`M1.5 2L3 4`; zeros that say nothing are left out."""
    pairs = np.stack([xs, ys], 1).round(digits).tolist()
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in pairs) if pairs else ""
