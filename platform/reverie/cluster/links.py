"""How actors reach each other: by name, so that one that was replaced is found again.

Imports no torch: the light actors use it too.
"""

# Ray's remote calls have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import ray
from ray.exceptions import ObjectLostError, RayActorError

from reverie.cluster.connection import NAMESPACE
from reverie.cluster.takeover import Known, Snapshot, Told
from reverie.config import TrainConfig
from reverie.errors import ReplayLost
from reverie.links import Masses, Report
from reverie.replay.coordinator import Grant, Quota, StreamTicket
from reverie.types import Array, Chunk, Counters, SideRows, Version, Window
from reverie.weight_store import Pinned, State

BEAT_S = 5.0
"""Seconds between two signs of life."""
PATIENCE_S = 60.0
"""Seconds a link waits for a dead actor to be replaced."""


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
    """The coordinator as workers and the learner see it.

    No call waits for a dead coordinator: it is answered as if nothing could be granted now, and
    what was to be told is told with a later call. So its caller is free to say what it knows to
    whoever stands in for the dead one.

    Args:
        life: how many parts stood in the caller's place before it. What it is granted is its own:
            a call that arrives after its caller was replaced is void.
    """

    def __init__(self, run_id: str, life: int) -> None:
        super().__init__(run_id, "coordinator")
        self._life = life
        self._snapshot: Snapshot | None = None
        self._counters = Counters()
        self._quota = 0
        """Number of the worker's present or next quota, in this life."""
        self._report: Report | None = None
        self._trained = 0
        self._following: int | None = None

    def known(self) -> Known:
        """What a coordinator that stands in for a dead one has to hear from this part."""
        trained = (self._life, self._trained) if self._trained else None
        return Known(snapshot=self._snapshot, report=self._report, trained=trained)

    def open_stream(self, worker: int, env: int) -> StreamTicket:
        """Repeated where the coordinator dies: it costs a number, of which there are enough."""
        return self.call("open_stream", worker, env)

    def request_steps(self, worker: int, most: int) -> Quota:
        told: Told[Quota] | None = None
        if self._hand_in():
            told = self._ask("request_steps", self._life, worker, self._quota, most)
        if told is None:
            return Quota(steps=0, random=False, done=False, counters=self._counters)
        self._counters = told.value.counters
        return told.value

    def report(
        self,
        worker: int,
        env_steps: int,
        episodes: int,
        masses: Masses,
        failed: bool = False,
    ) -> None:
        quota = self._life, worker, self._quota
        self._report = Report(*quota, env_steps, episodes, masses, failed)
        self._hand_in()

    def request_batch(self) -> Grant | None:
        told: Told[Grant | None] | None = self._ask(
            "request_batch", self._life, self._trained, self._following
        )
        grant = None if told is None else told.value
        if grant is not None:
            self._following = grant.number + 1
        return grant

    def await_batch(self, patience: float) -> bool:
        try:
            return ray.get(self.handle().await_batch.remote(patience))
        except GONE:
            self._look_anew()
            return False

    def refund(self, count: int) -> None:
        """Need not arrive: the next request says the same."""
        assert self._following is not None, "a refund of what was never granted"
        self._following -= count
        self._ask("refund", self._life, self._trained, self._following)

    def batch_trained(self, number: int) -> None:
        self._trained = number + 1
        try:
            self.handle().trained_up_to.remote(self._life, self._trained)
        except GONE:
            self.forget()

    def settle(self) -> None:
        """A coordinator that is gone will hear of all confirmations before it takes over."""
        self._ask("trained_up_to", self._life, self._trained)

    def _hand_in(self) -> bool:
        """Tell what became of the last quota, if that is not told yet; whether all is told."""
        if self._report is not None:
            if self._ask("report", self._report) is None:
                return False
            self._report = None
            self._quota += 1
        return True

    def _ask(self, method: str, *arguments: Any) -> Any:
        """Call and keep the snapshot; None where nobody is there, or nobody who knows yet."""
        try:
            told: Told[Any] | None = ray.get(getattr(self.handle(), method).remote(*arguments))
        except GONE:
            told = None
        if told is None:
            self._look_anew()
            return None
        self._snapshot = told.snapshot
        return told

    def _look_anew(self) -> None:
        """Look for another one next time, and not too often."""
        self.forget()
        time.sleep(0.2)


def give_signs_of_life(actor: object, run_id: str, role: str, index: int) -> None:
    """Tell the coordinator from a thread that this actor's process runs, whatever it is at.

    No sign comes of one that is dead, stopped, or keeps Python's lock for itself.
    """

    def go_on() -> None:
        link = ActorLink(run_id, "coordinator")
        while True:
            try:
                # Waits: only so is it known that the next one goes to whoever stands in for it.
                ray.get(link.handle().beat.remote(role, index))
            except GONE:
                link.forget()
            time.sleep(BEAT_S)

    threading.Thread(target=go_on, name="signs of life", daemon=True).start()


class DrawsLink(ActorLink):
    """Whoever draws windows as the learner sees it: a shard, or a loader of video."""

    def sample(
        self,
        name: str,
        count: int,
        batch_number: int,
        trained_batches: int,
        slots: range | None = None,
    ) -> Callable[[], list[Window]]:
        try:
            ref = self.handle().sample.remote(name, count, batch_number, trained_batches, slots)
        except GONE as error:
            return lambda failed=error: self._fail(failed)
        return lambda: self._wait(ref)

    def _wait(self, ref: Any) -> list[Window]:
        try:
            return ray.get(ref)
        except (RayActorError, ObjectLostError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> NoReturn:
        self.forget()
        raise ReplayLost(f"{self._name}: {str(error).splitlines()[0]}") from error


class ShardActorLink(DrawsLink):
    """One shard as workers and the learner see it."""

    def __init__(self, run_id: str, index: int, *, wait_for_feedback: bool) -> None:
        super().__init__(run_id, "replay_shard", index)
        self._wait_for_feedback = wait_for_feedback

    def insert(self, chunks: list[Chunk], side: Sequence[SideRows] = ()) -> dict[str, float]:
        """Insert chunks and side values; repeated after a replacement, since a chunk counts once.

        Raises:
            ReplayLost: the shard did not come back in time.
        """
        try:
            return self.call("insert", chunks, list(side))
        except GONE as error:
            raise ReplayLost(f"{self._name}: {error}") from error

    def write_back(self, ids: Array, values: Mapping[str, Array]) -> None:
        try:
            ref = self.handle().write_back.remote(ids, dict(values))
        except GONE:
            return self.forget()  # being replaced: these values are lost with its rows
        if self._wait_for_feedback:
            ray.get(ref)
        return None


class LoaderLink(DrawsLink):
    """One loader of video as the learner sees it."""

    def __init__(self, run_id: str, index: int) -> None:
        super().__init__(run_id, "video_loader", index)

    def write_back(self, ids: Array, values: Mapping[str, Array]) -> None:
        raise ValueError(f"feedback: a data set keeps nothing, got {sorted(values)}")


class WeightStoreLink(ActorLink):
    """The weight store as workers, learner and evaluator see it."""

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id, "weight_store")

    def publish(self, version: Version, state: State) -> None:
        self.call("publish", version, state)

    def pin(self, version: Version, env_steps: int, state: State) -> None:
        self.call("pin", version, env_steps, state)

    def newer_than(self, version: Version | None) -> tuple[Version, State] | None:
        return self.call("newer_than", version)

    def pinned(self, env_steps: int) -> Pinned | None:
        return self.call("pinned", env_steps)

    def unpin(self, env_steps: int) -> None:
        self.call("unpin", env_steps)


def shard_links(run_id: str, config: TrainConfig) -> list[ShardActorLink]:
    """Links to all shards of a run; in lockstep they wait for what is written back."""
    wait = config.run.lockstep
    shards = range(config.resources.num_shards)
    return [ShardActorLink(run_id, index, wait_for_feedback=wait) for index in shards]
