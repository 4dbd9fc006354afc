"""What all figures of a report share: runs, where they are compared, and draws of seeds.

Random numbers: every method draws from `default_rng([0, crc32(name)])`, anew for each figure, so
that no figure depends on which other methods, tasks or figures there are.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from reverie.errors import ConfigError
from reverie.report import statistics as st
from reverie.report.study import AxisName, Line, Style
from reverie.report.table import Run, Table, Task
from reverie.types import Array

AGGREGATE_POINTS = 120
"""Most points at which the IQM is resampled."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildOptions:
    """What the user asks of a report."""

    title: str = "Report"
    x: AxisName = "env_steps"
    at: float | None = None
    """x of all tables; None: the last that every run reached."""
    threshold: float | None = None
    """A score whose x is asked for."""
    allow_mixed: bool = False
    published: bool = False
    style: Style = field(default_factory=Style)
    resamples: int = st.RESAMPLES
    curve_resamples: int = st.CURVE_RESAMPLES
    command: str = ""


class Frame:
    """The runs of a report and where its tables are taken.

    Raises:
        ConfigError: a run ends before `options.at`.
    """

    def __init__(self, table: Table, options: BuildOptions) -> None:
        self.table, self.options = table, options
        self.ends = _ends(table, options)
        """By task, the x at which its figures of tables are taken."""
        self.baseline = options.style.baseline or table.methods[0]
        values = set(self.ends.values())
        several = len({suite for suite, _ in table.tasks}) > 1 or len(values) > 1
        self.at = None if several else values.pop()
        self.shared = of_one_suite(table.shared(*table.methods))
        """Tasks of all methods, over which aggregates go."""
        self._iqm_draws: dict[tuple[str, tuple[Task, ...], bytes], Array] = {}

    def draw(self, method: str, tasks: Sequence[Task], resamples: int | None = None) -> list[Array]:
        generator = np.random.default_rng([0, zlib.crc32(method.encode())])
        sizes = [len(self.table.cells[method, task]) for task in tasks]
        return st.draw(generator, sizes, resamples or self.options.resamples)

    def finals(self, method: str, tasks: Sequence[Task]) -> list[Array]:
        """Scores [seeds] per task, where tables are taken."""
        return [
            np.array(
                [
                    run.scores_at(np.array([self.ends[task]]))[0]
                    for run in self.table.cells[method, task]
                ]
            )
            for task in tasks
        ]

    def curves(self, method: str, tasks: Sequence[Task], grid: Array) -> list[Array]:
        """Scores [seeds, x] per task."""
        return [
            np.stack([run.scores_at(grid) for run in self.table.cells[method, task]])
            for task in tasks
        ]

    def grid(self, methods: Sequence[str], tasks: Sequence[Task]) -> Array | None:
        """The x that all runs of the methods share; None where that is no stretch."""
        runs = [run for m in methods for task in tasks for run in self.table.cells[m, task]]
        begin = max(float(run.xs[0]) for run in runs)
        end = min(self.ends[task] for task in tasks)
        grid = make_grid(runs, begin, end, AGGREGATE_POINTS) if begin < end else np.empty(0)
        grid = grid[grid > 0]
        return grid if len(grid) > 1 else None

    def first_reached(
        self, method: str, task: Task, threshold: float | None
    ) -> dict[str, float | None]:
        """By seed the x at which a score was first reached; None: not by the end."""
        if threshold is None:
            return {}
        found: dict[str, float | None] = {}
        for run in self.table.cells[method, task]:
            there = (run.scores >= threshold) & (run.xs <= self.ends[task])
            found[run.curve.seed] = float(run.xs[np.argmax(there)]) if there.any() else None
        return found

    def iqm_curve_draws(self, method: str, tasks: Sequence[Task], grid: Array) -> Array:
        """IQM over x of each draw, [resamples, x]; computed once."""
        key = method, tuple(tasks), grid.tobytes()
        if key not in self._iqm_draws:
            indices = self.draw(method, tasks, self.options.curve_resamples)
            curves = self.curves(method, tasks, grid)
            self._iqm_draws[key] = st.iqm_curve_draws(curves, indices)
        return self._iqm_draws[key]


def of_one_suite(tasks: list[Task]) -> list[Task]:
    """The tasks, none where they are of several suites: such scores have no common mean."""
    return [] if len({suite for suite, _ in tasks}) > 1 else tasks


def _ends(table: Table, options: BuildOptions) -> Mapping[Task, float]:
    """Where each task's tables are taken: all at one x unless the tasks are of several suites.

    Raises:
        ConfigError: a run ends before `options.at`.
    """
    if options.at is not None:
        for run in table.runs:
            if run.reach < options.at:
                raise ConfigError(
                    f"--at {options.at:g}: {run.curve.source} ({run.curve.method},"
                    f" {run.curve.task}, seed {run.curve.seed}) ends at {run.xs[-1]:g};"
                    " nothing is extrapolated"
                )
        return dict.fromkeys(table.tasks, options.at)
    groups: dict[str | None, list[Task]] = {}
    for task in table.tasks:
        groups.setdefault(task[0], []).append(task)
    ends: dict[Task, float] = {}
    for tasks in groups.values():
        runs = [
            run for m in table.methods for task in tasks for run in table.cells.get((m, task), ())
        ]
        end = min(min(run.reach for run in runs), max(float(run.xs[-1]) for run in runs))
        ends |= dict.fromkeys(tasks, end)
    return ends


def make_grid(runs: Sequence[Run], begin: float, end: float, most: int) -> Array:
    """The x at which runs are compared: those of their evaluations, or `most` evenly spaced ones
    where there are more of them.
    """
    xs: Array = np.unique(np.concatenate([run.xs for run in runs]))
    xs = xs[(xs >= begin) & (xs <= end)]
    if len(xs) > most:
        return np.linspace(begin, end, most)
    return xs if len(xs) and xs[-1] == end else np.append(xs, end)


def make_line(method: str, grid: Array, centre: Array, draws: Array | None, seeds: int) -> Line:
    """A curve with the interval of its `draws` [resamples, x], where there are any."""
    low, high = (None, None) if draws is None else st.percentiles(draws)
    return Line(method=method, xs=grid, centre=centre, low=low, high=high, seeds=seeds)
