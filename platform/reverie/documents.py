"""What was read from JSON as typed values: checked once, where it comes in."""

from __future__ import annotations

import json
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from reverie.errors import DocumentError
from reverie.types import Json

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")

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
