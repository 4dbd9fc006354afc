"""Tables of the page: over all tasks, by task, of runs, and of published figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from reverie.report.numbers import number, short_number
from reverie.report.page_charts import Index, lowered
from reverie.report.study import (
    Aggregate,
    Comparison,
    Efficiency,
    Final,
    MethodFacts,
    Published,
    Reached,
    Report,
    TaskPanel,
)
from reverie.report.tables import Cell, Row, estimated, figure, table, words


def overview(report: Report, index: Index) -> str:
    """Tables over all tasks; nothing where there are none."""
    makers = (_aggregates, _comparisons, _efficiency)
    return "".join(make(report, index) for make in makers)


def _name(report: Report, method: str) -> Cell:
    label = next(facts.label for facts in report.methods if facts.method == method)
    return Cell(label, label.lower(), method=True)


def _aggregates(report: Report, index: Index) -> str:
    if not report.aggregates:
        return ""
    bounded = any(one.optimality_gap for one in report.aggregates)
    shared = any(one.top3_share is not None for one in report.aggregates)
    columns = ["Method", "Tasks", "IQM", "Median", "Mean"]
    columns += ["Optimality gap"] if bounded else []
    columns += ["Top 3 tasks' share"] if shared else []

    def row(one: Aggregate) -> Row:
        cells = [_name(report, one.method), figure(one.tasks, str(one.tasks))]
        cells += map(estimated, (one.iqm, one.median, one.mean))
        cells += [estimated(one.optimality_gap)] if bounded else []
        cells += [_top3(report, one)] if shared else []
        return Row(tuple(cells), index[one.method])

    note = f"Value and {report.level:.0%} interval, from three seeds on"
    if len(report.aggregates) > 1:
        note += "; bold where it is the best and its interval lies apart from all others"
    note += ". Of the optimality gap, less is better." if bounded else "."
    note += " Top 3: the share of the mean that its three best tasks make." if shared else ""
    title = f"{report.score.label}{_at(report)}"
    return table(title, note, columns, [row(one) for one in report.aggregates])


def _at(report: Report) -> str:
    return "" if report.at is None else f" at {short_number(report.at)} {report.x.unit}"


def _top3(report: Report, one: Aggregate) -> Cell:
    if one.top3_share is None:
        return Cell("-")
    labels = {panel.task: panel.label for panel in report.panels}
    note = ", ".join(labels[task] for task in one.top3_tasks)
    return Cell(f"{one.top3_share:.0%}", one.top3_share, note=note)


def _comparisons(report: Report, index: Index) -> str:
    if not report.comparisons:
        return ""

    def row(one: Comparison) -> Row:
        cells = (
            _name(report, one.method),
            figure(one.tasks, str(one.tasks)),
            *map(estimated, (one.improvement, one.iqm_difference, one.data_efficiency)),
            figure(one.level),
        )
        return Row(cells, index[one.method])

    columns = ["Method", "Tasks", "P(better)", "IQM difference", "Data efficiency", "to an IQM of"]
    baseline = _name(report, report.baseline).text
    note = (
        f"On the tasks both have. Data efficiency: {lowered(report.x.label)} that {baseline} needs,"
        " divided by those the method needs, to the same IQM: 2 is half the data."
    )
    rows = [row(one) for one in report.comparisons]
    return table(f"Against {baseline}", note, columns, rows)


def _efficiency(report: Report, index: Index) -> str:
    if not report.efficiency:
        return ""
    unit = report.x.unit
    threshold = next((e.threshold for e in report.efficiency if e.threshold is not None), None)
    columns = ["Method", "Mean IQM on the way"]
    note = f"Mean IQM on the way: the area under its curve, divided by the {unit} it spans."
    if threshold is not None:
        columns += [f"Runs that reached {threshold:g}", f"Median run, {unit}", f"IQM, {unit}"]
        note += " Runs that never reached it count as later than any that did."

    def row(one: Efficiency) -> Row:
        cells = [_name(report, one.method), estimated(one.area)]
        if threshold is not None:
            cells += [_count(one.reached, one.runs), _when(one.median_x), _when(one.iqm_x)]
        return Row(tuple(cells), index[one.method])

    return table("Sample efficiency", note, columns, [row(one) for one in report.efficiency])


def _count(reached: int, runs: int) -> Cell:
    return Cell(f"{reached} of {runs}", reached / runs if runs else 0.0)


def _when(x: float | None) -> Cell:
    """Three digits of x; all of them on hovering. Never is later than any."""
    if x is None:
        return Cell("never", float("inf"))
    return Cell(short_number(float(f"{x:.3g}")), x, title=f"{x:,.8g}")


def finals(report: Report, index: Index) -> str:
    """Every method on every task."""
    scored = any(
        final.score.value != final.value.value for panel in report.panels for final in panel.finals
    )
    threshold = next((one.threshold for panel in report.panels for one in panel.reached), None)
    columns = ["Task", "Method", report.metric.label, *(["Score"] if scored else []), "Seeds"]
    columns.append(f"At, {report.x.unit}")
    if threshold is not None:
        columns += [f"Reached {threshold:g}", f"Median run, {report.x.unit}"]

    rows: list[Row] = []
    for panel in report.panels:
        reached = {one.method: one for one in panel.reached}
        for final in panel.finals:
            cells = [*_final(report, panel, final, scored)]
            if threshold is not None:
                cells += _reached(reached.get(final.method))
            rows.append(Row(tuple(cells), index[final.method]))
    note = f"Mean over seeds and {report.level:.0%} interval; each seed's value on hovering."
    note += f" Score: {lowered(report.score.label)}." if scored else ""
    return table(f"{report.metric.label} by task", note, columns, rows)


def _final(report: Report, panel: TaskPanel, final: Final, scored: bool) -> Iterable[Cell]:
    seeds = ", ".join(f"seed {seed}: {number(v)}" for seed, v in final.by_seed.items())
    yield words(panel.label)
    yield _name(report, final.method)
    yield estimated(final.value)
    if scored:
        yield estimated(final.score)
    yield Cell(str(len(final.by_seed)), len(final.by_seed), title=seeds)
    yield Cell(short_number(panel.at), panel.at)


def _reached(one: Reached | None) -> list[Cell]:
    if one is None:
        return [Cell("-"), Cell("-")]
    return [_count(one.reached, one.runs), _when(one.median)]


RUN_COLUMNS: Mapping[str, Callable[[MethodFacts], Cell]] = {
    "Runs": lambda one: figure(one.runs, str(one.runs)),
    "Tasks": lambda one: figure(one.tasks, str(one.tasks)),
    "Seeds per task": lambda one: _seeds(*one.seeds),
    "Protocol": lambda one: _several(one.protocols),
    "Training ratio": lambda one: _several([f"{each:,g}" for each in one.training_ratios]),
    "Updates per env step": lambda one: _several([f"{u:g}" for u in one.updates_per_env_step]),
    "Budget, env steps": lambda one: _several([short_number(each) for each in one.budgets]),
    "Frames per env step": lambda one: _several([str(each) for each in one.action_repeats]),
    "Hardware": lambda one: _several(one.hardware),
    "Wall-clock, h": lambda one: figure(one.hours),
    "GPU time, GPU-h": lambda one: figure(one.gpu_hours),
    "Marks": lambda one: _several([f"{name} ({count})" for name, count in one.marks.items()]),
}


def runs(report: Report, index: Index) -> str:
    """What every method's runs were: what a comparison stands on."""
    columns = {
        name: [make(facts) for facts in report.methods] for name, make in RUN_COLUMNS.items()
    }
    said = {name: cells for name, cells in columns.items() if any(c.by is not None for c in cells)}
    rows = [
        Row((_name(report, facts.method), *cells), index[facts.method])
        for facts, *cells in zip(report.methods, *said.values(), strict=True)
    ]
    note = "What the runs say of themselves, - where they do not; hours are of all runs together."
    unsaid = [lowered(name) for name in columns if name not in said and name != "Marks"]
    note += f" Not stated at all: {'; '.join(unsaid)}." if unsaid else ""
    return table("Runs", note, ["Method", *said], rows, headed=False)


def _seeds(low: int, high: int) -> Cell:
    return Cell(str(low) if low == high else f"{low} to {high}", low)


def _several(values: Sequence[str]) -> Cell:
    return words(", ".join(values)) if values else Cell("-")


def published(report: Report) -> str:
    """Figures of others with their sources; nothing unless they were asked for."""
    if not report.published:
        return ""
    columns = ["Method", "Suite", "IQM", "Median", "Mean", "Optimality gap", "Seeds"]
    columns += ["Origin", "Note", "Source"]

    def row(one: Published) -> Row:
        aggregates = map(figure, (one.iqm, one.median, one.mean, one.optimality_gap))
        seeds = Cell("-") if one.seeds is None else figure(one.seeds, str(one.seeds))
        texts = map(words, (one.origin, one.note or "-", one.source))
        return Row((words(one.name), words(one.suite), *aggregates, seeds, *texts))

    note = (
        "For orientation: budgets, training ratios, protocols and seeds are theirs, and no interval"
        " of this report says anything about them."
    )
    rows = [row(one) for one in report.published]
    return table("Published figures", note, columns, rows, headed=False)
