"""The report's figures for papers and slides: SVG, PNG and PDF with their fonts embedded."""

# Matplotlib is partly untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import difflib
import io
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reverie.errors import ConfigError
from reverie.extras import load_extra
from reverie.report.numbers import short_number
from reverie.report.study import FIELDS, Aggregate, Axis, Line, Report, Style, TaskPanel

FORMATS = ("svg", "png", "pdf")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1.5)))
"""Of the methods in their order, as on the page."""
MARKERS = "osD^vP*X"
"""Of the methods in their order, where they are points."""
PANEL_IN = 1.6
"""Least width of a task's panel, in inches."""
LEFT_IN, GAP_IN = 0.4, 0.06
"""Of a panel, left (for the numbers) and right of its axes."""
ROW_IN = 0.95
"""Height of a row of panels."""
NARROW_PANEL_IN = 1.05
"""Where panels of that width would make the figure higher than `PAGE_IN`."""
PAGE_IN = 9.0
"""Height that a page leaves."""
WIDE_IN = 2.1
"""Height of a figure over all tasks."""
NARROW_IN = 4.5
"""Of a figure whose two charts stand one above the other."""
LEGEND_IN = 0.3
GENERIC = ("sans-serif", "serif", "monospace")
"""Fonts that every machine has under some name."""
NAMES = {"mean": "Mean", "median": "Median", "iqm": "IQM", "optimality_gap": "Optimality gap"}


def write(
    report: Report, style: Style | None = None, formats: Sequence[str] = FORMATS
) -> dict[str, bytes]:
    """Draw `curves` (one panel a task), `aggregate` (over all tasks, along x) and `intervals` (at
    the x of the tables), where the report has them.

    Returns:
        File name -> its bytes; equal reports give equal bytes.

    Raises:
        ImportError: matplotlib is missing, with the `pip install` line.
        ConfigError: the style names a font that is not installed.
    """
    style = style or Style()
    plt = _matplotlib()
    drawings: dict[str, Callable[[Any, Report, Style], Any]] = {}
    if report.panels:
        drawings["curves"] = _curves
    if report.aggregate_lines:
        drawings["aggregate"] = _aggregate
    if report.aggregates:
        drawings["intervals"] = _intervals
    drawn: dict[str, bytes] = {}
    with plt.rc_context(_settings(style)):
        for name, draw in drawings.items():
            figure = draw(plt, report, style)
            if figure.get_layout_engine() is not None:  # once for all formats
                figure.draw_without_rendering()
                figure.set_layout_engine("none")
            for form in formats:
                file = io.BytesIO()
                figure.savefig(file, format=form, dpi=200, metadata=_metadata(form))
                drawn[f"{name}.{form}"] = file.getvalue()
            plt.close(figure)
    return drawn


def _matplotlib() -> Any:
    load_extra("matplotlib", "drawing figures", "report").use("agg")
    # It tells of every table of every font that it embeds.
    logging.getLogger("fontTools").setLevel(logging.WARNING)
    return load_extra("matplotlib.pyplot", "drawing figures", "report")


def _font(style: Style) -> str:
    """The style's font, if it is here: matplotlib would take another one without a word."""
    if style.font in GENERIC:
        return style.font
    fonts = load_extra("matplotlib.font_manager", "drawing figures", "report")
    try:
        fonts.findfont(style.font, fallback_to_default=False)
    except ValueError:
        known = sorted({entry.name for entry in fonts.fontManager.ttflist})
        near = difflib.get_close_matches(style.font, known, n=3) or known[:3]
        raise ConfigError(
            f"style: font: expected an installed font, got {style.font!r}; near: {', '.join(near)}"
        ) from None
    return style.font


def _settings(style: Style) -> dict[str, Any]:
    return {
        "font.family": _font(style),
        "font.size": style.font_size,
        "axes.titlesize": style.font_size,
        "xtick.labelsize": style.font_size - 1,
        "ytick.labelsize": style.font_size - 1,
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
    }


def _metadata(form: str) -> dict[str, None]:
    """No date, so that equal reports are equal files."""
    return {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form, {})


def _curves(plt: Any, report: Report, style: Style) -> Any:
    """Panels in reading order; where all have one x, only the lowest of a column says it."""
    columns = min(len(report.panels), max(1, int(style.width / PANEL_IN)))
    rows = math.ceil(len(report.panels) / columns)
    if rows * ROW_IN > PAGE_IN:
        columns = max(columns, int(style.width / NARROW_PANEL_IN))
        rows = math.ceil(len(report.panels) / columns)
    shared = len({panel.lines[0].xs[-1] for panel in report.panels if panel.lines}) == 1
    head = LEGEND_IN if style.legend in ("top", "right") else 0.05
    foot = 0.25 + (LEGEND_IN if style.legend == "bottom" else 0.0)
    height = head + foot + rows * ROW_IN + (0.2 if shared else 0.0)
    figure, axes = plt.subplots(rows, columns, figsize=(style.width, height), squeeze=False)
    flat = [axis for row in axes for axis in row]
    width = (style.width - 0.2) / columns
    _place_panels(figure, flat, columns, width, head, shared)
    title = _title_size(report, style, width)
    for index, (axis, panel) in enumerate(zip(flat, report.panels, strict=False)):
        _draw(axis, report, panel.lines, 4 if width >= PANEL_IN else 2)
        _reference(axis, panel)
        middle = (0.5 * width - LEFT_IN) / (width - LEFT_IN - GAP_IN)  # of the panel, not the axes
        axis.set_title(panel.label, fontsize=title, pad=2, x=middle)
        if shared and index + columns < len(report.panels):
            axis.tick_params(axis="x", labelbottom=False)
    for axis in flat[len(report.panels) :]:
        axis.set_visible(False)
    bottom = (foot - 0.22) / height
    figure.text(0.5, bottom, _named(report.x), ha="center", va="bottom")
    figure.text(0.04 / style.width, 0.5, _named(report.metric), rotation=90, va="center")
    _legend(figure, flat, style, len(report.methods))
    return figure


def _place_panels(
    figure: Any, axes: Sequence[Any], columns: int, width: float, head: float, shared: bool
) -> None:
    """By the inch: matplotlib's own layout takes a second for 26 panels."""
    whole, height = figure.get_size_inches()
    above, below = 0.2, 0.08 if shared else 0.22
    for index, axis in enumerate(axes):
        row, column = divmod(index, columns)
        top = height - head - row * ROW_IN - above
        x = 0.15 + column * width + LEFT_IN
        box = (x / whole, (top - ROW_IN + above + below) / height)
        size = ((width - LEFT_IN - GAP_IN) / whole, (ROW_IN - above - below) / height)
        axis.set_position([*box, *size])


def _title_size(report: Report, style: Style, width: float) -> float:
    """Points, so that the longest title is no wider than its panel."""
    longest = max(len(panel.label) for panel in report.panels)
    return max(4.0, min(style.font_size, width * 72 / (0.6 * longest)))


def _aggregate(plt: Any, report: Report, style: Style) -> Any:
    charts = 2 if report.profiles else 1
    rows = charts if style.width < NARROW_IN else 1
    size = style.width, rows * WIDE_IN + (LEGEND_IN if style.legend != "none" else 0.0)
    figure, axes = plt.subplots(
        rows, charts // rows, figsize=size, squeeze=False, layout="constrained"
    )
    axis, *others = axes.flat
    _draw(axis, report, report.aggregate_lines)
    if report.normalised:
        low, high = axis.get_ylim()
        if low <= 1.0 <= high * 1.25:
            axis.axhline(1.0, color="0.5", linewidth=0.6, linestyle=":")
    axis.set_xlabel(_named(report.x))
    axis.set_ylabel(f"IQM of {_inner(report.score.label)}")
    for other in others:
        for profile in report.profiles:
            look = _look(report, profile.method)
            other.plot(profile.taus, profile.share, **look)
            if profile.low is not None and profile.high is not None:
                band = {"color": look["color"], "alpha": 0.18, "linewidth": 0}
                other.fill_between(profile.taus, profile.low, profile.high, **band)
        other.set_xlabel(f"{report.score.label} (tau)")
        other.set_ylabel("Share of runs above tau")
        other.set_ylim(0, 1)
    _legend(figure, [axis], style, len(report.methods))
    return figure


def _intervals(plt: Any, report: Report, style: Style) -> Any:
    """A column a figure, a row a method, as rliable draws them."""
    shown = [name for name in FIELDS if getattr(report.aggregates[0], name) is not None]
    columns = min(len(shown), max(1, int(style.width / PANEL_IN)))
    rows = math.ceil(len(shown) / columns)
    height = rows * (0.65 + 0.2 * len(report.aggregates))
    size = style.width, height + 0.2
    figure, axes = plt.subplots(
        rows, columns, figsize=size, squeeze=False, sharey=True, layout="constrained"
    )
    flat = [axis for row in axes for axis in row]
    for axis, name in zip(flat, shown, strict=False):
        _points(axis, report, name)
        axis.set_title(NAMES[name] + ("\n(less is better)" if name == "optimality_gap" else ""))
    for axis in flat[len(shown) :]:
        axis.set_visible(False)
    figure.supxlabel(report.score.label, fontsize=style.font_size)
    return figure


def _points(axis: Any, report: Report, name: str) -> None:
    labels: list[str] = []
    for row, one in enumerate(reversed(report.aggregates)):
        look = _look(report, one.method)
        found = getattr(one, name)
        marker = MARKERS[_place(report, one) % len(MARKERS)]
        axis.plot([found.value], [row], marker, color=look["color"], markersize=4)
        if found.interval is not None:
            ends = [found.interval.low, found.interval.high]
            axis.plot(ends, [row, row], color=look["color"], linewidth=3, alpha=0.35)
        labels.append(look["label"])
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(-0.6, len(labels) - 0.4)
    axis.tick_params(axis="y", length=0)
    axis.margins(x=0.08)
    axis.xaxis.set_major_locator(_locator(4))
    axis.xaxis.set_major_formatter(_tick)


def _place(report: Report, one: Aggregate) -> int:
    return [facts.method for facts in report.methods].index(one.method)


def _draw(axis: Any, report: Report, lines: Sequence[Line], ticks: int = 4) -> None:
    for line in lines:
        look = _look(report, line.method)
        marker = {"marker": "o", "markersize": 3} if len(line.xs) == 1 else {}
        axis.plot(line.xs, line.centre, **look, **marker)
        if line.low is not None and line.high is not None:
            band = {"color": look["color"], "alpha": 0.18, "linewidth": 0}
            axis.fill_between(line.xs, line.low, line.high, **band)
    for along, most in ((axis.xaxis, ticks), (axis.yaxis, 4)):
        along.set_major_locator(_locator(most))
        along.set_major_formatter(_tick)


def _inner(label: str) -> str:
    """Within a sentence: `human-normalised score`, but `IQM` as it is."""
    return label if label[1:2].isupper() else label[:1].lower() + label[1:]


def _tick(value: float, _: int | None = None) -> str:
    return short_number(value)


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


def _legend(figure: Any, axes: Sequence[Any], style: Style, methods: int) -> None:
    if style.legend == "none":
        return
    found: Mapping[str, Any] = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        found = {**dict(zip(labels, handles, strict=True)), **found}
    place = {"top": "upper center", "bottom": "lower center", "right": "upper right"}
    if figure.get_layout_engine() is not None:
        place = {key: f"outside {value}" for key, value in place.items()}
    columns = 1 if style.legend == "right" else min(methods, max(1, int(style.width / 1.3)))
    figure.legend(found.values(), found.keys(), loc=place[style.legend], ncols=columns)
