"""Values of JSON as what they are, for the type checker and for whoever reads foreign files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeGuard

from reverie.types import Json

Tree = Mapping[str, Json]


def is_tree(value: object) -> TypeGuard[Tree]:
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeGuard[Sequence[Json]]:
    return isinstance(value, list)


def as_float(value: object) -> float | None:
    """A finite number, None for everything else, truth values too."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def section(tree: Tree, key: str) -> Tree:
    """A mapping within a mapping; empty where there is none."""
    value = tree.get(key)
    return value if is_tree(value) else {}


def short(value: object) -> str:
    """A value for a message of one line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
