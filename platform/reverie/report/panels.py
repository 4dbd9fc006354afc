"""Figures of one task."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from reverie.report import statistics as st
from reverie.report.frame import Frame, make_grid, make_line
from reverie.report.study import Axis, Final, Line, Reached, TaskPanel, Trace
from reverie.report.table import Run, Task, benchmark_of, is_own
from reverie.report.tasks import label, references
from reverie.types import Array

PANEL_POINTS = 240
"""Most points of a curve in a figure."""
TASK_RESAMPLES = 10_000


def panel(frame: Frame, task: Task) -> TaskPanel:
    """One task's figure and its row of the table."""
    cells = {
        m: frame.table.cells[m, task] for m in frame.table.methods if (m, task) in frame.table.cells
    }
    runs = [run for cell in cells.values() for run in cell]
    bench = benchmark_of(runs[0].curve)
    low, high = references(*task) if is_own(runs[0].curve) else (None, None)
    finals = [_final(frame, method, task) for method in cells]
    best = st.mark_best([final.value for final in finals])
    return TaskPanel(
        task=frame.table.name(task),
        label=label(frame.table.name(task)),
        y=Axis(bench.metric, bench.label, bench.unit),
        at=frame.ends[task],
        random=low,
        human=high,
        lines=tuple(line for m in cells if (line := _task_line(frame, m, task)) is not None),
        traces=tuple(_trace(run) for run in runs),
        finals=tuple(replace(f, value=v) for f, v in zip(finals, best, strict=True)),
        reached=tuple(_reached(frame, m, task, frame.options.threshold) for m in cells)
        if frame.options.threshold is not None
        else (),
    )


def _task_line(frame: Frame, method: str, task: Task) -> Line | None:
    runs = frame.table.cells[method, task]
    begin, end = max(float(run.xs[0]) for run in runs), frame.ends[task]
    if begin >= end:
        return None
    grid = make_grid(runs, begin, end, PANEL_POINTS)
    values = np.stack([run.at(grid) for run in runs])

    draws = None
    if len(runs) >= st.LEAST_SEEDS:
        (indices,) = frame.draw(method, [task], frame.options.curve_resamples)
        draws = st.mean_draws(values, indices)
    return make_line(method, grid, values.mean(0), draws, len(runs))


def _final(frame: Frame, method: str, task: Task) -> Final:
    runs = frame.table.cells[method, task]
    end = np.array([frame.ends[task]])
    values = np.array([run.at(end)[0] for run in runs])
    scores = np.array([run.scores_at(end)[0] for run in runs])
    (indices,) = frame.draw(method, [task], min(TASK_RESAMPLES, frame.options.resamples))
    counts = st.counts(indices) / len(runs)
    return Final(
        method=method,
        value=st.estimate(float(values.mean()), counts @ values, len(runs)),
        score=st.estimate(float(scores.mean()), counts @ scores, len(runs)),
        by_seed={run.curve.seed: float(value) for run, value in zip(runs, values, strict=True)},
    )


def _reached(frame: Frame, method: str, task: Task, threshold: float) -> Reached:
    found = frame.first_reached(method, task, threshold)
    return Reached(
        method=method,
        threshold=threshold,
        reached=sum(x is not None for x in found.values()),
        runs=len(found),
        median=st.median_or_never(list(found.values())),
        by_seed=found,
    )


def thin(run: Run, most: int = PANEL_POINTS) -> tuple[Array, Array]:
    """At most `most` of a run's evaluations, the first and the last among them."""
    count = len(run.xs)
    if count <= most:
        return run.xs, run.values
    chosen = np.unique(np.linspace(0, count - 1, most).round().astype(int))
    return run.xs[chosen], run.values[chosen]


def _trace(run: Run) -> Trace:
    xs, ys = thin(run)
    curve = run.curve
    return Trace(method=curve.method, seed=curve.seed, xs=xs, ys=ys, marks=curve.facts.marks)
