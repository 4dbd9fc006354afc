"""Makes the stored runs: `python tests/stored_runs/make.py FOLDER`. See README.md here."""

from __future__ import annotations

import json
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import reverie
from reverie.config import resolve_config
from reverie.config_tree import lay
from reverie.trainer import Trainer

NET = {"depth": 1, "units": 8}
DREAMER: dict[str, Any] = {
    "horizon": 3,
    "encoder": NET,
    "decoder": NET,
    "heads": {"units": 8},
    "harmony": {"mode": "paper"},
}
RUNS: dict[str, dict[str, Any]] = {
    "dreamerv2": {
        "algorithm": {
            **DREAMER,
            "name": "dreamerv2",
            "size": "tiny",
            "rssm": {"deter": 16, "hidden": 8, "stoch": 4, "classes": 4},
            "discount_head": True,
        },
    },
    "dreamerv3-2023": {
        "algorithm": {
            **DREAMER,
            "name": "dreamerv3",
            "dialect": "2023",
            "size": "tiny",
            "rssm": {"deter": 16, "units": 8, "stoch": 4, "classes": 4},
        },
    },
    "dreamerv3-2025": {
        "algorithm": {
            **DREAMER,
            "name": "dreamerv3",
            "dialect": "2025",
            "size": "1m",
            "rssm": {"deter": 16, "units": 8, "stoch": 4, "classes": 4, "blocks": 4},
            "warmup": 4,
        },
    },
    "drqv2": {
        "algorithm": {"name": "drqv2", "channels": 2, "features": 2, "hidden": 4},
        "env": {"suite": "toy", "task": "catch", "continuous": True},
        "learner": {"batch_length": 1, "training_ratio": 1},
    },
}
"""Name of the folder -> what its configuration adds to `BASE`."""
BASE: dict[str, Any] = {
    "replay": {"chunk_length": 16, "capacity": 1_000},
    "learner": {"training_ratio": 4, "batch_size": 2, "batch_length": 6},
    "eval": {"every": 0, "episodes": 1, "envs": 1, "video": False},
    "run": {"env_steps": 64, "prefill": 32, "log_every_s": 1000, "keep_checkpoints": 1},
    "logging": {"tensorboard": False},
}
KEPT = ("config.yaml", "spaces.json", "run_manifest.json", "metrics.jsonl", "checkpoints", "replay")
VERSIONS = ("numpy", "ray", "reverie", "torch")
ACTIONS_FILE = "actions.json"
"""Beside the run: what its policy does on `frames`, for the test."""


def frames(count: int = 12) -> np.ndarray:
    """Random images of toy/catch's size, the same ones forever: [count, 64, 64, 3]."""
    values = np.arange(count * 64 * 64 * 3, dtype=np.uint32)
    return (values * 2654435761 >> 24).astype(np.uint8).reshape(count, 64, 64, 3)


def make(name: str, folder: Path) -> Path:
    """Run to the end of the budget in this process, and pack what a later version needs."""
    run, more = folder / name, RUNS[name]
    sections = {key: lay(value, more.get(key, {})) for key, value in BASE.items()}
    tree = {"env": "toy/catch", **more, **sections}
    config = resolve_config(lay(tree, {"run": {"dir": str(run)}}))
    Trainer(config, local=True, resume="never").run()
    config = replace(config, run=replace(config.run, dir=None))
    (run / "config.yaml").write_text(config.to_yaml())
    (run / "run_manifest.json").write_text(json.dumps(nameless(run), indent=1))
    policy = reverie.load(run)
    actions = [policy.act(image, normalised=True).tolist() for image in frames()]
    (run / ACTIONS_FILE).write_text(json.dumps(actions))
    return pack(run, folder / f"{name}.tar.xz")


def nameless(run: Path) -> dict[str, Any]:
    """The run's manifest without paths and without what it says about the machine."""
    manifest = json.loads((run / "run_manifest.json").read_text())
    versions = {name: manifest["versions"][name] for name in VERSIONS}
    manifest |= {"argv": ["reverie", "train"], "platform": "Linux", "hardware": {}, "variables": {}}
    manifest["config"]["run"]["dir"] = None
    return manifest | {"versions": versions}


def pack(run: Path, archive: Path) -> Path:
    """Pack `KEPT` and the actions, nothing of the file system."""

    def bare(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.mtime = info.uid = info.gid = 0
        info.uname = info.gname = ""
        return info

    with tarfile.open(archive, "w:xz") as file:
        for name in (*KEPT, ACTIONS_FILE):
            file.add(run / name, f"{run.name}/{name}", filter=bare)
    return archive


if __name__ == "__main__":
    for run_name in RUNS:
        made = make(run_name, Path(sys.argv[1]))
        sys.stdout.write(f"{made}: {made.stat().st_size} bytes\n")
