"""Figures over all tasks: aggregates, comparisons, sample efficiency, profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from reverie.report import statistics as st
from reverie.report.frame import Frame, make_line, of_one_suite
from reverie.report.study import (
    FIELDS,
    Aggregate,
    Comparison,
    Efficiency,
    Estimate,
    Line,
    Profile,
)
from reverie.report.table import Task
from reverie.types import Array

TAUS = 101
"""Points of a performance profile."""


def aggregates(frame: Frame, bounded: bool) -> tuple[Aggregate, ...]:
    """Each method over the tasks of all; with an optimality gap where a score of 1 means much."""
    if not frame.shared:
        return ()
    names = [name for name in FIELDS if bounded or name != "optimality_gap"]
    chosen = {name: st.STATISTICS[name] for name in names}
    found = [
        st.estimates(frame.finals(m, frame.shared), chosen, frame.draw(m, frame.shared))
        for m in frame.table.methods
    ]
    columns = {
        name: st.mark_best([one[name] for one in found], least=name == "optimality_gap")
        for name in names
    }
    return tuple(
        _aggregate(frame, m, {name: columns[name][i] for name in names})
        for i, m in enumerate(frame.table.methods)
    )


def _aggregate(frame: Frame, method: str, found: Mapping[str, Estimate]) -> Aggregate:
    means = np.array([runs.mean() for runs in frame.finals(method, frame.shared)])
    share, best = st.top_share(means)
    return Aggregate(
        method=method,
        tasks=len(frame.shared),
        mean=found["mean"],
        median=found["median"],
        iqm=found["iqm"],
        optimality_gap=found.get("optimality_gap"),
        top3_share=share,
        top3_tasks=tuple(frame.table.name(frame.shared[i]) for i in best),
    )


def comparisons(frame: Frame) -> tuple[Comparison, ...]:
    """Every other method against the baseline."""
    others = [method for method in frame.table.methods if method != frame.baseline]
    return tuple(
        _comparison(frame, method, tasks)
        for method in others
        if (tasks := of_one_suite(frame.table.shared(method, frame.baseline)))
    )


def _comparison(frame: Frame, method: str, tasks: list[Task]) -> Comparison:
    ours, theirs = frame.finals(method, tasks), frame.finals(frame.baseline, tasks)
    i, j = frame.draw(method, tasks), frame.draw(frame.baseline, tasks)
    seeds = min(st.fewest(ours), st.fewest(theirs))
    both = st.Resampled([runs[None] for runs in ours]), st.Resampled([r[None] for r in theirs])
    efficiency, level = _data_efficiency(frame, method, tasks, seeds)
    draws = None if seeds < st.LEAST_SEEDS else _iqm_draws(ours, i) - _iqm_draws(theirs, j)
    return Comparison(
        method=method,
        baseline=frame.baseline,
        tasks=len(tasks),
        improvement=st.estimate(
            st.improvement(ours, theirs), st.improvement_draws(ours, theirs, i, j), seeds
        ),
        iqm_difference=st.estimate(float(st.iqm(both[0])[0] - st.iqm(both[1])[0]), draws, seeds),
        data_efficiency=efficiency,
        level=level,
    )


def _data_efficiency(
    frame: Frame, method: str, tasks: list[Task], seeds: int
) -> tuple[Estimate | None, float | None]:
    grid = frame.grid([method, frame.baseline], tasks)
    if grid is None:
        return None, None
    pair = method, frame.baseline
    ours, theirs = (st.iqm_curve(frame.curves(m, tasks, grid)) for m in pair)
    ratio, level = st.data_efficiency(grid, ours, theirs)
    draws = None
    if seeds >= st.LEAST_SEEDS:
        draws, _ = st.data_efficiency(grid, *(frame.iqm_curve_draws(m, tasks, grid) for m in pair))
    return st.estimate(float(ratio), draws, seeds), float(level)


def efficiency(frame: Frame) -> tuple[Efficiency, ...]:
    if not frame.shared:
        return ()
    grid = frame.grid(frame.table.methods, frame.shared)
    if grid is None:
        return ()
    return tuple(_efficiency(frame, method, grid) for method in frame.table.methods)


def _efficiency(frame: Frame, method: str, grid: Array) -> Efficiency:
    curves, threshold = frame.curves(method, frame.shared, grid), frame.options.threshold
    whole, seeds = st.iqm_curve(curves), st.fewest(curves)
    draws = None
    if seeds >= st.LEAST_SEEDS:
        drawn = frame.iqm_curve_draws(method, frame.shared, grid)
        draws = st.area(grid, drawn)
    reached = [
        x for task in frame.shared for x in frame.first_reached(method, task, threshold).values()
    ]
    iqm_x = None if threshold is None else float(st.first_reaching(grid, whole, threshold))
    return Efficiency(
        method=method,
        area=st.estimate(float(st.area(grid, whole)), draws, seeds),
        threshold=threshold,
        reached=sum(x is not None for x in reached),
        runs=sum(len(runs) for runs in curves),
        median_x=st.median_or_never(reached) if threshold is not None else None,
        iqm_x=None if iqm_x is None or np.isinf(iqm_x) else iqm_x,
    )


def aggregate_lines(frame: Frame) -> tuple[Line, ...]:
    """IQM over x, per method from the x on at which all of its runs have a value."""
    lines: list[Line] = []
    for method in frame.table.methods if frame.shared else ():
        grid = frame.grid([method], frame.shared)
        if grid is None:
            continue
        curves = frame.curves(method, frame.shared, grid)
        seeds = st.fewest(curves)
        draws = None
        if seeds >= st.LEAST_SEEDS:
            draws = frame.iqm_curve_draws(method, frame.shared, grid)
        lines.append(make_line(method, grid, st.iqm_curve(curves), draws, seeds))
    return tuple(lines)


def profiles(frame: Frame) -> tuple[Profile, ...]:
    if not frame.shared:
        return ()
    finals = {m: frame.finals(m, frame.shared) for m in frame.table.methods}
    pooled = np.concatenate([runs for scores in finals.values() for runs in scores])
    low, high = (float(x) for x in np.percentile(pooled, [1, 99]))
    taus = np.linspace(min(low, 0.0), max(high, 1e-9), TAUS)
    found: list[Profile] = []
    for method, scores in finals.items():
        ends: tuple[Array | None, Array | None] = None, None
        if st.fewest(scores) >= st.LEAST_SEEDS:
            most = frame.options.curve_resamples
            indices = frame.draw(method, frame.shared, most)
            ends = st.percentiles(st.profile_draws(scores, taus, indices))
        share = st.profile(scores, taus)
        found.append(Profile(method=method, taus=taus, share=share, low=ends[0], high=ends[1]))
    return tuple(found)


def _iqm_draws(scores: st.Scores, indices: Sequence[Array]) -> Array:
    """IQM of each draw, a batch at a time."""
    batches = range(0, len(indices[0]), st.BATCH)
    return np.concatenate(
        [st.iqm(st.resample(scores, [i[b : b + st.BATCH] for i in indices])) for b in batches]
    )
