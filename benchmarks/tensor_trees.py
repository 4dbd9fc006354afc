"""Trees of tensors, compared to the last bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Difference:
    """What two trees do not share."""

    tensors: int
    """Leaves of either."""
    paths: tuple[str, ...] = ()
    """Those that differ, in the first tree's order."""
    what: str = ""
    """How the first one differs."""
    absolute: float = 0.0
    """Largest |a - b| of any tensor; infinite where name, shape or type differ."""
    relative: float = 0.0
    """The same over its tensor's largest |a|."""

    def __str__(self) -> str:
        if not self.paths:
            return f"equal ({self.tensors} tensors)"
        return (
            f"{len(self.paths)} of {self.tensors} tensors differ, first {self.paths[0]}: "
            f"{self.what}; largest difference {self.absolute:.3g}, relative {self.relative:.3g}"
        )


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested containers by path, arrays as tensors of their own."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(inner, f"{path}/{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from flat(inner, f"{path}/{index}" if path else str(index))
    elif isinstance(value, np.ndarray | np.generic | Tensor):
        yield path, torch.as_tensor(value).detach().clone()
    else:
        yield path, value


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> Difference:
    """Compare leaves by path: type, shape and every bit, the sign of a zero included."""
    paths, what, absolute, relative = [], "", 0.0, 0.0
    names = [*old, *(path for path in new if path not in old)]
    for path in names:
        found = _leaf(old, new, path)
        if found is not None:
            paths.append(path)
            what = what or found[0]
            absolute, relative = max(absolute, found[1]), max(relative, found[2])
    return Difference(len(names), tuple(paths), what, absolute, relative)


def _leaf(
    old: Mapping[str, Any], new: Mapping[str, Any], path: str
) -> tuple[str, float, float] | None:
    """What differs in one leaf, and by how much."""
    inf = float("inf")
    if path not in old or path not in new:
        return f"only in {'OLD' if path in old else 'NEW'}", inf, inf
    a, b = old[path], new[path]
    if not (torch.is_tensor(a) and torch.is_tensor(b)):
        same = type(a) is type(b) and a == b
        return None if same else (f"{a!r} became {b!r}", inf, inf)
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        was, now = (f"{x.dtype} {tuple(x.shape)}" for x in (a, b))
        return f"{was} became {now}", inf, inf
    if torch.equal(_bits(a), _bits(b)):
        return None
    a, b = a.double(), b.double()
    unlike = (a != b) & ~(a.isnan() & b.isnan())
    by = (a - b).abs().nan_to_num(inf, inf)[unlike].max().item() if unlike.any() else 0.0
    size = a.abs().nan_to_num(0.0, 0.0, 0.0).max().item()
    relative = by / size if size else (inf if by else 0.0)
    return f"{int(unlike.sum())} of {a.numel()} numbers moved", by, relative


def _bits(x: Tensor) -> Tensor:
    return x.contiguous().reshape(-1).view(torch.uint8)
