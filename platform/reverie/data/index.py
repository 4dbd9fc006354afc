"""`index.json`: what a data set holds. It is written last, so a folder with one is whole.

A data set is a folder:

    index.json      clips, shape, columns, codec, licence note
    import.json     what was asked for, and which sources were broken, each with its reason
    shards/         Arrow IPC files; a frame is a row, a clip is `frames` rows from `row` on
    parts/          one record per group of sources that is imported: how an import goes on
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from reverie.documents import MAX_BYTES, from_json, json_text, parse
from reverie.errors import ConfigError, DocumentError
from reverie.storage import Storage
from reverie.types import Json, JsonTree

INDEX_FILE, IMPORT_FILE = "index.json", "import.json"
PARTS, SHARDS = "parts", "shards"
FORMAT = 1
"""Of `index.json`; raised where an older reader would misread it."""
IMAGE = "image"
"""The column that every data set has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """One clip: contiguous frames of one recording."""

    name: str
    frames: int
    label: str | None
    shard: str
    """File name in `shards/`."""
    row: int
    """Of its first frame in the shard."""
    crc32: int
    """Over its bytes in the shard, column by column of each record batch."""
    source_bytes: int
    source_time_ns: int
    """When the source was last written, in nanoseconds since 1970."""
    fps: float | None = None
    """Frames per second as they are stored, where that is known."""
    task: str | None = None
    """What was to be done, in words."""
    success: bool | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """float32 values that come with each frame: `width` of them, or a plain number (width 0)."""

    name: str
    width: int
    names: tuple[str, ...] | None = None
    """Of the single values, where the source says."""
    unit: str | None = None
    """Where the source says."""
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    """Least and greatest value in the data set."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """What a data set holds."""

    format: int
    shape: tuple[int, int, int]
    """Height, width and 3."""
    codec: str
    action_width: int
    """0 without actions."""
    columns: tuple[Column, ...]
    """Beside the images."""
    licence: str
    """What its user noted about the right to use it."""
    groups: tuple[str, ...]
    """The parts that it is made of."""
    clips: tuple[Clip, ...]


def write_index(storage: Storage, index: Index) -> None:
    """Write `index.json`, over an older one. Waits for the disk.

    Raises:
        ConfigError: more clips than a reader takes in.
    """
    data = (json_text(asdict(index)) + "\n").encode()
    if len(data) > MAX_BYTES:
        raise ConfigError(
            f"{storage.uri}: an index of {len(index.clips)} clips takes {len(data)} bytes, more"
            f" than the {MAX_BYTES} that are read; import it as several data sets"
        )
    storage.write_atomic(INDEX_FILE, data)


def read_index(folder: Path) -> tuple[Index, str]:
    """Read the index of a data set, and its SHA-256.

    Raises:
        ConfigError: it is no data set, or an unfinished one.
        DocumentError: the index does not hold what belongs there.
    """
    path = folder / INDEX_FILE
    if not path.is_file():
        raise ConfigError(_no_index(folder))
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    try:
        tree = cast(JsonTree, from_json(data))
        version: Json = tree["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise DocumentError(f"{path}: expected the index of a data set: {error!r}") from None
    if version != FORMAT:
        raise DocumentError(f"{path}: expected format {FORMAT}, got {version!r}")
    return parse(Index, tree, str(path)), hashlib.sha256(data).hexdigest()


def _no_index(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder}: expected a folder with a data set, got none"
    if (folder / IMPORT_FILE).is_file():
        return (
            f"{folder}: the import of this data set has not finished (no {INDEX_FILE}); run the"
            " same `reverie data import` again, it goes on where it stopped"
        )
    return f"{folder}: no data set (no {INDEX_FILE}); make one with `reverie data import`"
