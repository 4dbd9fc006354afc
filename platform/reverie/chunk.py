"""Chunks as they are made, frozen after transport, and checked: rows that never change again."""

from __future__ import annotations

import dataclasses

import numpy as np

from reverie.types import FLAG_KEYS, Array, Chunk, Rows, StreamId, checksum


def make_chunk(
    stream: StreamId, number: int, sequence: int, start_row: int, rows: Rows
) -> Chunk:
    """Build a chunk from rows [T, ...]; the arrays are copied, so `rows` may be reused.

    Raises:
        ValueError: no rows, a flag key is missing, lengths differ, or an array holds objects.
    """
    _check(rows, f"chunk {sequence} of {stream}")
    data = {key: _frozen_copy(array) for key, array in rows.items()}
    return Chunk(stream, number, sequence, start_row, data, checksum(data))


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
            f" wanted {chunk.checksum:#010x}; insert an unchanged copy"
        )


def _check(rows: Rows, where: str) -> None:
    missing = [key for key in FLAG_KEYS if key not in rows]
    if missing:
        raise ValueError(f"{where}: wanted keys {FLAG_KEYS}, got no {missing}")
    lengths = {key: len(array) for key, array in rows.items()}
    if len(set(lengths.values())) != 1 or not lengths["is_last"]:
        raise ValueError(f"{where}: wanted equally many rows per key, at least 1, got {lengths}")
    objects = [key for key, array in rows.items() if array.dtype.hasobject]
    if objects:
        raise ValueError(f"{where}: wanted plain dtypes, got Python objects under {objects}")


def _frozen_copy(array: Array) -> Array:
    copy = np.array(array, order="C", copy=True)
    copy.setflags(write=False)
    return copy


def _is_frozen(array: Array) -> bool:
    flags = array.flags
    return flags.owndata and flags.c_contiguous and not flags.writeable
