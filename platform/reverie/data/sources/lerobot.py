"""LeRobot data sets, formats v2.0, v2.1 and v3.0: one clip per episode.

v2 has a parquet file and an mp4 per episode (and camera); v3 has several episodes in each, told
apart by rows and by timestamps. Images may also stand in the parquet files themselves.
https://huggingface.co/docs/lerobot/lerobot-dataset-v3
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow.parquet  # pyright: ignore[reportMissingTypeStubs]

from reverie.data.index import Column
from reverie.data.options import ImportOptions
from reverie.data.sources.frame_folders import decode_picture
from reverie.data.sources.source import (
    BrokenSource,
    Facts,
    Recording,
    Stat,
    file_stat,
    fit,
    kept_by_time,
)
from reverie.data.sources.video_files import opened, scaler
from reverie.documents import read_json
from reverie.errors import ConfigError
from reverie.types import Array, JsonTree, Rows

pa: ModuleType = pyarrow
pq: ModuleType = pyarrow.parquet

INFO_FILE = "meta/info.json"
STATE, SUCCESS = "observation.state", "next.success"
TIME, EPISODE = "timestamp", "episode_index"


class Place(NamedTuple):
    """Where the frames of an episode are."""

    video: str | None
    """Its mp4; None where images stand in the parquet file."""
    begin_s: float
    """Of the episode in the mp4."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeSource:
    """One episode, seen by one camera."""

    name: str
    episode: int
    length: int
    table: str
    """Parquet file with its rows, perhaps among others."""
    place: Place
    camera: str
    fps: float
    task: str | None
    keys: Mapping[str, str]
    """Names of the columns by key in the parquet file."""
    known: Sequence[Column]
    label: str | None = None

    def stat(self) -> Stat:
        files = [self.table, *([self.place.video] if self.place.video else [])]
        return file_stat(*map(Path, files))

    def frame_size(self) -> tuple[int, int]:
        frame = next(self._frames([0], self._rows(), ImportOptions()), None)
        if frame is None:
            raise BrokenSource("no frame in it")
        height, width = frame.shape[:2]
        return height, width

    def columns(self, options: ImportOptions) -> Sequence[Column]:
        return self.known

    def read(self, options: ImportOptions) -> Recording:
        rows = self._rows()
        kept = _kept(rows[TIME].tolist(), options)
        columns = {name: self._floats(rows, key)[kept] for key, name in self.keys.items()}
        success = bool(np.any(rows[SUCCESS])) if SUCCESS in rows else None
        fps = options.fps or self.fps / options.stride
        frames = self._frames(kept, rows, options)
        return Recording(frames, columns, Facts(fps, self.task, success))

    def _frames(self, kept: Sequence[int], rows: Rows, options: ImportOptions) -> Iterator[Array]:
        if self.place.video is None:
            pictures = rows[self.camera]
            return (fit(_embedded(pictures[index]), options) for index in kept)
        times = [self.place.begin_s + float(rows[TIME][index]) for index in kept]
        return _frames_at(self.place.video, times, 0.5 / self.fps, options)

    def _rows(self) -> Rows:
        """What the parquet file says of the episode, by key."""
        names = {TIME, *self.keys, SUCCESS, *([] if self.place.video else [self.camera])}
        table = _table(self.table)
        found = np.flatnonzero(_values(table, EPISODE) == self.episode)
        if len(found) != self.length:
            raise BrokenSource(
                f"expected {self.length} rows in {Path(self.table).name}, got {len(found)}"
            )
        part = table.slice(int(found[0]), len(found))
        missing = {TIME, *self.keys} - set(part.column_names)
        if missing:
            raise BrokenSource(f"{Path(self.table).name}: no column {sorted(missing)}")
        return {name: _values(part, name) for name in names if name in part.column_names}

    def _floats(self, rows: Rows, key: str) -> Array:
        """A column as float32 [T, width], or [T] for a reward."""
        value = np.asarray(rows[key].tolist(), np.float32)
        plain = self.keys[key] == "reward"
        return value.reshape(self.length) if plain else value.reshape(self.length, -1)


def is_one(root: Path) -> bool:
    """Whether a folder is such a data set."""
    return (root / INFO_FILE).is_file()


def find(root: Path, options: ImportOptions) -> list[EpisodeSource]:
    """The episodes of the data set, in their order.

    Raises:
        ConfigError: several cameras and none named, another version, or broken metadata.
    """
    info = _info(root)
    try:
        return list(_episodes(root, info, options))
    except (AttributeError, KeyError, ValueError, TypeError, IndexError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{root}: metadata of the LeRobot data set: {error!r}") from error


def _info(root: Path) -> JsonTree:
    try:
        info = read_json(root / INFO_FILE)
    except ValueError as error:
        raise ConfigError(f"{root / INFO_FILE}: expected a JSON document: {error}") from None
    if not isinstance(info, dict) or not isinstance(info.get("features"), dict):
        raise ConfigError(f"{root / INFO_FILE}: expected an object with `features`")
    return info


def _episodes(root: Path, info: Any, options: ImportOptions) -> Iterator[EpisodeSource]:
    version = str(info.get("codebase_version", ""))
    read = {"v2": _episodes_v2, "v3": _episodes_v3}.get(version.partition(".")[0])
    if read is None:
        raise ConfigError(f"{root}: expected LeRobot v2.0, v2.1 or v3.0, got {version!r}")
    camera = _camera(root, info["features"], options)
    keys = _keys(root, info["features"], options)
    filmed = info["features"][camera]["dtype"] == "video"
    known = [_column(name, info["features"][key]) for key, name in keys.items()]
    for number, length, tasks, table, video, begin in read(root, info, camera):
        yield EpisodeSource(
            name=f"episode_{number:06d}",
            episode=number,
            length=length,
            table=str(root / table),
            place=Place(str(root / video) if filmed else None, begin),
            camera=camera,
            fps=float(info["fps"]),
            task="; ".join(tasks) or None,
            keys=keys,
            known=known,
        )


Episode = tuple[int, int, Sequence[str], str, str, float]
"""Number, length, tasks, parquet file, mp4, and where in the mp4 it begins in s."""


def _episodes_v2(root: Path, info: Any, camera: str) -> Iterator[Episode]:
    for line in (root / "meta/episodes.jsonl").read_text().splitlines():
        one = json.loads(line)
        number = int(one["episode_index"])
        chunk = number // int(info["chunks_size"])
        names = {"episode_chunk": chunk, "episode_index": number, "video_key": camera}
        video = (info.get("video_path") or "").format(**names)
        table = info["data_path"].format(**names)
        yield number, int(one["length"]), one.get("tasks", ()), table, video, 0.0


def _episodes_v3(root: Path, info: Any, camera: str) -> Iterator[Episode]:
    where = f"videos/{camera}"
    for file in sorted((root / "meta/episodes").rglob("*.parquet")):
        table = pq.read_table(file)
        wanted = [name for name in table.column_names if not name.startswith("stats/")]
        for one in table.select(wanted).to_pylist():
            data = _chunk(one, "data")
            table_file = info["data_path"].format(**data)
            video = ""
            if info.get("video_path") and f"{where}/file_index" in one:
                video = info["video_path"].format(video_key=camera, **_chunk(one, where))
            begin = float(one.get(f"{where}/from_timestamp") or 0.0)
            tasks = one.get("tasks") or ()
            yield int(one["episode_index"]), int(one["length"]), tasks, table_file, video, begin


def _chunk(row: Mapping[str, Any], where: str) -> dict[str, int]:
    return {name: int(row[f"{where}/{name}"]) for name in ("chunk_index", "file_index")}


def _camera(root: Path, features: Mapping[str, Any], options: ImportOptions) -> str:
    cameras = [key for key, one in features.items() if one["dtype"] in ("video", "image")]
    if options.camera is None and len(cameras) == 1:
        return cameras[0]
    if options.camera not in cameras:
        got = "none named" if options.camera is None else f"got {options.camera!r}"
        raise ConfigError(
            f"{root}: expected --camera with one of: {', '.join(cameras) or 'none'}; {got}"
        )
    return options.camera


def _keys(root: Path, features: Mapping[str, Any], options: ImportOptions) -> dict[str, str]:
    found = {key: name for key, name in ((options.action_key, "action"), (STATE, "state"))}
    keys = {key: name for key, name in found.items() if key in features}
    if options.reward_key is None:
        return keys
    if options.reward_key not in features:
        raise ConfigError(
            f"{root}: no column {options.reward_key!r} for the reward; there are:"
            f" {', '.join(features)}"
        )
    return {**keys, options.reward_key: "reward"}


def _column(name: str, feature: Mapping[str, Any]) -> Column:
    names = _plain_names(feature.get("names"))
    unit = feature.get("unit") or feature.get("units")
    width = 0 if name == "reward" else math.prod(cast(list[int], feature["shape"]))
    fits = names is not None and len(names) == width
    return Column(
        name=name,
        width=width,
        names=tuple(names or ()) if fits else None,
        unit=unit if isinstance(unit, str) else None,
    )


def _plain_names(names: Any) -> list[str] | None:
    """Names of the values: a list, or lists under headings such as `motors`."""
    if isinstance(names, dict):
        parts = cast(Mapping[str, Any], names).values()
        return [name for part in parts if isinstance(part, list) for name in cast(list[str], part)]
    return [f"{name}" for name in cast(list[str], names)] if isinstance(names, list) else None


@lru_cache(maxsize=2)
def _table(path: str) -> Any:
    """A parquet file; those of v3 hold many episodes, which are read one after the other."""
    try:
        return pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise BrokenSource(f"{Path(path).name}: no parquet file: {error}") from None


def _values(table: Any, name: str) -> Array:
    """A column, one entry per row."""
    return table.column(name).combine_chunks().to_numpy(zero_copy_only=False)


def _kept(times: Sequence[float], options: ImportOptions) -> list[int]:
    if options.fps is not None:
        late = [index for index in range(len(times)) if index >= options.skip]
        if not late:
            return []
        chosen = kept_by_time([times[index] for index in late], options.fps)
        return [late[index] for index in chosen]
    return [index for index in range(len(times)) if options.keeps(index, index)]


def _embedded(picture: Any) -> Array:
    data: bytes = picture["bytes"]
    return decode_picture(np.frombuffer(data, np.uint8), "an image of the episode")


def _frames_at(
    path: str, times: Sequence[float], tolerance: float, options: ImportOptions
) -> Iterator[Array]:
    """The frames shown at `times` (in s, never falling) of an mp4, each the only one so near."""
    if not times:
        return
    wanted = iter(times)
    next_time = next(wanted)
    with opened(path) as container:
        stream = container.streams.video[0]
        container.seek(int(times[0] / stream.time_base), stream=stream, backward=True)
        scale = scaler(options)
        for frame in container.decode(stream):
            while frame.time is not None and frame.time >= next_time - tolerance:
                if frame.time > next_time + tolerance:
                    raise BrokenSource(f"{Path(path).name}: no frame at {next_time:.3f} s")
                yield scale(frame)
                following = next(wanted, None)
                if following is None:
                    return
                next_time = following
    raise BrokenSource(f"{Path(path).name}: no frame at {next_time:.3f} s")
