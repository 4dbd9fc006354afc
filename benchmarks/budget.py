"""Does an Atari 100K run take exactly 100,000 env steps? All of them random, through Ray.

python benchmarks/budget.py         # minutes; two workers, two shards, the published preset
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from common import save

from reverie.config import load_config
from reverie.trainer import Trainer

CONFIG = "tune_configs/harmonydream/atari100k.yaml"


def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        overrides = {
            "run.dir": str(Path(folder) / "run"),
            "run.prefill": 100_000,
            "algorithm.size": "tiny",
            "resources.device": "cpu",
            "eval.every": 0,
            "logging.tensorboard": False,
        }
        trainer = Trainer(load_config(CONFIG, overrides))
        try:
            while not trainer.step().finished:
                pass
            facts = trainer.facts()
        finally:
            trainer.close()
    figures = {
        "config": CONFIG,
        "env_steps": facts["env_steps"],
        "episodes": facts["episodes"],
        "env_frames": 4 * facts["env_steps"],
        "lost_steps": facts["lost_steps"],
        "seconds": round(trainer.progress.seconds, 1),
    }
    print(figures)
    print(save("budget", figures))


if __name__ == "__main__":
    main()
