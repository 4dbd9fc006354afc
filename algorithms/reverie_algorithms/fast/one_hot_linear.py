"""Products of one-hot inputs with a weight, looked up on a CPU instead of multiplied.

A sampled latent has one 1 among the classes of each variable, so its product with a weight is
the sum of one column per variable. On one core of a CPU that is ten times as fast as the dense
product, and so is the weight's gradient; a GPU multiplies.

Shape legend: M rows (any flattened leading axes), V variables, K classes, U outputs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie_algorithms import fast


class OneHots(NamedTuple):
    """The last `variables` x `classes` inputs of a layer are that many one-hot vectors."""

    variables: int
    classes: int

    @property
    def width(self) -> int:
        return self.variables * self.classes


def column_major(weight: Tensor) -> nn.Parameter:
    """Lay a weight [U, I] out column by column, as look-ups want it."""
    return nn.Parameter(weight.detach().t().contiguous().t())


def one_hots_first(one_hot: Tensor, others: Tensor, weight: Tensor, one_hots: OneHots) -> Tensor:
    """Return the product of a weight [U, V * K + A] with [M, V * K] one-hots and [M, A] others."""
    look_up_weight, weight = weight.tensor_split([one_hots.width], 1)
    return one_hot_linear(one_hot, look_up_weight, one_hots) + F.linear(others, weight)


def one_hot_linear(inputs: Tensor, weight: Tensor, one_hots: OneHots) -> Tensor:
    """Return `F.linear(inputs, weight)` up to rounding, with the same gradients.

    Ask `fast.enabled("look_ups", inputs)` first.

    Args:
        inputs: [..., I]
        weight: [U, I], best laid out by `column_major`.
        one_hots: what the inputs end in; they must be exactly that.
    """
    flat = inputs.flatten(0, -2)
    fixed, dense = flat.detach(), flat.shape[-1] - one_hots.width
    dense_table, table = weight.t().split((dense, one_hots.width))
    product = F.embedding_bag(table_rows(fixed[:, dense:], one_hots), table, mode="sum")
    if dense:
        product += fixed[:, :dense] @ dense_table
    if flat.requires_grad:
        product += _InputGradient.apply(flat, weight.detach())
    return product.unflatten(0, inputs.shape[:-1])


def table_rows(one_hot: Tensor, one_hots: OneHots) -> Tensor:
    """Where the ones of [M, V * K] are, int64 [M, V]; some valid row for anything but one-hot."""
    classes = torch.arange(one_hots.classes, device=one_hot.device)
    index = (one_hot.unflatten(-1, one_hots) * classes).sum(-1).long()
    starts = torch.arange(one_hots.variables, device=one_hot.device) * one_hots.classes
    return index.clamp_(0, one_hots.classes - 1) + starts


class _InputGradient(torch.autograd.Function):
    """Zeros [M, U] that hand inputs their gradient.

    A node of its own, because autograd walks a node for the inputs and for the weight alike, and
    an actor's loss wants the one where a critic's wants the other.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.inputs_dtype, ctx.dtype = inputs.dtype, fast.product_dtype(weight)
        return inputs.new_zeros(()).expand(len(inputs), len(weight))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (weight,), grad = ctx.saved_tensors, grads[0]
        return (grad.to(ctx.dtype) @ weight.to(ctx.dtype)).to(ctx.inputs_dtype), None
