"""One shard: an Arrow IPC file in which every frame is a row, and how it is read and written.

Columns: `image`, fixed-size binary (`raw`: height x width x 3 bytes) or large binary (compressed),
and a float32 or fixed-size list of float32 per further column. A record batch holds frames of one
clip only; a long clip has several, one after the other.
"""

from __future__ import annotations

import errno
import math
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pyarrow  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import DTypeLike

from reverie.data.codecs import open_codec
from reverie.data.index import IMAGE
from reverie.types import Array, Rows

pa: ModuleType = pyarrow

Shape = tuple[int, int, int]


class Block(NamedTuple):
    """Where the values of one record batch lie: views into the mapped file."""

    images: Array
    """uint8: the bytes of the images, one after the other."""
    offsets: Array | None
    """int64 [rows + 1] into `images`; None where all are equally long."""
    columns: Rows
    """float32 [rows] or [rows, width] by name."""


class ShardReader:
    """A shard of a data set, mapped into memory; frames are read from it by row.

    Args:
        shape: of a frame.
        widths: of each further column; 0 for a plain number.

    Raises:
        OSError: there is no such file, or it is no Arrow file.
    """

    def __init__(self, path: Path, shape: Shape, codec: str, widths: Mapping[str, int]) -> None:
        self.path, self._shape, self._widths = path, shape, widths
        self._codec = None if codec == "raw" else open_codec(codec)
        try:
            self._file: Any = pa.ipc.open_file(pa.memory_map(str(path)))
        except pa.ArrowInvalid as error:
            raise OSError(errno.EIO, f"no Arrow file: {error}", str(path)) from None
        self._blocks: list[Block | None] = [None] * self._file.num_record_batches
        lengths = (self._file.get_batch(i).num_rows for i in range(len(self._blocks)))
        self._starts = list(accumulate(lengths, initial=0))

    @property
    def num_rows(self) -> int:
        return self._starts[-1]

    def images(self, row: int, out: Array) -> None:
        """Read the frames from `row` on into `out`, uint8 [T, H, W, 3]."""
        number, done = bisect_right(self._starts, row) - 1, 0
        if row + len(out) <= self._starts[number + 1]:  # nearly always
            self._images_of(self._block(number), row - self._starts[number], out)
            return
        for block, start, stop in self._pieces(row, len(out)):
            part = out[done : done + stop - start]
            self._images_of(block, start, part)
            done += stop - start

    def columns(self, row: int, length: int) -> Rows:
        """The values of the further columns beside `length` frames, copied."""
        pieces = list(self._pieces(row, length))
        if len(pieces) == 1:
            ((block, start, stop),) = pieces
            return {name: block.columns[name][start:stop].copy() for name in self._widths}
        return {
            name: np.concatenate([block.columns[name][a:b] for block, a, b in pieces])
            for name in self._widths
        }

    def crc32(self, row: int, length: int) -> int:
        """Checksum of a whole clip as it lies in the file."""
        crc = 0
        for block, _, _ in self._pieces(row, length):
            crc = zlib.crc32(block.images.data, crc)
            for name in self._widths:
                crc = zlib.crc32(block.columns[name].data, crc)
        return crc

    def _pieces(self, row: int, length: int) -> Iterator[tuple[Block, int, int]]:
        """The record batches that hold these rows, each with the rows in it that are meant."""
        number, stop = bisect_right(self._starts, row) - 1, row + length
        if stop > self.num_rows:
            raise IndexError(f"{self.path}: expected {self.num_rows} rows, got {row}..{stop}")
        while row < stop:
            first, last = self._starts[number], min(stop, self._starts[number + 1])
            yield self._block(number), row - first, last - first
            row, number = last, number + 1

    def _block(self, number: int) -> Block:
        block = self._blocks[number]
        if block is None:
            block = self._blocks[number] = self._open(number)
        return block

    def _open(self, number: int) -> Block:
        batch = self._file.get_batch(number)
        rows, buffers = batch.num_rows, batch.column(IMAGE).buffers()
        offsets = None if self._codec is None else _view(buffers[1], np.int64)[: rows + 1]
        size = rows * math.prod(self._shape) if offsets is None else int(offsets[-1])
        columns = {
            name: _floats(batch.column(name)).reshape((rows, width) if width else rows)
            for name, width in self._widths.items()
        }
        return Block(_view(buffers[-1], np.uint8)[:size], offsets, columns)

    def _images_of(self, block: Block, start: int, out: Array) -> None:
        if self._codec is None or block.offsets is None:
            size = out[0].size
            out.reshape(-1)[:] = block.images[start * size : (start + len(out)) * size]
            return
        offsets = block.offsets[start : start + len(out) + 1].tolist()
        for frame, (begin, end) in zip(out, pairwise(offsets), strict=True):
            self._codec.decode(block.images[begin:end], frame)


class ShardWriter:
    """Writes clips into an open file as one shard.

    Frames of a clip are held back until there are `HELD_BYTES` of them or the clip is finished, so
    that what turns out broken early leaves nothing; of a longer one rows stay that no clip names.
    """

    HELD_BYTES = 64 << 20
    BATCH_BYTES = 16 << 20
    """Of frames before they are encoded, per record batch."""

    def __init__(self, file: Any, shape: Shape, codec: str, widths: Mapping[str, int]) -> None:
        size = math.prod(shape)
        self._raw, self._widths = codec == "raw", widths
        self._encode = open_codec(codec).encode
        kind = pa.binary(size) if self._raw else pa.large_binary()
        kinds = [(name, _kind(width)) for name, width in widths.items()]
        note = {"shape": "x".join(map(str, shape)), "codec": codec}
        self._schema: Any = pa.schema([(IMAGE, kind), *kinds], metadata=note)
        self._sink = pa.PythonFile(file, "w")
        self._writer: Any = pa.ipc.new_file(self._sink, self._schema)
        self._per_batch = max(1, self.BATCH_BYTES // size)
        self._frames: list[Any] = []
        self._columns: list[Mapping[str, Any]] = []
        self._held: list[Any] = []
        self._held_bytes = self._rows = self._crc = 0
        self._start = 0
        self.num_bytes = 0
        """Of the record batches written and held, nearly those of the file."""

    def add(self, frame: Array, columns: Mapping[str, Any]) -> None:
        """Add a frame uint8 [H, W, 3] with its values to the clip that is being written."""
        self._frames.append(self._encode(frame))
        self._columns.append(columns)
        if len(self._frames) == self._per_batch:
            self._close_batch()

    def finish_clip(self) -> tuple[int, int, int]:
        """End the clip; returns its first row, its number of frames and its checksum."""
        if self._frames:
            self._close_batch()
        self._flush()
        found = self._start, self._rows - self._start, self._crc
        self._start, self._crc = self._rows, 0
        return found

    def drop_clip(self) -> None:
        """Forget the clip that is being written."""
        self._rows -= sum(batch.num_rows for batch in self._held)
        self.num_bytes -= self._held_bytes
        self._frames, self._columns, self._held = [], [], []
        self._held_bytes, self._start, self._crc = 0, self._rows, 0

    def close(self) -> None:
        """End the file, which its owner closes."""
        self._writer.close()
        self._sink.flush()

    def _close_batch(self) -> None:
        rows = len(self._frames)
        data = b"".join(self._frames)
        self._crc = zlib.crc32(data, self._crc)
        arrays = [self._images(data, [len(frame) for frame in self._frames])]
        for name, width in self._widths.items():
            values = np.asarray([one[name] for one in self._columns], np.float32).reshape(-1)
            self._crc = zlib.crc32(values.data, self._crc)
            plain = pa.array(values)
            arrays.append(pa.FixedSizeListArray.from_arrays(plain, width) if width else plain)
        self._frames, self._columns = [], []
        self._held.append(pa.record_batch(arrays, schema=self._schema))
        self._held_bytes += len(data)
        self.num_bytes += len(data)
        self._rows += rows
        if self._held_bytes > self.HELD_BYTES:
            self._flush()

    def _images(self, data: bytes, lengths: Sequence[int]) -> Any:
        kind, rows = self._schema.field(IMAGE).type, len(lengths)
        if self._raw:
            return pa.Array.from_buffers(kind, rows, [None, pa.py_buffer(data)])
        offsets = np.cumsum([0, *lengths], dtype=np.int64)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        return pa.Array.from_buffers(kind, rows, buffers)

    def _flush(self) -> None:
        for batch in self._held:
            self._writer.write_batch(batch)
        self._held, self._held_bytes = [], 0


def _kind(width: int) -> Any:
    return pa.list_(pa.float32(), width) if width else pa.float32()


def _floats(column: Any) -> Array:
    plain = column.values if pa.types.is_fixed_size_list(column.type) else column
    return _view(plain.buffers()[-1], np.float32)[plain.offset : plain.offset + len(plain)]


def _view(buffer: Any, kind: DTypeLike) -> Array:
    return np.frombuffer(buffer, kind)
