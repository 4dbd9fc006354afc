"""Four small convolutions against doubling and a large one."""

from __future__ import annotations

import pytest
import torch

from reverie_algorithms import fast
from reverie_algorithms.dreamer_v3_2025.images import UpConv


@pytest.mark.parametrize(("inputs", "outputs", "side"), [(3, 2, 4), (4, 1, 7)])
def test_four_small_convolutions_equal_doubling_and_a_large_one(inputs, outputs, side):
    torch.manual_seed(0)
    conv = UpConv(inputs, outputs)
    torch.nn.init.normal_(conv.weight)
    torch.nn.init.normal_(conv.bias)
    x = torch.randn(2, inputs, side, side, requires_grad=True)
    direction = torch.randn(2, outputs, 2 * side, 2 * side)

    def result():
        y = conv(x)
        return y, *torch.autograd.grad((y * direction).sum(), (x, conv.weight, conv.bias))

    with fast.plain():
        wanted = result()
    torch.testing.assert_close(result(), wanted, atol=1e-4, rtol=1e-4)
