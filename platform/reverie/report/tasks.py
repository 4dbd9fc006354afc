"""What is known of suites' tasks: their names and aliases, references, and published figures."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from reverie import registry
from reverie.errors import ConfigError
from reverie.protocols import EvalProtocol
from reverie.report.study import Published
from reverie.types import Array

PREFIX = re.compile(
    r"^(ale|atari(100k)?|dmc|dm_control|dmcr|metaworld|crafter|minecraft)[/_:-]", re.I
)
"""What score files put before a task's name."""
SUFFIX = re.compile(r"(Deterministic|NoFrameskip)?(-v\d+)?(-goal-(observable|hidden))?$", re.I)
"""What Gymnasium and Meta-World put behind it."""
SUITE_OF_PREFIX = {"ale": "atari100k", "atari": "atari100k", "dm_control": "dmc"}
BARE_SUITES = ("atari100k", "dmc", "metaworld")
"""Where a task without a prefix is looked for, in this order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """How a suite's tasks are reported."""

    metric: str = "score"
    """Of a metrics line, without `eval/`."""
    label: str = "Return"
    unit: str = ""
    normalised: bool = False
    """Scores are human-normalised."""
    scale: float = 1.0
    """Value that is score 1, where there are no references."""
    bounded: bool = False
    """Score 1 means something, so that there is an optimality gap."""
    finals_at: int | None = None
    """Env steps of the benchmark, at which scores without x were taken."""
    repeat: int = 1
    """Frames per env step as published."""
    frames_differ: bool = False
    """Its score files count x in frames or in env steps, which differ."""


BENCHMARKS = {
    "atari100k": Benchmark(
        normalised=True, bounded=True, finals_at=100_000, repeat=4, frames_differ=True
    ),
    "dmc": Benchmark(scale=1000.0, bounded=True, repeat=2, frames_differ=True),
    "dmcr": Benchmark(scale=1000.0, bounded=True, repeat=2, frames_differ=True),
    "distracting": Benchmark(scale=1000.0, bounded=True, repeat=2, frames_differ=True),
    "metaworld": Benchmark(metric="success_max", label="Success rate", bounded=True),
    "minecraft": Benchmark(metric="success_max", label="Success rate", bounded=True),
    "crafter": Benchmark(metric="crafter_score", label="Crafter score", unit="%", scale=100.0),
}
PLAIN = Benchmark()
"""Of every other suite: values are scores, and of them there is no best."""


def benchmark(suite: str | None) -> Benchmark:
    return BENCHMARKS.get(suite or "", PLAIN)


def compact(task: str) -> str:
    """What all spellings of a task have in common: `ms_pacman`, `MsPacman`, `ALE/MsPacman-v5`."""
    bare = SUFFIX.sub("", PREFIX.sub("", task.strip()))
    return re.sub(r"[^a-z0-9]", "", bare.lower())


@cache
def _known() -> dict[str, dict[str, str]]:
    """Suite -> compact name -> task."""
    tables: dict[str, tuple[str, ...]] = registry.load(registry.TASK_NAMES)
    return {suite: {compact(name): name for name in names} for suite, names in tables.items()}


def name_task(suite: str | None, task: str) -> str:
    """The suite's own name of a task that a run was configured with, whatever spelling it used."""
    return _known().get(suite or "", {}).get(compact(task), task)


def name_tasks(tasks: Iterable[str], where: str) -> dict[str, tuple[str | None, str]]:
    """Suite and name of each task of a score file; suite None where no suite knows any of them.

    Raises:
        ConfigError: a suite knows some and not the others.
    """
    groups: dict[str, list[str]] = {}
    for task in sorted(set(tasks)):
        found = PREFIX.match(task)
        groups.setdefault(found[1].lower() if found else "", []).append(task)
    named: dict[str, tuple[str | None, str]] = {}
    for prefix, members in groups.items():
        suite = _suite_of(prefix, members)
        known = _known()[suite] if suite else {}
        for task in members:
            if suite and compact(task) not in known:
                near = _nearest(task, known)
                raise ConfigError(f"{where}: unknown task {task!r} of {suite}; {near}")
            named[task] = (suite, known[compact(task)]) if suite else (None, task)
    return named


def _suite_of(prefix: str, tasks: list[str]) -> str | None:
    """The suite of tasks with one prefix, or without any; None where it knows none of them."""
    suites = [SUITE_OF_PREFIX.get(prefix, prefix)] if prefix else BARE_SUITES
    hits = {suite: sum(compact(task) in _known()[suite] for task in tasks) for suite in suites}
    best = max(suites, key=hits.__getitem__)
    return best if hits[best] else None


def _nearest(task: str, known: dict[str, str]) -> str:
    near = difflib.get_close_matches(compact(task), known, n=3)
    if not near:
        return f"known: {', '.join(known.values())} (case, `_`, `ALE/` and `-v5` do not matter)"
    meant = " or ".join(known[key] for key in near)
    return f"did you mean {meant}? Spellings such as {_aliases(known[near[0]])} are taken too"


def _aliases(task: str) -> str:
    camel = "".join(part.capitalize() for part in re.split(r"[_-]", task))
    return ", ".join(dict.fromkeys([compact(task), camel, f"ALE/{camel}-v5"]))


_suite = cache(registry.suite)


@cache
def references(suite: str | None, task: str) -> tuple[float | None, float | None]:
    """Values of the random policy and of the human, None where the suite has none."""
    if not benchmark(suite).normalised or suite is None:
        return None, None
    found = _suite(suite)
    protocol: EvalProtocol = found.protocol(task, found.Config())
    return protocol.random_score, protocol.human_score


def scores(suite: str | None, task: str, values: Array) -> Array:
    """Scores of values of the suite's own metric."""
    low, high = references(suite, task)
    if low is not None and high is not None:
        return (values - low) / (high - low)
    return values / benchmark(suite).scale


def label(task: str) -> str:
    """A task's name for readers: `ms_pacman` as Ms Pacman."""
    return task if "/" in task else re.sub(r"[_-]+", " ", task).strip().title()


EAWM = "MarquisDarwin/EAWM@bd9346d, results/atari"
SIMULUS = "leor-c/Simulus@c1e75e9, results/data/atari"
PUBLISHED = (
    Published(
        name="BBF",
        suite="atari100k",
        origin="reported",
        source="paperswithcode.com, as listed there",
        mean=2.245,
        median=0.917,
        note="a ceiling without a world model",
    ),
    Published(
        name="EfficientZero V2",
        suite="atari100k",
        origin="reported",
        source="not confirmed at its paper",
        mean=2.4,
        median=1.3,
        note="about; a ceiling with tree search",
    ),
    Published(
        name="TWISTER",
        suite="atari100k",
        origin="reported",
        source="arXiv:2503.04416, abstract",
        mean=1.62,
        median=0.77,
    ),
    Published(
        name="DIAMOND",
        suite="atari100k",
        origin="recomputed",
        source=f"scores per seed in {SIMULUS}, and {EAWM}",
        seeds=5,
        mean=1.459,
        median=0.373,
        iqm=0.641,
        optimality_gap=0.480,
        top3_share=0.48,
    ),
    Published(
        name="Simulus",
        suite="atari100k",
        origin="recomputed",
        source=f"scores per seed in {SIMULUS}",
        seeds=5,
        mean=1.645,
        median=0.982,
        iqm=0.990,
        optimality_gap=0.412,
        top3_share=0.41,
    ),
    Published(
        name="EAWM (EASimulus)",
        suite="atari100k",
        origin="recomputed",
        source=f"scores per seed in {EAWM}",
        seeds=5,
        mean=1.818,
        median=0.773,
        iqm=1.004,
        optimality_gap=0.394,
        top3_share=0.47,
    ),
    Published(
        name="EAWM (EADream)",
        suite="atari100k",
        origin="recomputed",
        source=f"scores per seed in {EAWM}",
        seeds=5,
        mean=1.290,
        median=0.651,
        iqm=0.593,
        optimality_gap=0.474,
        top3_share=0.50,
        note="training ratio 1024",
    ),
    Published(
        name="HarmonyDream (DreamerV3)",
        suite="atari100k",
        origin="recomputed",
        source="score files of thuml/HarmonyDream, dreamerv3-jax/scores",
        seeds=5,
        mean=1.364,
        median=0.671,
        iqm=0.607,
        optimality_gap=0.462,
        top3_share=0.52,
        note="training ratio 1024",
    ),
    Published(
        name="DreamerV3 (2023, reproduced by thuml)",
        suite="atari100k",
        origin="recomputed",
        source="score files of thuml/HarmonyDream, dreamerv3-jax/scores",
        seeds=5,
        mean=1.074,
        median=0.416,
        iqm=0.472,
        optimality_gap=0.508,
        top3_share=0.53,
        note="training ratio 1024",
    ),
)
"""Aggregates only; all were computed with 26 games at 100,000 env steps."""


def published(suites: Iterable[str]) -> tuple[Published, ...]:
    return tuple(one for one in PUBLISHED if one.suite in set(suites))
