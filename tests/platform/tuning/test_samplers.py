from __future__ import annotations

from typing import Any

import pytest

from reverie.errors import ConfigError
from reverie.tuning.samplers import grid_size, label, points, read_space


def test_grids_are_crossed_and_keys_may_be_nested() -> None:
    space = read_space({"a.b": {"grid": [1, 2]}, "c": {"d": {"grid": ["x", "y", "z"]}}}, "s")
    found = list(points(space, 1, 0))
    assert len(found) == grid_size(space) == 6
    assert found[:2] == [{"a.b": 1, "c.d": "x"}, {"a.b": 1, "c.d": "y"}]


def test_draws_lie_within_their_limits_and_depend_on_the_seed_alone() -> None:
    space = read_space(
        {
            "choice": {"choice": ["a", "b"]},
            "uniform": {"uniform": [0.25, 0.75]},
            "log": {"loguniform": [1e-5, 1e-3]},
            "int": {"randint": [3, 5]},
        },
        "s",
    )
    found = list(points(space, 200, 1))
    assert found == list(points(space, 200, 1)) != list(points(space, 200, 2))
    assert {point["choice"] for point in found} == {"a", "b"}
    assert {point["int"] for point in found} == {3, 4}
    assert all(0.25 <= point["uniform"] <= 0.75 for point in found)
    low = sum(point["log"] < 1e-4 for point in found)
    assert 70 < low < 130  # half of them lie in each decade
    assert all(float(f"{point['log']:.4g}") == point["log"] for point in found)


def test_a_point_is_called_after_what_tells_it_apart() -> None:
    assert label({"a.lr": 1e-4, "b.mode": "paper"}) == "lr=0.0001 mode=paper"
    assert label({"a.lr": 1, "b.lr": 2}) == "a.lr=1 b.lr=2"
    assert label({}) == ""


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"logunifrom": [1, 2]}, "unknown sampler 'logunifrom'; did you mean loguniform"),
        ({"grid": [1], "choice": [1]}, "expected one sampler"),
        (3, "expected one sampler such as {grid: [1, 2]}, got 3"),
        ({"grid": []}, "expected a list of values"),
        ({"grid": 3}, "expected a list of values"),
        ({"grid": [1, 1]}, "expected each value once, got 1 twice"),
        ({"uniform": [2, 1]}, "two finite numbers, the lower first"),
        ({"uniform": [1]}, "two finite numbers"),
        ({"uniform": [True, 2]}, "two finite numbers"),
        ({"loguniform": [0, 1]}, "expected limits above 0"),
        ({"randint": [0.5, 2]}, "two whole numbers"),
    ],
)
def test_samplers_are_checked(spec: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_space({"a.b": spec}, "param_space")
    assert str(error.value).startswith("param_space['a.b']")
    assert message in str(error.value)
