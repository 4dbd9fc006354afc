"""What is computed from scores: aggregates, intervals, profiles, comparisons, sample efficiency.

Scores of a method are a list with one float64 array [seeds] per task (`Scores`), or with one array
[seeds, x] per task (`ScoreCurves`). Resampling is stratified: the seeds of each task are drawn anew
with replacement, tasks never. A draw is kept as `Counts`, how often each seed was drawn, because
means over seeds are then matrix products.

The order of random numbers is part of what this file promises: `draw(generator, sizes, resamples)`
calls `generator.integers(seeds, size=(resamples, seeds))` once per task, in order.

Definitions are those of arXiv:2108.13264v4 and of its package (IQM: the mean of what is left once
the lowest and the highest quarter of all runs, rounded down, are cut off; median: of the tasks'
means; P(improvement): ties count half). Intervals are bootstrap percentiles, interpolated linearly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reverie.report.study import Estimate, Interval
from reverie.types import Array

Scores = Sequence[Array]
"""[seeds] per task; tasks may differ in seeds."""
ScoreCurves = Sequence[Array]
"""[seeds, x] per task."""
Statistic = Callable[["Resampled"], Array]

RESAMPLES = 50_000
"""For the figures of tables."""
CURVE_RESAMPLES = 2_000
"""For each x of a figure."""
LEVEL = 0.95
LEAST_SEEDS = 3
"""Fewer give no interval: a bootstrap over two seeds has three outcomes."""
BATCH = 5_000
"""Resamples that are held at once."""


@dataclass(frozen=True, slots=True)
class Resampled:
    """Scores of some draws of seeds; a draw of every seed once is the sample itself."""

    runs: list[Array]
    """[resamples, seeds] per task."""

    @property
    def task_means(self) -> Array:
        """Means over seeds, [resamples, tasks]."""
        return np.stack([runs.mean(-1) for runs in self.runs], -1)

    @property
    def pooled(self) -> Array:
        """Runs of all tasks side by side, [resamples, runs]."""
        return np.concatenate(self.runs, -1)


def mean(scores: Resampled) -> Array:
    return scores.task_means.mean(-1)


def median(scores: Resampled) -> Array:
    """Of the tasks' means."""
    return np.median(scores.task_means, -1)


def iqm(scores: Resampled) -> Array:
    """Interquartile mean over all runs of all tasks."""
    return middle_mean(scores.pooled)


def optimality_gap(scores: Resampled) -> Array:
    """Mean over tasks of what their runs lack to score 1; more than 1 counts as 1."""
    return np.stack([1 - np.minimum(runs, 1).mean(-1) for runs in scores.runs], -1).mean(-1)


STATISTICS: dict[str, Statistic] = {
    "mean": mean,
    "median": median,
    "iqm": iqm,
    "optimality_gap": optimality_gap,
}


def middle_mean(values: Array) -> Array:
    """Mean over the last axis without its lowest and highest quarter, each rounded down."""
    count = values.shape[-1]
    cut = count // 4
    if cut:
        values = np.sort(values, -1)[..., cut : count - cut]  # 2.6 times as fast as np.partition
    return values.mean(-1)


def top_share(task_means: Array, most: int = 3) -> tuple[float | None, list[int]]:
    """Share of the mean that the `most` highest tasks make, and their indices, highest first.

    None where there are no further tasks, or where the tasks' sum is not positive.
    """
    best = np.argsort(-task_means, kind="stable")[:most]
    total = float(task_means.sum())
    if len(task_means) <= most or total <= 0:
        return None, best.tolist()
    return float(task_means[best].sum()) / total, best.tolist()


# Bootstrap


def draw(generator: np.random.Generator, sizes: Sequence[int], resamples: int) -> list[Array]:
    """Indices of drawn seeds, int64 [resamples, seeds] per task."""
    return [generator.integers(size, size=(resamples, size)) for size in sizes]


def counts(indices: Array) -> Array:
    """How often each seed was drawn, float64 [resamples, seeds], from [resamples, seeds]."""
    resamples, seeds = len(indices), int(indices.shape[1])
    rows = np.arange(resamples)[:, None]
    found = np.bincount(np.ravel(indices + rows * seeds), minlength=resamples * seeds)
    return found.reshape(resamples, seeds).astype(np.float64)


def resample(scores: Scores, indices: Sequence[Array]) -> Resampled:
    return Resampled([runs[drawn] for runs, drawn in zip(scores, indices, strict=True)])


def percentiles(draws: Array, level: float = LEVEL) -> tuple[Array, Array]:
    """Low and high end of the interval over the first axis, interpolated linearly."""
    ordered = np.sort(np.moveaxis(draws, 0, -1), -1)  # twice as fast as np.percentile
    places = (len(draws) - 1) * np.array([(1 - level) / 2, (1 + level) / 2])
    below = np.floor(places).astype(int)
    above = np.minimum(below + 1, len(draws) - 1)
    ends = ordered[..., below] + (places - below) * (ordered[..., above] - ordered[..., below])
    return ends[..., 0], ends[..., 1]


def fewest(scores: Sequence[Array]) -> int:
    """Seeds of the task with fewest."""
    return min(len(runs) for runs in scores)


def estimate(value: float, draws: Array | None, seeds: int, level: float = LEVEL) -> Estimate:
    """A figure with the interval of its `draws` [resamples]; without where seeds are too few."""
    if draws is None or seeds < LEAST_SEEDS:
        return Estimate(value, None, seeds)
    low, high = percentiles(draws, level)
    return Estimate(value, Interval(float(low), float(high)), seeds)


def estimates(
    scores: Scores,
    statistics: dict[str, Statistic],
    indices: Sequence[Array] | None,
    level: float = LEVEL,
) -> dict[str, Estimate]:
    """Each statistic by name, with its interval over the draws `indices`; None draws nothing."""
    whole = Resampled([runs[None] for runs in scores])
    draws: dict[str, list[Array]] = {name: [] for name in statistics}
    seeds = fewest(scores)
    if indices is not None and seeds >= LEAST_SEEDS:
        for begin in range(0, len(indices[0]), BATCH):
            some = resample(scores, [drawn[begin : begin + BATCH] for drawn in indices])
            for name, statistic in statistics.items():
                draws[name].append(statistic(some))
    return {
        name: estimate(
            float(statistic(whole)[0]),
            np.concatenate(draws[name]) if draws[name] else None,
            seeds,
            level,
        )
        for name, statistic in statistics.items()
    }


def mark_best(column: Sequence[Estimate], *, least: bool = False) -> list[Estimate]:
    """The column with its best figure marked, if its interval lies apart from all others'."""
    sign = -1 if least else 1
    if len(column) < 2 or any(one.interval is None for one in column):
        return list(column)
    best = max(range(len(column)), key=lambda i: sign * column[i].value)
    low = _low(column[best], sign)
    apart = all(_high(one, sign) < low for i, one in enumerate(column) if i != best)
    return [replace(one, best=apart and i == best) for i, one in enumerate(column)]


def _low(one: Estimate, sign: int) -> float:
    assert one.interval is not None
    return one.interval.low if sign > 0 else -one.interval.high


def _high(one: Estimate, sign: int) -> float:
    assert one.interval is not None
    return one.interval.high if sign > 0 else -one.interval.low


# Comparisons


def improvement(xs: Scores, ys: Scores) -> float:
    """P(a run of `xs` scores higher than one of `ys` of the same task), mean over tasks."""
    return float(np.mean([_wins(x, y).mean() for x, y in zip(xs, ys, strict=True)]))


def improvement_draws(
    xs: Scores, ys: Scores, x_drawn: Sequence[Array], y_drawn: Sequence[Array]
) -> Array:
    """`improvement` of each draw, [resamples]; seeds of both are drawn apart."""
    total = np.zeros(len(x_drawn[0]))
    for x, y, i, j in zip(xs, ys, x_drawn, y_drawn, strict=True):
        total += ((counts(i) @ _wins(x, y)) * counts(j)).sum(-1) / (len(x) * len(y))
    return total / len(xs)


def _wins(x: Array, y: Array) -> Array:
    """[seeds of x, seeds of y]: 1 where x is higher, 0.5 where they are equal."""
    return (x[:, None] > y) + 0.5 * (x[:, None] == y)


def profile(scores: Scores, taus: Array) -> Array:
    """Share of runs that score more than each tau, mean over tasks, [taus]."""
    return np.mean([(runs[:, None] > taus).mean(0) for runs in scores], 0)


def profile_draws(scores: Scores, taus: Array, indices: Sequence[Array]) -> Array:
    """`profile` of each draw, [resamples, taus]."""
    total = np.zeros((len(indices[0]), len(taus)))
    for runs, drawn in zip(scores, indices, strict=True):
        total += counts(drawn) @ (runs[:, None] > taus).astype(np.float64) / len(runs)
    return total / len(scores)


# Curves


def reach(xs: Array, budget: float | None = None) -> float:
    """How far a curve counts: to its last evaluation and on for at most the longest gap between
    two of its evaluations, or to the budget of a run that finished.
    """
    gap = float(np.diff(xs).max()) if len(xs) > 1 else 0.0
    return max(float(xs[-1]) + gap, budget or 0.0)


def at_or_before(xs: Array, ys: Array, grid: Array) -> Array:
    """The last value at or before each x of `grid`; NaN before the first. Nothing is interpolated.

    Where the grid ends is the caller's business, see `reach`.
    """
    index = np.searchsorted(xs, grid, side="right") - 1
    return np.where(index >= 0, ys[np.maximum(index, 0)], np.nan)


def mean_draws(runs: Array, indices: Array) -> Array:
    """Means over drawn seeds of curves [seeds, x], as [resamples, x]."""
    return counts(indices) @ runs / len(runs)


def iqm_curve(curves: ScoreCurves) -> Array:
    """IQM at each x, [x]."""
    return middle_mean(np.concatenate(curves).T)


def iqm_curve_draws(curves: ScoreCurves, indices: Sequence[Array]) -> Array:
    """`iqm_curve` of each draw, [resamples, x]."""
    points = curves[0].shape[1]
    drawn = np.empty((len(indices[0]), points))
    for point in range(points):
        at = [runs[:, point] for runs in curves]
        drawn[:, point] = iqm(resample(at, indices))
    return drawn


def area(grid: Array, curve: Array) -> Array:
    """Mean over x of step-wise curves [..., x]: each value holds until the next x of the grid."""
    widths = np.diff(grid)
    if not len(widths):
        return curve[..., 0]
    return (curve[..., :-1] * widths).sum(-1) / widths.sum()


def first_reaching(grid: Array, curve: Array, level: Array | float) -> Array:
    """The x at which curves [..., x] are first at `level` [...] or above; infinite: never."""
    there = curve >= np.asarray(level)[..., None]
    found = grid[np.argmax(there, -1)]
    return np.where(there.any(-1), found, np.inf)


def data_efficiency(grid: Array, curve: Array, baseline: Array) -> tuple[Array, Array]:
    """How many x the baseline needs per x of the method, to the level that both reach.

    That level is the lower one of their last values.

    Args:
        grid: [x], all positive.
        curve: [..., x] of the method.
        baseline: [..., x].

    Returns:
        The ratio and the level, [...] each.
    """
    level = np.minimum(curve[..., -1], baseline[..., -1])
    ratio = first_reaching(grid, baseline, level) / first_reaching(grid, curve, level)
    return ratio, level


def median_or_never(reached: Sequence[float | None]) -> float | None:
    """Median of x, None being later than any; None where the median falls among those."""
    values = sorted(np.inf if x is None else x for x in reached)
    middle = len(values) // 2
    low, high = values[(len(values) - 1) // 2], values[middle]
    return None if np.isinf(high) else (low + high) / 2
