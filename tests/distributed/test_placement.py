"""Where parts are placed: in the cluster, or in the placement group of a trial."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from reverie.cluster.placement import Room
from reverie.cluster.role import place_roles
from reverie.cluster.roles import ROLES
from reverie.config import resolve_config
from reverie.errors import PlacementError
from reverie.trainer import Trainer
from tests.conftest import ROOT
from tests.fakes import tree


def cluster(*nodes: dict[str, float]) -> Room:
    return Room("the cluster", nodes)


def test_cpus_are_scaled_to_fit_into_the_cluster_and_into_each_node() -> None:
    config = resolve_config(tree(resources__num_env_workers=6))
    learner, worker = (
        place_roles(config, ROLES, cluster({"CPU": 2.0})).options(role)["num_cpus"]
        for role in ("learner", "env_worker")
    )
    assert 1.9 < learner + 6 * worker <= 2.0
    config = resolve_config(tree(resources={"num_cpus_per_learner": 4}))
    fitted = place_roles(config, ROLES, cluster({"CPU": 2.0}, {"CPU": 2.0}))
    assert fitted.device == "cpu"
    assert 1.5 < fitted.options("learner")["num_cpus"] <= 2.0


@pytest.mark.parametrize(
    ("nodes", "gpus", "words"),
    [
        ([{"CPU": 8.0}], 1, r"needs 1 GPU, the cluster has no GPU free; .*device=cpu"),
        ([{"CPU": 8.0, "GPU": 1.0}] * 2, 2, r"2 GPU, the cluster has at most 1 in one place"),
        ([{"CPU": 0.0, "GPU": 1.0}], 1, r"needs 1 CPU, the cluster has no CPU"),
    ],
)
def test_what_can_never_fit_is_refused_in_one_line(nodes: Any, gpus: int, words: str) -> None:
    resources = {"device": "cuda", "num_gpus_per_learner": gpus}
    config = resolve_config(tree(resources=resources))
    with pytest.raises(PlacementError, match=words) as error:
        place_roles(config, ROLES, cluster(*nodes))
    assert "\n" not in str(error.value)


@ray.remote(num_cpus=0.2)
def trial(folder: str) -> Any:
    """Run an experiment as a Tune trial does; returns its steps, or what refused it and when."""
    begin = time.monotonic()
    try:
        return Trainer(resolve_config(tree(run={"dir": folder, "env_steps": 120}))).run().env_steps
    except PlacementError as error:
        return str(error), time.monotonic() - begin


def in_group(bundles: list[dict[str, float]], folder: Path) -> Any:
    group = placement_group(bundles)
    strategy = PlacementGroupSchedulingStrategy(
        group, placement_group_bundle_index=0, placement_group_capture_child_tasks=True
    )
    try:
        ref = trial.options(scheduling_strategy=strategy).remote(str(folder / "run"))
        return ray.get(ref, timeout=100)
    finally:
        remove_placement_group(group)


@pytest.mark.ray
def test_a_run_lies_within_the_placement_group_of_its_trial(
    tmp_path: Path, ray_local: None
) -> None:
    assert in_group([{"CPU": 0.2}, {"CPU": 0.4}, {"CPU": 0.4}], tmp_path) == 120


@pytest.mark.ray
def test_a_placement_group_without_room_is_refused_at_once(tmp_path: Path, ray_local: None) -> None:
    text, seconds = in_group([{"CPU": 0.2}], tmp_path)
    assert "the placement group has no CPU free" in text
    assert "\n" not in text
    assert seconds < 10


NICENESS = """
import os, ray
from reverie.cluster.connection import connect
from reverie.cluster.role import place_roles
from reverie.cluster.roles import ROLES
from reverie.config import resolve_config
from tests.fakes import tree
assert connect(resolve_config(tree()), None)
@ray.remote(num_cpus=0)
def niceness():
    return os.nice(0)
print("niceness", ray.get(niceness.remote()))
"""


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_ray_of_ones_own_runs_its_actors_as_any_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NICENESS], cwd=ROOT, env=dict(os.environ), capture_output=True
    )
    assert f"niceness {os.nice(0)}" in done.stdout.decode(), done.stderr.decode()
