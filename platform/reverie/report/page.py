"""The report as one self-contained HTML page: no request leaves it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources

import numpy as np

from reverie.report.numbers import number, short_number
from reverie.report.study import (
    Aggregate,
    Axis,
    Comparison,
    Efficiency,
    Line,
    Report,
    Style,
    TaskPanel,
)
from reverie.report.svg import Chart, Series
from reverie.report.tables import Cell, Row, estimated, figure, table, words

DASHES = ("none", "7 3", "2 3", "9 3 2 3", "4 2", "1 2", "12 4", "6 2 1 2 1 2")
"""Of the methods in their order: colours alone would not do for everybody."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
"""What a browser may load for the page: nothing."""
WIDE = (560, 300)
"""Pixels of a chart over all tasks."""


def write(report: Report, style: Style | None = None) -> str:
    """The page as text; `style.font` is its font."""
    index = {facts.method: at for at, facts in enumerate(report.methods)}
    sections = (
        _head(report),
        _legend(report),
        _listed("warnings", report.warnings),
        _overview(report, index),
        _tasks(report, index),
        _runs(report, index),
        _published(report),
        _how(report),
    )
    font = "" if style is None else f"body{{font-family:{_font(style.font)},sans-serif}}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.title)}</title><style>{_file('page.css')}{_colours(report)}{font}"
        f'</style></head><body>{"".join(sections)}<div id="tip" role="status" hidden></div>'
        f"<script>{_file('page.js')}</script></body></html>\n"
    )


def _file(name: str) -> str:
    return (resources.files("reverie.report") / name).read_text()


def _font(name: str) -> str:
    """A family as CSS; what would end the rule is dropped."""
    return "".join(c for c in name if c.isalnum() or c in " -_,") or "sans-serif"


def _colours(report: Report) -> str:
    """A rule for each method; in the dark its colour is mixed with white."""
    return "".join(
        f".m{at}{{--c:color-mix(in srgb,{facts.colour},var(--toward) var(--share));"
        f"--d:{DASHES[at % len(DASHES)]}}}"
        for at, facts in enumerate(report.methods)
    )


def _head(report: Report) -> str:
    suites = ", ".join(report.suites)
    runs = sum(facts.runs for facts in report.methods)
    at = "" if report.at is None else f", tables at {short_number(report.at)} {report.x.unit}"
    what = f"{len(report.panels)} {'task' if len(report.panels) == 1 else 'tasks'}, {runs} runs"
    parts = [part for part in (suites, what, report.metric.label + at) if part]
    return f"<h1>{escape(report.title)}</h1><p class='soft'>{escape('; '.join(parts))}</p>"


def _legend(report: Report) -> str:
    buttons = "".join(
        f'<button type="button" class="m{at}" data-m="{at}" aria-pressed="true">'
        '<svg viewBox="0 0 30 8" aria-hidden="true"><line x1="0" x2="30" y1="4" y2="4"/></svg>'
        f"{escape(facts.label)}</button>"
        for at, facts in enumerate(report.methods)
    )
    return f'<div class="legend" role="group" aria-label="Methods shown">{buttons}</div>'


def _listed(kind: str, sentences: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in sentences)
    return f'<ul class="{kind}">{items}</ul>' if items else ""


def _figure(title: str, chart: Chart, note: str = "") -> str:
    below = f"<figcaption>{escape(note)}</figcaption>" if note else ""
    return f"<figure><h3>{escape(title)}</h3>{chart.draw()}{below}</figure>"


def _overview(report: Report, index: Mapping[str, int]) -> str:
    """Figures and tables over all tasks; nothing where there are none."""
    percent = f"{report.level:.0%}"
    figures: list[str] = []
    if report.aggregate_lines:
        human = (("human", 1.0),) if report.normalised else ()
        title = f"IQM of {report.score.label}"
        chart = Chart(
            x=report.x,
            y=report.score,
            series=tuple(_series(line, index) for line in report.aggregate_lines),
            references=human,
            label=f"{title} over {report.x.label}",
            size=WIDE,
        )
        figures.append(_figure(title, chart, f"Band: {percent} bootstrap interval over seeds."))
    if report.profiles:
        curves = [
            Series(index=index[p.method], xs=p.taus, ys=p.share, low=p.low, high=p.high)
            for p in report.profiles
        ]
        chart = Chart(
            x=Axis("tau", f"{report.score.label} above which runs count"),
            y=Axis("share", "Share of runs"),
            series=tuple(curves),
            label="Performance profile: share of runs above each score",
            size=WIDE,
            y_range=(0.0, 1.0),
        )
        figures.append(_figure("Performance profile", chart, f"Band: {percent} interval."))
    tables = [_aggregates(report, index), _comparisons(report), _efficiency(report, index)]
    if not figures and not any(tables):
        return ""
    drawn = f'<div class="grid2">{"".join(figures)}</div>' if figures else ""
    return f"<section><h2>Over all tasks</h2>{drawn}{_facts(report)}{''.join(tables)}</section>"


def _facts(report: Report) -> str:
    """What stands under every figure: the runs that it is made of."""
    lines = "".join(
        f'<div class="m m{at}">{escape(facts.label)}: {escape(facts.line)}</div>'
        for at, facts in enumerate(report.methods)
    )
    return f'<figcaption class="facts">{lines}</figcaption>'


def _series(line: Line, index: Mapping[str, int]) -> Series:
    return Series(
        index=index[line.method], xs=line.xs, ys=line.centre, low=line.low, high=line.high
    )


def _aggregates(report: Report, index: Mapping[str, int]) -> str:
    if not report.aggregates:
        return ""
    columns = ["Method", "Tasks", "IQM", "Median", "Mean", "Optimality gap", "Top 3 tasks' share"]

    def row(found: Aggregate) -> Row:
        share = found.top3_share
        top = Cell(
            "-" if share is None else f"{share:.0%}", share, title=", ".join(found.top3_tasks)
        )
        figures = map(estimated, (found.iqm, found.median, found.mean, found.optimality_gap))
        cells = (_name(report, found.method), figure(found.tasks, str(found.tasks)), *figures, top)
        return Row(cells, index[found.method])

    caption = (
        f"{report.score.label}: value and {report.level:.0%} interval. Bold: best, and its interval"
        " lies apart from all others. Of the optimality gap, less is better; a mean of which three"
        " tasks make most says little about the others."
    )
    return table(caption, columns, [row(found) for found in report.aggregates])


def _comparisons(report: Report) -> str:
    if not report.comparisons:
        return ""
    names = {facts.method: facts.label for facts in report.methods}
    index = {facts.method: at for at, facts in enumerate(report.methods)}

    def row(found: Comparison) -> Row:
        level = "" if found.level is None else f"at an IQM of {number(found.level)}"
        ratio = estimated(found.data_efficiency)
        cells = (
            words(names[found.method]),
            figure(found.tasks, str(found.tasks)),
            estimated(found.improvement),
            estimated(found.iqm_difference),
            Cell(ratio.text, ratio.by, ratio.bold, "; ".join(filter(None, (ratio.title, level)))),
        )
        return Row(cells, index[found.method])

    columns = ["Method", "Tasks", "P(better)", "IQM difference", "Data efficiency"]
    caption = (
        f"Against {names[report.baseline]}, on the tasks both have. Data efficiency: how many times"
        " the data the baseline needs for the same IQM."
    )
    return table(caption, columns, [row(found) for found in report.comparisons])


def _efficiency(report: Report, index: Mapping[str, int]) -> str:
    if not report.efficiency:
        return ""
    unit = report.x.unit
    threshold = next((e.threshold for e in report.efficiency if e.threshold is not None), None)
    columns = ["Method", "Mean IQM on the way"]
    caption = f"Mean IQM on the way: area under its curve, divided by the {unit} it spans."
    if threshold is not None:
        columns += ["Runs that got there", f"Median run, {unit}", f"IQM itself, {unit}"]
        caption += (
            f" Threshold: {number(threshold)}; runs that never got there count as later than any."
        )

    def row(found: Efficiency) -> Row:
        cells = [_name(report, found.method), estimated(found.area)]
        if threshold is not None:
            share = found.reached / found.runs if found.runs else 0.0
            reached = Cell(f"{found.reached} of {found.runs}", share)
            cells += [reached, _when(found.median_x), _when(found.iqm_x)]
        return Row(tuple(cells), index[found.method])

    return table(caption, columns, [row(found) for found in report.efficiency])


def _when(x: float | None) -> Cell:
    return Cell("never", None) if x is None else Cell(short_number(x), x)


def _name(report: Report, method: str) -> Cell:
    return words(next(facts.label for facts in report.methods if facts.method == method))


def _tasks(report: Report, index: Mapping[str, int]) -> str:
    if not report.panels:
        return ""
    figures = "".join(_panel(report, panel, index) for panel in report.panels)
    note = f"Line: mean over seeds; band: {report.level:.0%} interval; thin: single runs."
    return (
        f"<section><h2>Tasks</h2><p class='soft'>{escape(note)}</p>"
        f'<div class="tasks">{figures}</div>{_facts(report)}{_finals(report, index)}</section>'
    )


def _panel(report: Report, panel: TaskPanel, index: Mapping[str, int]) -> str:
    runs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for trace in panel.traces:
        runs.setdefault(trace.method, []).append((trace.xs, trace.ys))
    series = [
        Series(
            index=index[line.method],
            xs=line.xs,
            ys=line.centre,
            low=line.low,
            high=line.high,
            thin=tuple(runs.get(line.method, ())),
        )
        for line in panel.lines
    ]
    known = (("random", panel.random), ("human", panel.human))
    chart = Chart(
        x=report.x,
        y=panel.y,
        series=tuple(series),
        references=tuple((name, value) for name, value in known if value is not None),
        label=f"{panel.label}: {panel.y.label} over {report.x.label}",
        size=(320, 210),
    )
    return _figure(panel.label, chart)


def _finals(report: Report, index: Mapping[str, int]) -> str:
    names = {facts.method: facts.label for facts in report.methods}
    with_threshold = any(panel.reached for panel in report.panels)
    columns = ["Task", "Method", "Value", "Score", "Seeds", f"At, {report.x.unit}"]
    columns += ["Reached", f"Median, {report.x.unit}"] if with_threshold else []
    rows: list[Row] = []
    for panel in report.panels:
        reached = {found.method: found for found in panel.reached}
        for final in panel.finals:
            seeds = ", ".join(f"{s}: {number(v)}" for s, v in final.by_seed.items())
            cells = [
                words(panel.label),
                words(names[final.method]),
                estimated(final.value),
                estimated(final.score),
                Cell(str(len(final.by_seed)), len(final.by_seed), title=seeds),
                Cell(short_number(panel.at), panel.at),
            ]
            if with_threshold:
                found = reached.get(final.method)
                cells += (
                    [Cell("-", None), Cell("-", None)]
                    if found is None
                    else [
                        Cell(f"{found.reached} of {found.runs}", found.reached / found.runs),
                        _when(found.median),
                    ]
                )
            rows.append(Row(tuple(cells), index[final.method]))
    caption = f"Values are {report.metric.label}; scores are {report.score.label}."
    return table(caption, columns, rows)


def _runs(report: Report, index: Mapping[str, int]) -> str:
    """What every method's runs were: what a comparison stands on."""
    columns = ["Method", "Runs", "Tasks", "Seeds per task", "Protocol", "Training ratio"]
    columns += ["Updates per env step", "Hardware", "Budget", "Frames per step", "Hours"]
    columns += ["GPU-hours", "Marks"]
    rows: list[Row] = []
    for facts in report.methods:
        low, high = facts.seeds
        marks = ", ".join(f"{name} ({count})" for name, count in facts.marks.items())
        cells = (
            words(facts.label),
            figure(facts.runs, str(facts.runs)),
            figure(facts.tasks, str(facts.tasks)),
            Cell(str(low) if low == high else f"{low} to {high}", low),
            _several(facts.protocols),
            _several([number(each) for each in facts.training_ratios]),
            _several([f"{each:g}" for each in facts.updates_per_env_step]),
            _several(facts.hardware),
            _several([short_number(each) for each in facts.budgets]),
            _several([str(each) for each in facts.action_repeats]),
            figure(facts.hours),
            figure(facts.gpu_hours),
            words(marks or "-"),
        )
        rows.append(Row(cells, index[facts.method]))
    caption = "What each method's runs say of themselves; - where they do not say."
    return f"<section><h2>Runs</h2>{table(caption, columns, rows)}</section>"


def _several(values: Sequence[str]) -> Cell:
    return words(", ".join(values) or "-")


def _published(report: Report) -> str:
    if not report.published:
        return ""
    columns = ["Method", "Suite", "IQM", "Median", "Mean", "Optimality gap", "Seeds"]
    columns += ["Origin", "Note", "Source"]
    rows = [
        Row(
            (
                words(found.name),
                words(found.suite),
                figure(found.iqm),
                figure(found.median),
                figure(found.mean),
                figure(found.optimality_gap),
                Cell("-" if found.seeds is None else str(found.seeds), found.seeds),
                words(found.origin),
                words(found.note or "-"),
                words(found.source),
            )
        )
        for found in report.published
    ]
    caption = (
        "Published figures, for orientation: budgets, ratios, protocols and seeds are theirs;"
        " no interval of ours says anything about them."
    )
    return f"<section><h2>Published</h2>{table(caption, columns, rows)}</section>"


def _how(report: Report) -> str:
    sources = "".join(f"<li>{escape(each)}</li>" for each in report.sources)
    skipped = f"<h3>Skipped</h3>{_listed('notes', report.notes)}" if report.notes else ""
    return (
        f"<section><h2>How it was computed</h2>{_listed('rules', report.rules)}{skipped}"
        f'<details><summary class="soft">Sources ({len(report.sources)})</summary>'
        f"<ul>{sources}</ul></details>"
        f"<p class='soft'>{escape(report.command)}<br>Reverie {escape(report.version)}</p></section>"
    )
