"""Looked-up products of one-hot inputs against multiplied ones."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F

from reverie_algorithms.fast.one_hot_linear import (
    OneHots,
    column_major,
    one_hot_linear,
    one_hots_first,
    table_rows,
)

V, K, U = 4, 5, 6


def inputs_of(dense, *shape):
    """Random dense entries with one-hot vectors behind them."""
    torch.manual_seed(0)
    one_hot = F.one_hot(torch.randint(0, K, (*shape, V)), K).float().flatten(-2)
    return torch.cat([torch.randn(*shape, dense), one_hot], -1)


@pytest.mark.parametrize("dense", [0, 3])
@pytest.mark.parametrize("shape", [(7,), (2, 3)])
@pytest.mark.parametrize("wanted", ["inputs", "weight", "both"])
def test_product_and_gradients_equal_those_of_a_linear_layer(dense, shape, wanted):
    inputs = inputs_of(dense, *shape).requires_grad_(wanted != "weight")
    weight = column_major(torch.randn(U, dense + V * K)).requires_grad_(wanted != "inputs")
    asked = [x for x in (inputs, weight) if x.requires_grad]
    found = one_hot_linear(inputs, weight, OneHots(V, K))
    plain = F.linear(inputs, weight)
    torch.testing.assert_close(found, plain)
    pull = torch.randn_like(plain)
    for one, other in zip(
        torch.autograd.grad(found, asked, pull),
        torch.autograd.grad(plain, asked, pull),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_one_hots_in_front_are_looked_up_too():
    one_hot, others = inputs_of(0, 7), torch.randn(7, 3)
    weight = column_major(torch.randn(U, V * K + 3))
    found = one_hots_first(one_hot, others, weight, OneHots(V, K))
    torch.testing.assert_close(found, F.linear(torch.cat([one_hot, others], -1), weight))


def test_products_in_bfloat16_are_near_those_in_float32():
    inputs, weight = inputs_of(3, 50).requires_grad_(), column_major(torch.randn(U, 3 + V * K))
    with torch.autocast("cpu", torch.bfloat16):
        found = one_hot_linear(inputs, weight, OneHots(V, K)).float()
    plain = F.linear(inputs, weight)
    torch.testing.assert_close(found, plain, rtol=0.02, atol=0.05)
    pull = torch.randn_like(plain)
    (grad,), (wanted,) = (torch.autograd.grad(x, [inputs], pull) for x in (found, plain))
    torch.testing.assert_close(grad, wanted, rtol=0.02, atol=0.05)


def test_a_weight_keeps_values_and_columns_in_copies():
    weight = torch.randn(U, V * K)
    laid_out = column_major(weight)
    assert torch.equal(laid_out, weight)
    for copy in (laid_out, deepcopy(laid_out), torch.zeros_like(laid_out)):
        assert copy.t().is_contiguous()


def test_whatever_the_inputs_are_the_rows_exist():
    odd = torch.tensor([[float("nan")] * K, [0.0] * K, [99.0] * K])
    rows = table_rows(odd.repeat(1, V), OneHots(V, K))
    starts = torch.arange(V) * K
    assert (rows >= starts).all()
    assert (rows < starts + K).all()
