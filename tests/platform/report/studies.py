"""Small studies with figures that can be told in the head."""

from __future__ import annotations

from typing import Any

import numpy as np

from reverie.report.build import build_report
from reverie.report.frame import BuildOptions
from reverie.report.study import Curve, Facts, Report, Study


def make_curve(
    task: str = "pong",
    method: str = "a",
    seed: int = 0,
    points: dict[float, float] | None = None,
    *,
    suite: str | None = "atari100k",
    **facts: Any,
) -> Curve:
    points = points or {100.0: 0.0, 200.0: 1.0}
    return Curve(
        task=task,
        suite=suite,
        method=method,
        seed=str(seed),
        xs=np.array([*points], float),
        ys=np.array([*points.values()], float),
        source=f"{method}/{task}/{seed}",
        facts=Facts(**facts),
    )


def make_study(*curves: Curve) -> Study:
    return Study(curves=curves)


def lifted(
    method: str, level: float, tasks: tuple[str, ...] = ("x", "y"), seeds: int = 3, **facts: Any
) -> list[Curve]:
    """Curves of no known suite that rise from 0 to about `level` over 100 ... 400 steps."""
    return [
        make_curve(
            task,
            method,
            seed,
            {100.0 * (i + 1): (level + seed / 100) * i / 3 for i in range(4)},
            suite=None,
            **facts,
        )
        for task in tasks
        for seed in range(seeds)
    ]


def report_of(*curves: Curve, **options: Any) -> Report:
    quick: dict[str, Any] = {"resamples": 200, "curve_resamples": 100} | options
    return build_report(make_study(*curves), BuildOptions(**quick))
