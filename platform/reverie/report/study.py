"""What the report is made of: curves as they were read, and the report as it is printed.

Readers (`sources`) make a `Study`, `build` makes a `Report` of it by `statistics`, and writers
print that. No writer computes a statistic: whatever is shown stands in the `Report`, with its unit.
Everything is a frozen dataclass of plain values and numpy arrays.

A *value* is what was measured (a return, a success rate). A *score* is what aggregates are made of:
the value human-normalised where the suite has references (0 random, 1 human), else the value by the
suite's scale. One evaluation is one x of a curve. `x` is counted in env steps (decisions of the
agent) unless `Axis` says otherwise; frames are converted as they are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from reverie.types import STRICT, Array

AxisName = Literal["env_steps", "updates", "hours", "gpu_hours"]
"""What may be drawn along x; `hours` are of wall-clock time without the pauses before a resume."""
Field = Literal["mean", "median", "iqm", "optimality_gap"]
FIELDS: tuple[Field, ...] = ("mean", "median", "iqm", "optimality_gap")
"""Aggregates in the order they are printed; of the last, less is better."""
Origin = Literal["reported", "recomputed"]
"""Of a published figure: as its authors give it, or computed anew from their scores."""


# What is read


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What decides whether a curve compares with another; None where the source does not say."""

    protocol: str | None = None
    """Id of the evaluation protocol; scores under different ones do not compare."""
    training_ratio: float | None = None
    """Trained steps per env step, as configured."""
    updates_per_env_step: float | None = None
    """Gradient updates per env step, as counted."""
    hardware: str | None = None
    """Of the learner: its GPU, or `CPU` and the model."""
    budget: int | None = None
    """Env steps the run was to take."""
    action_repeat: int | None = None
    """Frames per env step."""
    finished: bool | None = None
    """None: a score file, which does not say."""
    hours: float | None = None
    """Wall-clock so far."""
    gpu_hours: float | None = None
    marks: tuple[str, ...] = ()
    """What a reader must know, e.g. `unfinished`, `quality: fast`, `debug size`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One run's values over x."""

    task: str
    """By the suite's name, whatever alias the source used."""
    suite: str | None
    """The suite it is a task of; None where no suite knows it, so there are no references."""
    method: str
    seed: str
    xs: Array
    """float64 [N], env steps, strictly rising."""
    ys: Array
    """float64 [N], finite: values, not scores."""
    source: str
    """The file or run folder, as the user named it."""
    metric: str = "score"
    """Name of what `ys` are."""
    facts: Facts = field(default_factory=Facts)
    columns: Mapping[AxisName, Array] = field(default_factory=dict[AxisName, Array])
    """Further x by name, float64 [N] each: `updates`, `hours`, `gpu_hours` where known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """Everything that was read."""

    curves: tuple[Curve, ...]
    notes: tuple[str, ...] = ()
    """What was skipped, with its count and place; one sentence each."""


# What is printed


@dataclass(frozen=True, slots=True)
class Interval:
    """From the 2.5th to the 97.5th percentile of the bootstrap, unless `Report.level` differs."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure over seeds."""

    value: float
    interval: Interval | None
    """None with fewer than 3 seeds."""
    seeds: int
    """The fewest of any task it is made of."""
    best: bool = False
    """It is the best of its column and its interval lies apart from every other's: to be bold."""


@dataclass(frozen=True, slots=True)
class Axis:
    """What is drawn along an axis."""

    name: str
    label: str
    """E.g. `Environment steps`."""
    unit: str = ""
    """E.g. `steps`, `h`; empty for a score."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodFacts:
    """What stands under every figure about a method, over all of its runs."""

    method: str
    """Its name in the sources, by which everything below refers to it."""
    label: str
    """Its name for readers."""
    colour: str
    """`#rrggbb`."""
    seeds: tuple[int, int]
    """Fewest and most of any task."""
    tasks: int
    runs: int
    protocols: tuple[str, ...]
    training_ratios: tuple[float, ...]
    updates_per_env_step: tuple[float, ...]
    """Distinct values to two digits, rising."""
    hardware: tuple[str, ...]
    budgets: tuple[int, ...]
    action_repeats: tuple[int, ...]
    hours: float | None
    """Wall-clock of all runs together; None unless each says."""
    gpu_hours: float | None
    marks: Mapping[str, int]
    """Mark -> runs that bear it, such as `unfinished`."""
    line: str
    """All of this in one line of text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A method's curve on the grid of a figure: the mean, or an aggregate, over seeds."""

    method: str
    xs: Array
    """float64 [K], in the unit of `Report.x`."""
    centre: Array
    """float64 [K]."""
    low: Array | None
    """float64 [K], the interval; None with fewer than 3 seeds."""
    high: Array | None
    seeds: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """One run, thinned for drawing."""

    method: str
    seed: str
    xs: Array
    ys: Array
    """Values."""
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Final:
    """A method on a task at `Report.at`."""

    method: str
    value: Estimate
    """Mean over seeds."""
    score: Estimate
    """Of the same runs."""
    by_seed: Mapping[str, float]
    """Values by seed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reached:
    """Env steps (or the chosen x) until a score was first reached at an evaluation, per task."""

    method: str
    threshold: float
    """A score."""
    reached: int
    """Runs that did."""
    runs: int
    """Runs there are."""
    median: float | None
    """Over all runs, those that never did counted as later than any; None: never is the median."""
    by_seed: Mapping[str, float | None]
    """None: never."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskPanel:
    """One task: a small figure and a row of the table, with values rather than scores."""

    task: str
    label: str
    y: Axis
    at: float
    """x at which its finals are taken: `Report.at`, unless that is None."""
    random: float | None
    """Value of the random policy, where known."""
    human: float | None
    lines: tuple[Line, ...]
    """One per method that has the task, in the order of `Report.methods`."""
    traces: tuple[Trace, ...]
    finals: tuple[Final, ...]
    reached: tuple[Reached, ...]
    """Empty without a threshold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Aggregate:
    """A method over all tasks at `Report.at`, from scores."""

    method: str
    tasks: int
    mean: Estimate
    median: Estimate
    """Of the tasks' means."""
    iqm: Estimate
    """Mean of the middle half of all runs."""
    optimality_gap: Estimate | None
    """Mean of what runs lack to score 1; None where 1 means nothing."""
    top3_share: float | None
    """Share of the mean that its three best tasks make; None with fewer than 4 tasks, or where some
    task's score is negative enough to leave no positive sum."""
    top3_tasks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Efficiency:
    """How few steps a method needs, over all tasks."""

    method: str
    area: Estimate
    """Mean score over x from the common start to `Report.at`: the area under the curve of the IQM,
    divided by the length of that stretch."""
    threshold: float | None
    reached: int
    """Runs that reached it; 0 without a threshold."""
    runs: int
    median_x: float | None
    """Median over runs of the x at which it was reached; None: never is the median."""
    iqm_x: float | None
    """x at which the IQM itself reached it; None: not by `Report.at`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A method against the baseline, on the tasks both have."""

    method: str
    baseline: str
    tasks: int
    improvement: Estimate
    """P(a run of the method scores higher than one of the baseline), mean over tasks; ties half."""
    iqm_difference: Estimate
    data_efficiency: Estimate | None
    """x the baseline needs per x of the method to reach the same IQM: 2 is half the data. None
    where the curves have no x in common."""
    level: float | None
    """That IQM: the lower one of the two at `Report.at`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """Performance profile: share of runs that score more than tau, mean over tasks."""

    method: str
    taus: Array
    """float64 [K]."""
    share: Array
    low: Array | None
    high: Array | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """A published figure, shown beside but never compared by interval."""

    name: str
    suite: str
    origin: Origin
    source: str
    """Paper, repository and commit."""
    seeds: int | None = None
    mean: float | None = None
    median: float | None = None
    iqm: float | None = None
    optimality_gap: float | None = None
    top3_share: float | None = None
    note: str = ""
    """E.g. the training ratio, or why it is a ceiling."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Style:
    """How a report looks; `--style FILE` sets any of it. Names of methods are the sources'."""

    __pydantic_config__: ClassVar[Any] = STRICT
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    """Method -> its name for readers."""
    colours: Mapping[str, str] = field(default_factory=dict[str, str])
    """Method -> `#rrggbb`."""
    order: tuple[str, ...] = ()
    """Methods that come first."""
    baseline: str | None = None
    """Compared with; the first method if None."""
    tasks: tuple[str, ...] = ()
    """Only these, in this order; all if empty."""
    width: float = 6.75
    """Of a figure, in: 3.25 for one column, 6.75 for two."""
    font: str = "sans-serif"
    font_size: float = 8.0
    """Points."""
    legend: Literal["top", "right", "bottom", "none"] = "top"


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Everything a page, a figure, a table or a file says."""

    title: str
    suites: tuple[str, ...]
    """Whose tasks there are; empty where no suite knows them."""
    metric: Axis
    """Of values."""
    score: Axis
    """Of aggregates."""
    normalised: bool
    """Scores are human-normalised: a line at 1 is the human."""
    x: Axis
    at: float | None
    """x at which the figures of all tables are taken: all runs got there. None where tasks of
    several suites are shown, each at its own `TaskPanel.at`."""
    level: float
    """Of intervals, 0.95."""
    methods: tuple[MethodFacts, ...]
    """In the order of every legend and table; the baseline is `baseline`."""
    baseline: str
    panels: tuple[TaskPanel, ...]
    aggregates: tuple[Aggregate, ...]
    aggregate_lines: tuple[Line, ...]
    """IQM of scores over x."""
    profiles: tuple[Profile, ...]
    efficiency: tuple[Efficiency, ...]
    comparisons: tuple[Comparison, ...]
    published: tuple[Published, ...]
    """Empty unless asked for."""
    rules: tuple[str, ...]
    """How everything was computed, a sentence each."""
    warnings: tuple[str, ...]
    """What makes the comparison weaker: fewer seeds, unfinished runs, what `--allow-mixed` let in.
    To be shown above the tables."""
    notes: tuple[str, ...]
    """What was skipped and counted while reading."""
    sources: tuple[str, ...]
    command: str
    """The command line that made it."""
    version: str
    """Of Reverie."""
