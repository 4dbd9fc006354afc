"""Does balancing the losses help where the background distracts? Only `harmony.mode` differs.

    python benchmarks/harmony_distraction.py                             # 2 modes x 5 seeds
    python benchmarks/harmony_distraction.py --modes off --seeds 0,1     # a part; it is merged
    python benchmarks/harmony_distraction.py --seeds ""                  # only sum up what is there
    python benchmarks/harmony_distraction.py algorithm.entropy_scale=3e-3 --name entropy_3e-3

Counts env steps until an evaluation (20 episodes, every 250 env steps) reaches 0.8 on
toy/catch_distracted and prints each mode's median with a 95 % bootstrap interval. A seed that does
not get there counts with the whole budget and is called censored: the median is then a lower bound.
One process and one thread per call, so that two calls on two cores do not disturb each other; both
write to benchmarks/results/harmony_distraction.json.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import save, saved
from learning import run_seed

NAME = "harmony_distraction"
CONFIG = "tune_configs/harmonydream/catch_distracted.yaml"
THRESHOLD, RESAMPLES = 0.8, 10_000
LOCK = Path(tempfile.gettempdir()) / f"reverie-{NAME}.lock"
Row = dict[str, Any]


def run_one(mode: str, seed: int, env_steps: int, changes: list[str]) -> Row:
    """Train one seed in one mode until it reaches the threshold or has used its budget."""
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        overrides = [
            *changes,
            f"algorithm.harmony.mode={mode}",
            f"run.dir={folder}/run",
            f"run.env_steps={env_steps}",
            "run.checkpoint_every_s=1e9",
            "eval.every=250",
            "eval.video=false",
            "resources.learner_threads=1",
        ]
        limits = argparse.Namespace(local=True, minutes=float("inf"), threshold=THRESHOLD)
        row = run_seed(CONFIG, overrides, seed, limits)
    return {
        "mode": mode,
        "budget": env_steps,
        "date": time.strftime("%Y-%m-%d"),
        "cpu_minutes": round((time.process_time() - begin) / 60, 1),
        **row,
    }


def merge(rows: list[Row], new: list[Row]) -> list[Row]:
    """Put new rows in place of old ones of the same mode and seed."""
    merged = {(row["mode"], row["seed"]): row for row in [*rows, *new]}
    return [merged[key] for key in sorted(merged)]


def summarise(rows: list[Row]) -> dict[str, Any]:
    """Median env steps to the threshold by mode, intervals, and how many seeds are censored."""
    return {
        mode: _summarise_mode([row for row in rows if row["mode"] == mode])
        for mode in sorted({row["mode"] for row in rows})
    }


def median_interval(values: list[float]) -> tuple[float, float]:
    """95 % percentile-bootstrap interval of the median."""
    draws = np.random.default_rng(0).choice(values, (RESAMPLES, len(values)))
    low, high = np.percentile(np.median(draws, 1), [2.5, 97.5])
    return float(low), float(high)


def _summarise_mode(rows: list[Row]) -> dict[str, Any]:
    steps = [row["reached"]["env_steps"] if row["reached"] else row["budget"] for row in rows]
    return {
        "seeds": len(rows),
        "median_env_steps": float(np.median(steps)),
        "interval_95": median_interval(steps),
        "censored_seeds": [row["seed"] for row in rows if not row["reached"]],
    }


def text(mode: str, found: dict[str, Any]) -> str:
    """One line per mode."""
    low, high = found["interval_95"]
    censored = found["censored_seeds"]
    return (
        f"{mode:10} median {found['median_env_steps']:,.0f} env steps to {THRESHOLD} "
        f"[{low:,.0f}, {high:,.0f}], {found['seeds']} seeds"
        + (f"; censored at the budget: seeds {censored}" if censored else "")
    )


def record(new: list[Row], changes: list[str] | None = None, name: str = NAME) -> dict[str, Any]:
    """Merge rows into the result file, which another process may be writing to as well."""
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        old = (saved(name) or {"runs": []})["runs"]
        rows = merge(old, new)
        summary = summarise(rows)
        config = {"config": CONFIG, "overrides": changes or [], "threshold": THRESHOLD}
        save(name, config | {"modes": summary, "runs": rows})
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", help="laid over the preset in both modes")
    parser.add_argument("--name", help="of what the overrides try, for a result file of its own")
    parser.add_argument("--modes", default="off,paper")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--env-steps", type=int, default=8_000, help="budget per seed")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    name = f"{NAME}-{options.name}" if options.name else NAME
    if options.overrides and not options.name:
        parser.error("overrides want a --name, so that their runs do not mix with the others")
    for seed in filter(None, options.seeds.split(",")):
        for mode in options.modes.split(","):
            print(f"harmony.mode={mode}, seed {seed}", flush=True)
            row = run_one(mode, int(seed), options.env_steps, options.overrides)
            record([row], options.overrides, name)
    for mode, found in record([], options.overrides, name).items():
        print(text(mode, found))


if __name__ == "__main__":
    main()
