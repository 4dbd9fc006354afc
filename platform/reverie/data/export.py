"""A data set's clips as files for other programs: npz episodes, mp4 files, or LeRobot v3.0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

import numpy as np
import pyarrow.parquet  # pyright: ignore[reportMissingTypeStubs]

from reverie.data.index import IMAGE, Clip
from reverie.data.mp4 import DEFAULT_FPS, Mp4Writer, new_mp4
from reverie.data.video_dataset import VideoDataset
from reverie.documents import json_text
from reverie.errors import ConfigError
from reverie.storage import whole_file
from reverie.types import Array, Rows

pa: ModuleType = pyarrow
pq: ModuleType = pyarrow.parquet

Format = Literal["npz", "mp4", "lerobot"]
AT_ONCE = 512
"""Frames of a clip in memory where they go into an mp4."""
CAMERA = "observation.images.image"
LEROBOT_NAMES = {"state": "observation.state", "reward": "next.reward"}
"""What LeRobot calls our columns."""
FIRST = "chunk-000/file-000"


def export(folder: str | Path, out: str | Path, kind: Format) -> int:
    """Write all clips of the data set in `folder` into the new folder `out`.

    `npz` is exact; `mp4` and `lerobot` hold H.264, which is lossy, and the former no actions.

    Returns:
        The number of clips.

    Raises:
        ConfigError: no data set, or `out` is not empty.
    """
    dataset, target = VideoDataset(folder), Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target}: expected a new or empty folder")
    target.mkdir(parents=True, exist_ok=True)
    _WRITERS[kind](dataset, target)
    return len(dataset.clips)


def _write_npz(dataset: VideoDataset, target: Path) -> None:
    for number, clip in enumerate(dataset.clips):
        path = target / f"{clip.name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        data: dict[str, Any] = dataset.window(number, 0, clip.frames)
        data |= {k: v for k, v in (("task", clip.task), ("label", clip.label)) if v is not None}
        with whole_file(path) as file:
            np.savez_compressed(file, **data)


def _write_mp4s(dataset: VideoDataset, target: Path) -> None:
    for number, clip in enumerate(dataset.clips):
        path = target / f"{clip.name}.mp4"
        with new_mp4(path, dataset.shape, clip.fps or DEFAULT_FPS) as writer:
            _copy(dataset, number, clip, writer)


def _copy(dataset: VideoDataset, number: int, clip: Clip, writer: Mp4Writer) -> None:
    for start in range(0, clip.frames, AT_ONCE):
        length = min(AT_ONCE, clip.frames - start)
        writer.add(dataset.window(number, start, length)[IMAGE])


def _write_lerobot(dataset: VideoDataset, target: Path) -> None:
    rates = {clip.fps for clip in dataset.clips}
    if len(rates) > 1:
        raise ConfigError(
            f"{dataset.folder}: a LeRobot data set has one frame rate, got"
            f" {sorted(rate or 0 for rate in rates)}; import with --fps, or export mp4"
        )
    fps = rates.pop() or DEFAULT_FPS
    tasks = list(dict.fromkeys(clip.task or "" for clip in dataset.clips))
    with new_mp4(target / f"videos/{CAMERA}/{FIRST}.mp4", dataset.shape, fps) as writer:
        for number, clip in enumerate(dataset.clips):
            _copy(dataset, number, clip, writer)
    columns = [_episode(dataset, number, tasks, fps) for number in range(len(dataset.clips))]
    rows = {key: np.concatenate([one[key] for one in columns]) for key in columns[0]}
    total = len(rows["index"])
    rows["index"] = np.arange(total)
    _write_table(target / f"data/{FIRST}.parquet", rows)
    _write_table(target / f"meta/episodes/{FIRST}.parquet", _episodes(dataset.clips, fps))
    _write_tasks(target / "meta/tasks.parquet", tasks)
    info = _info(dataset, rows, fps, len(tasks))
    _write_json(target / "meta/info.json", info)
    _write_json(target / "meta/stats.json", _stats(rows))


def _episode(dataset: VideoDataset, number: int, tasks: Sequence[str], fps: float) -> Rows:
    """The rows of one episode."""
    clip = dataset.clips[number]
    steps = np.arange(clip.frames)
    columns = dataset.read_columns(number, 0, clip.frames)
    found = {LEROBOT_NAMES.get(name, name): value for name, value in columns.items()}
    return {
        **found,
        "timestamp": (steps / fps).astype(np.float32),
        "frame_index": steps,
        "episode_index": np.full(clip.frames, number),
        "index": steps,
        "task_index": np.full(clip.frames, tasks.index(clip.task or "")),
    }


def _episodes(clips: Sequence[Clip], fps: float) -> dict[str, Any]:
    stops = np.cumsum([clip.frames for clip in clips])
    starts = stops - [clip.frames for clip in clips]
    none = np.zeros(len(clips), np.int64)
    where = f"videos/{CAMERA}"
    return {
        "episode_index": np.arange(len(clips)),
        "tasks": [[clip.task or ""] for clip in clips],
        "length": stops - starts,
        "data/chunk_index": none,
        "data/file_index": none,
        "dataset_from_index": starts,
        "dataset_to_index": stops,
        f"{where}/chunk_index": none,
        f"{where}/file_index": none,
        f"{where}/from_timestamp": starts / fps,
        f"{where}/to_timestamp": stops / fps,
        "meta/episodes/chunk_index": none,
        "meta/episodes/file_index": none,
    }


def _info(dataset: VideoDataset, rows: Rows, fps: float, tasks: int) -> dict[str, Any]:
    height, width, _ = dataset.shape
    film = {
        "dtype": "video",
        "shape": [height + height % 2, width + width % 2, 3],
        "names": ["height", "width", "channels"],
    }
    names = {LEROBOT_NAMES.get(one.name, one.name): one.names for one in dataset.index.columns}
    features = {key: _feature(value, names.get(key)) for key, value in rows.items()}
    return {
        "codebase_version": "v3.0",
        "robot_type": None,
        "total_episodes": len(dataset.clips),
        "total_frames": len(rows["index"]),
        "total_tasks": tasks,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": int(fps) if fps == int(fps) else fps,
        "splits": {"train": f"0:{len(dataset.clips)}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": {CAMERA: film, **features},
    }


def _feature(value: Array, names: Sequence[str] | None) -> dict[str, Any]:
    shape = list(value.shape[1:]) or [1]
    return {"dtype": str(value.dtype), "shape": shape, "names": list(names) if names else None}


def _stats(rows: Rows) -> dict[str, Any]:
    return {
        key: {
            "min": _flat(value.min(0)),
            "max": _flat(value.max(0)),
            "mean": _flat(value.mean(0, dtype=np.float64)),
            "std": _flat(value.std(0, dtype=np.float64)),
            "count": [len(value)],
        }
        for key, value in rows.items()
    }


def _flat(value: Array) -> list[float]:
    return np.asarray(value).reshape(-1).tolist()


def _write_table(path: Path, columns: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: _arrow(value) for name, value in columns.items()}
    with whole_file(path) as file:
        pq.write_table(pa.table(arrays), file)


def _arrow(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return pa.array(value)
    rows = cast(Array, value)
    plain = pa.array(rows.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(plain, rows.shape[1]) if rows.ndim == 2 else plain


def _write_tasks(path: Path, tasks: Sequence[str]) -> None:
    """The tasks as pandas writes a frame whose index they are: LeRobot looks them up by it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    index = "__index_level_0__"
    table = pa.table({"task_index": np.arange(len(tasks)), index: pa.array(list(tasks))})
    kinds = (("task_index", "task_index", "int64"), (None, index, "unicode"))
    described = [
        {
            "name": name,
            "field_name": field,
            "pandas_type": kind,
            "numpy_type": "int64" if kind == "int64" else "object",
            "metadata": None,
        }
        for name, field, kind in kinds
    ]
    note = {"index_columns": [index], "column_indexes": [], "columns": described}
    with whole_file(path) as file:
        pq.write_table(table.replace_schema_metadata({"pandas": json_text(note)}), file)


def _write_json(path: Path, value: Any) -> None:
    with whole_file(path) as file:
        file.write((json_text(value, indent=2) + "\n").encode())


_WRITERS: dict[Format, Callable[[VideoDataset, Path], None]] = {
    "npz": _write_npz,
    "mp4": _write_mp4s,
    "lerobot": _write_lerobot,
}
