"""Chunks: made, frozen after transport, checked, stored; and segments of consecutive ones.

A segment is a run of rows of one stream that no gap interrupts; windows never leave one.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from reverie.replay.codec import Encoded, decode, encode
from reverie.replay.row_index import RowIndex
from reverie.types import FLAG_KEYS, Array, Chunk, Rows, StreamId, checksum

Key = tuple[int, int]
"""(stream number, sequence) of a chunk."""


def make_chunk(stream: StreamId, number: int, sequence: int, start_row: int, rows: Rows) -> Chunk:
    """Build a chunk from rows [T, ...]; the arrays are copied, so `rows` may be reused.

    Raises:
        ValueError: no rows, a flag key is missing, lengths differ, or an array holds objects.
    """
    _check(rows, f"chunk {sequence} of {stream}")
    data = {key: _frozen_copy(array) for key, array in rows.items()}
    return Chunk(
        stream=stream,
        number=number,
        sequence=sequence,
        start_row=start_row,
        data=data,
        checksum=checksum(data),
    )


def freeze(chunk: Chunk) -> Chunk:
    """Return the chunk with read-only, contiguous arrays that own their memory.

    Arrays that came through an object store are views into it and are copied, so that a stored
    chunk does not pin the store's memory; arrays that are frozen already are kept.
    """
    if all(_is_frozen(array) for array in chunk.data.values()):
        return chunk
    data = {k: a if _is_frozen(a) else _frozen_copy(a) for k, a in chunk.data.items()}
    return dataclasses.replace(chunk, data=data)


def verify(chunk: Chunk) -> None:
    """Check that the rows are those the chunk was made of.

    Raises:
        ValueError: the rows do not have the chunk's checksum (torn in transport or on disk).
    """
    found = checksum(chunk.data)
    if found != chunk.checksum:
        raise ValueError(
            f"chunk {chunk.sequence} of {chunk.stream}: rows are torn, got checksum {found:#010x},"
            f" expected {chunk.checksum:#010x}; insert an unchanged copy"
        )


@dataclass(kw_only=True, slots=True, eq=False)
class StoredChunk:
    """A chunk as the store keeps it: encoded, with its side values."""

    stream: StreamId
    number: int
    sequence: int
    start_row: int
    stop_row: int
    checksum: int | None
    """Of its rows; None once others were added to those that came with its key."""
    first_checksum: int
    """Of the rows that came with its key."""
    data: Encoded
    side: Rows = field(default_factory=dict[str, Array])
    """Arrays [T, ...] by side name and `valid`; empty until the first write."""
    saved: tuple[str, int] | None = None
    """File name and record index, once on disk."""

    @property
    def key(self) -> Key:
        return self.number, self.sequence

    @property
    def num_bytes(self) -> int:
        return sum(value.nbytes for value in (*self.data.values(), *self.side.values()))

    def whole_checksum(self) -> int:
        """Checksum of its rows as they are now."""
        if self.checksum is None:
            self.checksum = checksum({key: decode(value) for key, value in self.data.items()})
        return self.checksum

    def grow(self, rows: Rows, codec: str) -> None:
        """Add the rows [T, ...] that follow. Views of the rows before stay what they are."""
        before = {key: decode(value) for key, value in self.data.items()}
        data = {key: np.concatenate([before[key], rows[key]]) for key in before}
        for array in data.values():
            array.setflags(write=False)
        added = len(rows["is_first"])
        self.side = {
            name: np.concatenate([array, np.zeros((added, *array.shape[1:]), array.dtype)])
            for name, array in self.side.items()
        }
        self.stop_row += added
        self.data, self.checksum = encode(data, codec), None

    def rows(self, start: int, stop: int) -> Rows:
        """Rows start..stop (indices in this chunk) without side values: views where possible."""
        return {key: decode(value)[start:stop] for key, value in self.data.items()}


class Span(NamedTuple):
    """Rows start_row..stop_row of a segment that belong to one episode."""

    segment: Segment
    start_row: int
    stop_row: int
    is_complete: bool
    """Holds the episode's first and last row."""


class Segment:
    """Consecutive rows of one stream; grows at its end, is trimmed at its start."""

    def __init__(self, stream: StreamId, number: int, start_row: int) -> None:
        self.stream, self.number = stream, number
        self.order = (number, start_row)
        """Sorts segments the same in a restored store, whatever was trimmed before."""
        self.start_row = self.stop_row = start_row
        self.chunks: RowIndex[StoredChunk] = RowIndex()
        self._open_row = start_row
        self._open_is_first = False

    @property
    def num_rows(self) -> int:
        return self.stop_row - self.start_row

    def append(self, stored: StoredChunk, is_first: Array, is_last: Array) -> list[Span]:
        """Add the next chunk; returns the spans it closes, in row order."""
        self.chunks.append(stored.start_row, stored)
        return self.extend(stored.start_row, is_first, is_last)

    def extend(self, offset: int, is_first: Array, is_last: Array) -> list[Span]:
        """Take in the rows from `offset` on at the end of the last chunk; returns the spans that
        they close.
        """
        self.stop_row = offset + len(is_first)
        if self._open_row >= offset:
            self._open_is_first = bool(is_first[self._open_row - offset])
        spans: list[Span] = []
        for cut in self._cuts(is_first, is_last, offset):
            ends = cut > offset and bool(is_last[cut - 1 - offset])
            spans.append(Span(self, self._open_row, cut, self._open_is_first and ends))
            self._open_row = cut
            self._open_is_first = cut < self.stop_row and bool(is_first[cut - offset])
        return spans

    def close(self) -> list[Span]:
        """The unfinished span at the end, now that nothing follows; none if there is no such."""
        tail = Span(self, self._open_row, self.stop_row, is_complete=False)
        self._open_row = self.stop_row
        return [tail] if tail.start_row < tail.stop_row else []

    def trim(self, row: int) -> list[StoredChunk]:
        """Drop rows before `row`; returns the chunks of which nothing is left."""
        self.start_row = row
        if row > self._open_row:
            self._open_row, self._open_is_first = row, False
        return self.chunks.drop(self.chunks.find(row) if self.num_rows else len(self.chunks))

    def last(self) -> StoredChunk:
        """The chunk at its end."""
        return self.chunks[len(self.chunks) - 1]

    def chunk_at(self, row: int) -> StoredChunk:
        """The chunk that holds `row`."""
        return self.chunks[self.chunks.find(row)]

    def _cuts(self, is_first: Array, is_last: Array, offset: int) -> list[int]:
        """Rows at which a span of this chunk ends and the next begins."""
        cuts = np.union1d(np.flatnonzero(is_first), np.flatnonzero(is_last) + 1) + offset
        return [int(cut) for cut in cuts if cut > self._open_row]


def _check(rows: Rows, where: str) -> None:
    missing = [key for key in FLAG_KEYS if key not in rows]
    if missing:
        raise ValueError(f"{where}: expected keys {FLAG_KEYS}, got no {missing}")
    lengths = {key: len(array) for key, array in rows.items()}
    if len(set(lengths.values())) != 1 or not lengths["is_last"]:
        raise ValueError(f"{where}: expected equally many rows per key, at least 1, got {lengths}")
    objects = [key for key, array in rows.items() if array.dtype.hasobject]
    if objects:
        raise ValueError(f"{where}: expected plain dtypes, got Python objects under {objects}")


def _frozen_copy(array: Array) -> Array:
    copy = np.array(array, order="C", copy=True)
    copy.setflags(write=False)
    return copy


def _is_frozen(array: Array) -> bool:
    flags = array.flags
    return flags.owndata and flags.c_contiguous and not flags.writeable
