"""What a report costs: 26 games x 5 seeds x 2 methods x 1,000 evaluations, with its page.

    python benchmarks/report_cost.py

Prints CPU seconds and peak memory, of which at most 10 s and 1 GB are meant to be used, and the
sizes of what is written, of which the page is to have at most 2 MB; saves results/report_cost.json.
What matplotlib draws is not in it.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import save

from reverie import registry
from reverie.report.build import build_report
from reverie.report.files import output_folder, write_files
from reverie.report.frame import BuildOptions
from reverie.report.score_files import ReadOptions
from reverie.report.sources import read_study

SEEDS, POINTS = 5, 1_000


def write_curves(path: Path, method: str, generator: np.random.Generator) -> None:
    """A score file of curves that rise from random play to about human play."""
    suite = registry.suite("atari100k")
    xs = np.linspace(400, 400_000, POINTS)
    curves: list[dict[str, Any]] = []
    for task in suite.tasks():
        protocol = suite.protocol(task, suite.Config())
        low, high = protocol.random_score or 0.0, protocol.human_score or 1.0
        for seed in range(SEEDS):
            shape = generator.uniform(0.2, 1.5) * (xs / xs[-1]) ** generator.uniform(0.5, 2)
            ys = low + (high - low) * (shape + generator.normal(0, 0.05, POINTS))
            one = {"task": task, "method": method, "seed": seed}
            curves.append({**one, "xs": xs.tolist(), "ys": ys.tolist()})
    path.write_text(json.dumps(curves))


def main() -> None:
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for method in ("a", "b"):
            write_curves(folder / f"{method}.json", method, generator)
        begin = time.process_time()
        sources = [str(folder / f"{method}.json") for method in ("a", "b")]
        study = read_study(sources, ReadOptions(unit="frames"))
        read = time.process_time()
        report = build_report(study, BuildOptions(threshold=0.5))
        built = time.process_time()
        with output_folder(folder / "out") as storage:
            names = write_files(storage, study, report)
        written = time.process_time()
        sizes = {name: (folder / "out" / name).stat().st_size for name in names}
    figures = {
        "cpu_s": {
            "read": round(read - begin, 2),
            "build": round(built - read, 2),
            "write": round(written - built, 2),
            "all": round(written - begin, 2),
        },
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "bytes": sizes,
    }
    print(json.dumps(figures, indent=2))
    print(save("report_cost", figures))


if __name__ == "__main__":
    main()
