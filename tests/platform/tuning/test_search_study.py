"""Seeds that are aggregated before anything is ranked find the best configuration more often."""

from __future__ import annotations

import pytest

pytest.importorskip("ray.tune")


def test_groups_find_the_best_more_often_than_single_seeds() -> None:
    from tests.platform.tuning.search_study import found_best

    groups, single = found_best(50, groups=True), found_best(50, groups=False)
    assert groups > single, (groups, single)
