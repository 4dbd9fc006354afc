"""Small sweeps of stubs for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from reverie.tuning.cells import plan
from reverie.tuning.sweep_file import read_sweep
from reverie.tuning.sweep_folder import SweepFolder, create
from tests.conftest import ROOT
from tests.fakes import tree

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(
        [str(ROOT), *(str(ROOT / name) for name in ("platform", "algorithms", "envs"))]
    ),
}


def write_sweep(folder: Path, settings: dict[str, Any] | None = None, **keys: Any) -> Path:
    """A sweep of stubs on one task; `settings` change its base, `keys` the sweep (None: gone)."""
    usual = {"eval__video": False, "resources__learner_threads": 1, "run__env_steps": 120}
    base = tree(**usual | (settings or {}))
    (folder / "base.yaml").write_text(yaml.safe_dump(base))
    found: dict[str, Any] = {"bases": {"plain": "base.yaml"}, "sweep": {"dir": str(folder / "s")}}
    found |= keys
    path = folder / "sweep.yaml"
    path.write_text(
        yaml.safe_dump({k: v for k, v in found.items() if v is not None}, sort_keys=False)
    )
    return path


def make_sweep(folder: Path, settings: dict[str, Any] | None = None, **keys: Any) -> SweepFolder:
    file = read_sweep(write_sweep(folder, settings, **keys))
    return create(file, plan(file))


def start(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "reverie.cli", *map(str, arguments)],
        cwd=cwd,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
