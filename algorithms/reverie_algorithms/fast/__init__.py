"""Speed twins of plain code, behind one switch.

The plain form of an equation stands in its paper's folder and is the definition. Each twin here
gives the same numbers up to rounding (some to the bit), has a test against the plain form, and is
worth at least 5 % of a whole update or 1.15 x of a figure that users feel.

Plain code asks `enabled(trick, tensor)`; `plain()` switches all tricks off, for tests and timings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def _on_cpu(tensor: Tensor) -> bool:
    return tensor.is_cpu


def _on_eager_cpu_with_gradients(tensor: Tensor) -> bool:
    return tensor.is_cpu and torch.is_grad_enabled() and not torch.compiler.is_compiling()


def _on_cpu_without_gradients(tensor: Tensor) -> bool:
    return tensor.is_cpu and not torch.is_grad_enabled()


def _everywhere(tensor: Tensor) -> bool:
    return True


TRICKS: dict[str, Callable[[Tensor], bool]] = {
    "products_ahead": _everywhere,
    "late_gradients": _on_eager_cpu_with_gradients,
    "phases": _on_cpu,
    "look_ups": _on_cpu,
    "winograd": _on_cpu_without_gradients,
    "narrow_weights": _everywhere,
}
"""Where each trick holds:

products_ahead: products of a time loop that do not depend on the step before are taken for all
    steps at once. It only reorders products, so that a compiler and a GPU gain too.
late_gradients: gradients of a time loop's weights are taken once after it. A hand-written
    gradient, which no compiler follows; a GPU was not measured.
phases: convolutions of doubled images at the low resolution. On a CPU; a GPU was not measured.
look_ups: products with one-hot inputs as sums of columns. On a CPU; a GPU multiplies.
winograd: 5x5 convolutions in acting, with a sixth of the multiplications.
narrow_weights: agents that only act keep the weights of products in bfloat16 where they act in it,
    instead of casting them at every call. Asked when an agent is built.
"""

_on = True


def enabled(trick: str, tensor: Tensor) -> bool:
    """Whether `trick` holds for a computation on `tensor`."""
    return _on and TRICKS[trick](tensor)


@contextmanager
def plain() -> Iterator[None]:
    """Switch all tricks off: what runs then are the definitions.

    For whole processes or tests: the switch is not per thread, and what was compiled or captured
    before stays as it was.
    """
    global _on
    before, _on = _on, False
    try:
        yield
    finally:
        _on = before


def product_dtype(weight: Tensor) -> torch.dtype:
    """The type in which products with `weight` are taken, autocast considered."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
