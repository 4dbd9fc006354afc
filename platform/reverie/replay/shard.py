"""One shard of the replay: a store with a sampler per agent stream, and its files.

A draw's generator is seeded by (seed, shard, stream, batch number) and nothing else is random,
so a restored shard repeats the draws of every batch that had not been trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reverie.documents import parse
from reverie.errors import ReplayLost
from reverie.protocols import StreamSpec
from reverie.replay.chunk import StoredChunk, freeze, verify
from reverie.replay.codec import FileInfo, Record, read_records, write_records
from reverie.replay.samplers import SamplerState, make_sampler
from reverie.replay.store import ChunkStore, StreamState
from reverie.seeds import make_rng
from reverie.types import Array, Chunk, Json, JsonTree, Rows, SideRows, StreamId, Window

FORMAT = 1
"""Version of the fragment and of the files it names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _File:
    name: str
    size: int
    """Bytes."""
    crc32: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stream:
    number: int
    stream: StreamId
    last_sequence: int
    stop_row: int
    trims: list[tuple[int, int]]
    """Where its segments' first chunks are trimmed: (chunk's first row, first row left)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Fragment:
    """What `ReplayShard.save` returned."""

    files: list[_File]
    chunks: dict[str, list[tuple[int, int]]]
    """By file name, the [start, stop) runs of the records that are still stored."""
    side: str | None
    """File of the side table."""
    side_forms: dict[str, tuple[tuple[int, ...], str]]
    streams: list[_Stream]
    samplers: dict[str, SamplerState]
    counts: dict[str, int]
    rows: int | None = None
    """Rows that were stored; fragments of earlier versions do not say it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _ChunkHeader:
    """What a file tells of a chunk beside its rows."""

    stream: StreamId
    number: int
    sequence: int
    start_row: int
    checksum: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _SideHeader:
    """Which chunk the side values in a file belong to."""

    number: int
    sequence: int


@dataclass(slots=True)
class Damage:
    """What `ReplayShard.load` had to leave out."""

    lost_rows: int = 0
    texts: list[str] = field(default_factory=list[str])
    """One per file or record, with its name."""


@dataclass(slots=True)
class _Draw:
    """The windows of one stream and batch, and the slots that nobody has asked for yet."""

    windows: list[Window]
    waiting: set[int]


class ReplayShard:
    """Keeps chunks, draws windows, writes itself to files. Plain and synchronous; never waits.

    Args:
        specs: the agent's streams; if one samples episodes, whole episodes are evicted.
        capacity_rows: rows this shard keeps.
        codec: compression of image keys in memory and on disk.
        seed: of all draws, with `shard_id`.
        grow_to: as for `ChunkStore`.

    Raises:
        ValueError: a capacity below one window, or an unknown codec or sampler.
    """

    def __init__(
        self,
        shard_id: int,
        specs: Mapping[str, StreamSpec],
        capacity_rows: int,
        codec: str = "none",
        seed: int = 0,
        grow_to: int = 0,
    ) -> None:
        self.shard_id = shard_id
        self._specs, self._seed = dict(specs), seed
        _check_capacity(self._specs, capacity_rows)
        self._samplers = {name: make_sampler(spec) for name, spec in specs.items()}
        episodic = any(spec.sampler == "episodes" for spec in specs.values())
        evict = "episodes" if episodic else "chunks"
        self._store = ChunkStore(capacity_rows, codec, evict, self._samplers.values(), grow_to)
        self._open: dict[tuple[str, int], _Draw] = {}
        self._folder: Path | None = None
        self._files: dict[str, FileInfo] = {}

    def insert(self, chunks: list[Chunk], side: Sequence[SideRows] = ()) -> dict[str, float]:
        """Keep `chunks`, in order; those inserted before change nothing. Returns the masses.

        `side` are values of their rows: each counts where nothing was written for its row yet, so
        that whatever comes when, a row's values are those of the last update that saw it.

        Raises:
            ValueError: a torn chunk, or the key of other rows; the chunks before it are kept.
        """
        for chunk in chunks:
            self._store.insert(chunk)
        for rows in side:
            self._store.write_back(rows.step_ids, rows.values, unset_only=True)
        return self.masses()

    def sample(
        self,
        name: str,
        count: int,
        batch_number: int,
        trained_batches: int,
        slots: range | None = None,
    ) -> list[Window]:
        """Draw `count` windows of stream `name` for batch `batch_number`; return those in `slots`.

        Whoever asks for part of a batch gets its part of one draw, whatever is inserted between
        two requests: a draw is kept until each of its slots was asked for once. All slots are
        returned where none are named. Batches below `trained_batches` were trained and are never
        asked for again.

        Raises:
            ReplayLost: the stream's mass is 0 here, e.g. after the shard was replaced.
            ValueError: slots beyond `count`.
        """
        slots = range(count) if slots is None else slots
        if not 0 <= slots.start <= slots.stop <= count:
            raise ValueError(f"stream {name!r}: expected slots within 0..{count}, got {slots}")
        self._forget_trained(name, trained_batches)
        draw = self._open.get((name, batch_number))
        if draw is None or len(draw.windows) != count or not draw.waiting.issuperset(slots):
            draw = self._draw(name, count, batch_number, trained_batches)
        draw.waiting.difference_update(slots)
        if not draw.waiting:
            self._open.pop((name, batch_number), None)
        return draw.windows[slots.start : slots.stop]

    def _draw(self, name: str, count: int, batch_number: int, trained_batches: int) -> _Draw:
        """Draw a batch's windows anew; what was drawn for it and for later ones is void."""
        for key in [key for key in self._open if key[0] == name and key[1] >= batch_number]:
            del self._open[key]
        sampler, length = self._samplers[name], self._specs[name].window_length
        if count and not sampler.mass():
            raise ReplayLost(
                f"replay shard {self.shard_id}: expected {count} windows of {length} rows for"
                f" {name!r}, got {self._store.num_rows} rows and no window; refund the batch"
            )
        draws = sampler.sample(self._rng(name, batch_number), count, batch_number, trained_batches)
        windows = [self._store.window(segment, start, length) for segment, start in draws]
        draw = self._open[name, batch_number] = _Draw(windows, set(range(count)))
        return draw

    def _forget_trained(self, name: str, trained_batches: int) -> None:
        for key in [key for key in self._open if key[0] == name and key[1] < trained_batches]:
            del self._open[key]

    def write_back(self, step_ids: NDArray[np.int64], values: Mapping[str, Array]) -> int:
        """Set side values by step id; returns how many ids are unknown here, and were ignored.

        Sampled pieces carry them as `side/<name>`, with `side/valid` for the rows ever written.

        Raises:
            ValueError: a value that does not fit the ids or has changed its form.
        """
        return self._store.write_back(step_ids, values)

    def masses(self) -> dict[str, float]:
        """What there is to draw, by stream name."""
        return {name: sampler.mass() for name, sampler in self._samplers.items()}

    def stats(self) -> dict[str, int]:
        """Rows, bytes and chunks held; rows evicted, chunks and side ids ignored so far."""
        store = self._store
        return {
            "rows": store.num_rows,
            "bytes": store.num_bytes,
            "chunks": len(store),
            "evicted": store.evicted_rows,
            "duplicates": store.duplicates,
            "ignored_ids": store.ignored_ids,
        }

    def save(self, folder: str | Path) -> JsonTree:
        """Write what is not on disk yet and return the JSON-able fragment `load` wants.

        At most two new files: the new chunks and the whole side table. `fragment["files"]` names
        every file that is needed (name, size in bytes, crc32). No file is ever written over.
        Waits for the disk. Saving to another folder writes everything anew.
        """
        folder = Path(folder)
        if folder != self._folder:
            self._forget_files(folder)
        self._save_chunks(folder)
        side = self._save_side(folder)
        live = self._live_records()
        self._files = {name: self._files[name] for name in live}
        infos = [*self._files.values(), *([side] if side else [])]
        return {
            "format": FORMAT,
            "shard": self.shard_id,
            "files": [{"name": i.name, "size": i.num_bytes, "crc32": i.crc32} for i in infos],
            "chunks": {name: _ranges(indices) for name, indices in live.items()},
            "side": side.name if side else None,
            "side_forms": {k: [list(s), t] for k, (s, t) in self._store.side_forms.items()},
            "streams": [_stream_json(n, state) for n, state in self._store.streams.items()],
            "samplers": {name: s.state_dict() for name, s in self._samplers.items()},
            "counts": {key: getattr(self._store, key) for key in COUNTS},
            "rows": self._store.num_rows,
        }

    def load(self, folder: str | Path, fragment: Mapping[str, Json]) -> Damage:
        """Restore what `save` described, into a shard that is still empty.

        Afterwards the shard draws and evicts as the saved one would have. A file that is missing,
        cut or changed is left out with all its rows, and so is a record that is not what was
        written; segments end at the gap. Without the side table all side values are unset. Waits
        for the disk.

        Returns:
            What was left out.

        Raises:
            ValueError: the shard is not empty.
            DocumentError: a fragment that lacks something.
        """
        if len(self._store) or self._store.streams:
            raise ValueError(f"replay shard {self.shard_id}: load into a new shard, not a used one")
        if (form := fragment.get("format")) != FORMAT:
            raise ValueError(f"replay fragment: expected format {FORMAT}, got {form}")
        saved = parse(_Fragment, fragment, "replay fragment")
        self._folder = Path(folder)
        infos = {file.name: FileInfo(file.name, file.size, file.crc32) for file in saved.files}
        damage = Damage()
        self._load_chunks(saved, infos, damage)
        self._load_streams(saved)
        self._load_side(saved, infos, damage)
        for name, state in saved.samplers.items():
            if name in self._samplers:
                self._samplers[name].load_state_dict(state, self._store.find)
        if damage.texts:
            damage.lost_rows = max(0, _num_rows(saved) - self._store.num_rows)
        self._store.evict_surplus()
        return damage

    def _rng(self, name: str, batch_number: int) -> np.random.Generator:
        stream = list(self._specs).index(name)
        return make_rng(self._seed, self.shard_id, stream, batch_number)

    def _forget_files(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._files = folder, {}
        for stored in self._store:
            stored.saved = None

    def _save_chunks(self, folder: Path) -> None:
        new = [stored for stored in self._store if stored.saved is None]
        if new:
            info = write_records(self._new_path(folder, ""), [_chunk_record(s) for s in new])
            self._files[info.name] = info
            for index, stored in enumerate(new):
                stored.saved = info.name, index

    def _save_side(self, folder: Path) -> FileInfo | None:
        records = [_side_record(stored) for stored in self._store if stored.side]
        return write_records(self._new_path(folder, "side-"), records) if records else None

    def _new_path(self, folder: Path, kind: str) -> Path:
        """A name that no file has: an older checkpoint may still need each of them."""
        prefix = f"shard{self.shard_id}-{kind}"
        taken = [path.stem.removeprefix(prefix) for path in folder.glob(f"{prefix}*.arrow")]
        number = max((int(text) for text in taken if text.isdecimal()), default=-1) + 1
        return folder / f"{prefix}{number:06d}.arrow"

    def _live_records(self) -> dict[str, list[int]]:
        """Indices of the records still stored by file name; both in order of insertion."""
        live: dict[str, list[int]] = {}
        for stored in self._store:
            assert stored.saved is not None, stored.key
            live.setdefault(stored.saved[0], []).append(stored.saved[1])
        return live

    def _load_chunks(self, saved: _Fragment, infos: Mapping[str, FileInfo], damage: Damage) -> None:
        trims = {(s.number, first): row for s in saved.streams for first, row in s.trims}
        for name, ranges in saved.chunks.items():
            try:
                for index, record in self._live(name, infos, ranges):
                    self._load_chunk(name, index, record, trims, damage)
            except (OSError, ValueError) as error:
                damage.texts.append(str(error))
                for stored in self._store:
                    if stored.saved and stored.saved[0] == name:
                        stored.saved = None  # the next save writes it anew
                continue
            self._files[name] = infos[name]

    def _load_chunk(
        self,
        name: str,
        index: int,
        record: tuple[JsonTree, Rows],
        trims: Mapping[tuple[int, int], int],
        damage: Damage,
    ) -> None:
        try:
            chunk = freeze(_chunk_of(*record))
            verify(chunk)
        except ValueError as error:
            damage.texts.append(f"{name}: record {index}: {error}")
            return
        start = trims.get((chunk.number, chunk.start_row), chunk.start_row)
        self._store.restore(chunk, start).saved = name, index

    def _live(
        self, name: str, infos: Mapping[str, FileInfo], ranges: list[tuple[int, int]]
    ) -> Iterator[tuple[int, tuple[JsonTree, Rows]]]:
        wanted = {index for start, stop in ranges for index in range(start, stop)}
        for index, record in enumerate(self._read(name, infos)):
            if index in wanted:
                yield index, record

    def _read(self, name: str, infos: Mapping[str, FileInfo]) -> Iterator[tuple[JsonTree, Rows]]:
        """Records of a file. Raises: ValueError, OSError: it is not what was written."""
        assert self._folder is not None
        if name not in infos or Path(name).name != name:
            raise ValueError(f"{self._folder}: expected a file of its own, got {name!r}")
        return read_records(self._folder, infos[name])

    def _load_streams(self, saved: _Fragment) -> None:
        for each in saved.streams:
            state = self._store.streams.setdefault(each.number, StreamState(each.stream))
            state.last_sequence, state.stop_row = each.last_sequence, each.stop_row
        for key in COUNTS:
            setattr(self._store, key, saved.counts[key])

    def _load_side(self, saved: _Fragment, infos: Mapping[str, FileInfo], damage: Damage) -> None:
        """Side values of chunks that were left out are left out with them."""
        self._store.side_forms = saved.side_forms
        if saved.side is None:
            return
        stored = {chunk.key: chunk for chunk in self._store}
        try:
            for tree, rows in self._read(saved.side, infos):
                header = parse(_SideHeader, tree, saved.side)
                chunk = stored.get((header.number, header.sequence))
                if chunk is not None:
                    side = self._store.side_of(chunk)
                    side.update({name: array.copy() for name, array in rows.items()})
        except (OSError, ValueError) as error:
            damage.texts.append(f"{error}; side values are unset")


COUNTS = ("evicted_rows", "duplicates", "ignored_ids")


def _check_capacity(specs: Mapping[str, StreamSpec], capacity_rows: int) -> None:
    for name, spec in specs.items():
        if capacity_rows < spec.window_length:
            raise ValueError(
                f"replay.capacity: expected at least one window of stream {name!r}"
                f" ({spec.window_length} rows) per shard, got {capacity_rows} rows"
            )


def _num_rows(saved: _Fragment) -> int:
    """Rows that were stored; at most these where the fragment does not say it."""
    if saved.rows is not None:
        return saved.rows
    return sum(each.stop_row for each in saved.streams) - saved.counts["evicted_rows"]


def _chunk_record(stored: StoredChunk) -> Record:
    fields = ("stream", "number", "sequence", "start_row")
    header: JsonTree = {name: getattr(stored, name) for name in fields}
    header["checksum"] = stored.whole_checksum()
    return header, stored.data


def _side_record(stored: StoredChunk) -> Record:
    return {"number": stored.number, "sequence": stored.sequence}, stored.side


def _chunk_of(tree: JsonTree, rows: Rows) -> Chunk:
    header = parse(_ChunkHeader, tree, "stored chunk")
    return Chunk(
        stream=header.stream,
        number=header.number,
        sequence=header.sequence,
        start_row=header.start_row,
        data=rows,
        checksum=header.checksum,
    )


def _stream_json(number: int, state: StreamState) -> JsonTree:
    """A stream, and where its segments' first chunks are trimmed: [chunk's first row, row]."""
    starts = [(s.chunks[0].start_row, s.start_row) for s in state.segments]
    return {
        "number": number,
        "stream": list(state.stream),
        "last_sequence": state.last_sequence,
        "stop_row": state.stop_row,
        "trims": [[first, row] for first, row in starts if first != row],
    }


def _ranges(indices: list[int]) -> list[list[int]]:
    """Ascending indices as [start, stop] runs."""
    cuts = np.flatnonzero(np.diff(indices) != 1) + 1
    return [[int(run[0]), int(run[-1]) + 1] for run in np.split(np.array(indices), cuts)]
