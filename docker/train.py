"""Entry for `ray submit` and Ray jobs: the same command line, on the cluster it finds itself in.

ray submit docker/cluster.yaml docker/train.py -- harmonydream/atari100k
ray job submit --working-dir . -- python docker/train.py dreamerv3/catch
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE_ROOTS = ("platform", "algorithms", "envs")


def main() -> int:
    """Train what the arguments say on the running cluster; returns the exit code."""
    _make_importable()
    from reverie.cli import main as reverie

    arguments = sys.argv[1:] or ["--help"]
    where = [] if {"--address", "--local"} & set(arguments) else ["--address", "auto"]
    return reverie(["train", *arguments, *where])


def _make_importable() -> None:
    """Find Reverie in an uploaded working tree where it is not installed, here and in workers."""
    roots = [str(ROOT / root) for root in SOURCE_ROOTS if (ROOT / root).is_dir()]
    sys.path[:0] = roots
    known = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    os.environ["PYTHONPATH"] = os.pathsep.join([*roots, *known])


if __name__ == "__main__":
    sys.exit(main())
