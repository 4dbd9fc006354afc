"""Thin actor classes around the plain parts, and the links by which actors reach each other.

An actor gets a configuration and a run id and finds the others by name, so that one that was
replaced is found again.
"""

# Ray's remote calls have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import ray
from ray.exceptions import ObjectLostError, RayActorError

from reverie.config import ExperimentConfig
from reverie.env_worker import EnvWorker
from reverie.errors import ReplayLost
from reverie.evaluator import Evaluator
from reverie.learner import Learner
from reverie.ray_cluster import NAMESPACE
from reverie.replay_coordinator import Grant, Quota, ReplayCoordinator
from reverie.replay_shard import ReplayShard
from reverie.types import Array, Chunk, Spaces, Window
from reverie.weight_store import WeightStore

T = TypeVar("T")
PATIENCE_S = 60.0
"""Seconds a link waits for a dead actor to be replaced."""
QUOTA_PATIENCE_S = 1.0
"""Seconds a worker waits for a quota before it returns to the supervisor."""


class ActorGone(RuntimeError):
    """No actor of this name lives now; it may be on its way back."""


GONE = (RayActorError, ActorGone)


def actor_name(run_id: str, role: str, index: int) -> str:
    return f"{run_id}/{role}/{index}"


class ActorLink:
    """Calls an actor by name; looks it up again after it was replaced."""

    def __init__(self, run_id: str, role: str, index: int = 0) -> None:
        self._name = actor_name(run_id, role, index)
        self._handle: Any = None

    def handle(self) -> Any:
        """Raises: ActorGone."""
        if self._handle is None:
            try:
                self._handle = ray.get_actor(self._name, NAMESPACE)
            except ValueError as error:
                raise ActorGone(f"{self._name} does not live now") from error
        return self._handle

    def call(self, method: str, *arguments: Any) -> Any:
        """Call and wait; a dead actor is waited for and asked again, for `PATIENCE_S` seconds.

        Only for calls that may be repeated without harm.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return ray.get(getattr(self.handle(), method).remote(*arguments))
            except GONE:
                self.forget()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def forget(self) -> None:
        self._handle = None


class CoordinatorLink(ActorLink):
    """The coordinator as workers and the learner see it."""

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id, "coordinator")

    def open_stream(self, worker: int, env: int) -> Any:
        return ray.get(self.handle().open_stream.remote(worker, env))

    def request_steps(self, worker: int, most: int) -> Quota:
        return ray.get(self.handle().request_steps.remote(worker, most))

    def report(self, *arguments: Any) -> None:
        ray.get(self.handle().report.remote(*arguments))

    def request_batch(self) -> Grant | None:
        return ray.get(self.handle().request_batch.remote())

    def await_batch(self, patience: float) -> bool:
        return ray.get(self.handle().await_batch.remote(patience))

    def refund(self, count: int) -> None:
        ray.get(self.handle().refund.remote(count))

    def batch_trained(self, number: int) -> None:
        self.handle().trained_up_to.remote(number + 1)

    def counters(self) -> Any:
        return ray.get(self.handle().counters.remote())


class ShardActorLink(ActorLink):
    """One shard as workers and the learner see it."""

    def __init__(self, run_id: str, index: int, *, wait_for_feedback: bool) -> None:
        super().__init__(run_id, "replay_shard", index)
        self._wait_for_feedback = wait_for_feedback

    def insert(self, chunks: list[Chunk]) -> dict[str, float]:
        """Insert chunks; repeated after a replacement, since a chunk counts once.

        Raises:
            ReplayLost: the shard did not come back in time.
        """
        try:
            return self.call("insert", chunks)
        except GONE as error:
            raise ReplayLost(f"{self._name}: {error}") from error

    def sample(
        self, name: str, count: int, batch_number: int, trained_batches: int
    ) -> Callable[[], list[Window]]:
        try:
            ref = self.handle().sample.remote(name, count, batch_number, trained_batches)
        except GONE as error:
            return lambda failed=error: self._fail(failed)
        return lambda: self._wait(ref)

    def write_back(self, ids: Array, values: Mapping[str, Array]) -> None:
        try:
            ref = self.handle().write_back.remote(ids, dict(values))
        except GONE:
            return self.forget()  # being replaced: these values are lost with its rows
        if self._wait_for_feedback:
            ray.get(ref)
        return None

    def _wait(self, ref: Any) -> list[Window]:
        try:
            return ray.get(ref)
        except (RayActorError, ObjectLostError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> NoReturn:
        self.forget()
        raise ReplayLost(f"{self._name}: {str(error).splitlines()[0]}") from error


class WeightStoreLink(ActorLink):
    """The weight store as workers, learner and evaluator see it."""

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id, "weight_store")

    def publish(self, version: Any, state: Any) -> None:
        self.call("publish", version, state)

    def pin(self, version: Any, env_steps: int, state: Any) -> None:
        self.call("pin", version, env_steps, state)

    def newer_than(self, version: Any) -> Any:
        return self.call("newer_than", version)

    def pinned(self, env_steps: int) -> Any:
        return self.call("pinned", env_steps)

    def unpin(self, env_steps: int) -> None:
        self.call("unpin", env_steps)


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


class EnvWorkerActor(EnvWorker):
    """An environment worker as an actor."""

    def __init__(
        self, run_id: str, config: ExperimentConfig, spaces: Spaces, worker_id: int
    ) -> None:
        _pin_threads(config.resources.worker_threads)
        super().__init__(
            config,
            spaces,
            worker_id,
            CoordinatorLink(run_id),
            _shard_links(run_id, config),
            WeightStoreLink(run_id),
        )
        self._label = f"EnvWorker({worker_id}, {config.env.suite}/{config.env.task})"

    def __repr__(self) -> str:
        return getattr(self, "_label", "EnvWorker")


class LearnerActor(Learner):
    """The learner as an actor."""

    def __init__(
        self,
        run_id: str,
        config: ExperimentConfig,
        spaces: Spaces,
        device: str,
        threads: int,
        incarnation: int,
    ) -> None:
        _pin_threads(threads)
        super().__init__(
            config,
            spaces,
            CoordinatorLink(run_id),
            _shard_links(run_id, config),
            WeightStoreLink(run_id),
            device=device,
            incarnation=incarnation,
        )

    def begin(self, state: Any, batches: int | None) -> int:
        """Load `state` if there is one, publish, and return the number of updates so far."""
        if state is not None:
            self.load_state_dict(state, batches=batches)
        self.publish_first()
        return self.version.grad_updates


class EvaluatorActor(Evaluator):
    """The evaluator as an actor."""

    def __init__(self, run_id: str, config: ExperimentConfig, spaces: Spaces) -> None:
        _pin_threads(config.resources.worker_threads)
        super().__init__(config, spaces, WeightStoreLink(run_id))


def _shard_links(run_id: str, config: ExperimentConfig) -> list[ShardActorLink]:
    wait = config.run.lockstep
    shards = range(config.resources.num_shards)
    return [ShardActorLink(run_id, index, wait_for_feedback=wait) for index in shards]


def _owned(state: Mapping[str, Array]) -> dict[str, Array]:
    return {key: value.copy() for key, value in state.items()}


def _pin_threads(threads: int) -> None:
    import os

    import torch

    torch.set_num_threads(threads or os.cpu_count() or 1)
