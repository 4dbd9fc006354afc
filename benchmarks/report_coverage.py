"""How often the report's 95 % interval of the IQM holds the truth, in simulated studies.

    python benchmarks/report_coverage.py [--studies 500] [--seeds 5]

A study draws 5 seeds on each of 26 tasks from a population that is known: of each task 10,000 runs,
log-normal about a level of its own, so that tasks differ by a factor of ten and runs have a tail as
those of Atari 100K do. The truth is the IQM of all runs of the population. Saves
results/report_coverage.json.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from common import save

from reverie.report import statistics as st

TASKS, POPULATION = 26, 10_000


def population(generator: np.random.Generator) -> list[st.Array]:
    """Scores of all runs there could be, per task."""
    levels = np.exp(generator.normal(np.log(0.5), 1.0, TASKS))
    spreads = generator.uniform(0.1, 0.6, TASKS)
    return [
        level * np.exp(generator.normal(-(spread**2) / 2, spread, POPULATION))
        for level, spread in zip(levels, spreads, strict=True)
    ]


def coverage(studies: int, seeds: int, resamples: int) -> dict[str, Any]:
    """Share of the studies whose interval holds the truth, by statistic."""
    generator = np.random.default_rng(0)
    everyone = population(generator)
    whole = st.Resampled([runs[None] for runs in everyone])
    truth = {name: float(statistic(whole)[0]) for name, statistic in st.STATISTICS.items()}
    held = dict.fromkeys(truth, 0)
    widths = dict.fromkeys(truth, 0.0)
    for _ in range(studies):
        scores = [generator.choice(runs, seeds, replace=False) for runs in everyone]
        indices = st.draw(generator, [seeds] * TASKS, resamples)
        for name, one in st.estimates(scores, st.STATISTICS, indices).items():
            assert one.interval is not None
            held[name] += one.interval.low <= truth[name] <= one.interval.high
            widths[name] += (one.interval.high - one.interval.low) / studies
    return {
        name: {
            "truth": round(truth[name], 4),
            "coverage": round(held[name] / studies, 3),
            "mean_width": round(widths[name], 4),
        }
        for name in truth
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--resamples", type=int, default=2_000)
    options = parser.parse_args()
    found = coverage(options.studies, options.seeds, options.resamples)
    figures = {**vars(options), "tasks": TASKS, "level": st.LEVEL, "statistics": found}
    print(json.dumps(figures, indent=2))
    print(save("report_coverage", figures))


if __name__ == "__main__":
    main()
