"""Does it learn? Trains until an evaluation reaches a threshold, once per seed, through Ray.

    python benchmarks/learning.py tune_configs/harmonydream/catch.yaml --threshold 0.8
    python benchmarks/learning.py tune_configs/dreamerv3/cartpole.yaml --threshold 195

Prints minutes, env steps and updates to the threshold for every seed, and writes
benchmarks/results/learning-<name>.json. A seed that does not get there in time says so.
"""

from __future__ import annotations

import argparse
import logging
import time
from typing import Any

from common import save

from reverie.config import load_config
from reverie.trainer import Trainer


def run_seed(path: str, overrides: list[str], seed: int, options: Any) -> dict[str, Any]:
    """Train one seed until the threshold, the end of its budget or of its time."""
    config = load_config(path, [*overrides, f"seed={seed}", "logging.tensorboard=false"])
    begin = time.perf_counter()
    trainer = Trainer(config, local=options.local)
    curve: list[dict[str, float]] = []
    reached = None
    try:
        finished = False
        while not finished and time.perf_counter() - begin < options.minutes * 60:
            events = trainer.step()
            finished = events.finished
            if finished:
                last = trainer.finish()
                events.evaluated += last.evaluated
            for result in events.evaluated:
                point = {
                    "minutes": round((time.perf_counter() - begin) / 60, 2),
                    "env_steps": result.env_steps,
                    "updates": result.grad_updates,
                    "score": round(result.score, 3),
                }
                curve.append(point)
                print(f"  seed {seed}: {point}", flush=True)
                if result.score >= options.threshold and reached is None:
                    reached = point
            if reached:
                break
    finally:
        trainer.close()
    best = max((point["score"] for point in curve), default=None)
    return {"seed": seed, "reached": reached, "best_score": best, "curve": curve}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--threshold", type=float, required=True)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--minutes", type=float, default=15, help="time limit per seed")
    parser.add_argument("--local", action="store_true")
    parser.add_argument("--name", help="of the result file")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    rows = [run_seed(options.config, options.overrides, seed, options) for seed in seeds]
    for row in rows:
        print(f"seed {row['seed']}: threshold {options.threshold} reached: {row['reached']}")
    name = options.name or "-".join(options.config.removesuffix(".yaml").split("/")[-2:])
    figures = {
        "config": options.config,
        "overrides": options.overrides,
        "threshold": options.threshold,
        "limit_minutes": options.minutes,
        "runner": "local" if options.local else "ray",
        "seeds": rows,
    }
    print(save(f"learning-{name}", figures))


if __name__ == "__main__":
    main()
