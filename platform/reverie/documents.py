"""JSON in and out: what is read is checked once, where it comes in; what is written, every reader
takes.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from reverie.errors import DocumentError
from reverie.types import Json

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")
log = logging.getLogger(__name__)

MAX_BYTES = 64 << 20
"""Of one JSON document; those of a large replay take a few million."""
MAX_DEPTH = 64
"""Objects and arrays within each other."""
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS = bytes(set(range(256)) - _STEP.keys())


def from_json(data: bytes) -> Json:
    """Decode JSON of bounded size and depth.

    Raises:
        ValueError: it is too large, too deep, or no JSON.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"expected JSON of at most {MAX_BYTES} bytes, got {len(data)} or more")
    if (depth := _depth(data)) > MAX_DEPTH:
        raise ValueError(f"expected JSON of at most {MAX_DEPTH} levels, got {depth}")
    return json.loads(data)


def json_text(
    value: Any, *, indent: int | None = None, default: Callable[[Any], Any] | None = None
) -> str:
    """Encode as JSON, in which there is no NaN and no infinity.

    Raises:
        ValueError: a number is not finite; with its place.
    """
    try:
        return json.dumps(value, indent=indent, default=default, allow_nan=False)
    except ValueError as error:
        if found := next(_not_finite(value, ""), None):
            place, number = found
            raise ValueError(f"{place}: expected a number that JSON has, got {number}") from None
        raise error


def with_nulls(value: Any, what: str) -> Any:
    """`value` with null in place of what JSON has no number for; a warning names the keys."""
    if found := dict(_not_finite(value, "")):
        names = ", ".join(f"{place}={number}" for place, number in found.items())
        log.warning("%s: not finite and written as null: %s", what, names)
        return _nulled(value)
    return value


def _not_finite(value: Any, place: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield place, value
    for key, item in _items(value):
        yield from _not_finite(item, f"{place}.{key}" if place else str(key))


def _nulled(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _nulled(item) for key, item in _items(value)}
    if isinstance(value, list | tuple):
        return [_nulled(item) for _, item in _items(value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        yield from cast(Mapping[Any, Any], value).items()
    elif isinstance(value, list | tuple):
        yield from enumerate(cast(list[Any], value))


def read_json(path: Path) -> Json:
    """Read and decode a file, of which no more is read than may be.

    Raises:
        OSError: it cannot be read.
        ValueError: as `from_json`.
    """
    with path.open("rb") as file:
        return from_json(file.read(MAX_BYTES + 1))


def _depth(data: bytes) -> int:
    """Levels of brackets outside of strings: at least as many as a decoder would enter."""
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"")  # escapes stand in strings only
    brackets = b"".join(plain.split(b'"')[::2]).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0)


def parse(kind: type[T], value: Json, where: str) -> T:
    """Turn plain values into `kind`, mostly a dataclass; keys that it does not have are left out.

    Raises:
        DocumentError: something is missing or of another type, with its place below `where`.
    """
    # Light actors, which parse only as a run is resumed, start without pydantic.
    from pydantic import ValidationError

    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join([where, *map(str, fault["loc"])])
        raise DocumentError(f"{place}: {fault['msg']}, got {fault['input']!r}") from None


@cache
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
