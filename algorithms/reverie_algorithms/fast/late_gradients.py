"""Products with one weight at every step of a loop, whose weight gradient is taken once.

Autograd adds up a weight's gradient step by step, and with few rows per step that writes the
whole gradient again and again. Here the loop sees a constant weight and a term that is added to
each product. The gradient of the terms of all steps, together with the inputs of all steps,
gives the weight's gradient in one product after the loop has been walked back.

Shape legend: T steps, B rows, G blocks, I inputs, O outputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from reverie_algorithms import fast


class StepProduct:
    """`product(t, x)` is `terms[t]` + `x` times the weight.

    Args:
        weight: [O, I], or [G, I, O] for inputs [G, B, I].
        terms: [T, B, O] or [T, G, B, O], biases and whatever else was computed beforehand.
    """

    def __init__(self, weight: Tensor, terms: Tensor) -> None:
        dtype = fast.product_dtype(weight)
        weight, terms = weight.to(dtype), terms.to(dtype)
        self.inputs: list[Tensor] | None = None
        if fast.enabled("late_gradients", weight):
            self.inputs = []
            terms = _LateGradient.apply(terms, weight, self.inputs)
            weight = weight.detach()
        self.weight, self.terms = weight, terms.unbind(0)

    def __call__(self, step: int, x: Tensor) -> Tensor:
        if self.inputs is not None:
            x = x.to(self.weight.dtype)
            self.inputs.append(x.detach())
        if x.ndim == 3:
            return torch.baddbmm(self.terms[step], x, self.weight)
        return torch.addmm(self.terms[step], x, self.weight.t())


class _LateGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, terms: Tensor, weight: Tensor, inputs: list[Tensor]) -> Tensor:
        ctx.inputs = inputs
        return terms.view_as(terms)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        grad, inputs = grads[0], ctx.inputs
        if grad.ndim == 4:
            inputs_GNI, grad_GNO = torch.cat(inputs, 1), grad.transpose(0, 1).flatten(1, 2)
            return grad, torch.bmm(inputs_GNI.transpose(1, 2), grad_GNO), None
        return grad, grad.flatten(0, 1).t() @ torch.cat(inputs), None
