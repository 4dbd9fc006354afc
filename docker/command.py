"""Entry for `ray submit` and Ray jobs: every command, on the cluster it finds itself in.

ray submit docker/cluster.yaml docker/command.py -- sweep FILE
ray job submit --working-dir . -- python docker/command.py train harmonydream/atari100k
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE_ROOTS = ("platform", "algorithms", "envs")
ON_RAY = ("train", "resume", "sweep")
"""Commands that join the cluster unless they say where else they run."""
ELSEWHERE = ("--address", "--local", "--backend", "--dry-run", "--help", "-h")
SWEEP_ALONE = ("status", "extend")
"""What a sweep does without members."""


def main(arguments: Sequence[str]) -> int:
    """Run what the arguments say on the running cluster; returns the exit code."""
    _make_importable()
    from reverie.cli import main as reverie

    words = list(arguments) or ["--help"]
    said = {word.partition("=")[0] for word in words}
    alone = words[0] == "sweep" and words[1:2] and words[1] in SWEEP_ALONE
    if words[0] in ON_RAY and not said & set(ELSEWHERE) and not alone:
        words += ["--address", "auto"]
    return reverie(words)


def _make_importable() -> None:
    """Find Reverie in an uploaded working tree where it is not installed, here and in workers."""
    roots = [str(ROOT / root) for root in SOURCE_ROOTS if (ROOT / root).is_dir()]
    sys.path[:0] = roots
    known = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    os.environ["PYTHONPATH"] = os.pathsep.join([*roots, *known])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
