"""Numbers as people read them."""

from __future__ import annotations

import pytest

from reverie.report.numbers import counted, estimate, number, short_number, tick_texts
from reverie.report.study import Estimate, Interval


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.6068, "0.607"),
        (-0.0001, "0.000"),
        (9.994, "9.99"),
        (12.34, "12.3"),
        (-7127.4, "-7,127"),
        (float("inf"), "inf"),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5"), (1500, "1,500"), (100_000, "100 k"), (-1.5e6, "-1.5 M"), (2e9, "2 G")],
)
def test_short_numbers(value: float, text: str) -> None:
    assert short_number(value) == text


def test_labels_of_an_axis_have_one_unit() -> None:
    assert tick_texts([0, 5_000, 10_000]) == ["0", "5 k", "10 k"]
    assert tick_texts([-2e6, 5e5]) == ["-2 M", "0.5 M"]
    assert tick_texts([0, 0.5, 1]) == ["0", "0.5", "1"]
    assert tick_texts([]) == []


def test_an_interval_has_the_digits_of_its_value() -> None:
    assert estimate(Estimate(1036.2, Interval(-36.44, 2958.9), 5)) == "1,036 [-36, 2,959]"
    assert estimate(Estimate(0.997, Interval(0.95, 1.013), 5)) == "0.997 [0.950, 1.013]"
    assert estimate(Estimate(0.5, None, 1)) == "0.500"
    assert estimate(None) == "-"


def test_nouns_are_counted() -> None:
    assert [counted(n, "seed") for n in (0, 1, 2000)] == ["0 seeds", "1 seed", "2,000 seeds"]
