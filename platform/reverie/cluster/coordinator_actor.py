"""The coordinator as an actor, which another one can stand in for (`reverie.cluster.takeover`).

Imports no torch, as the other light actors.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from reverie.cluster.takeover import Known, Look, Snapshot, Told
from reverie.links import Masses, Report
from reverie.pretrain_source import PretrainSource
from reverie.replay.coordinator import Grant, Quota, ReplayCoordinator, StreamTicket
from reverie.types import Counters, JsonTree

T = TypeVar("T")
QUOTA_PATIENCE_S = 1.0
"""Seconds a worker waits for a quota before it returns to the supervisor."""


class CoordinatorActor:
    """The coordinator, with calls that wait until something changes, and that survives its death.

    Calls that ask for a grant, or tell what became of one, name the life of their caller: how many
    parts stood in its place before. A call of an earlier life than the present one changes
    nothing, be it sent before its caller died and answered after; one of a later life tells that
    the earlier one is dead.

    Each of them is answered with a `Snapshot` too, and changes nothing when it is repeated. A
    coordinator that stands in for a dead one answers them with None until it has taken over from
    the newest snapshot that a living part holds: nothing is granted or counted twice.

    Args:
        life: how many coordinators of this run died before.
    """

    def __init__(self, plain: ReplayCoordinator, life: int) -> None:
        self._plain = plain
        self._plain.skip_streams(life)
        self._has_taken_over = life == 0
        self._revision = 0
        self._reported: dict[int, int] = {}
        self._worker_lives: dict[int, int] = {}
        self._learner_life = 0
        self._beats: dict[tuple[str, int], float] = {}
        self._changed = asyncio.Condition()

    async def take_over(self, known: Sequence[Known], masses: Masses, quiet: bool) -> None:
        """Go on from the newest snapshot, and take what was told to nobody since.

        `masses` are those of the shards that live; without them env steps would be granted that
        count towards no training. A run that is `quiet` grants no env steps until `unpause`.
        """
        snapshots = [each.snapshot for each in known if each.snapshot is not None]
        if snapshots:
            newest = max(snapshots, key=lambda snapshot: snapshot.revision)
            self._plain.take_over(newest.counts, newest.granted)
            self._revision, self._reported = newest.revision, dict(newest.reported)
            self._worker_lives, self._learner_life = dict(newest.worker_lives), newest.learner_life
        for each in known:
            if each.report is not None:
                self._take_report(each.report)
            if each.trained is not None and not self._is_dead_learner(each.trained[0]):
                self._settle(each.trained[1], None)
        for shard, found in masses.items():
            self._plain.set_masses(shard, found)
        if quiet:
            self._plain.pause()
        self._has_taken_over = True
        await self._wake()

    # What env workers ask and tell.

    async def open_stream(self, worker: int, env: int) -> StreamTicket:
        return self._plain.open_stream(worker, env)

    async def request_steps(
        self, life: int, worker: int, number: int, most: int
    ) -> Told[Quota] | None:
        """Grant the worker's quota `number` (from 0 in each life), again if it holds that one.

        Waits until a quota is granted, the budget is spent, or patience ends.
        """

        def ask() -> Quota | None:
            if not self._has_taken_over:
                return None
            if self._is_dead_worker(life, worker):
                return Quota(steps=0, random=False, done=True, counters=self._plain.counters())
            held = self._plain.limiter.held_by(worker)
            if held is not None and self._reported.get(worker, 0) == number:
                counters = self._plain.counters()
                return Quota(steps=held.steps, random=held.random, done=False, counters=counters)
            return self._plain.request_steps(worker, most)

        def is_good(quota: Quota | None) -> bool:
            return quota is not None and (quota.steps > 0 or quota.done)

        quota = await self._until(ask, is_good, QUOTA_PATIENCE_S)
        return None if quota is None else self._told(quota)

    async def report(self, report: Report) -> Told[None] | None:
        """Take what became of a worker's quota, once."""
        if not self._has_taken_over:
            return None
        self._take_report(report)
        await self._wake()
        return self._told(None)

    # What the learner asks and tells: `trained` batches are confirmed, `following` is the first
    # that it was not granted; None: it was granted none yet in this life.

    async def request_batch(
        self, life: int, trained: int, following: int | None
    ) -> Told[Grant | None] | None:
        if not self._has_taken_over:
            return None
        if self._is_dead_learner(life):
            return self._told(None)
        self._settle(trained, following)
        return self._told(self._plain.request_batch())

    async def refund(self, life: int, trained: int, following: int) -> Told[None] | None:
        """Take back the batches from `following` on."""
        if not self._has_taken_over:
            return None
        if not self._is_dead_learner(life):
            self._settle(trained, following)
            await self._wake()
        return self._told(None)

    async def trained_up_to(self, life: int, count: int) -> Told[None] | None:
        """Confirm the batches below `count`. Async actors may run calls out of their order, so
        the learner says how far it is instead of which batch it finished.
        """
        if not self._has_taken_over:
            return None
        if not self._is_dead_learner(life):
            self._settle(count, None)
            await self._wake()
        return self._told(None)

    async def await_batch(self, patience: float) -> bool:
        """Waits until a batch would be granted; False after `patience` seconds."""
        return await self._until(self._can_grant, bool, patience)

    # What the supervisor asks and tells.

    async def set_masses(self, shard: int, masses: Mapping[str, float]) -> None:
        self._plain.set_masses(shard, masses)
        await self._wake()

    async def shard_lost(self, shard: int) -> None:
        self._plain.shard_lost(shard)
        await self._wake()

    async def worker_lost(self, worker: int, life: int) -> int:
        """A new part of this life stands in for the worker; returns the env steps lost."""
        if life <= self._worker_lives.get(worker, 0):
            return 0
        self._worker_lives[worker] = life
        self._reported.pop(worker, None)
        lost = self._plain.worker_lost(worker)
        await self._wake()
        return lost

    async def learner_lost(self, life: int) -> int:
        """A new part of this life stands in for the learner; returns the batches trained."""
        self._learner_life = max(life, self._learner_life)
        trained = self._plain.learner_lost()
        await self._wake()
        return trained

    async def pause(self) -> None:
        self._plain.pause()

    async def unpause(self) -> None:
        self._plain.unpause()
        await self._wake()

    async def outstanding(self) -> int:
        return self._plain.outstanding()

    async def finished(self) -> bool:
        return self._plain.finished()

    async def stalled(self) -> bool:
        return self._plain.stalled()

    async def counters(self) -> Counters:
        return self._plain.counters()

    async def facts(self) -> dict[str, int | float]:
        return self._plain.facts()

    async def state_dict(self) -> JsonTree:
        return self._plain.state_dict()

    async def look(self) -> Look:
        """What the supervisor asks for once a second."""
        now = time.monotonic()
        silent = {part: now - at for part, at in self._beats.items()}
        return Look(self._snapshot() if self._has_taken_over else None, silent)

    async def beat(self, role: str, index: int) -> None:
        """A part's sign of life."""
        self._beats[role, index] = time.monotonic()

    def _take_report(self, report: Report) -> None:
        worker, masses = report.worker, report.masses
        is_dead = self._is_dead_worker(report.life, worker)
        if is_dead or report.quota < self._reported.get(worker, 0):
            # Its steps are counted already, done or lost; its rows are there all the same.
            for shard, found in masses.items():
                self._plain.set_masses(shard, found)
        else:
            done = report.env_steps, report.episodes
            self._plain.report(worker, *done, masses, report.failed)
            self._reported[worker] = report.quota + 1

    def _is_dead_worker(self, life: int, worker: int) -> bool:
        present = self._worker_lives.get(worker, 0)
        if life > present:  # the supervisor's word of it went with a coordinator
            self._worker_lives[worker] = life
            self._reported.pop(worker, None)
            self._plain.worker_lost(worker)
        return life < present

    def _is_dead_learner(self, life: int) -> bool:
        if life > self._learner_life:
            self._learner_life = life
            self._plain.learner_lost()
        return life < self._learner_life

    def _settle(self, trained: int, following: int | None) -> None:
        """Confirm what was trained, and take back what the learner was granted unknowingly."""
        limiter = self._plain.limiter
        while limiter.trained_batches < trained and limiter.in_flight:
            self._plain.batch_trained(limiter.trained_batches)
        if following is not None:
            self._plain.refund(max(0, limiter.next_batch - following))

    def _can_grant(self) -> bool:
        return self._has_taken_over and self._plain.can_grant()

    def _told(self, value: T) -> Told[T]:
        self._revision += 1
        return Told(value, self._snapshot())

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            self._revision,
            self._plain.counts(),
            self._plain.limiter.granted(),
            dict(self._reported),
            dict(self._worker_lives),
            self._learner_life,
        )

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _until(self, ask: Callable[[], T], good: Callable[[T], bool], patience: float) -> T:
        deadline = time.monotonic() + patience
        while True:
            answer = ask()
            left = deadline - time.monotonic()
            if good(answer) or left <= 0:
                return answer
            async with self._changed:
                try:
                    await asyncio.wait_for(self._changed.wait(), left)
                except TimeoutError:
                    return ask()


class SourceActor(CoordinatorActor):
    """The source of a run that learns from video, as an actor."""

    def __init__(self, plain: PretrainSource, life: int) -> None:
        super().__init__(plain, life)
        self._source = plain

    async def rewind(self, batches: int) -> None:
        """As `PretrainSource.rewind`."""
        self._source.rewind(batches)
        await self._wake()
