"""A report as LaTeX: the table of scores, and what must stand beside it, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reverie.report.numbers import number
from reverie.report.references import cited
from reverie.report.statistics import LEAST_SEEDS
from reverie.report.study import Aggregate, Estimate, Field, MethodFacts, Report, TaskPanel

ESCAPES = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
}
ROWS: tuple[tuple[Field, str], ...] = (
    ("mean", "Mean"),
    ("median", "Median"),
    ("iqm", "IQM"),
    ("optimality_gap", "Optimality gap"),
)
NONE = "--"


def escaped(text: str) -> str:
    """Text of a user's, that LaTeX prints as it is; without control characters."""
    return "".join(ESCAPES.get(char, char) for char in text if char.isprintable())


def table(report: Report) -> str:
    """`table.tex`: a row a task, then the aggregates; needs the package booktabs.

    A figure is bold only where its interval lies apart from all others of its row.
    """
    referred = any(panel.human is not None for panel in report.panels)
    heads = ["Task", *(["Random", "Human"] if referred else [])]
    heads += [escaped(facts.label) for facts in report.methods]
    rows = [_task_row(panel, report, referred) for panel in report.panels]
    ends = _aggregate_rows(report, referred)
    columns = "l" + "r" * (len(heads) - 1)
    lines = [
        *_comments(report),
        f"\\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _row(heads),
        r"\midrule",
        *map(_row, rows),
        *([r"\midrule"] if ends else []),
        *map(_row, ends),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _comments(report: Report) -> list[str]:
    """Where it is from, for whoever opens the file."""
    told = [
        r"Needs \usepackage{booktabs}. Bold: the interval lies apart from all others of the row.",
        f"Made by Reverie {report.version}: {report.command}",
        *(facts.line for facts in report.methods),
    ]
    return [f"% {' '.join(text.split())}" for text in told]


def _row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _task_row(panel: TaskPanel, report: Report, referred: bool) -> list[str]:
    finals = {final.method: final.value for final in panel.finals}
    row = [escaped(panel.label)]
    if referred:
        row += [_number(value) for value in (panel.random, panel.human)]
    return row + [_value(finals.get(facts.method)) for facts in report.methods]


def _number(value: float | None) -> str:
    return NONE if value is None else number(value).replace("-", "$-$")


def _value(found: Estimate | None) -> str:
    if found is None:
        return NONE
    text = _number(found.value)
    return f"\\textbf{{{text}}}" if found.best else text


def _aggregate_rows(report: Report, referred: bool) -> list[list[str]]:
    by_method = {one.method: one for one in report.aggregates}
    rows: list[list[str]] = []
    for name, label in ROWS:
        found = [_field(by_method.get(facts.method), name) for facts in report.methods]
        if any(one is not None for one in found):
            rows.append([label, *([NONE, NONE] if referred else []), *map(_with_interval, found)])
    return rows


def _field(found: Aggregate | None, name: Field) -> Estimate | None:
    if found is None:
        return None
    one: Estimate | None = getattr(found, name)
    return one


def _with_interval(found: Estimate | None) -> str:
    text = _value(found)
    if found is None or found.interval is None:
        return text
    ends = ", ".join(_number(end) for end in (found.interval.low, found.interval.high))
    return f"{text} {{\\scriptsize [{ends}]}}"


def methods(report: Report) -> str:
    """`methods.tex`: five sentences on seeds, protocol, budget, hardware and statistics, and one
    more per warning; what a source does not say is called not stated.
    """
    sentences = [
        r"% Needs \usepackage{natbib}; references.bib has what it cites.",
        _compared(report),
        _budget(report),
        _training(report),
        _hardware(report),
        _statistics(report),
        *(escaped(text) for text in report.warnings),
    ]
    return "\n".join(sentences) + "\n"


def _compared(report: Report) -> str:
    names = [escaped(facts.label) + _cite(facts.method, facts.label) for facts in report.methods]
    suites = [escaped(suite) + _cite(suite) for suite in report.suites]
    count = len(report.panels)
    where = f"{count} {_plural('task', count)}" + (f" of {_and(suites)}" if suites else "")
    seeds = _by_method(report, [_span(facts.seeds) for facts in report.methods])
    most = max(facts.seeds[1] for facts in report.methods)
    return f"We compare {_and(names)} on {where} with {seeds} {_plural('seed', most)} per task."


def _budget(report: Report) -> str:
    unit = f" {report.x.unit}" if report.x.unit else ""
    at = (
        "the last point that all runs of a task have reached"
        if report.at is None
        else f"{report.at:,.6g}{escaped(unit)}"
    )
    protocols = sorted({name for facts in report.methods for name in facts.protocols})
    stated = (
        _and([f"\\texttt{{{escaped(name)}}}" for name in protocols])
        or "a protocol that is not stated"
    )
    skips = _by_method(
        report, ["/".join(map(str, facts.action_repeats)) for facts in report.methods]
    )
    frames = f", of {skips} frames each" if skips and report.x.name == "env_steps" else ""
    return (
        f"Scores are taken at {at}{frames}, evaluated under {stated};"
        " a run counts with its last evaluation at or before that point."
    )


def _training(report: Report) -> str:
    ratios = _by_method(report, [_numbers(facts.training_ratios) for facts in report.methods])
    updates = _by_method(report, [_numbers(facts.updates_per_env_step) for facts in report.methods])
    told = [
        f"{what} is {value}" if value else f"{what} is not stated"
        for what, value in (
            ("the training ratio (trained steps per environment step)", ratios),
            ("the number of gradient updates per environment step", updates),
        )
    ]
    return f"{_and(told).capitalize()}."


def _hardware(report: Report) -> str:
    used = _by_method(
        report, [_and([escaped(name) for name in facts.hardware]) for facts in report.methods]
    )
    where = f"Learners ran on {used}" if used else "The learners' hardware is not stated"
    hours = _total([facts.hours for facts in report.methods])
    gpu = _total([facts.gpu_hours for facts in report.methods])
    took = "the hours that the runs took are not stated"
    if hours is not None:
        took = f"all runs together took {hours:,.1f} hours"
        took += f", of which GPUs {gpu:,.1f}" if gpu else ""
    return f"{where}, and {took}."


def _statistics(report: Report) -> str:
    fewest = min(facts.seeds[0] for facts in report.methods)
    few = f"; methods with fewer than {LEAST_SEEDS} seeds have none" if fewest < LEAST_SEEDS else ""
    return (
        f"Intervals are {report.level:.0%}".replace("%", r"\%")
        + " percentile intervals of a bootstrap over seeds, stratified by task"
        + f"~\\citep{{{cited('statistics')}}}{few}; the interquartile mean (IQM) is the mean of the"
        " middle half of all runs."
    )


def _cite(*names: str) -> str:
    key = next((key for name in names if (key := cited(name))), None)
    return f"~\\citep{{{key}}}" if key else ""


def _by_method(report: Report, values: Sequence[str]) -> str:
    """The one value of all methods, else each with its method; empty where none is stated."""
    if not any(values):
        return ""
    if len(set(values)) == 1:
        return values[0]
    pairs = zip(values, report.methods, strict=True)
    return _and([f"{value or 'not stated'} ({escaped(facts.label)})" for value, facts in pairs])


def _numbers(values: Sequence[float]) -> str:
    return " or ".join(f"{value:,g}" for value in values)


def _span(seeds: tuple[int, int]) -> str:
    return str(seeds[0]) if seeds[0] == seeds[1] else f"{seeds[0]} to {seeds[1]}"


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def _and(texts: Sequence[str]) -> str:
    if len(texts) < 2:
        return "".join(texts)
    return f"{', '.join(texts[:-1])} and {texts[-1]}"


def _total(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def all_cited(report: Report) -> set[str]:
    """Keys of everything that `methods` cites."""
    names = [name for facts in report.methods for name in _names(facts)] + [*report.suites]
    return {key for name in [*names, "statistics"] if (key := cited(name))}


def _names(facts: MethodFacts) -> tuple[str, str]:
    return facts.method, facts.label
