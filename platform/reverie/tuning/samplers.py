"""`param_space`: which values each dotted key takes, as a grid or drawn.

| sampler | values |
|---|---|
| `{grid: [8, 16]}` | every one, crossed with all other grids |
| `{choice: [8, 16]}` | one of them, drawn |
| `{uniform: [0.1, 0.2]}` | between the two |
| `{loguniform: [1e-5, 1e-3]}` | between the two, its logarithm uniform |
| `{randint: [0, 10]}` | whole, the upper limit left out |
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from reverie import registry
from reverie.config_check import shown
from reverie.errors import ConfigError
from reverie.types import Json

RANDOM = ("choice", "uniform", "loguniform", "randint")
KINDS = ("grid", *RANDOM)
DIGITS = 4
"""Significant ones of what is drawn, so that a person can write it again."""
OURS = {
    "seed": "seeds",
    "env": "tasks",
    "env.suite": "tasks",
    "env.task": "tasks",
    "run.dir": "sweep.dir",
}
"""Keys that the sweep itself sets, and which of its keys does."""

Point = dict[str, Any]
"""One plain value for each key."""


@dataclass(frozen=True, slots=True)
class Sampler:
    """What one key takes."""

    kind: str
    values: tuple[Any, ...]
    """The values of a grid or choice, else the lower and the upper limit."""


def read_space(value: Json, where: str) -> dict[str, Sampler]:
    """Check a `param_space`; its keys may be dotted or nested.

    Raises:
        ConfigError: an unknown sampler, or values that it does not take.
    """
    if value is None:
        return {}
    if not _is_mapping(value):
        raise ConfigError(f"{where}: expected a mapping of keys, got {shown(value)}")
    found: dict[str, Sampler] = {}
    for key, spec in _flat(value, ""):
        if key in OURS:
            raise ConfigError(f"{where}[{key!r}]: write it as `{OURS[key]}` of the sweep")
        found[key] = _sampler(spec, f"{where}[{key!r}]")
    return found


def grid_size(space: Mapping[str, Sampler]) -> int:
    """Points of the grid alone."""
    return math.prod(len(one.values) for one in space.values() if one.kind == "grid")


def points(space: Mapping[str, Sampler], samples: int, seed: int) -> Iterator[Point]:
    """All points: each of the grid, `samples` times if anything is drawn. They depend on the order
    of the keys and on `seed` alone.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    grid = {key: one.values for key, one in space.items() if one.kind == "grid"}
    drawn = {key: one for key, one in space.items() if one.kind != "grid"}
    for values in itertools.product(*grid.values()):
        fixed = dict(zip(grid, values, strict=True))
        for _ in range(samples if drawn else 1):
            point = fixed | {key: _draw(one, rng) for key, one in drawn.items()}
            yield {key: point[key] for key in space}


def label(point: Mapping[str, Json]) -> str:
    """A point as people read it: `entropy_scale=0.01 mode=paper`, by the last part of each key
    unless two keys share it.
    """
    last = [key.rpartition(".")[2] for key in point]
    names = [end if last.count(end) == 1 else key for key, end in zip(point, last, strict=True)]
    return " ".join(f"{name}={_text(point[key])}" for name, key in zip(names, point, strict=True))


def _text(value: Json) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _flat(value: Mapping[str, Json], prefix: str) -> Iterator[tuple[str, Json]]:
    """Dotted keys with what stands under them: mappings of mappings are sections."""
    for key, spec in value.items():
        if _is_mapping(spec) and spec and all(_is_mapping(one) for one in spec.values()):
            yield from _flat(spec, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", spec


def _sampler(spec: Json, where: str) -> Sampler:
    if not _is_mapping(spec) or len(spec) != 1:
        raise ConfigError(
            f"{where}: expected one sampler such as {{grid: [1, 2]}}, got {shown(spec)}"
        )
    ((kind, values),) = spec.items()
    if kind not in KINDS:
        raise ConfigError(
            f"{where}: unknown sampler {kind!r}; {registry.suggest(str(kind), KINDS)}"
        )
    if not _is_list(values) or not values:
        raise ConfigError(f"{where}.{kind}: expected a list of values, got {shown(values)}")
    if kind in ("grid", "choice"):
        if twice := [one for at, one in enumerate(values) if one in values[:at]]:
            raise ConfigError(f"{where}.{kind}: expected each value once, got {twice[0]!r} twice")
    else:
        _check_limits(kind, values, f"{where}.{kind}")
    return Sampler(str(kind), tuple(values))


def _check_limits(kind: str, values: Sequence[Json], where: str) -> None:
    wanted = "two whole numbers" if kind == "randint" else "two finite numbers"
    types = int if kind == "randint" else int | float
    low_high = [one for one in values if isinstance(one, types) and not isinstance(one, bool)]
    is_good = len(values) == len(low_high) == 2 and all(map(math.isfinite, low_high))
    if not is_good or low_high[0] >= low_high[1]:
        raise ConfigError(f"{where}: expected {wanted}, the lower first, got {shown(values)}")
    if kind == "loguniform" and low_high[0] <= 0:
        raise ConfigError(f"{where}: expected limits above 0, got {shown(values)}")
    if kind == "randint" and max(map(abs, low_high)) >= 2**63:
        raise ConfigError(f"{where}: expected limits below 2^63, got {shown(values)}")


def _draw(sampler: Sampler, rng: np.random.Generator) -> Json:
    values = sampler.values
    match sampler.kind:
        case "choice":
            return values[int(rng.integers(len(values)))]
        case "randint":
            return int(rng.integers(int(values[0]), int(values[1])))
        case "uniform":
            number = float(values[0] + rng.random() * (values[1] - values[0]))
        case _:
            number = float(values[0] * (values[1] / values[0]) ** rng.random())
    return float(min(max(float(f"{number:.{DIGITS}g}"), values[0]), values[1]))


def _is_mapping(value: Json) -> TypeGuard[Mapping[str, Json]]:
    return isinstance(value, Mapping)


def _is_list(value: Json) -> TypeGuard[list[Json]]:
    return isinstance(value, list)
