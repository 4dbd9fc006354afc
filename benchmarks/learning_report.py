"""The committed results of `learning.py` as one report.

    python benchmarks/learning_report.py [--out report]

Every run stopped at its threshold, so tables are taken where all runs of a suite have got; what the
runs were for, steps to the threshold, stands in the results themselves.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS

from reverie.config import load_config
from reverie.report.build import build_report
from reverie.report.files import output_folder, write_files
from reverie.report.frame import BuildOptions
from reverie.report.study import Curve, Facts, Study

ROOT = RESULTS.parent.parent


def curves_of(path: Path) -> list[Curve]:
    """The curves of one result, a method by its name without the task's."""
    result = json.loads(path.read_text())
    figures = result["figures"]
    preset = figures["config"].removesuffix(".yaml").removeprefix("tune_configs/")
    config = load_config(preset, figures["overrides"])
    method = path.stem.removeprefix("learning-")
    return [
        curve(row, config, method, f"{path.parent.name}/{path.name}", f"CPU: {result['cpu']}")
        for row in figures["seeds"]
        if row["curve"]
    ]


def curve(row: dict[str, Any], config: Any, method: str, source: str, hardware: str) -> Curve:
    columns = {key: np.array([p[key] for p in row["curve"]], float) for key in row["curve"][0]}
    last = row["curve"][-1]
    return Curve(
        task=config.env.task,
        suite=config.env.suite,
        method=method,
        seed=str(row["seed"]),
        xs=columns["env_steps"],
        ys=columns["score"],
        source=source,
        facts=Facts(
            training_ratio=config.learner.training_ratio,
            updates_per_env_step=last["updates"] / last["env_steps"],
            hardware=hardware,
            hours=last["minutes"] / 60,
            marks=("stopped at its threshold",) if row["reached"] else (),
        ),
        columns={"updates": columns["updates"], "hours": columns["minutes"] / 60},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("report"))
    options = parser.parse_args()
    paths = sorted(RESULTS.glob("learning-*.json"))
    study = Study(curves=tuple(one for path in paths for one in curves_of(path)))
    report = build_report(study, BuildOptions(title="Learning on two CPU cores"))
    with output_folder(options.out) as storage:
        print(options.out, *write_files(storage, study, report))


if __name__ == "__main__":
    main()
