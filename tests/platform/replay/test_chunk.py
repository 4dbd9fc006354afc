"""Chunks are owned, read-only and checked; segments know where episodes end."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from reverie.replay.chunk import Segment, StoredChunk, freeze, make_chunk, verify
from reverie.types import StreamId, checksum

STREAM = StreamId(0, 1, 2)


def rows(count=4, last=()):
    flags = np.zeros(count, bool)
    is_last = flags.copy()
    is_last[list(last)] = True
    return {
        "image": np.arange(count * 12, dtype=np.uint8).reshape(count, 2, 2, 3),
        "reward": np.arange(count, dtype=np.float32),
        "is_first": flags,
        "is_last": is_last,
        "is_terminal": flags,
    }


def test_a_chunk_keeps_its_rows_when_the_buffers_are_reused():
    buffers = rows()
    chunk = make_chunk(STREAM, 5, 3, 64, buffers)
    before = checksum(buffers)
    buffers["image"][:] = 0
    assert chunk.checksum == before == checksum(chunk.data)
    assert (chunk.key, chunk.start_row, chunk.stop_row) == ((STREAM, 3), 64, 68)


def test_chunk_arrays_are_contiguous_and_cannot_be_written():
    strided = {key: np.stack([value, value], 1)[:, 0] for key, value in rows().items()}
    for array in make_chunk(STREAM, 0, 0, 0, strided).data.values():
        assert array.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_freeze_copies_views_and_keeps_frozen_arrays():
    chunk = make_chunk(STREAM, 0, 0, 0, rows())
    assert freeze(chunk) is chunk
    writeable = {key: array.copy() for key, array in chunk.data.items()}
    views = {key: array[:] for key, array in chunk.data.items()}
    for data in (writeable, views):
        frozen = freeze(dataclasses.replace(chunk, data=data))
        verify(frozen)
        for key, array in frozen.data.items():
            assert array.flags.owndata
            assert not array.flags.writeable
            assert not np.shares_memory(array, data[key])


def test_torn_rows_are_noticed():
    whole = make_chunk(STREAM, 0, 7, 0, rows())
    data = {key: array.copy() for key, array in whole.data.items()}
    torn = dataclasses.replace(whole, data=data, checksum=checksum(data))
    verify(torn)
    data["image"][2, 1, 1, 0] ^= 1
    with pytest.raises(ValueError, match=r"chunk 7 of .*torn"):
        verify(torn)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reward": np.zeros(3, np.float32)}, "equally many rows"),
        ({"text": np.array(["a", None, "b", "c"], object)}, "Python objects"),
    ],
)
def test_rows_that_no_chunk_can_hold_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        make_chunk(STREAM, 0, 0, 0, {**rows(), **change})


def test_rows_without_flags_or_of_length_zero_are_refused():
    with pytest.raises(ValueError, match="is_terminal"):
        make_chunk(STREAM, 0, 0, 0, {k: v for k, v in rows().items() if k != "is_terminal"})
    with pytest.raises(ValueError, match="at least 1"):
        make_chunk(STREAM, 0, 0, 0, rows(0))


def grow(segment, text):
    """Append rows spelled as F first, L last, B both, . neither; return the closed spans."""
    start = segment.stop_row
    stored = StoredChunk(
        stream=STREAM,
        number=0,
        sequence=0,
        start_row=start,
        stop_row=start + len(text),
        checksum=0,
        first_checksum=0,
        data={},
    )
    first = np.array([row in "FB" for row in text])
    last = np.array([row in "LB" for row in text])
    return [tuple(span)[1:] for span in segment.append(stored, first, last)]


def test_spans_are_episodes_and_only_whole_ones_are_complete():
    segment = Segment(STREAM, 0, 100)
    assert grow(segment, "..LF") == [(100, 103, False)]
    assert grow(segment, "..LB") == [(103, 107, True), (107, 108, True)]
    assert grow(segment, "F..") == []
    assert grow(segment, "F.L") == [(108, 111, False), (111, 114, True)]
    assert grow(segment, "F") == []
    assert [tuple(span)[1:] for span in segment.close()] == [(114, 115, False)]
    assert segment.close() == []


def test_an_episode_that_lost_its_head_is_not_complete():
    segment = Segment(STREAM, 0, 0)
    grow(segment, "F...")
    grow(segment, "....")
    segment.trim(4)
    assert grow(segment, ".L.") == [(4, 10, False)]


def test_trimming_returns_the_chunks_of_which_nothing_is_left():
    segment = Segment(STREAM, 0, 0)
    for _ in range(3):
        grow(segment, "....")
    assert [chunk.start_row for chunk in segment.trim(7)] == [0]
    assert (segment.start_row, segment.num_rows) == (7, 5)
    assert [chunk.start_row for chunk in segment.trim(8)] == [4]
    assert segment.chunk_at(11).start_row == 8
