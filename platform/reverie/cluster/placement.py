"""What each part of a run reserves, fitted to a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reverie.config import ExperimentConfig
from reverie.errors import PlacementError


@dataclass(frozen=True, slots=True)
class Placement:
    """What each role reserves, fitted to the cluster."""

    device: str
    learner_cpus: float
    learner_gpus: float
    learner_threads: int
    worker_cpus: float

    def options(self, role: str) -> dict[str, Any]:
        """Ray options of an actor of this role; only learner and workers reserve CPUs."""
        if role == "learner":
            return {"num_cpus": self.learner_cpus, "num_gpus": self.learner_gpus}
        return {"num_cpus": self.worker_cpus if role == "env_worker" else 0}


def plan_placement(config: ExperimentConfig, cluster: Mapping[str, float]) -> Placement:
    """Fit the run's reservations into the cluster, scaling CPUs down where there are fewer.

    Raises:
        PlacementError: more GPUs are asked for than the cluster will ever have.
    """
    wanted = config.resources
    gpus = cluster.get("GPU", 0.0)
    on_gpu = wanted.device == "cuda" or (wanted.device == "auto" and gpus > 0)
    if on_gpu and wanted.num_gpus_per_learner > gpus:
        raise PlacementError(
            f"resources.num_gpus_per_learner: the learner needs {wanted.num_gpus_per_learner:g} "
            f"GPU, the cluster has {gpus:g}; lower it or set resources.device=cpu"
        )
    cpus = cluster.get("CPU", 0.0)
    if cpus <= 0:
        raise PlacementError("the cluster has no CPUs to place environment workers on")
    asked = wanted.num_cpus_per_learner + wanted.num_env_workers * wanted.num_cpus_per_env_worker
    # Ray counts CPUs in units of 1e-4; rounding down keeps the sum below the whole.
    scale = min(1.0, cpus / asked) if asked else 1.0
    return Placement(
        device="cuda" if on_gpu else "cpu",
        learner_cpus=_floor(wanted.num_cpus_per_learner * scale),
        learner_gpus=wanted.num_gpus_per_learner if on_gpu else 0.0,
        learner_threads=wanted.learner_threads,
        worker_cpus=_floor(wanted.num_cpus_per_env_worker * scale),
    )


def _floor(value: float) -> float:
    return int(value * 1000) / 1000 if value != int(value) else value
