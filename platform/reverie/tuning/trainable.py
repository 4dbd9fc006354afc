"""`reverie.Trainable`: what Ray Tune runs, one configuration with all its tasks and seeds.

    ray.tune.Tuner(
        reverie.Trainable,
        param_space={"sweep": {"base": "dreamerv2/catch", "seeds": 3},
                     "algorithm.harmony.mode": ray.tune.choice(["off", "harmony"])},
    )

`sweep` is what a sweep's file holds, or the folder of one; every other key is a setting. A trial
reports once all members have reached the next rung, so a scheduler stops, pauses or copies whole
configurations and never one seed of them.
"""

# Ray is partly untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import dataclasses
import logging
import time
from pathlib import Path
from typing import Any, cast

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.tune import PlacementGroupFactory
from ray.tune import Trainable as TuneTrainable
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from reverie.checkpoint import CheckpointStore
from reverie.config import TrainConfig
from reverie.documents import json_text, read_json
from reverie.errors import ConfigError
from reverie.lease import FolderTaken
from reverie.paths import place
from reverie.storage import Storage
from reverie.tuning.group import (
    GroupFailed,
    GroupState,
    Member,
    adopt,
    check_search,
    group_members,
    is_finished,
    read_group,
    rung_of,
    rungs,
    with_rung,
    write_group,
)
from reverie.tuning.sweep_file import check_sweep
from reverie.tuning.sweep_folder import SweepFolder
from reverie.tuning.sweep_settings import SearchConfig, SweepFile

log = logging.getLogger(__name__)

SWEEP = "sweep"
POINTER = "group.json"
"""In a Tune checkpoint: where the group's state is."""
STOP_FILE = "stop"
"""In a folder of groups: every member is to write a checkpoint and end."""
TAKEN_S = 30.0
"""Seconds that a member waits for a run folder that the process before it has not let go."""
POLL_S = 1.0
TRIAL_CPUS = 0.1
"""Of the trial itself, which waits."""


class MemberActor:
    """One run, in a process of its own, that goes on when it is told to."""

    def __init__(self, config: TrainConfig, stop_file: str, checkpoint: int | None = None) -> None:
        from reverie.trainer import Trainer

        self._stop_file = Path(stop_file)
        self._done = False
        deadline = time.monotonic() + TAKEN_S
        while True:
            try:
                self._trainer = Trainer(config, local=True, resume="auto", checkpoint=checkpoint)
                return
            except FolderTaken:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_S)

    def advance(self, env_steps: int) -> bool:
        """Go on to `env_steps` and save; whether it got there: a stop file ends it early."""
        trainer = self._trainer
        if self._done:
            return True
        budget = trainer.config.run.env_steps
        looked = time.monotonic()
        while trainer.progress.env_steps < env_steps:
            trainer.step()
            if time.monotonic() - looked >= POLL_S:
                looked = time.monotonic()
                if self._stop_file.exists():
                    trainer.save()
                    return False
        if env_steps >= budget:
            trainer.run()  # nothing is left of it but its end: evaluation, checkpoint, summary
            self._done = True
        else:
            trainer.save()
        return True


class Trainable(TuneTrainable):
    """One group as a Tune trial."""

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> PlacementGroupFactory:
        """A little for the trial, and a bundle for each member that runs at once."""
        file, _ = _sweep_of(config)
        count = len(group_members(file, _point(config), Path(".")))
        return group_bundles(file, count)

    def setup(self, config: dict[str, Any]) -> None:
        """Find the group's members; they start with the first step."""
        self._take_config(config)
        earlier = read_group(self._folder)
        if earlier is not None and earlier.point == self._state.point:
            self._state = earlier
        write_group(self._folder, self._state)

    def step(self) -> dict[str, Any]:
        """Bring every member to the next rung.

        Raises:
            GroupFailed: a member failed for good; the group has no score then.
        """
        if self._state.failed:
            raise GroupFailed(self._state.failed)
        budget = self._rungs[-1]
        target = next((at for at in self._rungs if at > self._reached), budget)
        try:
            self._advance(target)
            rung = rung_of(self._members, self._search.metric, target)
        except GroupFailed as error:
            self._keep(dataclasses.replace(self._state, failed=str(error)))
            raise
        self._keep(with_rung(self._state, rung))
        self._reached = target
        return {
            "score": rung.score,
            "worst": rung.worst,
            "members": rung.members,
            "env_steps": target,
            "restarts": self._state.restarts,
            "done": target >= budget,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write where the state is; the members have saved it at their rung."""
        numbers = {
            member.id: CheckpointStore(Storage(str(member.config.run.dir)), 1).newest()
            for member in self._members
        }
        pointer = {
            "folder": str(self._folder),
            "checkpoints": numbers,
            "env_steps": self._reached,
        }
        (Path(checkpoint_dir) / POINTER).write_text(json_text(pointer))

    def load_checkpoint(self, checkpoint: str | dict[str, Any] | None) -> None:
        """Go on with this group's own state, which is in its run folders, or take another's over.

        Raises:
            GroupFailed: the other group's checkpoints are gone.
        """
        pointer = cast(dict[str, Any], read_json(Path(str(checkpoint)) / POINTER))
        source = Path(pointer["folder"])
        # What Tune knows of: run folders may be ahead, and are then at the next rung at once.
        self._reached = int(pointer["env_steps"])
        if source == self._folder:
            return
        self._end_members()
        other = read_group(source)
        for member in self._members:
            number = pointer["checkpoints"].get(member.id)
            target = Path(str(member.config.run.dir))
            self._start_at[member.id] = adopt(source / "runs" / member.id, target, number)
        self._keep(
            dataclasses.replace(
                self._state,
                rungs=tuple(
                    rung
                    for rung in (other.rungs if other is not None else ())
                    if rung.env_steps <= self._reached
                ),
                adopted=(*self._state.adopted, source.name),
                failed="",
            )
        )

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another configuration; what follows tells whose state it begins with."""
        self._end_members()
        self._take_config(new_config)
        write_group(self._folder, self._state)
        return True

    def cleanup(self) -> None:
        self._end_members()

    def _take_config(self, config: dict[str, Any]) -> None:
        self._file, folder = _sweep_of(config)
        self._search = self._file.search or SearchConfig()
        groups = folder / "groups" if folder is not None else Path(str(self.logdir))
        self._folder = groups / str(self.trial_id)
        self._stop_file = groups / STOP_FILE
        point = _point(config)
        self._members = group_members(self._file, point, self._folder)
        self._rungs = rungs(self._search, self._members[0].config.run.env_steps)
        check_search(self._search, self._members[0].config)
        names = tuple(member.id for member in self._members)
        self._state = GroupState(id=self._folder.name, point=point, members=names)
        self._reached = 0
        self._actors: dict[str, Any] = {}
        self._bundles: dict[str, int] = {}
        self._start_at: dict[str, int] = {}
        self._failures: dict[str, int] = {}

    def _keep(self, state: GroupState) -> None:
        self._state = state
        write_group(self._folder, state)

    def _advance(self, target: int) -> None:
        """Bring all members to `target`, as many at a time as the bundles hold."""
        width = at_once(self._file, len(self._members))
        budget = self._rungs[-1]
        waiting = [one for one in self._members if target < budget or not is_finished(one)]
        under_way: dict[Any, Member] = {}
        while waiting or under_way:
            if self._stop_file.exists() and not under_way:
                self._wait_for_the_end()
            while waiting and len(under_way) < width and not self._stop_file.exists():
                member = waiting.pop(0)
                under_way[self._actor(member, width).advance.remote(target)] = member
            if not under_way:
                continue
            ready, _ = ray.wait(list(under_way), timeout=POLL_S)
            for future in ready:
                member = under_way.pop(future)
                if not self._arrived(future, member):
                    waiting.append(member)
                elif width < len(self._members):
                    self._end_member(member.id)  # its bundle is another's turn

    def _wait_for_the_end(self) -> None:
        """Every member has saved and ended; this trial is not to fail, so that it is restored."""
        self._end_members()
        while self._stop_file.exists():
            time.sleep(POLL_S)

    def _arrived(self, future: Any, member: Member) -> bool:
        """Whether a member is where it was to be; one that was stopped or died is to go on.

        Raises:
            GroupFailed: it died too often.
        """
        try:
            arrived = cast(bool, ray.get(future))
            if not arrived:  # it has saved, and lets its folder go
                self._end_member(member.id)
            return arrived
        except RayActorError as error:
            what = str(error).partition("\n")[0]
        except RayTaskError as error:
            what = str(error.cause).partition("\n")[0]
        self._end_member(member.id)
        count = self._failures[member.id] = self._failures.get(member.id, 0) + 1
        self._keep(dataclasses.replace(self._state, restarts=self._state.restarts + 1))
        log.warning("%s: %s; it goes on from its folder", member.id, what)
        if count > self._file.max_failures:
            raise GroupFailed(f"{member.id} failed {count} times: {what}")
        return False

    def _actor(self, member: Member, width: int) -> Any:
        """The member's process, which is started if need be."""
        if member.id not in self._actors:
            takes = self._file.resources
            options: dict[str, Any] = {}
            where = get_current_placement_group()
            if where is not None:
                taken = set(self._bundles.values())
                # The first bundle is the trial's own.
                free = next(at for at in range(1, width + 1) if at not in taken)
                self._bundles[member.id] = free
                options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
                    placement_group=where, placement_group_bundle_index=free
                )
            self._actors[member.id] = (
                ray.remote(MemberActor)
                .options(num_cpus=takes.cpu, num_gpus=takes.gpu, max_restarts=0, **options)
                .remote(member.config, str(self._stop_file), self._start_at.pop(member.id, None))
            )
        return self._actors[member.id]

    def _end_members(self) -> None:
        for name in list(self._actors):
            self._end_member(name)

    def _end_member(self, name: str) -> None:
        self._bundles.pop(name, None)
        if (actor := self._actors.pop(name, None)) is not None:
            ray.kill(actor)


def group_bundles(file: SweepFile, members: int) -> PlacementGroupFactory:
    """What a group takes: a little for the trial, then a bundle for each member at once."""
    takes = file.resources
    bundle: dict[str, float] = {"CPU": takes.cpu}
    if takes.gpu:
        bundle["GPU"] = takes.gpu
    if takes.memory_gb:
        bundle["memory"] = takes.memory_gb * 1e9
    return PlacementGroupFactory([{"CPU": TRIAL_CPUS}] + [bundle] * at_once(file, members))


def at_once(file: SweepFile, members: int) -> int:
    """Members of a group that run at once; the others take turns."""
    return min(members, file.max_concurrent or members)


def _sweep_of(config: dict[str, Any]) -> tuple[SweepFile, Path | None]:
    """What the members are, and the folder they lie in; None: the trial's own."""
    found = config.get(SWEEP)
    if isinstance(found, str):
        sweep = SweepFolder(place(found))
        return sweep.file, sweep.path
    if not isinstance(found, dict):
        raise ConfigError(
            f"sweep: expected the keys of a sweep, e.g. {{'base': 'dreamerv2/catch', 'seeds': 3}},"
            f" or its folder, got {found!r}"
        )
    return check_sweep(cast(dict[str, Any], found), Path("sweep.yaml")), None


def _point(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != SWEEP}
