"""Charts of the page: the IQM over x, the performance profile, one panel a task."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np

from reverie.report.study import Axis, Estimate, Line, Profile, Report, TaskPanel
from reverie.report.svg import Chart, Series, Single

WIDE = (440, 264)
"""Pixels of a chart that has half of the page."""
SMALL = (320, 218)
"""Of one that has a quarter."""
FEW = 2
"""So many tasks get wide charts."""
Index = Mapping[str, int]
"""Method -> its place in the report, by which it has its colour and dashes."""


def overview(report: Report, index: Index) -> str:
    """The charts over all tasks; nothing where there are none."""
    figures = [_aggregate(report, index)] if report.aggregate_lines else []
    if report.profiles:
        figures.append(_profiles(report, index))
    return f'<div class="wide">{"".join(figures)}</div>' if figures else ""


def panels(report: Report, index: Index) -> str:
    """A chart per task that has a curve."""
    drawn = [panel for panel in report.panels if panel.lines]
    few = len(drawn) <= FEW
    figures = [_panel(report, panel, index, few) for panel in drawn]
    return f'<div class="{"wide" if few else "tasks"}">{"".join(figures)}</div>' if drawn else ""


def panels_note(report: Report) -> str:
    """What is drawn in the panels."""
    parts = ["Line: mean over seeds."]
    if any(line.low is not None for panel in report.panels for line in panel.lines):
        parts.append(f"Band: {report.level:.0%} interval.")
    if any(line.seeds > 1 for panel in report.panels for line in panel.lines):
        parts.append("Thin: single runs.")
        if any(trace.marks for panel in report.panels for trace in panel.traces):
            parts[-1] = "Thin: single runs, dotted where they are marked as listed below."
    return " ".join(parts)


def _figure(title: str, chart: Chart, note: str = "") -> str:
    below = f"<figcaption>{escape(note)}</figcaption>" if note else ""
    return f"<figure><h3>{escape(title)}</h3>{chart.draw()}{below}</figure>"


def _band(report: Report, has_band: bool) -> str:
    if has_band:
        return f"Band: {report.level:.0%} bootstrap interval over seeds."
    return "No interval: fewer than three seeds."


def _aggregate(report: Report, index: Index) -> str:
    drawn = {line.method for line in report.aggregate_lines}
    points = [
        _point(index[one.method], report.at, one.iqm)
        for one in report.aggregates
        if one.method not in drawn and report.at is not None
    ]
    title = f"IQM of {lowered(report.score.label)}"
    chart = Chart(
        x=report.x,
        y=Axis(report.score.name, f"IQM of {lowered(report.score.label)}", report.score.unit),
        series=(*(_series(line, index) for line in report.aggregate_lines), *points),
        references=(("human", 1.0),) if report.normalised else (),
        label=f"{title} over {lowered(report.x.label)}",
        size=WIDE,
        kind="half",
    )
    has_band = any(line.low is not None for line in report.aggregate_lines)
    return _figure(f"{title}, over all tasks", chart, _band(report, has_band))


def _profiles(report: Report, index: Index) -> str:
    def series(one: Profile) -> Series:
        return Series(
            index=index[one.method], xs=one.taus, ys=one.share, low=one.low, high=one.high
        )

    chart = Chart(
        x=Axis("tau", f"{report.score.label}, tau", report.score.unit),
        y=Axis("share", "Share of runs above tau"),
        series=tuple(map(series, report.profiles)),
        label="Performance profile: share of runs above each score",
        size=WIDE,
        y_range=(0.0, 1.0),
        kind="half",
    )
    has_band = any(one.low is not None for one in report.profiles)
    return _figure("Performance profile", chart, _band(report, has_band))


def _panel(report: Report, panel: TaskPanel, index: Index, wide: bool) -> str:
    singles: dict[str, list[Single]] = {}
    for trace in panel.traces:
        single = Single(trace.xs, trace.ys, bool(trace.marks))
        singles.setdefault(trace.method, []).append(single)
    lines = [_series(line, index, tuple(singles[line.method])) for line in panel.lines]
    drawn = {line.method for line in panel.lines}
    points = [
        _point(index[final.method], panel.at, final.value)
        for final in panel.finals
        if final.method not in drawn
    ]
    known = (("random", panel.random), ("human", panel.human))
    chart = Chart(
        x=report.x,
        y=panel.y,
        series=(*lines, *points),
        references=tuple((name, value) for name, value in known if value is not None),
        label=f"{panel.label}: {lowered(panel.y.label)} over {lowered(report.x.label)}",
        size=WIDE if wide else SMALL,
        kind="half" if wide else "",
    )
    return _figure(panel.label, chart)


def _series(line: Line, index: Index, singles: tuple[Single, ...] = ()) -> Series:
    """A line with its runs behind it; the only run is the line itself."""
    return Series(
        index=index[line.method],
        xs=line.xs,
        ys=line.centre,
        low=line.low,
        high=line.high,
        singles=singles if len(singles) > 1 else (),
    )


def _point(index: int, x: float, found: Estimate) -> Series:
    """A figure without a curve."""
    ends = None if found.interval is None else (found.interval.low, found.interval.high)
    low, high = (None, None) if ends is None else (np.array([end]) for end in ends)
    return Series(index=index, xs=np.array([x]), ys=np.array([found.value]), low=low, high=high)


def lowered(label: str) -> str:
    """A label within a sentence: `return`, `GPU time`."""
    return label[:1].lower() + label[1:] if label[1:2].islower() else label
