"""States with and without what is NaN or infinite."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from reverie.finite import first_not_finite, first_not_finite_array


def spoiled(value: float, dtype: Any = torch.float32) -> torch.Tensor:
    return torch.tensor([[0.0, 1.0], [2.0, value]], dtype=dtype)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_first_tensor_that_is_not_finite_is_named(value: float, dtype: Any) -> None:
    good = {"count": torch.arange(3), "step": 4, "big": torch.full((9,), 3e38)}
    state = {"net": good, "optimizer": [{"exp_avg": spoiled(value, dtype)}, spoiled(value)]}
    assert first_not_finite(state, "agent") == "agent/optimizer/0/exp_avg"
    assert first_not_finite(good, "agent") is None
    assert first_not_finite({}, "agent") is None


def test_arrays_that_add_up_to_infinity_are_finite() -> None:
    big = np.full(9, 3e38, np.float32)
    state = {"big": big, "count": np.arange(3), "mixed": np.array([np.inf, -np.inf], np.float32)}
    assert first_not_finite_array(state) == "mixed"
    assert first_not_finite_array({"big": big}) is None
    assert first_not_finite_array({"one": np.array([1.0, np.nan])}) == "one"
