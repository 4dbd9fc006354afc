"""Checks one value of a configuration as the type of its key, in words that name both."""

from __future__ import annotations

import dataclasses
import json
import reprlib
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from pydantic import TypeAdapter, ValidationError

from reverie import registry
from reverie.errors import ConfigError
from reverie.ranges import element, words
from reverie.settings import key_of
from reverie.types import Json

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

T = TypeVar("T")

INSTEAD = {
    "learner.precision": "; float16 would need its losses scaled: write bfloat16, which has the "
    "range of float32 and works on CPU and GPU"
}
"""What to do about a value of this key that is refused."""
MOST_BITS = 1024
"""Of a whole number: about those of the largest float."""


def build(cls: type[T], values: Json, where: str) -> T:
    """Build dataclass `cls` from plain values, naming the full path of any fault."""
    if not isinstance(values, Mapping | None):
        raise ConfigError(f"{where}: expected a mapping of keys, got {shown(values)}")
    return check(cls, values or {}, where)


def check(kind: Any, value: Json, where: str) -> Any:
    """Validate `value` strictly as `kind`: no number from text, no integer from a fraction.

    Raises:
        ConfigError: one line per fault, `key: expected a whole number from 1 to 8, got 0`.
    """
    refuse_huge(value, where)
    text = json.dumps(_plain(value, where), allow_nan=True)
    try:
        return TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        lines = [_explain(kind, fault, value, where) for fault in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None


def refuse_huge(value: Json, where: str) -> None:
    """Raise `ConfigError` for a whole number in `value` that Python may not even write out."""
    match value:
        case Mapping():
            for key, item in value.items():
                refuse_huge(item, f"{where}.{key}" if where else str(key))
        case list() | tuple():
            for at, item in enumerate(value):
                refuse_huge(item, f"{where}.{at}")
        case int() if value.bit_length() > MOST_BITS:
            raise ConfigError(
                f"{where}: expected a number below 1e308, got one of {value.bit_length()} bits"
            )
        case _:
            pass


class _Short(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        bits = x.bit_length()
        return f"<one of {bits} bits>" if bits > MOST_BITS else super().repr_int(x, level)


def shown(value: Json) -> str:
    """A value as a message shows it: at most a line."""
    short = _Short()
    short.maxstring = short.maxother = short.maxlong = 200
    return short.repr(value)


def _plain(value: Json, where: str) -> Json:
    """What JSON can hold, with 1e6 turned into 1000000: counts may be written in exponent form."""
    match value:
        case dict():
            return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
        case list() | tuple():
            return [_plain(item, f"{where}.{at}") for at, item in enumerate(value)]
        case float() if value.is_integer():
            return int(value)
        case str() if "\0" in value or not _is_unicode(value):
            raise ConfigError(f"{where}: expected printable text, got {shown(value)}")
        case None | bool() | int() | float() | str():
            return value
        case _:
            raise ConfigError(
                f"{where}: expected text, a number, a list or a mapping, got {shown(value)}; "
                "text that looks like something else needs quotes"
            )


def _is_unicode(text: str) -> bool:
    """Whether `text` can be written to a file; half of a surrogate pair cannot."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _explain(kind: Any, fault: ErrorDetails, value: Json, where: str) -> str:
    """One fault in one line."""
    path, got = where, value
    for part in fault["loc"]:
        inner = _inside(kind, part)
        if inner is None:
            break  # the rest names a branch of a union, or a key that is not known
        path, kind = f"{path}.{part}", inner
        got = got[part] if _holds(got, part) else None
    keys: list[str] = []
    if dataclasses.is_dataclass(kind):
        keys = [key_of(field.name) for field in dataclasses.fields(kind)]
    if fault["type"] == "unexpected_keyword_argument":
        key = str(fault["loc"][-1])
        return f"{path}.{key}: unknown key; {registry.suggest(key, keys)}"
    if fault["type"].startswith("missing"):
        return f"{path}: missing; expected {words(kind)}"
    if fault["type"] == "value_error":  # the class's own words, which may begin with its key
        message = str(fault["msg"]).removeprefix("Value error, ")
        if message.startswith(f"{path}."):
            return message
        return f"{path}{'.' if message.partition(':')[0] in keys else ': '}{message}"
    return f"{path}: expected {words(kind)}, got {shown(got)}{INSTEAD.get(path, '')}"


def _inside(kind: Any, part: int | str) -> Any:
    """Type of the part of `kind` under a key or index; None where it has no such part."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        return {key_of(name): hint for name, hint in hints.items()}.get(str(part))
    return element(kind)


def _holds(value: Any, part: int | str) -> TypeGuard[Any]:
    """Whether a container `value` has something under a key or index."""
    return part in value if isinstance(value, Mapping) else isinstance(value, list | tuple)
