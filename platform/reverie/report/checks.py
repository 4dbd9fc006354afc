"""What keeps runs from being compared, and what a reader must be told of those that are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from reverie.errors import ConfigError
from reverie.report.numbers import counted
from reverie.report.study import Curve, MethodFacts, Style
from reverie.report.table import Table
from reverie.report.tasks import BENCHMARKS

T = TypeVar("T", str, int, float)
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#8A6D3B", "#7F7F7F"),
)
"""Told apart by the colour-blind; the first six are Okabe and Ito's."""
MUST_AGREE = {
    "protocol": "evaluation protocols",
    "action_repeat": "frame skips",
    "budget": "budgets",
}
"""Facts that runs in one table share, by name."""


def refuse_or_mark_mixed(
    curves: Sequence[Curve], allow_mixed: bool
) -> tuple[list[Curve], list[str]]:
    """The curves, where they may stand in one table; with `allow_mixed` the odd ones are marked.

    What a source does not say cannot differ.

    Returns:
        The curves, and a warning per difference that was let in.

    Raises:
        ConfigError: protocols, frame skips or budgets differ and mixing was not allowed.
    """
    groups: dict[tuple[str | None, str], list[int]] = {}
    for index, curve in enumerate(curves):
        groups.setdefault(_group(curve), []).append(index)
    found = list(curves)
    warnings: list[str] = []
    for members in groups.values():
        for key, words in MUST_AGREE.items():
            facts = {i: getattr(curves[i].facts, key) for i in members}
            said = {i: value for i, value in facts.items() if value is not None}
            counted = Counter(said.values())
            if len(counted) < 2:
                continue
            usual = counted.most_common(1)[0][0]
            odd = {i: value for i, value in said.items() if value != usual}
            text = _difference(curves, words, said)
            if not allow_mixed:
                raise ConfigError(f"{text}; --allow-mixed shows them marked")
            warnings.append(f"{text}.")
            for i, value in odd.items():
                mark = f"{key.replace('_', ' ')} {_number(value)}"
                found[i] = _with_mark(found[i], mark)
    return found, warnings


def _with_mark(curve: Curve, mark: str) -> Curve:
    return replace(curve, facts=replace(curve.facts, marks=(*curve.facts.marks, mark)))


def _group(curve: Curve) -> tuple[str | None, str]:
    """Runs that stand in one table: a benchmark's, or those of one task."""
    return (curve.suite, "") if curve.suite in BENCHMARKS else (curve.suite, curve.task)


def _difference(curves: Sequence[Curve], words: str, said: dict[int, str | int]) -> str:
    first = {value: curves[i].source for i, value in reversed(said.items())}
    shown = [f"{_number(value)} ({first[value]})" for value in sorted(first, key=str)]
    return f"runs of different {words} in one table: {' and '.join(shown)}"


def uneven_seeds(table: Table) -> list[str]:
    """A sentence per method that has fewer seeds than others, on some task or on all."""
    seeds = {
        method: [len(table.cells[method, task]) for task in table.shared(method)]
        for method in table.methods
    }
    most = max(max(counts) for counts in seeds.values())
    texts: list[str] = []
    for method, counts in seeds.items():
        if min(counts) == max(counts) == most:
            continue
        tasks = table.shared(method)
        few = [table.name(task) for task in tasks if len(table.cells[method, task]) < most]
        where = "all tasks" if len(few) == len(counts) else _listed(few)
        got = _seeds(min(counts), max(counts))
        texts.append(f"{method} has {got}, fewer than the {most} of others, on {where}.")
    return texts


def uneven_tasks(table: Table) -> list[str]:
    shared = table.shared(*table.methods)
    left = [table.name(task) for task in table.tasks if task not in shared]
    if not left:
        return []
    if not shared:
        return ["No task has runs of every method, so there are no aggregates."]
    count = counted(len(shared), "task")
    return [f"Aggregates are over the {count} of all methods, without {_listed(left)}."]


def marked(facts: Iterable[MethodFacts]) -> list[str]:
    """A sentence per method with marked runs."""
    return [f"{one.label}: {', '.join(_marks(one))}." for one in facts if one.marks]


def _marks(facts: MethodFacts) -> list[str]:
    runs = counted(facts.runs, "run")
    return [f"{count} of {runs} {mark}" for mark, count in facts.marks.items()]


def method_facts(table: Table, style: Style) -> tuple[MethodFacts, ...]:
    """What stands under every figure, per method."""
    return tuple(_facts(table, style, index, m) for index, m in enumerate(table.methods))


def _facts(table: Table, style: Style, index: int, method: str) -> MethodFacts:
    runs = [run.curve.facts for run in table.of(method)]
    tasks = table.shared(method)
    counts = [len(table.cells[method, task]) for task in tasks]
    hours = [one.hours for one in runs]
    gpu_hours = [one.gpu_hours for one in runs]
    updates = [one.updates_per_env_step for one in runs]
    found = MethodFacts(
        method=method,
        label=style.labels.get(method, method),
        colour=style.colours.get(method, COLOURS[index % len(COLOURS)]),
        seeds=(min(counts), max(counts)),
        tasks=len(tasks),
        runs=len(runs),
        protocols=_distinct(one.protocol for one in runs),
        training_ratios=_distinct(one.training_ratio for one in runs),
        updates_per_env_step=_distinct(None if u is None else float(f"{u:.2g}") for u in updates),
        hardware=_distinct(one.hardware for one in runs),
        budgets=_distinct(one.budget for one in runs),
        action_repeats=_distinct(one.action_repeat for one in runs),
        hours=_total(hours),
        gpu_hours=_total(gpu_hours),
        marks=dict(Counter(mark for one in runs for mark in one.marks)),
        line="",
    )
    return replace(found, line=_line(found))


def _line(facts: MethodFacts) -> str:
    """`X: 5 seeds x 26 tasks; protocol atari100k-v1; ...`."""
    parts = [
        f"{_seeds(*facts.seeds)} x {counted(facts.tasks, 'task')}",
        f"protocol {_either(facts.protocols)}",
        f"training ratio {_either(facts.training_ratios)}",
        f"updates per env step {_either(facts.updates_per_env_step)}",
        f"budget {_either(facts.budgets)} env steps" if facts.budgets else "budget not stated",
        f"frame skip {_either(facts.action_repeats)}",
        f"hardware {_either(facts.hardware)}",
    ]
    if facts.hours is not None:
        parts.append(f"{facts.hours:,.1f} h in all")
    if facts.gpu_hours is not None:
        parts.append(f"{facts.gpu_hours:,.1f} GPU-h")
    parts += _marks(facts)
    return f"{facts.label}: {'; '.join(parts)}"


def _either(values: Sequence[str | float | int]) -> str:
    return " or ".join(_number(value) for value in values) or "not stated"


def _number(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def _seeds(least: int, most: int) -> str:
    return counted(least, "seed") if least == most else f"{least} to {most} seeds"


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _distinct(values: Iterable[T | None]) -> tuple[T, ...]:
    return tuple(sorted({value for value in values if value is not None}))


def _total(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None
