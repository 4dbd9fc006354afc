"""What was read from JSON as typed values: checked once, where it comes in."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, TypeVar

from reverie.errors import DocumentError
from reverie.types import Json

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")


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
