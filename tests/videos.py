"""Small video data sets, made as a user makes them, and runs that learn from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from reverie.data.importer import import_data
from reverie.data.options import make_options

SIDE = 16


def moving_squares(
    folder: Path, clips: int = 6, frames: int = 20, seed: int = 0, side: int = SIDE
) -> Path:
    """A data set of a bright square that moves over a dark ground, each clip its own way."""
    episodes = folder / "episodes"
    episodes.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for clip in range(clips):
        at, step = rng.integers(0, side, 2), rng.integers(1, 4, 2)
        image = np.full((frames, side, side, 3), 30, np.uint8)
        for t in range(frames):
            y, x = (at + t * step) % (side - 4)
            image[t, y : y + 4, x : x + 4] = (200, 40 * clip % 256, 10 * t % 256)
        np.savez(episodes / f"clip{clip}.npz", image=image)
    import_data(str(episodes), str(folder / "set"), make_options())
    return folder / "set"


def pretrain_tree(*folders: Path, **sections: Any) -> dict[str, Any]:
    """A run of a few updates, of networks as small as they get."""
    small = {"kind": "resnet", "depth": 2}
    tree: dict[str, Any] = {
        "algorithm": {
            "name": "ipv",
            "size": "tiny",
            "rssm": {"deter": 8, "hidden": 8, "stoch": 4, "classes": 4, "action_width": 3},
            "encoder": small,
            "decoder": small,
        },
        "data": {"folders": [str(folder) for folder in folders], "holdout": 0.2},
        "learner": {"batch_size": 5, "batch_length": 6},
        "run": {"updates": 8},
        "eval": {"every": 4, "batches": 2},
        "resources": {"device": "cpu", "learner_threads": 1},
        "logging": {"tensorboard": False},
    }
    for name, values in sections.items():
        tree[name] = tree.get(name, {}) | values
    return tree
