"""What all faults share: the run that they hit, limits, and what becomes of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

PRESET = "drqv2/catch"
QUICK = [
    *("learner.training_ratio=8", "learner.batch_size=8", "run.prefill=200", "eval.every=0"),
    *("eval.episodes=2", "eval.envs=2", "eval.video=false", "logging.tensorboard=false"),
    *("run.log_every_s=0.5", "run.checkpoint_every_s=100000", "run.max_actor_restarts=1000"),
]
LIMIT_S = {"env_worker": 5.0, "learner": 15.0, "signal": 10.0}
THRESHOLD = "RAY_memory_usage_threshold"
SILENT_S = 60.0
"""Seconds without a sign of life after which a stopped part is replaced."""
PATIENCE_S = 180.0
"""Seconds after which a fault counts as not mended."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of one fault."""

    fault: str
    ok: bool | None
    """None: it could not be tried here."""
    recovery_s: float | None = None
    steps_lost: int | None = None
    updates_lost: int | None = None
    note: str = ""
    load: float | None = None
    """Of the machine, over the minute before."""


def tried(name: str, run: Callable[[], Row]) -> Row:
    """What `run` finds; an error of its own is a fault that was not mended."""
    try:
        return run()
    except Exception as error:  # the other faults are to be tried too
        return Row(fault=name, ok=False, note=f"{type(error).__name__}: {error}"[:300])
