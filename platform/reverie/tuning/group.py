"""A group: one configuration with all its tasks and seeds, whose scores count as one.

    groups/<id>/group.json      what it is, how far it is, how it scored at each rung
    groups/<id>/runs/<cell>/    an ordinary run folder per member

Run folders hold the state; what Tune saves points at them. Neither ray nor torch.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reverie.checkpoint import Checkpoint, CheckpointStore
from reverie.checkpoint_format import MANIFEST, folder_of
from reverie.config import TrainConfig
from reverie.config_tree import apply_overrides
from reverie.documents import json_text, parse, read_json
from reverie.errors import ConfigError, RunError
from reverie.report.run_folders import NoMetric, read_run
from reverie.report.tasks import scores
from reverie.storage import Storage
from reverie.tuning.cells import plan
from reverie.tuning.sweep_settings import SearchConfig, SweepFile
from reverie.types import Json

GROUP_FILE, SUMMARY_FILE = "group.json", "summary.json"
KEPT = ("config.yaml", "spaces.json", "run_manifest.json", "metrics.jsonl")
"""Files of a run, beside its checkpoint, that a group takes over from another."""


class GroupFailed(RunError):
    """A member failed for good, so its group has no score that could be ranked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One run of a group."""

    id: str
    config: TrainConfig
    """With its seed and its folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    """A group's score once all members had taken `env_steps`."""

    env_steps: int
    score: float
    """Mean over tasks of means over seeds; normalised where the suite has references."""
    worst: float
    """The lowest member's."""
    members: int


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupState:
    """The content of `GROUP_FILE`."""

    id: str
    point: dict[str, Any]
    members: tuple[str, ...]
    rungs: tuple[Rung, ...] = ()
    restarts: int = 0
    """Processes of members beyond the first of each."""
    failed: str = ""
    """Why it has no score."""
    adopted: tuple[str, ...] = ()
    """Groups whose state it took over, as population-based training does."""


def group_members(file: SweepFile, point: Mapping[str, Json], folder: Path) -> list[Member]:
    """Every task and seed of one configuration.

    Raises:
        ConfigError: the configuration is wrong, or members differ in their budgets.
    """
    tree = apply_overrides(file.overrides, dict(point))
    one = dataclasses.replace(file, space={}, samples=1, search=None, overrides=tree)
    found = plan(one)
    if len(budgets := {cell.env_steps for cell in found.cells}) > 1:
        raise ConfigError(
            f"run.env_steps: runs of one group end together, got {sorted(budgets)}; set"
            " stop.env_steps"
        )
    return [
        Member(id=cell.id, config=_placed(found.configs[cell.config], cell.seed, folder, cell.id))
        for cell in found.cells
    ]


def _placed(config: TrainConfig, seed: int, folder: Path, name: str) -> TrainConfig:
    run = dataclasses.replace(config.run, dir=str(folder / "runs" / name))
    return dataclasses.replace(config, seed=seed, run=run)


def is_finished(member: Member) -> bool:
    """Whether its run has spent its budget and was evaluated."""
    path = Path(str(member.config.run.dir)) / SUMMARY_FILE
    try:
        found = read_json(path)
    except (FileNotFoundError, ValueError):
        return False
    if not isinstance(found, dict):
        return False
    steps, episodes = found.get("env_steps"), found.get("eval_episodes")
    return isinstance(steps, int) and steps >= member.config.run.env_steps and bool(episodes)


def rungs(search: SearchConfig, budget: int) -> list[int]:
    """Env steps at which groups are compared, the budget last.

    ASHA's (arXiv:1810.05934v5) grow by its factor; others compare at every multiple of the first.
    """
    if search.scheduler is None:
        return [budget]
    found: list[int] = []
    at = search.grace_env_steps
    while at < budget:
        found.append(at)
        at = at * search.reduction_factor if search.scheduler == "asha" else at + found[0]
    return [*found, budget]


def check_search(search: SearchConfig, config: TrainConfig) -> None:
    """Refuse what could not be ranked. Raises: ConfigError."""
    budget, every = config.run.env_steps, config.eval.every
    first = rungs(search, budget)[0]
    if first < budget and (not every or every > first):
        raise ConfigError(
            f"search.grace_env_steps: groups are compared at {first:,} env steps, before the first"
            f" evaluation; expected eval.every of at most that, got {every:,}"
        )


# Scores


def rung_of(members: Sequence[Member], metric: str, env_steps: int) -> Rung:
    """Every member's score at a rung, as one: that of the evaluation due last by then, which is
    the first at or after its multiple of `eval.every`; at the budget the last.

    A member that is ahead gives the same score as when it was there.

    Raises:
        GroupFailed: a member has none.
    """
    by_task: dict[str, list[float]] = {}
    for member in members:
        by_task.setdefault(member.config.env.name, []).append(_score(member, metric, env_steps))
    means = [float(np.mean(values)) for values in by_task.values()]
    return Rung(
        env_steps=env_steps,
        score=float(np.mean(means)),
        worst=min(min(values) for values in by_task.values()),
        members=len(members),
    )


def _score(member: Member, metric: str, env_steps: int) -> float:
    folder = Path(str(member.config.run.dir))
    curve, _ = read_run(folder, member.id, None, metric)
    if isinstance(curve, NoMetric):
        known = [name for name in curve.reported if name.startswith(("eval/", "episode/"))]
        told = ", ".join(known) or "no evaluation"
        raise GroupFailed(f"search.metric: {member.id} does not report {metric}; it has {told}")
    every, budget = member.config.eval.every, member.config.run.env_steps
    due = budget if env_steps >= budget or not every else env_steps // every * every
    at = min(int(np.searchsorted(curve.xs, due)), len(curve.xs) - 1)
    if curve.xs[at] < due - (every or budget):
        raise GroupFailed(
            f"{member.id}: expected {metric} at {due:,} env steps, got the last at"
            f" {curve.xs[at]:,g}"
        )
    value = curve.ys[at : at + 1]
    own = metric.removeprefix("eval/") == "score"
    return float((scores(curve.suite, curve.task, value) if own else value)[0])


def best(states: Sequence[GroupState], search: SearchConfig) -> list[GroupState]:
    """Groups that can be ranked, the best first: of those that got farthest, by their scores."""
    sign = -1.0 if search.mode == "max" else 1.0
    ranked = [state for state in states if state.rungs and not state.failed]
    return sorted(ranked, key=lambda one: (-one.rungs[-1].env_steps, sign * one.rungs[-1].score))


# Files


def read_group(folder: Path) -> GroupState | None:
    """What is known of a group; None: it has not begun."""
    path = folder / GROUP_FILE
    return parse(GroupState, read_json(path), str(path)) if path.exists() else None


def read_groups(folder: Path) -> list[GroupState]:
    """All groups below `folder`, by name."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return [state for path in paths if (state := read_group(path)) is not None]


def write_group(folder: Path, state: GroupState) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Storage(str(folder)).write_atomic(GROUP_FILE, json_text(asdict(state), indent=1).encode())


def with_rung(state: GroupState, rung: Rung) -> GroupState:
    """The state with one more rung; one that is there already is taken again."""
    kept = tuple(one for one in state.rungs if one.env_steps < rung.env_steps)
    return dataclasses.replace(state, rungs=(*kept, rung))


def adopt(source: Path, target: Path, number: int | None) -> int:
    """Make `target` a copy of the run in `source` as it was at a checkpoint.

    Takes the newest where checkpoint `number` is gone already. The run in `source` may go on.
    Returns the number that was taken.

    Raises:
        CheckpointError: there is none.
        OSError: a file of it is gone meanwhile, or the disk is full.
    """
    store = CheckpointStore(Storage(str(source)), 1)
    if number is None or number not in store.numbers():
        found = store.latest()
    else:
        found = store.load(number)
    if found is None:
        raise GroupFailed(f"{source}: expected a checkpoint to take over, got none")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in _files(found):
        if (source / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name)
    return found.number


def _files(checkpoint: Checkpoint) -> list[str]:
    """Of a run at a checkpoint; the manifest last, without which there is none."""
    folder = folder_of(checkpoint.number)
    parts = [f"{folder}/{name}" for name in checkpoint.parts]
    return [*KEPT, *checkpoint.files, *parts, f"{folder}/{MANIFEST}"]


def show(state: GroupState) -> str:
    """One line on a group."""
    point = " ".join(f"{key}={value}" for key, value in state.point.items()) or "as it is"
    if state.failed:
        return f"{state.id}: {point}: failed: {state.failed}"
    if not state.rungs:
        return f"{state.id}: {point}: no score yet"
    last = state.rungs[-1]
    worst = "" if math.isclose(last.worst, last.score) else f", worst member {last.worst:.3f}"
    return (
        f"{state.id}: {point}: {last.score:.3f} at {last.env_steps:,} env steps"
        f" ({last.members} runs{worst})"
    )
