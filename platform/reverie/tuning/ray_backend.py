"""Members on a Ray cluster: each an actor that reserves a run's resources and holds its process.

The process is the same `reverie train ... --local --resume=auto` as on one machine, so what it does
and how it ends does not depend on Ray. All nodes see the sweep's folder.
"""

# Ray is partly untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import ray
from ray.exceptions import RayActorError

from reverie.cluster.connection import connect
from reverie.errors import PlacementError
from reverie.settings import TrainConfig
from reverie.tuning.cells import Cell
from reverie.tuning.local_backend import LocalMember, member_environment
from reverie.tuning.sweep_folder import SweepFolder
from reverie.tuning.sweep_settings import RunResources

LOST = -9
"""Exit code of a member whose actor is gone: Ray or somebody ended it."""


class RayMemberActor:
    """Holds one member's process; runs as an actor with two threads, one of which waits."""

    def __init__(
        self, command: Sequence[str], log_file: str, resources: RunResources, folder: str
    ) -> None:
        environment = member_environment(resources)
        # What the worker's Ray set for itself must not decide how many threads the run has.
        environment["OMP_NUM_THREADS"] = str(max(1, round(resources.cpu)))
        if Path(folder).is_dir():
            os.chdir(folder)  # where the driver was: relative paths mean the same
        self._member = LocalMember(command, Path(log_file), environment)

    def wait(self) -> int:
        """Wait for its end; returns its exit code."""
        return self._member.wait()

    def tell(self, number: int) -> None:
        self._member.tell(number)


class RayMember:
    """A member as the driver sees it."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._end = actor.wait.remote()

    def poll(self) -> int | None:
        ready, _ = ray.wait([self._end], timeout=0)
        if not ready:
            return None
        try:
            return cast(int, ray.get(self._end))
        except RayActorError:
            return LOST

    def tell(self, number: int) -> None:
        self._actor.tell.remote(number)


class RayLauncher:
    """Starts members on the cluster at `address`, or on a Ray that it starts here.

    Args:
        config: any of the sweep's; its own modules are shipped to the nodes.

    Raises:
        PlacementError: no node can ever give a run what it takes.
    """

    def __init__(self, config: TrainConfig, resources: RunResources, address: str | None) -> None:
        self._started = connect(config, address)
        self._resources = resources
        self._free_at_once = _check(resources)
        self._members: list[RayMember] = []

    def start(self, sweep: SweepFolder, cell: Cell) -> RayMember | None:
        self._members = [member for member in self._members if member.poll() is None]
        if len(self._members) >= self._free_at_once:
            return None
        actor = (
            ray.remote(RayMemberActor)
            .options(
                num_cpus=self._resources.cpu,
                num_gpus=self._resources.gpu,
                memory=int(self._resources.memory_gb * 1e9) or None,
                max_restarts=0,
                max_concurrency=2,
            )
            .remote(
                sweep.command(cell),
                str(sweep.log_file(cell.id)),
                self._resources,
                os.getcwd(),
            )
        )
        member = RayMember(actor)
        self._members.append(member)
        return member

    def close(self) -> None:
        if self._started:
            ray.shutdown()


def _check(resources: RunResources) -> int:
    """How many members the cluster holds at once.

    Raises:
        PlacementError: none.
    """
    wanted = {
        "CPU": resources.cpu,
        "GPU": resources.gpu,
        "memory": resources.memory_gb * 1e9,
    }
    alive = [node for node in cast(list[dict[str, Any]], ray.nodes()) if node["Alive"]]
    nodes: list[dict[str, float]] = [node["Resources"] for node in alive]
    places = sum(_places(node, wanted) for node in nodes)
    if not places:
        most = {key: max((node.get(key, 0) for node in nodes), default=0) for key in wanted}
        raise PlacementError(
            f"resources: a run takes {resources.cpu:g} CPU, {resources.gpu:g} GPU and"
            f" {resources.memory_gb:g} GB; no node has that, the most are {most['CPU']:g},"
            f" {most['GPU']:g} and {most['memory'] / 1e9:.1f}"
        )
    return places


def _places(node: dict[str, float], wanted: dict[str, float]) -> int:
    """How many members a node holds."""
    asked = {key: amount for key, amount in wanted.items() if amount}
    if not asked:
        return 10_000
    return int(min((node.get(key, 0) + 1e-6) // amount for key, amount in asked.items()))
