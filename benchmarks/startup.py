"""How long from nothing to the first update: starts Ray, the actors, the prefill; 3 runs.

python benchmarks/startup.py        # limit: 30 s on 2 cores
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import time

from common import save

from reverie.config import load_config
from reverie.trainer import Trainer

CONFIG = "tune_configs/harmonydream/catch.yaml"
LIMIT_S = 30.0


def first_update_s() -> float:
    """Seconds from the first line of the run to the first gradient step."""
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(CONFIG, [f"run.dir={folder}/run", "logging.tensorboard=false"])
        begin = time.perf_counter()
        trainer = Trainer(config)
        try:
            while trainer.progress.grad_updates == 0:
                trainer.step()
            return time.perf_counter() - begin
        finally:
            trainer.close()


def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    seconds = [round(first_update_s(), 1) for _ in range(3)]
    figures = {
        "config": CONFIG,
        "seconds": seconds,
        "median_s": statistics.median(seconds),
        "limit_s": LIMIT_S,
    }
    print(figures)
    print(save("startup", figures))


if __name__ == "__main__":
    main()
