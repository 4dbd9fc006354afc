"""Ranges of configuration values: types for the fields of configuration dataclasses.

`batch_size: Count` or `gamma: Share` is checked by pydantic as the configuration is read; nothing
checks a dataclass that Python code builds. Every float is finite besides (`reverie.types.STRICT`).
Upper limits stand where a huge number would allocate memory, or overflow what holds it.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from typing import Annotated, Any, Literal, Union

from annotated_types import Ge, GroupedMetadata, Gt, Interval, Le, Lt

# Counts

Count = Annotated[int, Interval(ge=1, le=10**12)]
CountOrNone = Annotated[int, Interval(ge=0, le=10**12)]
"""A count that may be 0."""
Few = Annotated[int, Interval(ge=1, le=10_000)]
"""Processes, environments, episodes: each of them costs something."""
Seed = Annotated[int, Interval(ge=0, le=2**63 - 1)]
Threads = Annotated[int, Interval(ge=1, le=1024)]
ThreadsOrAll = Annotated[int, Interval(ge=0, le=1024)]
"""Threads, where 0 takes every core."""

# Shapes

Batch = Annotated[int, Interval(ge=1, le=65_536)]
"""Windows of a batch, or rows of a window or chunk."""
Width = Annotated[int, Interval(ge=1, le=65_536)]
"""Of a layer."""
Depth = Annotated[int, Interval(ge=1, le=4096)]
"""Channels of a convolution."""
Layers = Annotated[int, Interval(ge=1, le=64)]
Latents = Annotated[int, Interval(ge=1, le=1024)]
"""Categorical variables, or their classes."""
Horizon = Annotated[int, Interval(ge=1, le=1000)]
Pixels = Annotated[int, Interval(ge=1, le=1024)]
"""Side of an image."""

# Numbers

NotNegative = Annotated[float, Interval(ge=0)]
Seconds = Annotated[float, Interval(gt=0, le=1e9)]
SecondsOrNone = Annotated[float, Interval(ge=0, le=1e9)]
"""Seconds, where 0 stands for none."""
Share = Annotated[float, Interval(ge=0, le=1)]
"""Part of a whole, or a chance."""
ShareAbove0 = Annotated[float, Interval(gt=0, le=1)]
ShareBelow1 = Annotated[float, Interval(ge=0, lt=1)]
LearningRate = Annotated[float, Interval(ge=0, le=10)]
Epsilon = Annotated[float, Interval(ge=1e-30, le=1)]
"""Added to a divisor; float32 knows nothing much smaller."""
Clip = Annotated[float, Interval(gt=0, le=1e9)]
"""Largest norm of a gradient."""
Weight = Annotated[float, Interval(ge=0, le=1e6)]
"""Of a loss or penalty."""
Deviation = Annotated[float, Interval(ge=1e-6, le=1e6)]
"""Standard deviation, or another scale that is divided by."""

PLAIN: dict[Any, str] = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "text",
    list: "a list",
    tuple: "a list",
    dict: "a mapping",
    types.NoneType: "null",
}

ANY = "a value"
GUARD = 1e9
"""Upper limits from here on keep a number from overflowing what holds it, and mean nothing else."""


def words(kind: Any, brief: bool = False) -> str:
    """What a field of type `kind` takes, in words: `a whole number from 1 to 64`.

    `brief` leaves out upper limits that only guard against overflow: `a whole number, 0 or more`.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _ranged(arguments[0], arguments[1:], brief)
    if origin is Literal:
        return _join([str(value) for value in arguments])
    if origin in (Union, types.UnionType):
        return _join([words(each, brief) for each in arguments])
    if dataclasses.is_dataclass(kind):
        return "a mapping of keys"
    plain = PLAIN.get(origin or kind, ANY)
    inner = element(kind)
    return plain if inner is None or words(inner) == ANY else f"{plain} of {words(inner, brief)}"


def element(kind: Any) -> Any:
    """Type of what a list, tuple or mapping type holds; None for other types and bare ones."""
    arguments = typing.get_args(kind)
    match typing.get_origin(kind):
        case found if found in (list, tuple) and arguments:
            return arguments[0]
        case found if found is dict:
            return arguments[1]
        case _:
            return None


def _ranged(kind: Any, metadata: tuple[Any, ...], brief: bool) -> str:
    bounds = _bounds(metadata)
    if brief:
        bounds = {name: limit for name, limit in bounds.items() if limit < GUARD}
    noun, low, high = words(kind), bounds.get("ge"), bounds.get("le")
    start = f"from {_number(low)}" if low is not None else ""
    stop = f"to {_number(high)}" if high is not None else ""
    if "gt" in bounds:
        start, stop = f"above {_number(bounds['gt'])}", f"and up {stop}" if stop else ""
    if "lt" in bounds:
        joint = {"ge": "to", "gt": "and"}.get(next(iter(bounds)), "")
        stop = f"{joint} below {_number(bounds['lt'])}".lstrip()
    if brief or (start and stop):
        noun = noun.replace("finite ", "")  # goes without saying between two limits
    if start and not stop and low is not None:
        return f"{noun}{', ' if brief else ' of '}{_number(low)} or more"
    return " ".join(filter(None, [noun, start, stop]))


def _bounds(metadata: tuple[Any, ...]) -> dict[str, Any]:
    """Limits by name: `ge`, `gt`, `le`, `lt`."""
    found: dict[str, Any] = {}
    for each in metadata:
        for bound in each if isinstance(each, GroupedMetadata) else (each,):
            if isinstance(bound, Ge | Gt | Le | Lt):
                found |= {name: getattr(bound, name) for name in bound.__dataclass_fields__}
    return found


def _number(value: Any) -> str:
    return f"{value:_}" if isinstance(value, int) else re.sub(r"e\+?(-?)0*", r"e\1", f"{value:g}")


def _join(parts: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
