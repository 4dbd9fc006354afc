"""Groups of sources: each is imported by itself, into shards and one record of what became of it.

The record, `parts/<group>.json`, is written after the group's shards. A group is named by what is
in it, so an import that was killed finds what is finished, and what is done twice is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from reverie.data.index import PARTS, SHARDS, Clip, Column
from reverie.data.options import ImportOptions
from reverie.data.shard import ShardWriter
from reverie.data.sources.source import BrokenSource, Recording, Source, Stat
from reverie.documents import from_json, json_text, parse
from reverie.errors import DocumentError, RunError
from reverie.stop_signals import ShouldStop, never
from reverie.storage import TMP_SUFFIX, Storage, whole_file
from reverie.types import Array, Rows

SHARD_BYTES = 256 << 20
"""A shard ends with the clip that reaches this size."""
MOST_GROUPS, LARGEST_GROUP = 64, 512
"""Of few sources each is a group, so that they are imported side by side; of many, up to 512."""


class ImportStopped(RunError):
    """An import was told to stop; what is finished stays."""

    exit_code = 130


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """What all clips of a data set have in common."""

    shape: tuple[int, int, int]
    columns: tuple[Column, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A source that could not be imported."""

    name: str
    reason: str


@dataclass(kw_only=True, slots=True)
class Part:
    """What became of one group."""

    group: str
    generation: int
    """How many finished imports came before it."""
    order: int
    """Of the group among those of its import."""
    sources: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    """Size in bytes and time in ns of each source when it was read."""
    clips: list[Clip] = field(default_factory=list[Clip])
    failed: list[Failure] = field(default_factory=list[Failure])
    short: list[str] = field(default_factory=list[str])
    """Sources with fewer frames than are wanted."""
    low: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    high: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """Least and greatest value of each column."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Sources that are imported together."""

    generation: int
    order: int
    sources: Sequence[Source]
    stats: Sequence[Stat]
    options: ImportOptions
    layout: Layout

    @property
    def id(self) -> str:
        """A name made of all that decides about the result."""
        facts = [(s.name, *stat) for s, stat in zip(self.sources, self.stats, strict=True)]
        text = json_text([facts, self.options.tree(), self.generation, self.order])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def split(sources: Sequence[Source]) -> Iterator[Sequence[Source]]:
    """Cut sources into groups, in the same way on every machine."""
    size = min(LARGEST_GROUP, max(1, -(-len(sources) // MOST_GROUPS)))
    for start in range(0, len(sources), size):
        yield sources[start : start + size]


def read_parts(storage: Storage) -> list[Part]:
    """The groups that are finished, in the order in which they were to be imported.

    Raises:
        DocumentError: a record does not hold what belongs there.
    """
    found: list[Part] = []
    for name in storage.list(PARTS):
        where = f"{storage.uri}/{name}"
        try:
            tree = from_json(storage.read(name))
        except ValueError as error:
            raise DocumentError(f"{where}: expected a JSON document: {error}") from None
        found.append(parse(Part, tree, where))
    return sorted(found, key=lambda part: (part.generation, part.order))


def import_group(target: str, group: Group, should_stop: ShouldStop = never) -> Part:
    """Import a group into the data set at `target`. Waits for decoding and for the disk.

    Raises:
        ImportStopped: it was told to stop; nothing of it stays.
        OSError: it cannot be written there; its finished shards stay and are written over.
    """
    storage = Storage(target)
    for left in Path(target, SHARDS).glob(f".{group.id}-*{TMP_SUFFIX}"):
        left.unlink(missing_ok=True)  # of a process that was killed
    part = Part(group=group.id, generation=group.generation, order=group.order)
    writer = _GroupWriter(Path(target) / SHARDS, group, part)
    with writer.stack:
        for source, stat in zip(group.sources, group.stats, strict=True):
            if should_stop():
                raise ImportStopped(f"{target}: stopped; run the same command again to go on")
            part.sources[source.name] = (stat.num_bytes, stat.time_ns)
            writer.add(source, stat)
        writer.close()
    storage.write_atomic(f"{PARTS}/{part.group}.json", json_text(asdict(part)).encode())
    return part


class _GroupWriter:
    """Writes the clips of a group into shards of its own."""

    def __init__(self, folder: Path, group: Group, part: Part) -> None:
        self._folder, self._group, self._part = folder, group, part
        self._widths = {column.name: column.width for column in group.layout.columns}
        self._count = 0
        self._shard: ShardWriter | None = None
        self.stack = ExitStack()
        """Holds the open shard, which goes with an error."""

    def add(self, source: Source, stat: Stat) -> None:
        """Add the clip of a source, or say why not."""
        shard = self._open()
        try:
            recording = _opened(source, self._group.options)
            self._check(recording)
            count = self._copy(recording, shard)
        except BrokenSource as error:
            shard.drop_clip()
            self._part.failed.append(Failure(name=source.name, reason=str(error)))
            return
        if count < self._group.options.min_frames:
            shard.drop_clip()
            self._part.short.append(source.name)
            return
        row, frames, crc = shard.finish_clip()
        self._note_bounds(recording.columns)
        self._part.clips.append(
            Clip(
                name=source.name,
                frames=frames,
                label=source.label,
                shard=self._name(),
                row=row,
                crc32=crc,
                source_bytes=stat.num_bytes,
                source_time_ns=stat.time_ns,
                **recording.facts._asdict(),
            )
        )
        if shard.num_bytes >= SHARD_BYTES:
            self.close()

    def close(self) -> None:
        """End the open shard, which takes its name with this."""
        if self._shard is not None:
            self._shard.close()
            self._shard = None
            self._count += 1
        self.stack.close()

    def _open(self) -> ShardWriter:
        if self._shard is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = self.stack.enter_context(whole_file(self._folder / self._name()))
            layout = self._group.layout
            codec = self._group.options.codec
            self._shard = ShardWriter(file, layout.shape, codec, self._widths)
        return self._shard

    def _name(self) -> str:
        return f"{self._part.group}-{self._count:03}.arrow"

    def _check(self, recording: Recording) -> None:
        got = {name: 0 if v.ndim == 1 else v.shape[1] for name, v in recording.columns.items()}
        if got != self._widths:
            raise BrokenSource(f"expected values of widths {self._widths}, got {got}")

    def _copy(self, recording: Recording, shard: ShardWriter) -> int:
        """Copy the frames of a recording into the shard; returns how many there were."""
        columns, count = recording.columns, 0
        lengths = {len(value) for value in columns.values()}
        for count, frame in enumerate(_reading(recording.frames), start=1):
            if frame.shape != self._group.layout.shape:
                raise BrokenSource(
                    f"expected frames of shape {self._group.layout.shape}, got {frame.shape}"
                )
            if lengths and count > min(lengths):
                break
            shard.add(frame, {name: value[count - 1] for name, value in columns.items()})
        if not count:
            raise BrokenSource("no frame in it")
        if lengths - {count}:
            raise BrokenSource(f"expected {max(lengths)} frames as it has rows, got {count}")
        return count

    def _note_bounds(self, columns: Rows) -> None:
        bounds = ((self._part.low, np.min), (self._part.high, np.max))
        for name, value in columns.items():
            rows = value.reshape(len(value), -1)
            for kept, choose in bounds:
                known = [kept[name]] if name in kept else []
                kept[name] = choose(np.stack([choose(rows, axis=0), *known]), axis=0).tolist()


def _opened(source: Source, options: ImportOptions) -> Recording:
    try:
        return source.read(options)
    except OSError as error:
        raise BrokenSource(str(error)) from error


def _reading(frames: Iterator[Array]) -> Iterator[Array]:
    """Frames as they come; what cannot be read is told from what cannot be written."""
    while True:
        try:
            frame = next(frames, None)
        except OSError as error:
            raise BrokenSource(str(error)) from error
        if frame is None:
            return
        yield frame
