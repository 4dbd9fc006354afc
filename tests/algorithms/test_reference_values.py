"""Updates give the figures they gave when these were recorded."""

from __future__ import annotations

import pytest

from tests.algorithms.reference_values import measure, path_of, recorded, recorded_cases

TOLERANCE = 1e-3
"""Relative; kernels of other processors round differently, and Adam divides by small numbers."""


@pytest.mark.parametrize("case", recorded_cases())
def test_two_updates_give_the_recorded_figures(case: str) -> None:
    assert path_of(case).exists(), f"record it: python -m tests.algorithms.reference_values {case}"
    assert measure(*recorded_cases()[case]) == pytest.approx(recorded(case), TOLERANCE, 1e-5)
