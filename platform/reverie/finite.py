"""Finds what is NaN or infinite in states: such a state is neither saved, published nor loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from reverie.types import Array


def first_not_finite(state: Any, where: str) -> str | None:
    """Name of the first tensor in nested dicts and lists that is not finite; None: all are.

    One sum per tensor on its device and one read-back per device; only a tensor whose sum is not
    finite is looked at number by number, for large numbers may add up to infinity.
    """
    found: dict[torch.device, list[tuple[str, Tensor, Tensor]]] = {}
    for name, tensor in _tensors(state, where):
        if tensor.is_floating_point() or tensor.is_complex():
            good = torch.isfinite(tensor.sum())
            found.setdefault(tensor.device, []).append((name, tensor, good))
    for entries in found.values():
        flags = torch.stack([good for _, _, good in entries]).cpu()
        for (name, tensor, _), good in zip(entries, flags, strict=True):
            if not bool(good) and not bool(torch.isfinite(tensor).all()):
                return name
    return None


def first_not_finite_array(state: Mapping[str, Array]) -> str | None:
    """As `first_not_finite`, of arrays."""
    for name, array in state.items():
        if array.dtype.kind == "f":
            with np.errstate(invalid="ignore", over="ignore"):
                total = array.sum()
            if not np.isfinite(total) and not np.isfinite(array).all():
                return name
    return None


def _tensors(value: Any, where: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield where, value
    elif isinstance(value, Mapping):
        for key, item in cast(Mapping[Any, Any], value).items():
            yield from _tensors(item, f"{where}/{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(cast(list[Any], value)):
            yield from _tensors(item, f"{where}/{index}")
