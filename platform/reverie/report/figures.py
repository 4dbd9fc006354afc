"""The report's figures for papers and slides: SVG, PNG and PDF with their fonts embedded."""

# Matplotlib is partly untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reverie.extras import load_extra
from reverie.report.numbers import short_number
from reverie.report.study import Axis, Line, Report, Style, TaskPanel

FORMATS = ("svg", "png", "pdf")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1.5)))
"""Of the methods in their order, as on the page."""
PANEL_IN = 1.6
"""Least width of a task's panel, in inches."""
ROW_IN = 1.25
"""Height of a row of panels."""
WIDE_IN = 2.1
"""Height of a figure over all tasks."""


def write(
    report: Report, style: Style, folder: Path, formats: Sequence[str] = FORMATS
) -> list[Path]:
    """Write `curves.*` (one panel a task) and `aggregate.*` into `folder`; returns the files.

    Raises:
        ImportError: matplotlib is missing, with the `pip install` line.
    """
    plt = _matplotlib(style)
    drawings: dict[str, Callable[[Any], Any]] = {}
    if report.panels:
        drawings["curves"] = lambda plt: _curves(plt, report, style)
    if report.aggregate_lines:
        drawings["aggregate"] = lambda plt: _aggregate(plt, report, style)
    written: list[Path] = []
    for name, draw in drawings.items():
        with plt.rc_context(_settings(style)):
            drawn = draw(plt)
            for form in formats:
                path = folder / f"{name}.{form}"
                drawn.savefig(path, dpi=300, metadata=_metadata(form))
                written.append(path)
            plt.close(drawn)
    return written


def _matplotlib(style: Style) -> Any:
    load_extra("matplotlib", "drawing figures", "report").use("agg")
    return load_extra("matplotlib.pyplot", "drawing figures", "report")


def _settings(style: Style) -> dict[str, Any]:
    return {
        "font.family": style.font,
        "font.size": style.font_size,
        "axes.titlesize": style.font_size,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "lines.linewidth": 1.2,
        "legend.frameon": False,
        "pdf.fonttype": 42,  # TrueType, embedded: what venues ask for
        "svg.fonttype": "path",
        "svg.hashsalt": "reverie",
        "figure.constrained_layout.use": True,
    }


def _metadata(form: str) -> dict[str, None]:
    """No date, so that equal reports are equal files."""
    return {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form, {})


def _curves(plt: Any, report: Report, style: Style) -> Any:
    columns = max(1, min(len(report.panels), int(style.width / PANEL_IN)))
    rows = math.ceil(len(report.panels) / columns)
    size = style.width, rows * ROW_IN + (0.3 if style.legend != "none" else 0.0)
    drawn, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    flat = [axis for row in axes for axis in row]
    for axis, panel in zip(flat, report.panels, strict=False):
        _draw(axis, report, panel.lines)
        _reference(axis, panel)
        axis.set_title(panel.label)
    for axis in flat[len(report.panels) :]:
        axis.set_visible(False)
    drawn.supxlabel(_named(report.x), fontsize=style.font_size)
    drawn.supylabel(_named(report.metric), fontsize=style.font_size)
    _legend(drawn, flat, style, len(report.methods))
    return drawn


def _aggregate(plt: Any, report: Report, style: Style) -> Any:
    both = bool(report.profiles) and style.width > 2 * PANEL_IN
    size = style.width, WIDE_IN + (0.3 if style.legend != "none" else 0.0)
    drawn, axes = plt.subplots(1, 2 if both else 1, figsize=size, squeeze=False)
    axis = axes[0][0]
    _draw(axis, report, report.aggregate_lines)
    if report.normalised:
        low, high = axis.get_ylim()
        if low <= 1.0 <= high * 1.25:
            axis.axhline(1.0, color="0.5", linewidth=0.6, linestyle=":")
    axis.set_xlabel(_named(report.x))
    axis.set_ylabel(f"IQM of {report.score.label}")
    if both:
        other = axes[0][1]
        for profile in report.profiles:
            look = _look(report, profile.method)
            other.plot(profile.taus, profile.share, **look)
            if profile.low is not None and profile.high is not None:
                band = {"color": look["color"], "alpha": 0.18, "linewidth": 0}
                other.fill_between(profile.taus, profile.low, profile.high, **band)
        other.set_xlabel(f"{report.score.label} (tau)")
        other.set_ylabel("Share of runs above tau")
        other.set_ylim(0, 1)
    _legend(drawn, [axis], style, len(report.methods))
    return drawn


def _draw(axis: Any, report: Report, lines: Sequence[Line]) -> None:
    for line in lines:
        look = _look(report, line.method)
        marker = {"marker": "o", "markersize": 3} if len(line.xs) == 1 else {}
        axis.plot(line.xs, line.centre, **look, **marker)
        if line.low is not None and line.high is not None:
            band = {"color": look["color"], "alpha": 0.18, "linewidth": 0}
            axis.fill_between(line.xs, line.low, line.high, **band)
    axis.xaxis.set_major_locator(_locator(4))
    axis.yaxis.set_major_locator(_locator(5))
    axis.xaxis.set_major_formatter(lambda value, _: short_number(value))
    axis.yaxis.set_major_formatter(lambda value, _: short_number(value))


def _locator(most: int) -> Any:
    ticker = load_extra("matplotlib.ticker", "drawing figures", "report")
    return ticker.MaxNLocator(most, steps=[1, 2, 5, 10])


def _look(report: Report, method: str) -> dict[str, Any]:
    at = next(i for i, facts in enumerate(report.methods) if facts.method == method)
    facts = report.methods[at]
    return {"color": facts.colour, "linestyle": DASHES[at % len(DASHES)], "label": facts.label}


def _reference(axis: Any, panel: TaskPanel) -> None:
    """The human's and the random policy's value, where they do not press the curves flat."""
    low, high = axis.get_ylim()
    for value in (panel.random, panel.human):
        if value is not None and low - 0.25 * (high - low) <= value <= high + 0.25 * (high - low):
            axis.axhline(value, color="0.5", linewidth=0.6, linestyle=":")


def _named(axis: Axis) -> str:
    named = axis.unit and axis.unit not in axis.label.lower()
    return f"{axis.label} ({axis.unit})" if named else axis.label


def _legend(drawn: Any, axes: Sequence[Any], style: Style, methods: int) -> None:
    if style.legend == "none":
        return
    found: Mapping[str, Any] = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        found = {**dict(zip(labels, handles, strict=True)), **found}
    place = {"top": "outside upper center", "bottom": "outside lower center"}
    place |= {"right": "outside right upper"}
    columns = 1 if style.legend == "right" else min(methods, max(1, int(style.width / 1.3)))
    drawn.legend(found.values(), found.keys(), loc=place[style.legend], ncols=columns)
