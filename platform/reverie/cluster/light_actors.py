"""The actors that hold data and counts: coordinator, shards, weight store.

They import no torch, which would cost each of their processes 200 MB and seconds at the start.
"""

# Ray's remote calls have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from reverie.replay.coordinator import Grant, Quota, ReplayCoordinator, StreamTicket
from reverie.replay.shard import Damage, ReplayShard
from reverie.types import Array, Chunk, Counters, Json, JsonTree, Version, Window
from reverie.weight_store import State, WeightStore

T = TypeVar("T")
QUOTA_PATIENCE_S = 1.0
"""Seconds a worker waits for a quota before it returns to the supervisor."""


class CoordinatorActor:
    """The coordinator, with calls that wait until something changes.

    Calls that ask for a grant, or tell what became of one, name the life of their caller: how many
    parts stood in its place before. A call of an earlier life than the present one changes
    nothing, be it sent before its caller died and answered after.
    """

    def __init__(self, plain: ReplayCoordinator) -> None:
        self._plain = plain
        self._worker_lives: dict[int, int] = {}
        self._learner_life = 0
        self._changed = asyncio.Condition()

    async def request_steps(self, life: int, worker: int, most: int) -> Quota:
        """Waits until a quota is granted, the budget is spent, or patience ends."""

        def ask() -> Quota:
            if life < self._worker_lives.get(worker, 0):
                return Quota(steps=0, random=False, done=True, counters=self._plain.counters())
            return self._plain.request_steps(worker, most)

        return await self._until(ask, lambda quota: quota.steps > 0 or quota.done, QUOTA_PATIENCE_S)

    async def await_batch(self, patience: float) -> bool:
        """Waits until a batch would be granted; False after `patience` seconds."""
        return await self._until(self._plain.can_grant, bool, patience)

    async def trained_up_to(self, life: int, count: int) -> None:
        """Confirm the batches below `count`. Async actors may run calls out of their order, so
        the learner says how far it is instead of which batch it finished.
        """
        if life < self._learner_life:
            return
        limiter = self._plain.limiter
        while limiter.trained_batches < count and limiter.in_flight:
            self._plain.batch_trained(limiter.trained_batches)
        await self._wake()

    def stats(self) -> dict[str, int | float]:
        return self._plain.facts()

    # Passed on; those that change something wake whoever waits.

    async def report(
        self,
        life: int,
        worker: int,
        env_steps: int,
        episodes: int,
        masses: Mapping[int, Mapping[str, float]],
        failed: bool = False,
    ) -> None:
        if life < self._worker_lives.get(worker, 0):
            # Its steps are counted as lost already; its rows are there all the same.
            for shard, found in masses.items():
                self._plain.set_masses(shard, found)
        else:
            self._plain.report(worker, env_steps, episodes, masses, failed)
        await self._wake()

    async def refund(self, life: int, count: int) -> None:
        if life >= self._learner_life:
            self._plain.refund(count)
            await self._wake()

    async def set_masses(self, shard: int, masses: Mapping[str, float]) -> None:
        self._plain.set_masses(shard, masses)
        await self._wake()

    async def shard_lost(self, shard: int) -> None:
        self._plain.shard_lost(shard)
        await self._wake()

    async def worker_lost(self, worker: int, life: int) -> int:
        """A new part of this life stands in for the worker; returns the env steps lost."""
        self._worker_lives[worker] = life
        lost = self._plain.worker_lost(worker)
        await self._wake()
        return lost

    async def learner_lost(self, life: int) -> int:
        """A new part of this life stands in for the learner; returns the batches trained."""
        self._learner_life = life
        trained = self._plain.learner_lost()
        await self._wake()
        return trained

    async def unpause(self) -> None:
        self._plain.unpause()
        await self._wake()

    async def open_stream(self, worker: int, env: int) -> StreamTicket:
        return self._plain.open_stream(worker, env)

    async def request_batch(self, life: int) -> Grant | None:
        return self._plain.request_batch() if life >= self._learner_life else None

    async def pause(self) -> None:
        self._plain.pause()

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


class ShardActor:
    """A shard as an actor; restored from `fragment` before it answers anyone."""

    def __init__(
        self, shard: ReplayShard, folder: str, fragment: Mapping[str, Json] | None
    ) -> None:
        self._shard = shard
        self._damage = Damage() if fragment is None else shard.load(folder, fragment)

    def __repr__(self) -> str:
        return f"ReplayShard({self._shard.shard_id})"

    def damage(self) -> Damage:
        """What could not be loaded."""
        return self._damage

    def insert(self, chunks: list[Chunk]) -> dict[str, float]:
        return self._shard.insert(chunks)

    def sample(
        self,
        name: str,
        count: int,
        batch_number: int,
        trained_batches: int,
        slots: range | None,
    ) -> list[Window]:
        return self._shard.sample(name, count, batch_number, trained_batches, slots)

    def write_back(self, step_ids: Array, values: Mapping[str, Array]) -> int:
        return self._shard.write_back(step_ids, values)

    def masses(self) -> dict[str, float]:
        return self._shard.masses()

    def stats(self) -> dict[str, int]:
        return self._shard.stats()

    def save(self, folder: str) -> JsonTree:
        return self._shard.save(folder)


class WeightStoreActor(WeightStore):
    """The weight store as an actor."""

    def publish(self, version: Version, state: State) -> None:
        super().publish(version, _owned(state))

    def pin(self, version: Version, env_steps: int, state: State) -> None:
        super().pin(version, env_steps, _owned(state))


def _owned(state: Mapping[str, Array]) -> dict[str, Array]:
    return {key: value.copy() for key, value in state.items()}
