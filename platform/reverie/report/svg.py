"""Line charts as inline SVG, coloured by CSS variables and readable by the page's script.

A chart is drawn in pixels of its `viewBox`. Its script inverts them with the chart's `data-frame`
(data x from, to, y from, to, then pixels left, right, top, bottom), so that no number is written
twice; two decimals of a pixel are a hundredth of a per cent of an axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from reverie.report.numbers import short_number
from reverie.report.study import Axis
from reverie.types import Array

LEFT, RIGHT, TOP, BOTTOM = 46, 10, 8, 34
"""Pixels around the data: tick labels and the axis' name."""
MARGIN = 0.04
"""Of the range of y, above and below the data."""
FAR = 1.25
"""A reference line further from the data than this times their range is left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One method in one chart."""

    index: int
    """Of the method in the report: its colour and dashes."""
    xs: Array
    ys: Array
    low: Array | None = None
    high: Array | None = None
    thin: tuple[tuple[Array, Array], ...] = ()
    """Single runs behind the line: (xs, ys) each."""


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
    size: tuple[int, int] = (360, 230)
    """Width and height in pixels."""
    y_range: tuple[float, float] | None = None
    """By default that of the data."""

    def draw(self) -> str:
        """One `<svg>` element."""
        frame = _Frame.of(self)
        references = [(n, y) for n, y in self.references if frame.y0 <= y <= frame.y1]
        parts = [
            *_grid(frame, self.x, self.y),
            *(_reference(frame, name, y) for name, y in references),
            *(part for series in self.series for part in _series(frame, series)),
            '<line class="cursor" hidden></line>',
        ]
        width, height = self.size
        return (
            f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" tabindex="0"'
            f' aria-label="{escape(self.label)}" data-frame="{frame.text()}"'
            f' data-x="{escape(self.x.unit)}">{"".join(parts)}</svg>'
        )


@dataclass(frozen=True, slots=True)
class _Frame:
    """From data to pixels."""

    x0: float
    x1: float
    y0: float
    y1: float
    width: int
    height: int

    @classmethod
    def of(cls, chart: Chart) -> _Frame:
        xs = [value for series in chart.series for value in (series.xs[:1], series.xs[-1:])]
        x0, x1 = _range([each for each in xs if each.size])
        if chart.y_range is not None:
            return cls(x0, x1, *chart.y_range, *chart.size)
        y0, y1 = _range([part for series in chart.series for part in _heights(series)])
        for _, y in chart.references:
            if y0 - FAR * (y1 - y0) <= y <= y1 + FAR * (y1 - y0):
                y0, y1 = min(y0, y), max(y1, y)
        margin = MARGIN * (y1 - y0)
        return cls(x0, x1, y0 - margin, y1 + margin, *chart.size)

    def x(self, values: Array) -> Array:
        return LEFT + (values - self.x0) / (self.x1 - self.x0) * (self.width - LEFT - RIGHT)

    def y(self, values: Array) -> Array:
        inside = self.height - TOP - BOTTOM
        return TOP + (self.y1 - values) / (self.y1 - self.y0) * inside

    def text(self) -> str:
        data = [f"{each:.8g}" for each in (self.x0, self.x1, self.y0, self.y1)]
        return " ".join([*data, *map(str, (LEFT, self.width - RIGHT, TOP, self.height - BOTTOM))])


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from `low` to `high`, `most` at the most: steps of 1, 2 or 5 times ten^k."""
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(times * power for times in (1, 2, 5, 10) if times * power >= rough)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(each * step, 12) for each in range(first, last + 1)]


def _range(parts: Sequence[Array]) -> tuple[float, float]:
    """Least and greatest; wide enough to divide by."""
    values = [part for part in parts if part.size]
    low = min((float(part.min()) for part in values), default=0.0)
    high = max((float(part.max()) for part in values), default=1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _heights(series: Series) -> list[Array]:
    bands = [part for part in (series.low, series.high) if part is not None]
    return [series.ys, *bands, *(ys for _, ys in series.thin)]


def _grid(frame: _Frame, x: Axis, y: Axis) -> list[str]:
    bottom, right = frame.height - BOTTOM, frame.width - RIGHT
    parts: list[str] = []
    for value in ticks(frame.y0, frame.y1, 5):
        at = float(frame.y(np.array(value)))
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{at:.2f}" y2="{at:.2f}"/>')
        label = escape(short_number(value))
        parts.append(f'<text class="tick" x="{LEFT - 5}" y="{at + 3:.2f}">{label}</text>')
    for value in ticks(frame.x0, frame.x1, max(2, frame.width // 90)):
        at = float(frame.x(np.array(value)))
        parts.append(
            f'<line class="stub" x1="{at:.2f}" x2="{at:.2f}" y1="{bottom}" y2="{bottom + 3}"/>'
        )
        anchor = ' style="text-anchor:end"' if at > right - 8 else ""
        label = escape(short_number(value))
        parts.append(f'<text class="tick x" x="{at:.2f}" y="{bottom + 14}"{anchor}>{label}</text>')
    middle = (LEFT + right) / 2
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(f'<text class="name" x="{middle}" y="{frame.height - 5}">{escape(x.label)}</text>')
    parts.append(
        f'<text class="name" transform="translate(10 {(TOP + bottom) / 2}) rotate(-90)">'
        f"{escape(y.label)}</text>"
    )
    return parts


def _reference(frame: _Frame, name: str, y: float) -> str:
    at, right = float(frame.y(np.array(y))), frame.width - RIGHT
    return (
        f'<line class="reference" x1="{LEFT}" x2="{right}" y1="{at:.2f}" y2="{at:.2f}"/>'
        f'<text class="reference" x="{right - 2}" y="{at - 3:.2f}">{escape(name)}</text>'
    )


def _series(frame: _Frame, series: Series) -> list[str]:
    """Single runs, the interval and the line of one method, in this order from behind."""
    parts: list[str] = [
        f'<path class="thin" d="{_path(frame.x(xs), frame.y(ys))}"/>' for xs, ys in series.thin
    ]
    xs = frame.x(series.xs)
    if series.low is not None and series.high is not None:
        there_and_back = np.concatenate([xs, xs[::-1]])
        heights = np.concatenate([frame.y(series.low), frame.y(series.high)[::-1]])
        parts.append(f'<path class="band" d="{_path(there_and_back, heights)}Z"/>')
    if len(xs) == 1:
        at = f'cx="{xs[0]:.2f}" cy="{frame.y(series.ys)[0]:.2f}"'
        parts.append(f'<circle class="dot" r="3" {at}/>')
    parts.append(f'<path class="line" d="{_path(xs, frame.y(series.ys))}"/>')
    return [f'<g class="m m{series.index}" data-m="{series.index}">{"".join(parts)}</g>']


def _path(xs: Array, ys: Array) -> str:
    points = [f"{x:.2f} {y:.2f}" for x, y in zip(xs.tolist(), ys.tolist(), strict=True)]
    return "M" + "L".join(points) if points else ""
