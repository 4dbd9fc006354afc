"""Arrays as bytes: image compression in memory, and Arrow files on disk.

A file holds records; a record is a JSON-able header and named arrays. In Arrow terms each record
is one batch of one row with the columns `header` (JSON: the caller's fields, and per array its
dtype, shape and codec) and one `large_binary` column per array name.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol, TypedDict, cast

import numpy as np
import pyarrow  # pyright: ignore[reportMissingTypeStubs]

from reverie.documents import from_json, json_text
from reverie.storage import whole_file
from reverie.types import Array, JsonTree, Rows

if TYPE_CHECKING:
    from typing_extensions import Buffer

pa: ModuleType = pyarrow

CODECS = ("none", "lz4", "zstd")
CRC_BLOCK = 1 << 20
"""Bytes read at once when a file is checked."""
MAX_ARRAY_BYTES = 4 << 30
"""Of one array once it is decompressed, on whose size a file is believed."""


class Packed(NamedTuple):
    """One compressed array."""

    data: bytes | memoryview
    codec: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return len(self.data)


Encoded = dict[str, Array | Packed]
Record = tuple[JsonTree, Mapping[str, Array | Packed]]


class _Form(TypedDict):
    """What a header tells of one array."""

    dtype: str
    shape: Sequence[int]
    codec: str


class _Value(Protocol):
    """A `pyarrow.Scalar` of text or of bytes."""

    def as_py(self) -> str: ...
    def as_buffer(self) -> Buffer: ...


class _Column(Protocol):
    """A `pyarrow.Array` of one value."""

    def __getitem__(self, index: int, /) -> _Value: ...


class _Batch(Protocol):
    """A `pyarrow.RecordBatch` of one row."""

    def column(self, name: str, /) -> _Column: ...


class FileInfo(NamedTuple):
    """What a manifest keeps of a file, to tell later whether it is whole."""

    name: str
    num_bytes: int
    crc32: int


def check_codec(name: str) -> str:
    """Return `name` if it is a codec.

    Raises:
        ValueError: it is none, with the known names.
    """
    if name not in CODECS:
        raise ValueError(f"replay.codec: expected one of {list(CODECS)}, got {name!r}")
    return name


def encode(rows: Rows, codec: str) -> Encoded:
    """Compress the image arrays [T, H, W, C] of `rows`; with `none` the arrays themselves."""
    check_codec(codec)
    if codec == "none":
        return {**rows}
    return {key: _pack(array, codec) if array.ndim == 4 else array for key, array in rows.items()}


def decode(value: Array | Packed) -> Array:
    """Return the array; read-only if it was compressed."""
    if not isinstance(value, Packed):
        return value
    size = math.prod(value.shape) * np.dtype(value.dtype).itemsize
    if not 0 <= size <= MAX_ARRAY_BYTES:
        raise ValueError(f"expected an array of at most {MAX_ARRAY_BYTES} bytes, got {size}")
    data = pa.decompress(value.data, decompressed_size=size, codec=value.codec)
    return np.frombuffer(data, value.dtype).reshape(value.shape)


def write_records(path: Path, records: Sequence[Record]) -> FileInfo:
    """Write `records` to a new file, wholly or not at all. Waits for the disk."""
    names = sorted({name for _, arrays in records for name in arrays})
    schema = pa.schema([("header", pa.string()), *((n, pa.large_binary()) for n in names)])
    with whole_file(path) as file:
        sink = _CheckedSink(file)
        with pa.ipc.new_file(sink, schema) as writer:
            for header, arrays in records:
                writer.write_batch(_record_batch(header, arrays, names))
    return FileInfo(path.name, sink.num_bytes, sink.crc32)


def read_records(folder: Path, info: FileInfo) -> Iterator[tuple[JsonTree, Rows]]:
    """Yield headers and read-only arrays of a file's records, in order; checks the file first.

    The arrays are views into the mapped file: copy what is to be kept.

    Raises:
        ValueError: the file is missing or not the one that was written, with its name.
    """
    path = folder / info.name
    _check_file(path, info)
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        for index in range(reader.num_record_batches):
            yield _unpack_record(reader.get_batch(index))


def _pack(array: Array, codec: str) -> Packed:
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    data = pa.compress(flat.data, codec=codec, asbytes=True)
    return Packed(data, codec, array.dtype.str, array.shape)


def _record_batch(
    header: JsonTree, arrays: Mapping[str, Array | Packed], names: list[str]
) -> _Batch:
    form = {name: _form(value) for name, value in arrays.items()}
    text = json_text({**header, "arrays": form})
    columns = [_column(arrays.get(name)) for name in names]
    return pa.record_batch([pa.array([text]), *columns], names=["header", *names])


def _form(value: Array | Packed) -> _Form:
    if isinstance(value, Packed):
        return {"dtype": value.dtype, "shape": value.shape, "codec": value.codec}
    return {"dtype": value.dtype.str, "shape": value.shape, "codec": "none"}


def _column(value: Array | Packed | None) -> _Column:
    """A column of one binary value that shares the array's memory; null for None."""
    if value is None:
        return pa.nulls(1, pa.large_binary())
    data = value.data if isinstance(value, Packed) else np.ascontiguousarray(value)
    offsets = np.array([0, value.nbytes], np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_binary(), 1, buffers)


def _unpack_record(batch: _Batch) -> tuple[JsonTree, Rows]:
    header = cast(JsonTree, from_json(batch.column("header")[0].as_py().encode()))
    forms = cast(dict[str, _Form], header.pop("arrays"))
    blocks = {name: memoryview(batch.column(name)[0].as_buffer()) for name in forms}
    return header, {name: _array(blocks[name], form) for name, form in forms.items()}


def _array(data: memoryview, form: _Form) -> Array:
    shape = tuple(form["shape"])
    if form["codec"] != "none":
        return decode(Packed(data, form["codec"], form["dtype"], shape))
    return np.frombuffer(data, form["dtype"]).reshape(shape)


def _check_file(path: Path, info: FileInfo) -> None:
    if not path.is_file():
        raise ValueError(f"{path}: expected a file of {info.num_bytes} bytes, got none")
    size, crc = 0, 0
    with path.open("rb") as file:
        while block := file.read(CRC_BLOCK):
            size, crc = size + len(block), zlib.crc32(block, crc)
    if (size, crc) != (info.num_bytes, info.crc32):
        raise ValueError(
            f"{path}: corrupted, got {size} bytes with CRC-32 {crc:#010x}, expected"
            f" {info.num_bytes} with {info.crc32:#010x}; restore it from a copy if there is one"
        )


class _CheckedSink:
    """A binary file that takes the size and CRC-32 of what is written to it."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.num_bytes = 0
        self.crc32 = 0

    def write(self, data: Buffer) -> int:
        block = memoryview(data)
        self.crc32 = zlib.crc32(block, self.crc32)
        self.num_bytes += block.nbytes
        self._file.write(block)
        return block.nbytes

    def tell(self) -> int:
        return self.num_bytes

    def flush(self) -> None:
        self._file.flush()

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        """Leave the file to its owner, who still has to sync it."""
