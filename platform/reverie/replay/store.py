"""One store of chunks: what is kept, in which segments, and what is evicted when it is full.

Side values (latents, priorities) are the only data that change: they are kept by step id beside
the immutable rows and copied on sampling.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from reverie.replay.chunk import Key, Segment, Span, StoredChunk, freeze, verify
from reverie.replay.codec import check_codec, encode
from reverie.types import Array, Chunk, Piece, Rows, StreamId, Window

Evict = Literal["chunks", "episodes"]
SIDE_PREFIX = "side/"
"""Prefix of side values in a piece."""
VALID = "valid"
"""`side/valid` bool [t]: the row's side values were written; where not, they are zeros."""
ROW_MASK = 0xFFFFFFFF
"""The half of a step id that counts rows."""


class Listener(Protocol):
    """Hears what changes in a store; samplers are listeners."""

    def grown(self, segment: Segment, episodes: list[Span]) -> None:
        """`segment` has new rows, which complete `episodes`."""
        ...

    def trimmed(self, segment: Segment) -> None:
        """The first rows of `segment` are gone, perhaps all."""
        ...


@dataclass(slots=True)
class StreamState:
    """What outlives a stream's chunks, so that late duplicates are known."""

    stream: StreamId
    last_sequence: int = -1
    last_checksum: int | None = None
    """Of the chunk of that sequence; None after a restart."""
    stop_row: int = 0
    segments: list[Segment] = field(default_factory=list[Segment])
    """Segments with rows, in row order."""


class ChunkStore:
    """Chunks up to `capacity_rows`, first in first out.

    `evict="chunks"` drops the oldest chunks; `"episodes"` drops whole episodes in the order they
    ended and keeps unfinished ones, so that it may exceed the capacity by those.

    `grow_to` adds a chunk to the one before it where both have at most so many rows together: what
    comes in pieces (down to a row each) is kept, saved and sampled as few. A chunk on disk does not
    grow, and rows that begin or end an episode are not added: the order in which episodes ended is
    that of the chunks.
    """

    def __init__(
        self,
        capacity_rows: int,
        codec: str = "none",
        evict: Evict = "chunks",
        listeners: Iterable[Listener] = (),
        grow_to: int = 0,
    ) -> None:
        if capacity_rows < 1:
            raise ValueError(f"replay.capacity: expected at least 1 row, got {capacity_rows}")
        self.capacity_rows, self.evict, self.grow_to = capacity_rows, evict, grow_to
        self.codec = check_codec(codec)
        self.listeners = tuple(listeners)
        self.num_rows = self.num_bytes = self.evicted_rows = 0
        self.duplicates = self.ignored_ids = 0
        self.streams: dict[int, StreamState] = {}
        self.side_forms: dict[str, tuple[tuple[int, ...], str]] = {}
        """Shape and dtype of each side value ever written."""
        self._live: OrderedDict[Key, StoredChunk] = OrderedDict()
        self._growing: dict[tuple[int, int], Segment] = {}
        self._spans: deque[Span] = deque()

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[StoredChunk]:
        """The chunks in the order they were inserted."""
        return iter(self._live.values())

    def __contains__(self, key: Key) -> bool:
        return key in self._live

    def insert(self, chunk: Chunk) -> bool:
        """Keep a chunk; False if it was inserted before (and may be evicted since).

        Chunks of one stream arrive in order: one whose successor is here already counts as a
        duplicate. Other streams' chunks may come in between.

        Raises:
            ValueError: torn rows, the key of other rows, or rows that overlap earlier ones.
        """
        if self._is_duplicate(chunk):
            self.duplicates += 1
            return False
        verify(chunk)
        if (segment := self._growing_with(chunk)) is not None:
            self._grow(segment, chunk)
        else:
            self.restore(chunk, chunk.start_row)
        self.evict_surplus()
        return True

    def restore(self, chunk: Chunk, start_row: int) -> StoredChunk:
        """Keep a verified chunk of which rows before `start_row` are trimmed, evicting nothing."""
        chunk = freeze(chunk)
        stored = StoredChunk(
            stream=chunk.stream,
            number=chunk.number,
            sequence=chunk.sequence,
            start_row=chunk.start_row,
            stop_row=chunk.stop_row,
            checksum=chunk.checksum,
            first_checksum=chunk.checksum,
            data=encode(chunk.data, self.codec),
        )
        self._note(chunk)
        self._live[stored.key] = stored
        self.num_bytes += stored.num_bytes
        segment = self._segment_for(chunk, start_row)
        self._tell(segment, segment.append(stored, chunk.data["is_first"], chunk.data["is_last"]))
        self.num_rows += chunk.stop_row - start_row
        return stored

    def evict_surplus(self) -> None:
        """Drop the oldest chunks or episodes until the rows fit the capacity."""
        while self.num_rows > self.capacity_rows:
            if self.evict == "chunks":
                oldest = next(iter(self._live.values()))
                self._trim(self.streams[oldest.number].segments[0], oldest.stop_row)
            elif self._spans:
                span = self._spans.popleft()
                self._trim(span.segment, span.stop_row)
            else:
                return

    def find(self, number: int, row: int) -> Segment | None:
        """The segment that holds `row` of stream `number`, if it is here."""
        state = self.streams.get(number)
        segments = state.segments if state else []
        index = bisect_right(segments, row, key=lambda segment: segment.start_row) - 1
        return segments[index] if index >= 0 and row < segments[index].stop_row else None

    def window(self, segment: Segment, start_row: int, length: int) -> Window:
        """Rows start_row..start_row + length as pieces, one per chunk they lie in.

        Raises:
            IndexError: the segment does not hold them.
        """
        stop = start_row + length
        if not segment.start_row <= start_row < stop <= segment.stop_row:
            held = (segment.start_row, segment.stop_row)
            raise IndexError(
                f"stream {segment.number}: expected rows {start_row, stop}, got {held}"
            )
        return [
            self._piece(stored, max(start_row, stored.start_row), stop)
            for stored in segment.chunks.covering(start_row, stop)
        ]

    def write_back(
        self, step_ids: NDArray[np.int64], values: Mapping[str, Array], *, unset_only: bool = False
    ) -> int:
        """Set side values of rows; returns how many ids were unknown or evicted, and ignored.

        Args:
            step_ids: int64 of any shape; of equal ids the last one counts.
            values: arrays [*step_ids.shape, ...] by side name.
            unset_only: leave rows alone that have side values.

        Raises:
            ValueError: a value does not fit the ids, or has another shape or dtype than before.
        """
        ids = step_ids.reshape(-1)
        flat = {name: self._side_rows(name, value, step_ids) for name, value in values.items()}
        # A stable sort keeps equal ids in order, so that the last one is written last.
        order = np.argsort(ids, kind="stable")
        done = ignored = 0
        while done < len(order):
            count, found = self._write_run(ids[order[done:]], order[done:], flat, unset_only)
            done, ignored = done + count, ignored + (not found)
        self.ignored_ids += ignored
        return ignored

    def side_of(self, stored: StoredChunk) -> Rows:
        """The chunk's side arrays [T, ...], allocated for every side value known so far."""
        length = stored.stop_row - stored.start_row
        before = stored.num_bytes
        for name, (shape, dtype) in {VALID: ((), "|b1"), **self.side_forms}.items():
            if name not in stored.side:
                stored.side[name] = np.zeros((length, *shape), dtype)
        self.num_bytes += stored.num_bytes - before
        return stored.side

    def _is_duplicate(self, chunk: Chunk) -> bool:
        state = self.streams.get(chunk.number)
        if state and state.stream != chunk.stream:
            raise ValueError(f"stream {chunk.number} is {state.stream}, got {chunk.stream}")
        known = self._known_checksum(chunk)
        if known not in (None, chunk.checksum):
            raise ValueError(
                f"chunk {chunk.sequence} of {chunk.stream}: got checksum {chunk.checksum:#010x}"
                f" but {known:#010x} is stored; open a new stream after a restart"
            )
        return state is not None and chunk.sequence <= state.last_sequence

    def _known_checksum(self, chunk: Chunk) -> int | None:
        """Checksum of the chunk that came with this key, where it is still known."""
        state = self.streams.get(chunk.number)
        if state and chunk.sequence == state.last_sequence and state.last_checksum is not None:
            return state.last_checksum
        known = self._live.get((chunk.number, chunk.sequence))
        return known.first_checksum if known else None

    def _growing_with(self, chunk: Chunk) -> Segment | None:
        """The segment whose last chunk takes these rows in; None: they are a chunk of their own."""
        segment = self._growing.get((chunk.stream.worker, chunk.stream.env))
        if segment is None or (segment.number, segment.stop_row) != (chunk.number, chunk.start_row):
            return None
        last = segment.last()
        fits = chunk.stop_row - last.start_row <= self.grow_to
        within = not (chunk.data["is_first"].any() or chunk.data["is_last"].any())
        return segment if fits and within and last.saved is None else None

    def _grow(self, segment: Segment, chunk: Chunk) -> None:
        last = segment.last()
        self._note(chunk)
        before = last.num_bytes
        last.grow(chunk.data, self.codec)
        self.num_bytes += last.num_bytes - before
        self.num_rows += chunk.num_rows
        flags = chunk.data["is_first"], chunk.data["is_last"]
        self._tell(segment, segment.extend(chunk.start_row, *flags))

    def _tell(self, segment: Segment, spans: list[Span]) -> None:
        """Let the listeners know of new rows, which close `spans`."""
        self._remember(spans)
        for listener in self.listeners:
            listener.grown(segment, [span for span in spans if span.is_complete])

    def _note(self, chunk: Chunk) -> None:
        state = self.streams.setdefault(chunk.number, StreamState(chunk.stream))
        if state.last_sequence >= 0 and chunk.start_row < state.stop_row:
            raise ValueError(
                f"chunk {chunk.sequence} of {chunk.stream}: expected rows from {state.stop_row}"
                f" on, got start_row {chunk.start_row}"
            )
        state.last_sequence, state.stop_row = chunk.sequence, chunk.stop_row
        state.last_checksum = chunk.checksum

    def _segment_for(self, chunk: Chunk, start_row: int) -> Segment:
        """The segment the chunk continues, or a new one after a gap or a restart."""
        env = chunk.stream.worker, chunk.stream.env
        growing = self._growing.get(env)
        if growing and growing.number == chunk.number and growing.stop_row == chunk.start_row:
            return growing
        self._remember(growing.close() if growing else [])
        segment = self._growing[env] = Segment(chunk.stream, chunk.number, start_row)
        self.streams[chunk.number].segments.append(segment)
        return segment

    def _remember(self, spans: list[Span]) -> None:
        if self.evict == "episodes":
            self._spans.extend(spans)

    def _trim(self, segment: Segment, row: int) -> None:
        self.num_rows -= row - segment.start_row
        self.evicted_rows += row - segment.start_row
        for stored in segment.trim(row):
            del self._live[stored.key]
            self.num_bytes -= stored.num_bytes
        if not segment.num_rows:
            self._forget(segment)
        for listener in self.listeners:
            listener.trimmed(segment)

    def _forget(self, segment: Segment) -> None:
        self.streams[segment.number].segments.remove(segment)
        env = segment.stream.worker, segment.stream.env
        if self._growing.get(env) is segment:
            del self._growing[env]

    def _piece(self, stored: StoredChunk, start_row: int, stop_row: int) -> Piece:
        start, stop = (
            start_row - stored.start_row,
            min(stop_row, stored.stop_row) - stored.start_row,
        )
        data = stored.rows(start, stop)
        if self.side_forms:
            data |= self._side_copies(stored, start, stop)
        return Piece(stored.number, start_row, data)

    def _side_copies(self, stored: StoredChunk, start: int, stop: int) -> Rows:
        forms = {VALID: ((), "|b1"), **self.side_forms}
        return {
            SIDE_PREFIX + name: stored.side[name][start:stop].copy()
            if name in stored.side
            else np.zeros((stop - start, *shape), dtype)
            for name, (shape, dtype) in forms.items()
        }

    def _side_rows(self, name: str, value: Array, step_ids: Array) -> Array:
        """The value as [ids, ...]; its form is fixed by the first write."""
        dims = step_ids.ndim
        if name == VALID or value.shape[:dims] != step_ids.shape:
            raise ValueError(
                f"side value {name!r}: expected shape {step_ids.shape} + (...) and another name"
                f" than {VALID!r}, got shape {value.shape}"
            )
        form = (value.shape[dims:], value.dtype.str)
        known = self.side_forms.setdefault(name, form)
        if known != form:
            raise ValueError(f"side value {name!r}: expected (shape, dtype) {known}, got {form}")
        return value.reshape(step_ids.size, *form[0])

    def _write_run(
        self, ids: Array, order: Array, values: Rows, unset_only: bool
    ) -> tuple[int, bool]:
        """Write the first of the sorted `ids` and those in the same chunk; returns how many."""
        number, row = int(ids[0]) >> 32, int(ids[0]) & ROW_MASK
        segment = self.find(number, row)
        if segment is None:
            return 1, False
        stored = segment.chunk_at(row)
        count = int(np.searchsorted(ids, (number << 32) + stored.stop_row))
        rows, order = (ids[:count] & ROW_MASK) - stored.start_row, order[:count]
        side = self.side_of(stored)
        if unset_only:
            unset = ~side[VALID][rows]
            rows, order = rows[unset], order[unset]
        for name, value in values.items():
            side[name][rows] = value[order]
        side[VALID][rows] = True
        return count, True
