"""From a study to the report: the one place where statistics meet what is printed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import numpy as np

from reverie.report import aggregates, checks
from reverie.report import statistics as st
from reverie.report.frame import BuildOptions, Frame
from reverie.report.panels import panel
from reverie.report.study import Axis, Report, Study
from reverie.report.table import benchmark_of, is_own, make_table
from reverie.report.tasks import published

EARLY = 0.95
"""A run that ends before this share of the others' x is named."""


def build_report(study: Study, options: BuildOptions | None = None) -> Report:
    """Compute everything.

    Raises:
        ConfigError: runs that do not belong in one table, curves that lack the chosen x or end
            before `at`, or a style that names what is not there; in one line.
    """
    options = options or BuildOptions()
    curves, mixed = checks.refuse_or_mark_mixed(study.curves, options.allow_mixed)
    table = make_table(curves, options.x, options.style)
    facts = checks.method_facts(table, options.style)
    frame = Frame(table, options)
    first = table.cells[table.methods[0], table.shared(table.methods[0])[0]][0]
    bench = benchmark_of(first.curve)
    own = is_own(first.curve)
    return Report(
        title=options.title,
        suites=table.suites,
        metric=Axis(first.curve.metric.removeprefix("eval/"), bench.label, bench.unit),
        score=_score_axis(bench.label, bench.unit, bench.normalised, bench.scale if own else 1.0),
        normalised=bench.normalised,
        x=table.axis,
        at=frame.at,
        level=st.LEVEL,
        methods=facts,
        baseline=frame.baseline,
        panels=tuple(panel(frame, task) for task in table.tasks),
        aggregates=aggregates.aggregates(frame, bench.bounded),
        aggregate_lines=aggregates.aggregate_lines(frame),
        profiles=aggregates.profiles(frame),
        efficiency=aggregates.efficiency(frame),
        comparisons=aggregates.comparisons(frame),
        published=published(table.suites) if options.published else (),
        rules=_rules(frame),
        warnings=(
            *mixed,
            *checks.marked(facts),
            *checks.uneven_seeds(table),
            *checks.uneven_tasks(table),
            *_early(frame),
        ),
        notes=study.notes,
        sources=tuple(dict.fromkeys(curve.source for curve in study.curves)),
        command=options.command,
        version=_version(),
    )


def _score_axis(name: str, unit: str, normalised: bool, scale: float) -> Axis:
    if normalised:
        return Axis("human_normalised", "Human-normalised score")
    if scale != 1:
        return Axis("score", f"{name} / {scale:,.0f}")
    return Axis("score", name, unit)


def _version() -> str:
    try:
        return version("reverie")
    except PackageNotFoundError:
        return "unknown"


def _rules(frame: Frame) -> tuple[str, ...]:
    """How everything was computed."""
    unit, options = frame.table.axis.unit, frame.options
    where = (
        "Tables give each task at the last x that all of its runs have reached."
        if frame.at is None
        else f"Tables give scores at {frame.at:,.6g} {unit}, "
        + ("as asked for." if options.at is not None else "the last x that all runs reached.")
    )
    return (
        where,
        "At each x a run counts with its last evaluation at or before that x; nothing is"
        " interpolated. Past its last evaluation a run counts for at most its longest gap"
        " between two evaluations, or to the budget that it finished; nothing is extrapolated.",
        f"Intervals are {st.LEVEL:.0%} percentile intervals of a bootstrap over seeds, stratified"
        f" by task ({options.resamples:,} resamples in tables, {options.curve_resamples:,} in"
        f" curves); fewer than {st.LEAST_SEEDS} seeds get none.",
        "IQM is the mean of the middle half of all runs of all tasks; the median is that of the"
        " tasks' means; the optimality gap is the mean of what runs lack to a score of 1.",
        "P(improvement) is the chance that a run of the method scores higher than one of the"
        " baseline on the same task, mean over tasks, ties counting half.",
        "Data efficiency is the x at which the baseline's IQM first reached the lower of both"
        " final IQMs, divided by the method's.",
        "Runs that never reached a threshold count as later than any run that did.",
    )


def _early(frame: Frame) -> list[str]:
    """Names the run that ends long before the others and so decides where tables are taken."""
    if frame.options.at is not None or frame.at is None:
        return []
    runs = frame.table.runs
    usual = float(np.median([run.xs[-1] for run in runs]))
    first = min(runs, key=lambda run: run.reach)
    if first.reach >= EARLY * usual:
        return []
    curve, unit = first.curve, frame.table.axis.unit
    return [
        f"All tables are taken at {frame.at:,.6g} {unit}, because {curve.method} on"
        f" {curve.task} with seed {curve.seed} ({curve.source}) ends there, while half of the"
        f" runs reach {usual:,.6g} {unit}."
    ]
