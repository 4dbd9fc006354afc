"""Reads observations as an environment gives them, or as the agent saw them, for a policy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from reverie.native_spaces import NativeObs
from reverie.types import Array, ArraySpec, Rows, Spaces

REMEDY = "give it as the run's environment does (reverie.make_env builds one)"
PICTURE_REMEDY = (
    "convert it as in training, e.g. np.rint(255 * image).astype(np.uint8) of one from 0 to 1"
)

DTYPES = {str(np.dtype(code)) for code in "?bBhHiIlLqQefd"}
"""Of arrays that an environment may give or take."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """One way of understanding what was given for a key."""

    value: Array
    form: NativeObs
    is_one_hot: bool
    """Of n choices; n whole numbers are a batch of discrete observations instead."""

    @property
    def batch(self) -> tuple[int, ...]:
        return self.value.shape[: self.value.ndim - len(self.form.shape)]

    @property
    def fits_shape(self) -> bool:
        axes = self.value.ndim - len(self.form.shape)
        return axes in (0, 1) and self.value.shape[axes:] == self.form.shape

    @property
    def fits_dtype(self) -> bool:
        if self.is_one_hot and self.value.dtype.kind != "f":
            return False
        return _keeps_all(self.value, np.dtype(self.form.dtype), len(self.form.shape))


class ObservationReader:
    """Turns observations of an environment into rows of an agent, as the adapter does in training.

    What an agent saw, such as what `reverie.make_env` gives, is taken as well. Nothing is cast
    with a loss, other than from one width of floats to another.
    """

    def __init__(self, spaces: Spaces) -> None:
        self._specs = spaces.obs
        # What the agent saw is read as if an environment gave it so.
        seen = {key: NativeObs((key,), s.shape, s.dtype) for key, s in spaces.obs.items()}
        given = spaces.native.obs if spaces.native else seen
        self._forms = {key: (given[key], seen[key]) for key in spaces.obs}

    def read(self, obs: Any) -> tuple[Rows, bool]:
        """Arrays [N, ...] by the agent's keys, and whether `obs` was a single observation.

        Raises:
            ValueError: a missing key; an array of another shape, or of a dtype that would have to
                be cast with a loss; a value outside a discrete space or not finite.
        """
        if not isinstance(obs, Mapping) and len(self._specs) > 1:
            kind = type(obs).__name__
            raise ValueError(f"expected a dict with the keys {sorted(self._specs)}, got {kind}")
        found = {key: list(self._readings(key, obs)) for key in self._specs}
        if missing := [key for key, readings in found.items() if not readings]:
            got = sorted(map(str, cast(Mapping[Any, Any], obs)))
            raise ValueError(f"observation lacks {sorted(missing)}, got {got}; {REMEDY}")
        fitting = {key: self._fitting(key, readings) for key, readings in found.items()}
        common = set[tuple[int, ...]].intersection(*(set(ways) for ways in fitting.values()))
        if not common:
            axes = {key: next(iter(ways)) for key, ways in fitting.items()}
            raise ValueError(f"observation keys differ in their batch axes, got {axes}")
        batch = min(common, key=len)  # one scalar alone is one observation, not a batch of one
        rows = {key: self._row(key, ways[batch]) for key, ways in fitting.items()}
        return rows, not batch

    def _readings(self, key: str, obs: Any) -> Iterator[_Reading]:
        given, seen = self._forms[key]
        for form in (given, seen):
            value = _lookup(obs, form.path) if isinstance(obs, Mapping) else obs
            if value is not None:
                is_one_hot = form is seen and given.first is not None
                yield _Reading(np.asarray(value), form, is_one_hot)

    def _fitting(self, key: str, readings: list[_Reading]) -> dict[tuple[int, ...], _Reading]:
        """By batch axes, the first way to read what was given for `key` without a loss."""
        shaped = [reading for reading in readings if reading.fits_shape]
        if not shaped:
            shape, got = readings[0].form.shape, readings[0].value.shape
            raise ValueError(
                f"observation {key!r}: expected {shape} or [N, *{shape}], got {got}; {REMEDY}"
            )
        fitting = [reading for reading in shaped if reading.fits_dtype]
        if not fitting:
            value, form = shaped[0].value, shaped[0].form
            remedy = PICTURE_REMEDY if len(form.shape) > 1 else REMEDY
            raise ValueError(
                f"observation {key!r}: expected {form.dtype} {form.shape}, got {_shown(value)},"
                f" which would be cast with a loss; {remedy}"
            )
        return {reading.batch: reading for reading in reversed(fitting)}

    def _row(self, key: str, reading: _Reading) -> Array:
        spec = self._specs[key]
        row = reading.form.convert(reading.value, spec.shape, spec.dtype)
        if reading.form.first is not None and not row.any(-1).all():
            first, last = reading.form.first, reading.form.first + spec.size - 1
            raise ValueError(
                f"observation {key!r}: expected whole numbers from {first} to {last}, got"
                f" {_shown(reading.value)}; {REMEDY}"
            )
        kept = reading.value if reading.form.brightest else row
        if kept.dtype.kind == "f" and not np.isfinite(kept).all():
            raise ValueError(f"observation {key!r} is not finite as {spec.dtype}; {REMEDY}")
        # Flipped pictures and reversed channels are views that torch does not take.
        return np.ascontiguousarray(row if reading.batch else row[None])


def _lookup(obs: Any, path: tuple[str | int, ...]) -> Any:
    """What lies there in nested dicts; None where nothing does."""
    value = obs
    for part in path:
        value = cast(Mapping[Any, Any], value).get(part) if isinstance(value, Mapping) else None
    return None if isinstance(value, Mapping) else value


def _keeps_all(value: Array, wanted: np.dtype[Any], dimensions: int) -> bool:
    """Whether `value` can be given as `wanted`; numbers of a vector may be written as integers."""
    if value.dtype == wanted or not value.size:
        return True
    got = value.dtype.kind
    if wanted.kind == "f":
        return got == "f" or (got in "iub" and dimensions < 2)
    if wanted.kind == "b" or got not in "iub" or (got == "b" and dimensions > 1):
        return False
    limits = np.iinfo(wanted)
    return bool(limits.min <= value.min() and value.max() <= limits.max)


def _shown(value: Array) -> str:
    numbers = f" from {value.min():g} to {value.max():g}" if value.dtype.kind in "iuf" else ""
    return f"{value.dtype} {value.shape}{numbers}"


def check_native(spaces: Spaces) -> None:
    """Raise `ValueError` where the native side cannot belong to the agent's: a file may say so."""
    native = spaces.native
    if native is None:
        return
    if native.obs.keys() != spaces.obs.keys():
        raise ValueError(f"native.obs: expected {sorted(spaces.obs)}, got {sorted(native.obs)}")
    for key, form in native.obs.items():
        _check_form(f"native.obs.{key}", form, spaces.obs[key])
    action, width = native.action, spaces.action.flat_size
    components = width if spaces.action.kind == "box" else len(spaces.action.num)
    _check_array("native.action", action.shape, action.dtype, components)
    is_box = action.kind == "box"
    ends = (action.low, action.high) if is_box else (action.start,)
    bounds = [bound for end in ends for bound in end if bound is not None]
    if (
        is_box != (spaces.action.kind == "box")
        or any(len(end) != components for end in ends)
        or not all(map(math.isfinite, bounds))
    ):
        raise ValueError(f"native.action: expected a space of {spaces.action}, got {action}")


def _check_form(where: str, form: NativeObs, spec: ArraySpec) -> None:
    one_hot = form.first is not None
    seen = spec.shape
    if form.size is not None:
        if len(form.shape) < 2 or len(seen) != 3 or seen[:2] != (form.size, form.size):
            raise ValueError(f"{where}: expected a picture for {seen}, got {form}")
        seen = (*form.shape[:2], seen[2])
    _check_array(where, form.shape, form.dtype, 1 if one_hot else math.prod(seen))
    if form.brightest is not None and not 0 < form.brightest < math.inf:
        raise ValueError(f"{where}: expected a brightness above 0, got {form.brightest}")
    if one_hot and (form.shape or len(spec.shape) != 1):
        raise ValueError(f"{where}: expected one whole number for {spec.shape}, got {form.shape}")


def _check_array(where: str, shape: tuple[int, ...], dtype: str, size: int) -> None:
    if dtype not in DTYPES:
        raise ValueError(f"{where}: expected a dtype of numbers, got {dtype!r}")
    if min(shape, default=0) < 0 or math.prod(shape) != size:
        raise ValueError(f"{where}: expected {size} numbers, got the shape {shape}")
