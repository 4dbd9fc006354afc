"""Convolutions in chunks and the reused memory, against the plain form."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reverie_algorithms.drq_v2.nets import plain_features
from reverie_algorithms.fast.chunked_convs import CHUNK, Memory, chunked_features, reused_linear

COUNT = 2 * CHUNK + 3
"""Images; the last chunk is a small one."""


def make_convs():
    torch.manual_seed(0)
    return nn.ModuleList([nn.Conv2d(6, 5, 3, 2), nn.Conv2d(5, 5, 3), nn.Conv2d(5, 5, 3)])


def pixels(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(COUNT, 15, 17, 6, generator=generator).permute(0, 3, 1, 2) - 0.5


def test_features_and_gradients_are_those_of_the_plain_form():
    convs, x = make_convs(), pixels()
    params = [*convs.parameters()]
    plain = plain_features(x, convs)
    chunked = chunked_features(lambda part: x[part], COUNT, convs, Memory())
    torch.testing.assert_close(chunked, plain)
    grad = torch.randn(plain.shape)
    wanted = torch.autograd.grad(plain, params, grad)
    torch.testing.assert_close(torch.autograd.grad(chunked, params, grad), wanted)


def test_without_gradients_the_features_are_the_same():
    convs, x = make_convs(), pixels()
    with torch.no_grad():
        got = chunked_features(lambda part: x[part], COUNT, convs, Memory())
        torch.testing.assert_close(got, plain_features(x, convs))
    assert not got.requires_grad


def test_memory_is_used_again_by_calls_of_the_same_kind_only():
    convs, memory = make_convs(), Memory()
    first, second = pixels(1), pixels(2)
    one = chunked_features(lambda part: first[part], COUNT, convs, memory)
    before = one.detach().clone()
    with torch.no_grad():
        other = chunked_features(lambda part: second[part], COUNT, convs, memory)
    assert torch.equal(one, before)
    assert other.data_ptr() != one.data_ptr()
    again = chunked_features(lambda part: second[part], COUNT, convs, memory)
    assert again.data_ptr() == one.data_ptr()


def test_memory_follows_another_shape_and_type():
    memory = Memory()
    small = memory.get("x", (2, 3), torch.float32)
    assert memory.get("x", (2, 3), torch.float32) is small
    assert memory.get("x", (4, 3), torch.float32).shape == (4, 3)
    assert memory.get("x", (4, 3), torch.bfloat16).dtype == torch.bfloat16


def test_bfloat16_is_that_of_the_plain_form_and_keeps_gradients_in_float32():
    convs, x = make_convs(), pixels()
    params = [*convs.parameters()]
    with torch.autocast("cpu", torch.bfloat16):
        got = chunked_features(lambda part: x[part], COUNT, convs, Memory())
        plain = plain_features(x, convs)
    assert got.dtype == torch.bfloat16
    grad = torch.randn(got.shape).bfloat16()
    wanted = torch.autograd.grad(plain, params, grad)
    found = torch.autograd.grad(got, params, grad)
    for near, exact in zip(found, wanted, strict=True):
        assert near.dtype == torch.float32
        assert (near - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_linear_layer_has_the_plain_gradients(dtype):
    layer = nn.Linear(7, 3).to(dtype)
    x = torch.randn(5, 7, dtype=dtype, requires_grad=True)
    grad = torch.randn(5, 3, dtype=dtype)
    inputs = (x, layer.weight, layer.bias)
    wanted = torch.autograd.grad(F.linear(x, layer.weight, layer.bias), inputs, grad)
    got = torch.autograd.grad(reused_linear(x, layer, Memory()), inputs, grad)
    torch.testing.assert_close(got, wanted)
