"""Which windows are drawn: samplers that follow a store's growth and eviction, never rescanning.

A draw depends on nothing but the store's content and the generator handed in, so that a restored
store draws the same windows again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from reverie.protocols import StreamSpec
from reverie.replay.chunk import Segment, Span
from reverie.replay.row_index import RowIndex
from reverie.types import JsonTree

Draw = tuple[Segment, int]
"""A window by its segment and first row."""
Find = Callable[[int, int], Segment | None]
"""(stream number, row) -> the segment that holds the row, if it is stored."""
Name = tuple[int, int]
"""A stored draw as stream number and first row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplerState:
    """What a sampler cannot tell from the stored chunks, as it was saved."""

    queue: list[Name] = field(default_factory=list[Name])
    """New windows, in the order in which they are drawn."""
    pending: list[tuple[int, list[Name]]] = field(default_factory=list[tuple[int, list[Name]]])
    """New windows drawn for batches (by number) that may not have been trained."""
    next: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    """Per segment (stream number, first row): where its next new window begins."""


class Sampler(Protocol):
    """Draws windows for one stream of an agent; hears of changes as a listener of the store."""

    def grown(self, segment: Segment, episodes: list[Span]) -> None: ...

    def trimmed(self, segment: Segment) -> None: ...

    def mass(self) -> float:
        """How much there is to draw; shards are drawn in proportion to it. 0: nothing yet."""
        ...

    def sample(
        self, rng: np.random.Generator, count: int, batch_number: int = 0, trained_batches: int = 0
    ) -> list[Draw]:
        """Draw `count` windows for batch `batch_number`; batches below `trained_batches` are done.

        Needs a positive mass.
        """
        ...

    def state_dict(self) -> JsonTree:
        """The fields of `SamplerState` that it needs; JSON-able."""
        ...

    def load_state_dict(self, state: SamplerState, find: Find) -> None:
        """Restore `state` after the chunks are back."""
        ...


class SegmentCounts:
    """How many draws each segment offers, in the order of (stream number, row)."""

    def __init__(self) -> None:
        self._segments: list[Segment] = []
        self._counts = np.zeros(0, np.int64)
        self.total = 0

    def set(self, segment: Segment, count: int) -> None:
        """Offer `count` draws of `segment`; 0 forgets it. Costs O(segments) when it is new."""
        at = bisect_left(self._segments, segment.order, key=lambda known: known.order)
        if at == len(self._segments) or self._segments[at] is not segment:
            if count == 0:
                return
            self._segments.insert(at, segment)
            self._counts = np.insert(self._counts, at, 0)
        self.total += count - int(self._counts[at])
        self._counts[at] = count
        if count == 0:
            del self._segments[at]
            self._counts = np.delete(self._counts, at)

    def draw(self, rng: np.random.Generator, count: int) -> list[tuple[Segment, int]]:
        """Draw (segment, index below its count) uniformly over all offers, with replacement."""
        if count == 0:
            return []
        offers = rng.integers(self.total, size=count)
        stops = np.cumsum(self._counts)
        at = np.searchsorted(stops, offers, side="right")
        indices: NDArray[np.int64] = offers - (stops - self._counts)[at]
        return [(self._segments[i], int(index)) for i, index in zip(at, indices, strict=True)]


class Uniform:
    """Uniform over all window starts; windows may span episodes but not segments."""

    def __init__(self, spec: StreamSpec) -> None:
        self._length = spec.window_length
        self._starts = SegmentCounts()

    def grown(self, segment: Segment, episodes: list[Span]) -> None:
        self._starts.set(segment, max(0, segment.num_rows - self._length + 1))

    def trimmed(self, segment: Segment) -> None:
        Uniform.grown(self, segment, [])

    def mass(self) -> float:
        return float(self._starts.total)

    def sample(
        self, rng: np.random.Generator, count: int, batch_number: int = 0, trained_batches: int = 0
    ) -> list[Draw]:
        draws = self._starts.draw(rng, count)
        return [(segment, segment.start_row + index) for segment, index in draws]

    def state_dict(self) -> JsonTree:
        return {}

    def load_state_dict(self, state: SamplerState, find: Find) -> None:
        """Nothing to restore: the chunks tell all."""


class Freshest(Uniform):
    """Each new window once, oldest first, then uniform.

    New windows of a segment do not overlap. What is drawn for a batch stays pending until a later
    request tells that the batch was trained; if it is asked for again, or an earlier one is, its
    windows come first again.
    """

    def __init__(self, spec: StreamSpec) -> None:
        super().__init__(spec)
        self._queue: deque[Draw] = deque()
        self._pending: dict[int, list[Draw]] = {}
        self._next: dict[Segment, int] = {}

    def grown(self, segment: Segment, episodes: list[Span]) -> None:
        super().grown(segment, episodes)
        start = self._next.get(segment, segment.start_row)
        while start + self._length <= segment.stop_row:
            self._queue.append((segment, start))
            start += self._length
        self._next[segment] = start

    def trimmed(self, segment: Segment) -> None:
        super().trimmed(segment)
        if segment.num_rows:
            self._next[segment] = max(self._next[segment], segment.start_row)
        else:
            del self._next[segment]

    def sample(
        self, rng: np.random.Generator, count: int, batch_number: int = 0, trained_batches: int = 0
    ) -> list[Draw]:
        self._settle(batch_number, trained_batches)
        fresh = list(islice(self._pop_stored(), count))
        self._pending[batch_number] = fresh
        return fresh + super().sample(rng, count - len(fresh))

    def state_dict(self) -> JsonTree:
        return {
            "queue": _names(self._queue),
            "pending": [[number, _names(draws)] for number, draws in self._pending.items()],
            "next": sorted([s.number, s.start_row, row] for s, row in self._next.items()),
        }

    def load_state_dict(self, state: SamplerState, find: Find) -> None:
        self._queue = deque(self._find_draws(state.queue, find))
        self._pending = {n: self._find_draws(names, find) for n, names in state.pending}
        # A segment of which rows are missing is now several; each begins no earlier than it did.
        starts: dict[int, list[tuple[int, int]]] = {}
        for number, start_row, row in sorted(state.next):
            starts.setdefault(number, []).append((start_row, row))
        for segment in self._next:
            for start_row, row in starts.get(segment.number, []):
                if start_row <= segment.start_row:
                    self._next[segment] = max(row, segment.start_row)

    def _find_draws(self, names: Sequence[Name], find: Find) -> list[Draw]:
        """The windows of which all rows are there."""
        found = [(find(number, row), row) for number, row in names]
        return [
            (segment, row)
            for segment, row in found
            if segment is not None and row + self._length <= segment.stop_row
        ]

    def _settle(self, batch_number: int, trained_batches: int) -> None:
        """Forget the trained batches, and put back what the untrained ones from here on drew."""
        for number in sorted(self._pending, reverse=True):
            if number < trained_batches:
                del self._pending[number]
            elif number >= batch_number:
                self._queue.extendleft(reversed(self._pending.pop(number)))

    def _pop_stored(self) -> Iterator[Draw]:
        """Take the queue's windows one by one, skipping what was evicted meanwhile."""
        while self._queue:
            segment, start_row = self._queue.popleft()
            if start_row >= segment.start_row:
                yield segment, start_row


class Episodes:
    """Complete episodes, uniformly, and a window inside each (DreamerV2's rule).

    Of an episode of `total` rows the window starts at min(u, total - L), u uniform over
    0..total - L + P, where P is `batch_length` if ends are prioritised and 0 otherwise.
    Episodes shorter than a window are left out.
    """

    def __init__(self, spec: StreamSpec) -> None:
        self._length = spec.window_length
        self._extra = spec.batch_length if spec.prioritize_ends else 0
        self._counts = SegmentCounts()
        self._episodes: dict[Segment, RowIndex[Span]] = {}

    def grown(self, segment: Segment, episodes: list[Span]) -> None:
        long = [e for e in episodes if e.stop_row - e.start_row >= self._length]
        if long:
            known = self._episodes.setdefault(segment, RowIndex())
            for episode in long:
                known.append(episode.start_row, episode)
            self._counts.set(segment, len(known))

    def trimmed(self, segment: Segment) -> None:
        known = self._episodes.get(segment)
        if known is not None:
            known.drop(known.find(segment.start_row - 1) + 1)
            self._counts.set(segment, len(known))
            if not len(known):
                del self._episodes[segment]

    def mass(self) -> float:
        return float(self._counts.total)

    def sample(
        self, rng: np.random.Generator, count: int, batch_number: int = 0, trained_batches: int = 0
    ) -> list[Draw]:
        draws = self._counts.draw(rng, count)
        return [self._window_in(rng, self._episodes[s][index]) for s, index in draws]

    def state_dict(self) -> JsonTree:
        return {}

    def load_state_dict(self, state: SamplerState, find: Find) -> None:
        """Nothing to restore: the chunks tell all."""

    def _window_in(self, rng: np.random.Generator, episode: Span) -> Draw:
        last = episode.stop_row - episode.start_row - self._length
        offset = min(int(rng.integers(last + self._extra, endpoint=True)), last)
        return episode.segment, episode.start_row + offset


SAMPLERS: dict[str, Callable[[StreamSpec], Sampler]] = {
    "uniform": Uniform,
    "freshest": Freshest,
    "episodes": Episodes,
}


def make_sampler(spec: StreamSpec) -> Sampler:
    """Build the sampler that `spec` names.

    Raises:
        ValueError: there is no such sampler, with the known names.
    """
    if spec.sampler not in SAMPLERS:
        raise ValueError(
            f"StreamSpec.sampler: expected one of {list(SAMPLERS)}, got {spec.sampler!r}"
        )
    return SAMPLERS[spec.sampler](spec)


def _names(draws: deque[Draw] | list[Draw]) -> list[list[int]]:
    """Stored draws as [stream number, first row]."""
    return [[segment.number, row] for segment, row in draws if row >= segment.start_row]
