"""How the parts of a run see each other: one protocol per border, whoever stands behind it.

In one process the plain objects themselves fit; on a cluster, links that call actors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from reverie.protocols import Carry, Feedback
from reverie.replay.coordinator import Grant, Quota, StreamTicket
from reverie.types import Array, Chunk, Counters, Rows, SideRows, Version, Window

if TYPE_CHECKING:
    from torch import Tensor

    from reverie.weight_store import Pinned
    from reverie.wiring import Events, Saved


@dataclass(frozen=True, kw_only=True, slots=True)
class Acted:
    """What an actor chose for N rows."""

    action: Array
    """[N, *action.shape]."""
    carry: Carry
    """Recurrent state [N, ...] after these rows."""
    version: int
    """Grad updates of the weights that chose: `policy_version` of the rows."""
    side: Rows = field(default_factory=dict[str, Array])
    """Columns [N, ...] for the replay's side table, by name; mostly none."""


class Actor(Protocol):
    """Who chooses actions: an agent in this process, or something that asks one."""

    def initial_carry(self, count: int) -> Carry:
        """Recurrent state [count, ...] of environments whose episodes are about to begin."""
        ...

    def act(self, rows: Rows, carry: Carry) -> Acted:
        """Choose for rows [N, ...] (observation keys and flags), whose state is `carry` [N, ...].

        Rows with `is_first` start from the initial state. May wait for another process.
        """
        ...


class Quotas(Protocol):
    """The coordinator as an environment worker sees it."""

    def open_stream(self, worker: int, env: int) -> StreamTicket: ...
    def request_steps(self, worker: int, most: int) -> Quota: ...
    def report(
        self,
        worker: int,
        env_steps: int,
        episodes: int,
        masses: Mapping[int, Mapping[str, float]],
        failed: bool = False,
    ) -> None: ...


class Grants(Protocol):
    """The coordinator as whoever asks for batches sees it."""

    def request_batch(self) -> Grant | None: ...
    def await_batch(self, patience: float) -> bool:
        """Whether a batch would be granted; waits up to `patience` seconds where that helps."""
        ...

    def batch_trained(self, number: int) -> None:
        """Confirm a granted batch; in order of their numbers. Need not wait."""
        ...

    def refund(self, count: int) -> None: ...
    def settle(self) -> None:
        """Wait until every confirmation sent before has arrived."""
        ...


class Coordinator(Quotas, Grants, Protocol):
    """The coordinator as all of them see it."""


class Draws(Protocol):
    """Where windows come from: a shard of the replay or a loader of video, wherever it lives."""

    def sample(
        self,
        name: str,
        count: int,
        batch_number: int,
        trained_batches: int,
        slots: range | None = None,
    ) -> Callable[[], list[Window]]:
        """Ask for windows as `ReplayShard.sample` draws them; the returned call waits for them.

        Raises (from the returned call): ReplayLost, if whoever draws is gone.
        """
        ...

    def write_back(self, ids: Array, values: Mapping[str, Array]) -> None: ...


class Shard(Draws, Protocol):
    """One shard of the replay, wherever it lives."""

    def insert(self, chunks: list[Chunk], side: Sequence[SideRows] = ()) -> dict[str, float]:
        """Keep chunks, with what stands beside their rows, and return the masses; repeated without
        harm.

        Raises:
            ReplayLost: the shard did not come back in time.
        """
        ...


Shards = Sequence[Shard]
Masses = Mapping[int, Mapping[str, float]]
"""By shard and stream."""


class Report(NamedTuple):
    """What became of a worker's quota, on its way to a coordinator that may die meanwhile."""

    life: int
    """How many parts stood in the worker's place before it."""
    worker: int
    quota: int
    """Its number in this life, from 0."""
    env_steps: int
    episodes: int
    masses: Masses
    failed: bool


class Weights(Protocol):
    """The weight store as worker, learner and evaluator see it."""

    def publish(self, version: Version, state: dict[str, Array]) -> None: ...
    def newer_than(self, version: Version | None) -> tuple[Version, dict[str, Array]] | None: ...
    def pin(self, version: Version, env_steps: int, state: dict[str, Array]) -> None: ...
    def pinned(self, env_steps: int) -> Pinned | None: ...
    def unpin(self, env_steps: int) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """One batch of every due stream, on the device."""

    number: int
    batches: dict[str, dict[str, Tensor]]
    counters: Counters


class Batches(Protocol):
    """Where a learner gets what it trains on: the replay, or anything else."""

    def next(self) -> Ready | None:
        """The next batch, or None where there is none now. Waits for what it is made of."""
        ...

    def wait(self, patience: float) -> bool:
        """Wait up to `patience` seconds; whether `next` is worth a try."""
        ...

    def trained(self, number: int, feedback: Feedback) -> None:
        """Confirm a batch, in order of their numbers, and hand back what was learned of it."""
        ...

    def refund(self) -> int:
        """Give back every batch under way that `next` has not returned; returns how many."""
        ...

    def settle(self) -> None:
        """Wait until everything confirmed so far has arrived."""
        ...


class Backend(Protocol):
    """One run, in one process or on a cluster, as the trainer sees it."""

    def step(self) -> Events:
        """Let the run go on for a moment."""
        ...

    def quiesce(self) -> Events:
        """Wait until everything that was granted has arrived; nothing new is granted."""
        ...

    def save(self, *, go_on: bool = True) -> Saved:
        """Cut the state of every part, after `quiesce`.

        Raises:
            PartLost: a part died meanwhile; the next step replaces it.
        """
        ...

    def finish(self) -> Events:
        """Play the evaluations that wait and one of the last weights; `finished` once that is done,
        not where it was told to stop.
        """
        ...

    def counters(self) -> Counters: ...
    def facts(self) -> dict[str, int | float]:
        """What was counted, for the summary."""
        ...

    def close(self) -> None: ...
