"""The actors that hold data and counts: coordinator, shards, weight store.

They import no torch, which would cost each of their processes 200 MB and seconds at the start.
"""

# Ray's remote calls have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from reverie.replay.coordinator import Quota, ReplayCoordinator
from reverie.replay.shard import ReplayShard
from reverie.types import Array
from reverie.weight_store import WeightStore

T = TypeVar("T")
QUOTA_PATIENCE_S = 1.0
"""Seconds a worker waits for a quota before it returns to the supervisor."""


class CoordinatorActor:
    """The coordinator, with calls that wait until something changes.

    Every other method of `ReplayCoordinator` is passed on; those in `CHANGING` wake the waiters.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._plain = ReplayCoordinator(**arguments)
        self._changed = asyncio.Condition()

    async def request_steps(self, worker: int, most: int) -> Quota:
        """Waits until a quota is granted, the budget is spent, or patience ends."""
        return await self._until(
            lambda: self._plain.request_steps(worker, most),
            lambda quota: quota.steps > 0 or quota.done,
            QUOTA_PATIENCE_S,
        )

    async def await_batch(self, patience: float) -> bool:
        """Waits until a batch would be granted; False after `patience` seconds."""
        return await self._until(self._plain.can_grant, bool, patience)

    async def trained_up_to(self, count: int) -> None:
        """Confirm the batches below `count`. Async actors may run calls out of their order, so
        the learner says how far it is instead of which batch it finished.
        """
        limiter = self._plain.limiter
        while limiter.trained_batches < count and limiter.in_flight:
            self._plain.batch_trained(limiter.trained_batches)
        await self._wake()

    def stats(self) -> dict[str, Any]:
        return self._plain.facts()

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


CHANGING = (
    "report",
    "refund",
    "set_masses",
    "shard_lost",
    "worker_lost",
    "learner_lost",
    "unpause",
    "load_state_dict",
)
UNCHANGING = (
    "open_stream",
    "request_batch",
    "pause",
    "outstanding",
    "overdue",
    "finished",
    "stalled",
    "counters",
    "facts",
    "state_dict",
)


def _passed_on(name: str, *, wakes: bool) -> Any:
    """The coordinator's method `name` as the actor's, waking everyone who waits for a change."""

    async def method(self: Any, *arguments: Any) -> Any:
        result = getattr(self._plain, name)(*arguments)
        if wakes:
            await self._wake()
        return result

    method.__name__ = name
    method.__doc__ = getattr(ReplayCoordinator, name).__doc__
    return method


for _name in (*CHANGING, *UNCHANGING):
    setattr(CoordinatorActor, _name, _passed_on(_name, wakes=_name in CHANGING))


class ShardActor(ReplayShard):
    """A shard as an actor; restored from `fragment` before it answers anyone."""

    def __init__(
        self, arguments: dict[str, Any], folder: str, fragment: dict[str, Any] | None
    ) -> None:
        super().__init__(**arguments)
        if fragment is not None:
            self.load(folder, fragment)

    def __repr__(self) -> str:
        return f"ReplayShard({self.shard_id})"


class WeightStoreActor(WeightStore):
    """The weight store as an actor."""

    def publish(self, version: Any, state: Any) -> None:
        super().publish(version, _owned(state))

    def pin(self, version: Any, env_steps: int, state: Any) -> None:
        super().pin(version, env_steps, _owned(state))


def _owned(state: Mapping[str, Array]) -> dict[str, Array]:
    return {key: value.copy() for key, value in state.items()}
