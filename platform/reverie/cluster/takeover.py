"""What the parts of a run keep of their coordinator, so that another one can stand in for it.

Every answer of the coordinator brings along a snapshot of what it counts, a few hundred bytes.
Whatever it ever answered to a part that still lives is in that part's snapshot, and of two
snapshots the newer one holds all that the older one does. What can be forgotten is what it told
at the very last to parts alone that died with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from reverie.links import Report
from reverie.replay.rate_limiter import Granted
from reverie.types import JsonTree

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a coordinator counts, but for the streams it opens and the shards' masses."""

    revision: int
    """Answers given so far, by this coordinator and those before it."""
    counts: JsonTree
    """`ReplayCoordinator.counts`."""
    granted: Granted
    reported: Mapping[int, int]
    """Quotas that each worker has reported in its present life."""
    worker_lives: Mapping[int, int]
    learner_life: int


@dataclass(frozen=True, slots=True)
class Told(Generic[T]):
    """An answer, and what the coordinator counts since."""

    value: T
    snapshot: Snapshot


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What one part knows when its coordinator is gone."""

    snapshot: Snapshot | None = None
    """The last it was told; None: nothing yet."""
    report: Report | None = None
    """The one that was not answered."""
    trained: tuple[int, int] | None = None
    """Life of the learner, and the batches it has trained."""


class Look(NamedTuple):
    """What the supervisor sees of the coordinator once a second."""

    snapshot: Snapshot | None
    silent: Mapping[tuple[str, int], float]
    """Seconds since the last sign of life, by role and index."""
