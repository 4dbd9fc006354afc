"""Charts as SVG."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from reverie.report.study import Axis
from reverie.report.svg import Chart, Series, Single, named, ticks

STEPS, HOURS = (
    Axis("env_steps", "Environment steps", "steps"),
    Axis("hours", "Wall-clock time", "h"),
)


def array(*values: float) -> np.ndarray:
    return np.array(values, float)


def drawn(*series: Series, **options: Any) -> ElementTree.Element:
    chart: dict[str, Any] = {"x": STEPS, "y": Axis("score", "Return"), "label": "A chart"}
    chart |= {"size": (320, 214)} | options
    return ElementTree.fromstring(Chart(series=series, **chart).draw())


def line(*ys: float, **options: Any) -> Series:
    return Series(index=0, xs=np.arange(len(ys), dtype=float) * 100, ys=array(*ys), **options)


def points(path: ElementTree.Element) -> np.ndarray:
    text = path.attrib["d"].removeprefix("M").removesuffix("Z")
    return np.array([point.split() for point in text.split("L")], float)


def classed(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [one for one in root.iter() if name in one.get("class", "").split()]


def test_a_reader_gets_back_what_was_drawn() -> None:
    series = line(1.0, 5.0, -2.0, low=array(0, 4, -3), high=array(2, 6, -1))
    root = drawn(series)
    x0, x1, y0, y1, left, right, top, bottom = map(float, root.attrib["data-frame"].split())

    def data(path: ElementTree.Element) -> np.ndarray:
        xs, ys = points(path).T
        return np.stack(
            [
                x0 + (xs - left) / (right - left) * (x1 - x0),
                y0 + (bottom - ys) / (bottom - top) * (y1 - y0),
            ]
        )

    xs, ys = data(classed(root, "line")[0])
    np.testing.assert_allclose(xs, series.xs, atol=1e-2)
    np.testing.assert_allclose(ys, series.ys, atol=1e-3)
    _, band = data(classed(root, "band")[0])
    np.testing.assert_allclose(band, [0, 4, -3, -1, 6, 2], atol=1e-3)


@pytest.mark.parametrize(
    ("axis", "text"),
    [
        (STEPS, "Environment steps"),
        (HOURS, "Wall-clock time (h)"),
        (Axis("gpu_hours", "GPU time", "GPU-h"), "GPU time (GPU-h)"),
        (Axis("crafter_score", "Crafter score", "%"), "Crafter score (%)"),
        (Axis("score", "Return"), "Return"),
    ],
)
def test_every_axis_has_its_unit(axis: Axis, text: str) -> None:
    assert named(axis) == text
    names = [one.text for one in classed(drawn(line(1, 2), x=axis, y=axis), "name")]
    assert names == [text, text]


def test_names_are_escaped() -> None:
    nasty = """<i a="b" c='d'>&"""
    axis = Axis(nasty, nasty, nasty)
    root = drawn(line(1, 2), x=axis, y=axis, label=nasty, references=((nasty, 1.5),))
    assert root.attrib["aria-label"] == root.attrib["data-unit"] == nasty
    assert [one.text for one in classed(root, "reference") if one.tag == "text"] == [nasty]
    assert not list(root.iter("i"))


def test_runs_lie_behind_and_the_marked_ones_are_told_apart() -> None:
    xs = array(0, 400)
    singles = (Single(xs, array(1, 2), False), Single(xs, array(1, 9), True))
    root = drawn(line(1, 2, singles=singles))
    assert [one.get("class") for one in root.iter("path")] == ["single", "single marked", "line"]
    # What runs past the line is inside of the frame too.
    *_, left, right, top, bottom = map(float, root.attrib["data-frame"].split())
    for path in root.iter("path"):
        for x, y in points(path):
            assert left <= x <= right
            assert top <= y <= bottom


def test_a_single_point_is_a_dot_with_its_interval() -> None:
    root = drawn(line(3, low=array(2), high=array(5)), line(0, 4))
    assert len(classed(root, "dot")) == 1
    (_, low), (_, high) = points(classed(root, "whisker")[0])
    assert low > high  # downwards


@pytest.mark.parametrize("ys", [(0.0, 0.0), (1e9, 1e9), (5.0,), (1e-12, 1e-12)])
def test_flat_curves_have_a_range(ys: tuple[float, ...]) -> None:
    root = drawn(line(*ys))
    assert all(np.isfinite(points(path)).all() for path in root.iter("path"))
    labels = [one.text for one in root.iter("text") if one.get("class") is None]
    assert len(labels) == len(set(labels)) > 1


def test_references_far_from_the_data_are_left_out() -> None:
    root = drawn(line(0, 10), references=(("random", -2), ("human", 1000)))
    assert [one.text for one in classed(root, "reference") if one.tag == "text"] == ["random"]
    near = drawn(line(0, 10), references=(("random", 4), ("human", 5)))
    random, human = (one for one in classed(near, "reference") if one.tag == "text")
    assert float(random.attrib["x"]) - float(human.attrib["x"]) > 200  # no overlap


def test_ticks_are_round_and_few() -> None:
    assert ticks(0, 100_000, 3) == [0, 50_000, 100_000]
    assert ticks(-1, 1.02, 5) == [-1, -0.5, 0, 0.5, 1]
    assert ticks(0.1, 0.35, 5) == [0.1, 0.15, 0.2, 0.25, 0.3, 0.35]
    assert ticks(2, 2, 5) == [2]
    for low, high in ((0, 9.99), (3, 7), (-1e-7, 1e-7), (1e8, 3e8)):
        found = ticks(low, high, 5)
        assert 2 <= len(found) <= 6
        assert low <= found[0] < found[-1] <= high


def test_labels_of_y_have_room() -> None:
    lefts = []
    for top in (1, 123_456_789.5):
        root = drawn(line(0, top), y_range=(0.0, top))
        lefts.append(int(root.attrib["data-frame"].split()[4]))
        widest = max(len(one.text or "") for one in root.iter("text") if one.get("class") is None)
        assert lefts[-1] >= 24 + 6 * widest
    assert lefts[1] > lefts[0]


def test_paths_say_nothing_twice() -> None:
    root = drawn(line(0, 1), y_range=(0.0, 1.0))
    assert re.fullmatch(r"M46 174L300 12", classed(root, "line")[0].attrib["d"])
