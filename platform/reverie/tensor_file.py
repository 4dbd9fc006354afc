"""What a file of tensors would make its reader do, looked at before torch loads it.

`torch.load(..., weights_only=True)` executes no code of the file's, but believes it about sizes: a
few bytes ask for a tensor of 1 TB. Here the zip archive's own directory and the pickle in it are
read with nothing allocated but what the file holds; no torch.
"""

from __future__ import annotations

import codecs
import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn, cast

MAX_VALUES = 1_000_000
"""Values in one file, those that are named several times counted as often."""
MAX_DEPTH = 64
"""Dicts and lists within each other."""
OPCODES = {
    *("PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE"),
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"),
    *("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("APPEND", "APPENDS", "SETITEM", "SETITEMS"),
    *("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    *("GLOBAL", "REDUCE", "BUILD", "BINPERSID"),
}
"""What pickles of protocol 2 with tensors and plain values are made of."""
_KINDS = {
    1: ("Bool", "Byte", "Char", "Untyped"),
    2: ("Short", "Half", "BFloat16"),
    4: ("Int", "Float"),
    8: ("Long", "Double", "ComplexFloat"),
    16: ("ComplexDouble",),
}
ITEM_BYTES = {f"{kind}Storage": size for size, kinds in _KINDS.items() for kind in kinds}
"""Kinds of storage and the bytes of one element."""
DTYPES = {
    *("bool", "uint8", "int8", "int16", "int32", "int64"),
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
}


class _Storage(NamedTuple):
    """Elements of a storage, as many as its record in the archive holds."""

    elements: int


class _Name(NamedTuple):
    """Something of torch that is named and never called."""

    text: str


def check_tensor_file(data: bytes) -> None:
    """Refuse what asks for more than the file holds, or for anything but tensors, plain values,
    and dicts, lists and tuples of them.

    Raises:
        ValueError: saying what was found and what was expected.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        sizes = _record_sizes(archive, len(data))
        found = [name for name in sizes if name.endswith("/data.pkl")]
        if len(found) != 1:
            raise ValueError(f"expected one data.pkl in the archive, got {len(found)}")
        document = archive.read(found[0])
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise ValueError(f"expected an archive that torch.save wrote, got {error}") from None
    _check_opcodes(document)
    folder = found[0].removesuffix("data.pkl")
    try:
        value = _Reader(document, folder, sizes).load()
    except (pickle.UnpicklingError, TypeError, LookupError, EOFError, AttributeError) as error:
        raise ValueError(f"expected a pickle that torch.save wrote, got {error}") from None
    _check_extent(value)


def _record_sizes(archive: zipfile.ZipFile, total: int) -> dict[str, int]:
    """Bytes of each record, which together fit into the file: none compressed, none shared."""
    sizes: dict[str, int] = {}
    for entry in archive.infolist():
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise ValueError(f"expected records that are not compressed, got {entry.filename!r}")
        if entry.filename in sizes:
            raise ValueError(f"expected each record once, got {entry.filename!r} again")
        sizes[entry.filename] = entry.file_size
    if sum(sizes.values()) > total:
        raise ValueError(
            f"expected records within the {total} bytes of the file, got {sum(sizes.values())}"
        )
    return sizes


def _check_opcodes(document: bytes) -> None:
    for opcode, argument, position in pickletools.genops(document):
        if opcode.name not in OPCODES:
            raise ValueError(
                f"expected tensors and plain values, got pickle opcode {opcode.name} at byte"
                f" {position}"
            )
        if opcode.name == "LONG_BINPUT" and cast(int, argument) > len(document):
            raise ValueError(f"expected a memo of the pickle's size, got place {argument}")


class _Reader(pickle.Unpickler):
    """Reads the pickle with stand-ins for everything of torch."""

    def __init__(self, document: bytes, folder: str, sizes: Mapping[str, int]) -> None:
        super().__init__(io.BytesIO(document))
        self._folder, self._sizes = folder, sizes

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        name = f"{module_name}.{global_name}"
        if name in STAND_INS:
            return STAND_INS[name]
        package, _, last = name.partition(".")
        if package == "torch" and (last in ITEM_BYTES or last in DTYPES):
            return _Name(last)
        raise ValueError(f"expected tensors and plain values, got {name}")

    def persistent_load(self, pid: Any) -> _Storage:
        _, kind, key, _, elements = pid
        size = self._sizes.get(f"{self._folder}data/{key}", 0)
        wanted = ITEM_BYTES.get(kind.text, 1) * elements
        if not isinstance(elements, int) or wanted != size:
            raise ValueError(
                f"expected a storage of the {size} bytes in record {key!r}, got one of"
                f" {wanted} bytes"
            )
        return _Storage(elements)


def _tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> _Name:
    """Stands for a tensor whose elements all lie in its storage, each of them once."""
    elements = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    least = min((offset, *shape, *stride))
    if least < 0 or elements > storage.elements or (elements and last >= storage.elements):
        raise ValueError(
            f"expected a tensor within its storage of {storage.elements} elements, got shape"
            f" {shape}, stride {stride}, offset {offset}"
        )
    return _Name("tensor")


def _parameter(data: _Name, *_: Any) -> _Name:
    return data


def _device(*names: str | int) -> _Name:
    return _Name("device")


def _encode(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes."""
    if encoding != "latin1":
        raise ValueError(f"expected bytes, got text to encode as {encoding!r}")
    return codecs.encode(text, "latin1")


def _ordered_dict() -> OrderedDict[Any, Any]:
    return OrderedDict()


def _size(values: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(values)


STAND_INS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.device": _device,
    "torch.Size": _size,
    "_codecs.encode": _encode,
}


def _check_extent(value: Any) -> None:
    """Bound what a walk through all values meets; a value may be named by several others."""
    level: list[Any] = [value]
    count = 0
    for _ in range(MAX_DEPTH):
        count += len(level)
        below: list[Any] = []
        for item in level:
            below += _inside(item)
            if count + len(below) > MAX_VALUES:
                _refuse(f"more than {MAX_VALUES} values")
        if not below:
            return
        level = below
    _refuse(f"more than {MAX_DEPTH} dicts and lists within each other")


def _inside(item: Any) -> list[Any]:
    """What lies directly in a dict, list or tuple; `_Name` and `_Storage` are of other kinds."""
    kind = item.__class__
    if kind in (list, tuple):
        return [*item]
    if kind not in (dict, OrderedDict):
        return []
    attributes: dict[str, Any] = getattr(item, "__dict__", {})
    if attributes.keys() - {"_metadata"}:  # which torch puts on state dicts of modules
        _refuse(f"an OrderedDict with attributes {sorted(attributes)}")
    pairs: dict[Any, Any] = item
    return [*pairs.keys(), *pairs.values(), *attributes.values()]


def _refuse(got: str) -> NoReturn:
    raise ValueError(f"expected a state of an agent, got {got}")
