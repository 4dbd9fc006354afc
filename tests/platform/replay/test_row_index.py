"""Items are found by row, whatever was dropped before; dropped items are let go."""

from __future__ import annotations

import weakref

import numpy as np

from reverie.replay.row_index import RowIndex


class Item:
    pass


def test_an_index_agrees_with_a_list_whatever_is_dropped_and_added():
    rng = np.random.default_rng(0)
    index: RowIndex[int] = RowIndex()
    wanted: list[int] = []
    row = 0
    for _ in range(500):
        for _ in range(int(rng.integers(5))):
            index.append(row, row)
            wanted.append(row)
            row += int(rng.integers(1, 9))
        count = min(len(wanted), int(rng.integers(5)))
        assert index.drop(count) == wanted[:count]
        wanted = wanted[count:]
        assert [index[at] for at in range(len(index))] == wanted
        if wanted:
            start = int(rng.integers(wanted[0], row))
            stop = int(rng.integers(start, row)) + 1
            first, last = (np.searchsorted(wanted, at, side="right") for at in (start, stop - 1))
            assert index.find(start) == first - 1
            assert index.covering(start, stop) == wanted[first - 1 : last]
            assert index.find(wanted[0] - 1) == -1


def test_a_dropped_item_is_not_kept_alive():
    index: RowIndex[Item] = RowIndex()
    for row in range(10):
        index.append(row, Item())
    gone = weakref.ref(index[0])
    index.drop(1)
    assert gone() is None
    assert len(index) == 9
