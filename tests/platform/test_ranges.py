from __future__ import annotations

from typing import Any, Literal

import pytest

from reverie import ranges
from reverie.ranges import words


@pytest.mark.parametrize(
    ("kind", "exact", "brief"),
    [
        (ranges.Layers, "a whole number from 1 to 64", None),
        (ranges.Count, "a whole number from 1 to 1_000_000_000_000", "a whole number, 1 or more"),
        (ranges.Weight, "a number from 0 to 1e6", None),
        (ranges.Epsilon, "a number from 1e-30 to 1", None),
        (ranges.NotNegative, "a finite number of 0 or more", "a number, 0 or more"),
        (ranges.Clip, "a number above 0 and up to 1e9", "a number above 0"),
        (ranges.ShareBelow1, "a number from 0 to below 1", None),
        (float, "a finite number", None),
        (str | None, "text or null", None),
        (Literal["auto", "on"], "auto or on", None),
        (list[ranges.Share], "a list of a number from 0 to 1", None),
        (dict[str, ranges.Seconds] | None, None, "a mapping of a number above 0 or null"),
    ],
)
def test_a_type_in_words(kind: Any, exact: str | None, brief: str | None) -> None:
    if exact is not None:
        assert words(kind) == exact
    assert words(kind, brief=True) == (brief or exact)
