"""Video files: every frame, at its time, upright; and what is broken is told."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reverie.data.options import ImportOptions, make_options
from reverie.data.sources.source import BrokenSource
from reverie.data.sources.video_files import VideoSource
from reverie.data.video_dataset import VideoDataset
from reverie.errors import ConfigError
from reverie.types import Array
from tests.platform.data.films import (
    bring_in,
    names_of,
    numbers_of,
    real_films,
    shown,
    write_film,
)

av = pytest.importorskip("av")


def frames_of(path: Path, options: ImportOptions | None = None) -> Array:
    source = VideoSource(name="x", path=str(path))
    return np.stack(list(source.read(options or ImportOptions()).frames))


def by_pyav(path: Path, size: int) -> Array:
    with av.open(str(path)) as container:
        frames = container.decode(video=0)
        options: dict[str, Any] = {"width": size, "height": size, "interpolation": "AREA"}
        return np.stack([frame.to_ndarray(format="rgb24", **options) for frame in frames])


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".avi"])
def test_every_frame_equals_pyavs_own(suffix: str, tmp_path: Path) -> None:
    write_film(tmp_path / f"v/a{suffix}", range(60))
    bring_in(tmp_path / "v", tmp_path / "data", size=32)
    dataset = VideoDataset(tmp_path / "data")
    found = dataset.window(0, 0, dataset.clips[0].frames)["image"]
    np.testing.assert_array_equal(found, by_pyav(tmp_path / f"v/a{suffix}", 32))
    assert numbers_of(found) == list(range(60))
    assert dataset.clips[0].fps == 25


def test_real_films(tmp_path: Path) -> None:
    films = real_films()
    bring_in(films, tmp_path / "data", size=64)
    dataset = VideoDataset(tmp_path / "data")
    lengths = {clip.name: clip.frames for clip in dataset.clips}
    pair = {"carphone_pristine": 120, "carphone_distorted": 120}
    assert lengths == {"bigbuckbunny": 132, "bikes": 250} | pair
    for number, clip in enumerate(dataset.clips):
        found = dataset.window(number, 0, clip.frames)["image"]
        np.testing.assert_array_equal(found, by_pyav(films / f"{clip.name}.mp4", 64))


def test_skip_then_stride(tmp_path: Path) -> None:
    film = write_film(tmp_path / "a.mp4", range(30))
    assert numbers_of(frames_of(film, make_options(skip=3, stride=5))) == [3, 8, 13, 18, 23, 28]
    aligned = make_options(skip=3, stride=5, aligned=True)
    assert numbers_of(frames_of(film, aligned)) == [5, 10, 15, 20, 25]


@pytest.mark.parametrize(
    ("fps", "skip", "wanted"),
    [
        (25, 0, list(range(20))),
        (10, 0, [0, 2, 5, 7, 10, 12, 15, 17]),
        (10, 4, [4, 6, 9, 11, 14, 16, 19]),
        (50, 17, [17, 17, 18, 18, 19]),
    ],
)
def test_fps_by_timestamps(fps: float, skip: int, wanted: list[int], tmp_path: Path) -> None:
    film = write_film(tmp_path / "a.mp4", range(20), fps=25)
    assert numbers_of(frames_of(film, make_options(fps=fps, skip=skip))) == wanted


def test_the_middle_square_or_all_of_it_squeezed(tmp_path: Path) -> None:
    film = write_film(tmp_path / "a.mp4", [0b00111100])
    bright = [frames_of(film, make_options(size=16, crop=c)).mean() for c in ("centre", "stretch")]
    assert bright[0] > 200
    assert 110 < bright[1] < 145


def test_a_film_held_sideways_is_turned_upright(tmp_path: Path) -> None:
    film = write_film(tmp_path / "a.mp4", [0b00001111, 0b00001111])
    (tmp_path / "c.mp4").write_bytes(_turned(film.read_bytes()))
    upright = frames_of(tmp_path / "c.mp4")
    assert upright.shape == (2, 64, 32, 3)
    halves = upright[0, :32].mean(), upright[0, 32:].mean()
    assert max(halves) > 200
    assert min(halves) < 60
    source = VideoSource(name="c", path=str(tmp_path / "c.mp4"))
    assert source.frame_size() == (64, 32)


def _turned(data: bytes) -> bytes:
    """Write a quarter turn into the display matrix of the track header."""
    unity = b"".join(n.to_bytes(4) for n in (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30))
    turn = (0, 1 << 16, 0, (1 << 32) - (1 << 16), 0, 0, 32 << 16, 0, 1 << 30)
    at = data.index(unity, data.index(b"tkhd"))
    return data[:at] + b"".join(n.to_bytes(4) for n in turn) + data[at + 36 :]


@pytest.mark.parametrize(
    ("suffix", "options", "words"),
    [
        (".mp4", {"movflags": "faststart"}, "cut off: expected 60 frames|cannot be decoded"),
        (".mp4", {}, "cannot be decoded|no video stream in it"),
        (".webm", {}, "cut off: expected 60 frames by its header, got"),
        (".avi", {}, "cut off: expected 60 frames by its header, got"),
    ],
)
def test_a_film_that_was_cut_off_is_broken(
    suffix: str, options: dict[str, str], words: str, tmp_path: Path
) -> None:
    film = write_film(tmp_path / f"a{suffix}", range(60), **options)
    data = film.read_bytes()
    film.write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(BrokenSource, match=words):
        frames_of(film)


def test_what_is_no_video_is_broken(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "b.mp4").write_text("hello")
    with wave.open(str(tmp_path / "c.mp4"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))
    for name, words in (("a", "decoded"), ("b", "decoded"), ("c", "no video stream in it")):
        with pytest.raises(BrokenSource, match=words):
            frames_of(tmp_path / f"{name}.mp4")


def test_names_and_labels_are_those_of_files_and_folders(tmp_path: Path) -> None:
    for name in ("clip10.mp4", "clip2.mp4", "clip2.avi", "dance/x.mp4"):
        write_film(tmp_path / "v" / name, range(3))
    bring_in(tmp_path / "v", tmp_path / "data", size=16)
    clips = VideoDataset(tmp_path / "data").clips
    assert {clip.name: clip.label for clip in clips} == {
        "clip2.avi": None,
        "clip2.mp4": None,
        "clip10": None,
        "dance/x": "dance",
    }
    bring_in(tmp_path / "v", tmp_path / "dance", size=16, labels=("dance",))
    assert names_of(VideoDataset(tmp_path / "dance")) == ["dance/x"]
    with pytest.raises(ConfigError, match="no clip has one of 5, 6; there are: dance"):
        bring_in(tmp_path / "v", tmp_path / "none", size=16, labels=("5", "6"))


def test_one_file_alone(tmp_path: Path) -> None:
    film = write_film(tmp_path / "v/a.mp4", range(4))
    bring_in(film, tmp_path / "data")
    dataset = VideoDataset(tmp_path / "data")
    assert (names_of(dataset), shown(dataset, 0)) == (["a"], [0, 1, 2, 3])
    assert dataset.clips[0].label is None


def test_a_list_says_which_films_and_how_much_of_them(tmp_path: Path) -> None:
    for name in ("1", "2", "3"):
        write_film(tmp_path / f"v/{name}.webm", range(9))
    lines = tmp_path / "list.txt"
    lines.write_text("3 7 93\n1 9 94\n2 3 94\n")
    outcome = bring_in(tmp_path / "v", tmp_path / "data", list_file=lines, size=16, min_frames=4)
    dataset = VideoDataset(tmp_path / "data")
    assert outcome.clips == 2
    assert [(c.name, c.frames, c.label) for c in dataset.clips] == [("3", 7, "93"), ("1", 9, "94")]
    assert shown(dataset, 0) == list(range(7))
    lines.write_text("3 7 93\n1 10 94\n")
    outcome = bring_in(tmp_path / "v", tmp_path / "more", list_file=lines, size=16)
    assert [(f.name, f.reason) for f in outcome.failed] == [
        ("1", "the list gives it 10 frames, got 9")
    ]
    lines.write_text("3 7 93\n8 1 1\n9 1 1\n7 1 1\n6 1 1\n")
    with pytest.raises(ConfigError, match=r"list: 4 of 5 clips are not in .*: 8, 9, 7, \.\.\."):
        bring_in(tmp_path / "v", tmp_path / "none", list_file=lines, size=16)
