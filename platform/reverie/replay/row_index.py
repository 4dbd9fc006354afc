"""Items in the order of their first rows: appended at the end, dropped at the front, found by row.

All three stay cheap however many items there are: a list alone would copy what is left on a drop.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import Generic, TypeVar, cast

T = TypeVar("T")


class RowIndex(Generic[T]):
    """A list of items with ascending first rows, of which the first ones can be dropped.

    Dropped items leave a hole at the front, which is closed once it is as long as what is left:
    a drop costs the number of items dropped on average. A reference and a first row are 16 bytes
    per item, 36 at most with the hole and the room to grow.
    """

    def __init__(self) -> None:
        self._items: list[T | None] = []
        self._rows = array("q")
        """First rows, one after the other in memory, so that a look-up touches no item."""
        self._hole = 0

    def __len__(self) -> int:
        return len(self._items) - self._hole

    def __getitem__(self, index: int) -> T:
        """The item at `index` >= 0, counted from the first that is left."""
        return cast(T, self._items[self._hole + index])

    def append(self, first_row: int, item: T) -> None:
        """Add an item after all others."""
        self._items.append(item)
        self._rows.append(first_row)

    def find(self, row: int) -> int:
        """Index of the last item that begins at or before `row`; -1 if none does."""
        return bisect_right(self._rows, row, lo=self._hole) - 1 - self._hole

    def covering(self, start_row: int, stop_row: int) -> list[T]:
        """The items, which have no gaps between them, that hold start_row..stop_row."""
        first, last = self.find(start_row), self.find(stop_row - 1)
        return cast(list[T], self._items[self._hole + first : self._hole + last + 1])

    def drop(self, count: int) -> list[T]:
        """Drop the first `count` items and return them."""
        start, self._hole = self._hole, self._hole + count
        gone = cast(list[T], self._items[start : self._hole])
        self._items[start : self._hole] = [None] * count
        if self._hole >= len(self):
            del self._items[: self._hole], self._rows[: self._hole]
            self._hole = 0
        return gone
