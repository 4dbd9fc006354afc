"""A study as a table of runs by method and task, on one x-axis and ready to be aligned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reverie.errors import ConfigError
from reverie.report.statistics import at_or_before, reach
from reverie.report.study import Axis, AxisName, Curve, Style
from reverie.report.tasks import Benchmark, benchmark, scores
from reverie.types import Array

AXES: dict[AxisName, Axis] = {
    "env_steps": Axis("env_steps", "Environment steps", "steps"),
    "updates": Axis("updates", "Gradient updates", "updates"),
    "hours": Axis("hours", "Wall-clock time", "h"),
    "gpu_hours": Axis("gpu_hours", "GPU time", "GPU-h"),
}
Task = tuple[str | None, str]
"""Suite and name."""


@dataclass(frozen=True, slots=True)
class Run:
    """One curve on the chosen axis."""

    curve: Curve
    xs: Array
    """float64 [N], in the axis's unit, strictly rising."""
    values: Array
    scores: Array
    reach: float
    """How far along x it counts."""

    def at(self, grid: Array) -> Array:
        """Values at each x of the grid."""
        return at_or_before(self.xs, self.values, grid)

    def scores_at(self, grid: Array) -> Array:
        return at_or_before(self.xs, self.scores, grid)


@dataclass(frozen=True, slots=True)
class Table:
    """All runs, in the order in which they are shown."""

    axis: Axis
    methods: tuple[str, ...]
    tasks: tuple[Task, ...]
    cells: Mapping[tuple[str, Task], tuple[Run, ...]]
    """By seed; absent where a method has no run of the task."""

    @property
    def suites(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(suite for suite, _ in self.tasks if suite))

    @property
    def runs(self) -> list[Run]:
        return [run for cell in self.cells.values() for run in cell]

    def of(self, method: str) -> list[Run]:
        return [run for task in self.tasks for run in self.cells.get((method, task), ())]

    def shared(self, *methods: str) -> list[Task]:
        """Tasks that each of the methods has."""
        return [
            task for task in self.tasks if all((method, task) in self.cells for method in methods)
        ]

    def name(self, task: Task) -> str:
        """A task's name, with its suite where there are several."""
        suites = {suite for suite, _ in self.tasks}
        return task[1] if len(suites) == 1 or task[0] is None else f"{task[0]}/{task[1]}"


def is_own(curve: Curve) -> bool:
    """Whether its values are what the suite's scores are made of."""
    return curve.metric in ("score", f"eval/{benchmark(curve.suite).metric}")


def benchmark_of(curve: Curve) -> Benchmark:
    """How its values are reported; another metric than the suite's is reported as it is."""
    if is_own(curve):
        return benchmark(curve.suite)
    normalised = curve.metric == "eval/human_normalised"
    return Benchmark(label=curve.metric, normalised=normalised, bounded=normalised)


def make_table(curves: Sequence[Curve], axis: AxisName, style: Style) -> Table:
    """Order the runs and put them on the axis.

    Raises:
        ConfigError: a curve lacks the axis, or the style names what is not there.
    """
    runs = [_run(curve, axis) for curve in curves]
    methods = _ordered(curves, style)
    cells: dict[tuple[str, Task], list[Run]] = {}
    for run in runs:
        key = run.curve.method, (run.curve.suite, run.curve.task)
        cells.setdefault(key, []).append(run)
    tasks = sorted({task for _, task in cells}, key=lambda task: (task[0] or "", task[1]))
    if style.tasks:
        tasks = _picked(tasks, style.tasks)
    return Table(
        axis=AXES[axis],
        methods=tuple(
            method for method in methods if any((method, task) in cells for task in tasks)
        ),
        tasks=tuple(tasks),
        cells={
            (method, task): tuple(sorted(cells[method, task], key=lambda run: _by_seed(run.curve)))
            for method in methods
            for task in tasks
            if (method, task) in cells
        },
    )


def _run(curve: Curve, axis: AxisName) -> Run:
    if axis == "env_steps":
        xs, ys = curve.xs, curve.ys
    elif axis in curve.columns:
        xs, ys = _rising(curve.columns[axis], curve.ys)
    else:
        raise ConfigError(
            f"--x {axis}: {curve.source} ({curve.task}, seed {curve.seed}) does not say it; choose"
            f" {' or '.join(['env_steps', *curve.columns])}, or leave it out"
        )
    own = scores(curve.suite, curve.task, ys) if is_own(curve) else ys
    ended = axis == "env_steps" and curve.facts.finished
    far = reach(xs, curve.facts.budget if ended else None)
    return Run(curve, xs, ys, own, far)


def _rising(xs: Array, ys: Array) -> tuple[Array, Array]:
    """The last value of each x: two evaluations may have seen the same updates."""
    keep = np.append(np.diff(xs) > 0, True)
    return xs[keep], ys[keep]


def _by_seed(curve: Curve) -> tuple[int, str]:
    return (int(curve.seed), "") if curve.seed.isdigit() else (0, curve.seed)


def _ordered(curves: Sequence[Curve], style: Style) -> list[str]:
    """Methods by the style, then as they were read."""
    found = list(dict.fromkeys(curve.method for curve in curves))
    named = {
        "labels": tuple(style.labels),
        "colours": tuple(style.colours),
        "order": style.order,
        "baseline": (style.baseline,) if style.baseline else (),
    }
    for key, names in named.items():
        for name in names:
            if name not in found:
                raise ConfigError(
                    f"style: {key}: expected a method that there is ({', '.join(found)}),"
                    f" got {name!r}"
                )
    return list(dict.fromkeys([*style.order, *found]))


def _picked(tasks: Sequence[Task], names: Sequence[str]) -> list[Task]:
    by_name = {name: (suite, name) for suite, name in tasks}
    by_name |= {f"{suite}/{name}": (suite, name) for suite, name in tasks}
    for name in names:
        if name not in by_name:
            known = ", ".join(task[1] for task in tasks)
            raise ConfigError(f"style: tasks: expected some of {known}, got {name!r}")
    return [by_name[name] for name in names]
