"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reverie.report.study import Axis, Estimate, Published, Report, TaskPanel

NONE = "-"


def markdown(report: Report) -> str:
    """Tables, with what must stand under them."""
    parts = [
        f"# {report.title}",
        _list(report.warnings),
        _aggregates(report),
        _comparisons(report),
        _efficiency(report),
        _tasks(report),
        _published(report.published),
        _section("Runs", _list(facts.line for facts in report.methods)),
        _section("How", _list(report.rules)),
        _section("Skipped", _list(report.notes)),
        _section("Made from", _list([*report.sources, f"Reverie {report.version}"])),
        f"`{report.command}`" if report.command else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}" if body else ""


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def estimate_text(one: Estimate | None, digits: int = 3) -> str:
    """`0.607 [0.552, 0.677]`, bold where its interval lies apart from the others'."""
    if one is None:
        return NONE
    text = f"{one.value:,.{digits}f}"
    if one.interval:
        text += f" [{one.interval.low:,.{digits}f}, {one.interval.high:,.{digits}f}]"
    return f"**{text}**" if one.best else text


def x_text(x: float | None, axis: Axis) -> str:
    if x is None:
        return "never"
    return f"{x:,.0f} {axis.unit}" if x >= 100 else f"{x:.3g} {axis.unit}"


def _labels(report: Report) -> dict[str, str]:
    return {facts.method: facts.label for facts in report.methods}


def _aggregates(report: Report) -> str:
    if not report.aggregates:
        return ""
    labels = _labels(report)
    rows = [
        [
            labels[one.method],
            str(one.iqm.seeds),
            *map(estimate_text, (one.mean, one.median, one.iqm, one.optimality_gap)),
            _share(one.top3_share, one.top3_tasks),
        ]
        for one in report.aggregates
    ]
    head = ["method", "seeds", "mean", "median", "IQM", "optimality gap", "top 3 of the mean"]
    at = "" if report.at is None else f" at {x_text(report.at, report.x)}"
    title = f"{report.score.label}, {report.aggregates[0].tasks} tasks{at}"
    return _section(title, _table(head, rows))


def _share(share: float | None, tasks: Sequence[str]) -> str:
    return NONE if share is None else f"{share:.0%} ({', '.join(tasks)})"


def _comparisons(report: Report) -> str:
    labels = _labels(report)
    rows = [
        [
            labels[one.method],
            str(one.tasks),
            estimate_text(one.improvement),
            estimate_text(one.iqm_difference),
            estimate_text(one.data_efficiency, 2),
            NONE if one.level is None else f"{one.level:.3f}",
        ]
        for one in report.comparisons
    ]
    head = ["method", "tasks", "P(improvement)", "IQM difference", "data efficiency", "at IQM"]
    return _section(f"Against {labels[report.baseline]}", _table(head, rows)) if rows else ""


def _efficiency(report: Report) -> str:
    labels = _labels(report)
    head = ["method", "mean IQM over x"]
    thresholds = {one.threshold for one in report.efficiency} - {None}
    for threshold in thresholds:
        head += [f"runs at {threshold:g}", f"median x to {threshold:g}", f"IQM at {threshold:g}"]
    rows = [
        [
            labels[one.method],
            estimate_text(one.area),
            *(
                (
                    f"{one.reached} of {one.runs}",
                    x_text(one.median_x, report.x),
                    x_text(one.iqm_x, report.x),
                )
                if thresholds
                else ()
            ),
        ]
        for one in report.efficiency
    ]
    return _section("Sample efficiency", _table(head, rows)) if rows else ""


def _tasks(report: Report) -> str:
    labels = _labels(report)
    referred = any(panel.human is not None for panel in report.panels)
    head = ["task", *(["random", "human"] if referred else []), *labels.values()]
    if report.at is None:
        head.append("at")
    rows = [_task_row(panel, report, referred) for panel in report.panels]
    text = _section(f"{report.metric.label} by task, mean over seeds", _table(head, rows))
    return text + _reached(report)


def _task_row(panel: TaskPanel, report: Report, referred: bool) -> list[str]:
    finals = {final.method: final.value for final in panel.finals}
    spread = max((abs(one.value) for one in finals.values()), default=0.0)
    digits = 3 if spread < 2 else 1 if spread < 1000 else 0
    row = [panel.label]
    if referred:
        row += [NONE if x is None else f"{x:,g}" for x in (panel.random, panel.human)]
    row += [estimate_text(finals.get(facts.method), digits) for facts in report.methods]
    return row if report.at is not None else [*row, x_text(panel.at, report.x)]


def _reached(report: Report) -> str:
    """How many runs of each task got to the threshold, and when half of them had."""
    if not any(panel.reached for panel in report.panels):
        return ""
    labels = _labels(report)
    threshold = next(one.threshold for panel in report.panels for one in panel.reached)
    rows: list[list[str]] = []
    for panel in report.panels:
        by_method = {one.method: one for one in panel.reached}
        row = [panel.label]
        for facts in report.methods:
            one = by_method.get(facts.method)
            row.append(
                NONE
                if one is None
                else f"{one.reached} of {one.runs}, median {x_text(one.median, report.x)}"
            )
        rows.append(row)
    title = f"{report.x.label} to a score of {threshold:g}"
    return "\n\n" + _section(title, _table(["task", *labels.values()], rows))


def _published(published: Sequence[Published]) -> str:
    rows = [
        [
            one.name,
            one.origin,
            NONE if one.seeds is None else str(one.seeds),
            *(
                NONE if value is None else f"{value:.3f}"
                for value in (one.mean, one.median, one.iqm, one.optimality_gap)
            ),
            f"{one.source}; {one.note}" if one.note else one.source,
        ]
        for one in published
    ]
    head = ["published", "origin", "seeds", "mean", "median", "IQM", "optimality gap", "source"]
    return _section("Published figures", _table(head, rows)) if rows else ""
