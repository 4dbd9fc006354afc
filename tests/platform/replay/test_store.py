"""What is stored comes back unchanged, once, and leaves in the right order."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from reverie.replay.chunk import make_chunk
from reverie.replay.store import ChunkStore
from reverie.types import StreamId, step_ids


def chunk(sequence, start, text="....", number=0, stream=None, worker=0):
    """Rows spelled as F first, L last, B both, . neither; `row` tells stream and row."""
    count = len(text)
    stream = stream or StreamId(worker, 0, 0)
    row = np.arange(start, start + count) + 1000 * number
    rows = {
        "row": row,
        "image": np.repeat(row, 12).astype(np.uint8).reshape(count, 2, 2, 3),
        "is_first": np.array([c in "FB" for c in text]),
        "is_last": np.array([c in "LB" for c in text]),
        "is_terminal": np.zeros(count, bool),
    }
    return make_chunk(stream, number, sequence, start, rows)


def filled(*chunks, capacity=1000, **options):
    store = ChunkStore(capacity, **options)
    for one in chunks:
        store.insert(one)
    return store


def stored_rows(store):
    """All rows by stream, as windows give them, and the segments' limits."""
    found = {}
    for number, state in store.streams.items():
        for segment in state.segments:
            window = store.window(segment, segment.start_row, segment.num_rows)
            found[number, segment.start_row] = np.concatenate([p.data["row"] for p in window])
    return {key: [int(row) % 1000 for row in value] for key, value in found.items()}


@pytest.mark.parametrize("codec", ["none", "lz4", "zstd"])
def test_windows_equal_the_inserted_rows(codec):
    chunks = [chunk(i, 5 * i, "F...L") for i in range(4)]
    store = filled(*chunks, codec=codec)
    whole = {k: np.concatenate([c.data[k] for c in chunks]) for k in chunks[0].data}
    for start, length in [(0, 20), (3, 1), (4, 7), (5, 5), (12, 8)]:
        window = store.window(store.find(0, start), start, length)
        assert [piece.number for piece in window] == [0] * len(window)
        ids = np.concatenate([step_ids(0, p.start_row, len(p.data["row"])) for p in window])
        np.testing.assert_array_equal(ids, np.arange(start, start + length))
        for key, array in whole.items():
            got = np.concatenate([piece.data[key] for piece in window])
            np.testing.assert_array_equal(got, array[start : start + length])


def test_uncompressed_pieces_are_views():
    one = chunk(0, 0)
    (piece,) = (store := filled(one)).window(store.find(0, 1), 1, 2)
    assert np.shares_memory(piece.data["image"], one.data["image"])


def test_a_gap_starts_a_segment_that_no_window_joins():
    store = filled(chunk(0, 0), chunk(1, 4), chunk(3, 12), chunk(0, 0, number=1, worker=1))
    assert stored_rows(store) == {
        (0, 0): list(range(8)),
        (0, 12): list(range(12, 16)),
        (1, 0): list(range(4)),
    }
    with pytest.raises(IndexError, match=r"\(6, 14\).*\(0, 8\)"):
        store.window(store.find(0, 6), 6, 8)
    assert store.find(0, 9) is None


def test_a_late_chunk_of_an_earlier_incarnation_does_not_continue_the_new_one():
    store = filled(chunk(0, 0), chunk(0, 0, number=1, stream=StreamId(0, 0, 1)), chunk(1, 4))
    assert stored_rows(store) == {(0, 0): [0, 1, 2, 3], (0, 4): [4, 5, 6, 7], (1, 0): [0, 1, 2, 3]}


def test_the_same_chunk_twice_changes_nothing_even_after_eviction():
    store = filled(*[chunk(i, 4 * i) for i in range(4)], capacity=8)
    before = stored_rows(store)
    assert not store.insert(chunk(3, 12))
    assert not store.insert(chunk(0, 0))
    assert stored_rows(store) == before == {(0, 8): list(range(8, 16))}
    assert (store.duplicates, store.evicted_rows) == (2, 8)


def test_the_key_of_other_rows_is_an_error():
    store = filled(chunk(0, 0))
    with pytest.raises(ValueError, match="checksum"):
        store.insert(chunk(0, 0, "...L"))
    with pytest.raises(ValueError, match="stream 0 is"):
        store.insert(chunk(1, 4, stream=StreamId(0, 0, 1)))
    with pytest.raises(ValueError, match="rows from 4"):
        store.insert(chunk(1, 3))


def test_a_torn_chunk_is_refused_and_may_be_sent_again():
    whole = chunk(0, 0)
    torn = dataclasses.replace(whole, data={**whole.data, "row": whole.data["row"] + 1})
    store = filled()
    with pytest.raises(ValueError, match="torn"):
        store.insert(torn)
    assert (len(store), store.num_rows, store.streams) == (0, 0, {})
    assert store.insert(whole)


def test_the_oldest_chunks_go_first():
    store = filled(capacity=10)
    for i in range(3):
        store.insert(chunk(i, 4 * i))
        store.insert(chunk(i, 4 * i, number=1, worker=1))
    assert stored_rows(store) == {(0, 8): [8, 9, 10, 11], (1, 8): [8, 9, 10, 11]}
    assert store.num_bytes == sum(stored.num_bytes for stored in store)


def test_whole_episodes_go_in_the_order_they_ended():
    store = filled(capacity=8, evict="episodes")
    store.insert(chunk(0, 0, "F..."))
    store.insert(chunk(0, 0, "F.LF", number=1, worker=1))
    store.insert(chunk(1, 4, ".LF."))
    assert stored_rows(store) == {(0, 6): [6, 7], (1, 3): [3]}
    store.insert(chunk(1, 4, "..LF", number=1, worker=1))
    assert stored_rows(store) == {(0, 6): [6, 7], (1, 3): list(range(3, 8))}
    assert store.num_rows == 7
    assert len(store) == 3


def test_unfinished_episodes_are_kept_beyond_the_capacity_until_nothing_follows():
    store = filled(
        *[chunk(i, 4 * i, "F..." if i == 0 else "....") for i in range(4)],
        capacity=8,
        evict="episodes",
    )
    assert store.num_rows == 16
    store.insert(chunk(0, 0, "F...", number=1, stream=StreamId(0, 0, 1)))
    assert stored_rows(store) == {(1, 0): [0, 1, 2, 3]}


def test_a_gap_ends_an_unfinished_episode():
    store = filled(chunk(0, 0, "F..."), chunk(2, 8, "..LF"), capacity=6, evict="episodes")
    assert stored_rows(store) == {(0, 8): [8, 9, 10, 11]}


def valid_rows(store):
    found = {}
    for state in store.streams.values():
        for segment in state.segments:
            for piece in store.window(segment, segment.start_row, segment.num_rows):
                for at in np.flatnonzero(piece.data["side/valid"]):
                    row = piece.start_row + int(at)
                    found[piece.number, row] = piece.data["side/latent"][at].tolist()
    return found


def test_side_values_come_back_by_step_id_and_leave_with_their_chunk():
    store = filled(chunk(0, 0), chunk(1, 4), chunk(0, 0, number=1, worker=1), capacity=12)
    ids = np.array([step_ids(0, 3, 2), step_ids(1, 1, 2), step_ids(7, 0, 2)])
    values = np.arange(12, dtype=np.float16).reshape(3, 2, 2)
    assert store.write_back(ids, {"latent": values}) == 2
    expected = {(0, 3): [0, 1], (0, 4): [2, 3], (1, 1): [4, 5], (1, 2): [6, 7]}
    assert valid_rows(store) == expected
    store.insert(chunk(2, 8))
    del expected[0, 3]
    assert valid_rows(store) == expected
    assert store.write_back(step_ids(0, 3, 1), {"latent": values[0, :1]}) == 1
    assert store.ignored_ids == 3


def test_of_equal_step_ids_the_last_value_counts_and_samples_are_copies():
    store = filled(chunk(0, 0))
    ids = np.array([2, 1, 2, 0, 2])
    store.write_back(ids, {"latent": np.arange(5, dtype=np.float32)})
    (piece,) = store.window(store.find(0, 0), 0, 4)
    np.testing.assert_array_equal(piece.data["side/latent"], [3, 1, 4, 0])
    np.testing.assert_array_equal(piece.data["side/valid"], [1, 1, 1, 0])
    store.write_back(ids[:1], {"latent": np.full(1, 9, np.float32)})
    assert piece.data["side/latent"][2] == 4


def test_rows_never_written_get_zeros_of_every_known_side_value():
    store = filled(chunk(0, 0), chunk(1, 4))
    store.write_back(step_ids(0, 0, 1), {"latent": np.ones((1, 3), np.float32)})
    store.write_back(step_ids(0, 1, 1), {"priority": np.ones(1)})
    for piece in store.window(store.find(0, 0), 0, 8):
        assert piece.data["side/latent"].shape == (4, 3)
        assert piece.data["side/priority"].dtype == np.float64
    assert store.num_bytes == sum(stored.num_bytes for stored in store)


def test_side_values_of_another_form_are_refused():
    store = filled(chunk(0, 0))
    store.write_back(step_ids(0, 0, 2), {"latent": np.ones((2, 3), np.float32)})
    with pytest.raises(ValueError, match="latent"):
        store.write_back(step_ids(0, 0, 2), {"latent": np.ones((2, 4), np.float32)})
    with pytest.raises(ValueError, match="expected shape"):
        store.write_back(step_ids(0, 0, 2), {"latent": np.ones((3, 3), np.float32)})
    with pytest.raises(ValueError, match="valid"):
        store.write_back(step_ids(0, 0, 2), {"valid": np.ones(2, bool)})


PIECES = "F...L", "F", "..", ".", ".", "L", "F.", "."


def pieces(texts=PIECES):
    starts = np.cumsum([0, *map(len, texts)])
    return [chunk(i, int(starts[i]), text) for i, text in enumerate(texts)]


@pytest.mark.parametrize("codec", ["none", "lz4"])
def test_pieces_grow_into_chunks_and_are_the_same_rows(codec):
    grown, apart = (filled(*pieces(), codec=codec, grow_to=size) for size in (4, 0))
    assert [s.stop_row - s.start_row for s in grown] == [5, 4, 1, 1, 3]
    assert len(apart) == len(PIECES)
    assert stored_rows(grown) == stored_rows(apart)
    assert grown.num_rows == apart.num_rows == 14
    assert grown.num_bytes == sum(stored.num_bytes for stored in grown)
    assert [stored.sequence for stored in grown] == [0, 1, 4, 5, 6]


def test_a_window_drawn_before_its_chunk_grew_stays_what_it_was():
    first, *others = pieces(["F...", "..", ".", "..."])
    store = filled(first, grow_to=20)
    store.write_back(step_ids(0, 2, 2), {"deter": np.array([2.0, 3.0])})
    before = store.window(store.find(0, 0), 0, 4)
    kept = {key: array.copy() for key, array in before[0].data.items()}
    for piece in others:
        store.insert(piece)
    for key, array in kept.items():
        np.testing.assert_array_equal(before[0].data[key], array)
    (after,) = store.window(store.find(0, 0), 0, 10)
    assert not after.data["row"].flags.writeable
    assert after.data["side/valid"].tolist() == [False, False, True, True] + [False] * 6
    assert after.data["side/deter"][:5].tolist() == [0, 0, 2, 3, 0]


def test_pieces_that_come_twice_change_nothing_and_other_rows_are_an_error():
    texts = pieces(["F...", "..", "..", "."])
    store = filled(*texts, grow_to=20)
    assert not any(store.insert(piece) for piece in texts)
    assert (len(store), store.num_rows) == (1, 9)
    for sequence in (0, 3):
        other = chunk(sequence, texts[sequence].start_row, "B" * texts[sequence].num_rows)
        with pytest.raises(ValueError, match=f"chunk {sequence} of .* is stored"):
            store.insert(other)


def test_episodes_of_pieces_are_complete_where_those_of_chunks_are():
    class Heard:
        def __init__(self):
            self.spans = []

        def grown(self, segment, episodes):
            self.spans += [(span.start_row, span.stop_row) for span in episodes]

        def trimmed(self, segment):
            pass

    heard = [Heard(), Heard()]
    for one, size in zip(heard, (20, 0), strict=True):
        filled(*pieces(), grow_to=size, listeners=[one])
    assert heard[0].spans == heard[1].spans == [(0, 5), (5, 11)]


def test_nothing_is_added_to_a_chunk_on_disk_nor_across_a_gap():
    store = filled(*pieces()[:2], grow_to=20)
    *_, last = store
    last.saved = "file", 0
    for piece in pieces()[2:5]:
        store.insert(piece)
    store.insert(chunk(9, 20, "."))
    assert [(s.start_row, s.stop_row) for s in store] == [(0, 5), (5, 6), (6, 10), (20, 21)]


def test_what_comes_with_the_rows_does_not_replace_what_was_written_later():
    store = filled(chunk(0, 0))
    store.write_back(step_ids(0, 1, 2), {"deter": np.array([1.0, 2.0])})
    store.write_back(step_ids(0, 0, 4), {"deter": np.full(4, 9.0)}, unset_only=True)
    (piece,) = store.window(store.find(0, 0), 0, 4)
    assert piece.data["side/deter"].tolist() == [9, 1, 2, 9]
    assert piece.data["side/valid"].all()
    store.write_back(step_ids(0, 0, 1), {"deter": np.array([5.0])})
    (piece,) = store.window(store.find(0, 0), 0, 4)
    assert piece.data["side/deter"].tolist() == [5, 1, 2, 9]
