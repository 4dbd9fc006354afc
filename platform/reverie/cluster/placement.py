"""What each part of a run reserves, fitted to a cluster or to the placement group of a trial."""

# Placement groups and nodes have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util import get_current_placement_group
from ray.util.placement_group import placement_group_table
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from reverie.errors import PlacementError
from reverie.settings import ExperimentConfig

Resources = Mapping[str, float]
"""Amounts by Ray's names: `CPU`, `GPU`, or one that a cluster defines itself."""
SHRINK = 0.95
"""Factor by which CPU reservations are scaled down until every one fits into some bin."""
LEAST_CPUS = 1e-3
"""A reservation below this would be none: what does not fit then never will."""
REMEDIES = {
    "CPU": "set resources.num_cpus_per_learner and resources.num_cpus_per_env_worker lower"
    " or resources.num_env_workers lower",
    "GPU": "set resources.num_gpus_per_learner lower or resources.device=cpu",
}


@dataclass(frozen=True, slots=True)
class Room:
    """Where a run may place its parts."""

    where: str
    """As an error names it: `the cluster`, `the placement group`."""
    bins: Sequence[Resources]
    """What each node or bundle holds; one part lies within one of them."""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Ray options that place an actor here."""

    def total(self, name: str) -> float:
        return sum(held.get(name, 0.0) for held in self.bins)


@dataclass(frozen=True, slots=True)
class Placement:
    """What each role reserves, fitted to the room there is."""

    device: str
    """Where the learner trains: `cpu` or `cuda`."""
    reserved: Mapping[str, Resources]
    """Role -> what each of its parts reserves."""
    placed: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Ray options of every actor."""

    def options(self, role: str) -> dict[str, Any]:
        """Ray options of an actor of this role."""
        named = dict(self.reserved.get(role, {}))
        found: dict[str, Any] = {"num_cpus": named.pop("CPU", 0.0)}
        found["num_gpus"] = named.pop("GPU", 0.0)
        return found | {"resources": named} | dict(self.placed)


def find_room() -> Room:
    """The placement group this process runs in (a Tune trial's), or else the cluster."""
    group = get_current_placement_group()
    if group is None:
        nodes: list[Resources] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return Room("the cluster", nodes)
    bundles = placement_group_table(group)["bundles"]
    held = [dict(bundles[index]) for index in sorted(bundles)]
    _take(held, ray.get_runtime_context().get_assigned_resources())
    strategy = PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)
    return Room("the placement group", held, {"scheduling_strategy": strategy})


def choose_device(config: ExperimentConfig, room: Room) -> str:
    """Where the learner trains: `auto` takes a GPU where the room has one."""
    wanted = config.resources.device
    if wanted == "auto":
        return "cuda" if room.total("GPU") > 0 else "cpu"
    return wanted


def plan_placement(
    room: Room, device: str, parts: Sequence[tuple[str, int, Resources]]
) -> Placement:
    """Fit reservations into the room, scaling CPUs down where there are fewer.

    Args:
        room: where the parts go.
        device: where the learner trains.
        parts: role, number of its parts, and what each of them asks for.

    Raises:
        PlacementError: what is asked for can never be placed.
    """
    wanted = [need for _, count, need in parts for _ in range(count)]
    # CPUs are scaled, everything else either fits or does not.
    for role, count, need in parts:
        for name, amount in need.items():
            _check(room, role, count, name, amount)
    asked = sum(need.get("CPU", 0.0) for need in wanted)
    # Ray counts CPUs in units of 1e-4; rounding down keeps the sum below the whole.
    scale = min(1.0, room.total("CPU") / asked) if asked else 1.0
    while not _fits(room.bins, [_scaled(need, scale) for need in wanted]):
        scale *= SHRINK
        if scale * max(need.get("CPU", 0.0) for need in wanted) < LEAST_CPUS:
            raise PlacementError(_refusal(room, wanted))
    reserved = {role: _scaled(need, scale) for role, _, need in parts}
    return Placement(device=device, reserved=reserved, placed=room.options)


def _check(room: Room, role: str, count: int, name: str, amount: float) -> None:
    """Refuse what no node or bundle holds, or all of them together do not."""
    largest = max((held.get(name, 0.0) for held in room.bins), default=0.0)
    remedy = REMEDIES.get(name, f"give {room.where} more {name}")
    if amount > 0 and largest <= 0:
        raise PlacementError(
            f"{role} needs {amount:g} {name}, {room.where} has no {name} free; {remedy}"
        )
    if name != "CPU" and amount > largest:
        raise PlacementError(
            f"{role} needs {amount:g} {name}, {room.where} has at most {largest:g} in one place; "
            f"{remedy}"
        )
    if name != "CPU" and count * amount > room.total(name):
        raise PlacementError(
            f"{count} x {role} need {count * amount:g} {name}, {room.where} has "
            f"{room.total(name):g}; {remedy}"
        )


def _refusal(room: Room, wanted: Sequence[Resources]) -> str:
    def text(resources: Resources) -> str:
        return " ".join(f"{amount:g} {name}" for name, amount in resources.items()) or "nothing"

    asked = ", ".join(text(need) for need in wanted if need)
    there = ", ".join(text(_named(held)) for held in room.bins) or "nothing"
    return f"the run asks for [{asked}], {room.where} has [{there}]; {REMEDIES['CPU']}"


def _named(held: Resources) -> Resources:
    """Without what Ray adds by itself: memory, the node's address."""
    return {k: v for k, v in held.items() if ":" not in k and "memory" not in k}


def _fits(bins: Sequence[Resources], wanted: Sequence[Resources]) -> bool:
    """Whether the needs fit into the bins, the largest first, each into the first with room."""
    free = [dict(held) for held in bins]
    order = sorted(wanted, key=lambda need: (-need.get("GPU", 0.0), -need.get("CPU", 0.0)))
    return all(_take(free, need) for need in order)


def _take(free: Sequence[dict[str, float]], need: Resources) -> bool:
    """Take `need` from the first bin that holds it; False if none does."""
    for held in free:
        if all(held.get(name, 0.0) + 1e-9 >= amount for name, amount in need.items()):
            for name, amount in need.items():
                held[name] = held.get(name, 0.0) - amount
            return True
    return False


def _scaled(need: Resources, scale: float) -> dict[str, float]:
    return {k: _floor(v * scale) if k == "CPU" else v for k, v in need.items()}


def _floor(value: float) -> float:
    return int(value * 1000) / 1000 if value != int(value) else value
