"""Videos: what is decoded again is what was written."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from reverie.video import (
    filmstrip,
    is_blank,
    shrunk,
    side_by_side,
    visible,
    watchable_fps,
    with_pauses,
    write_picture,
    write_video,
)


def gradients(count: int, height: int, width: int) -> NDArray[np.uint8]:
    """Smooth frames, each of another brightness, redder to the right and greener downwards."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[..., 0] = np.linspace(40, 200, width)
    frames[..., 1] = np.linspace(40, 200, height)[:, None]
    frames[..., 2] = np.linspace(40, 200, count)[:, None, None]
    return frames


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((64, 64), (256, 256)),
        ((301, 403), (302, 404)),
        ((63, 90), (316, 450)),
        ((3, 5), (258, 430)),
    ],
)
def test_mp4_decodes_to_what_was_written(
    tmp_path: Path, size: tuple[int, int], shown: tuple[int, int]
) -> None:
    av = pytest.importorskip("av")
    frames = gradients(6, *size)
    path = write_video(tmp_path / "new" / "v.mp4", frames, fps=12.5)
    assert os.listdir(path.parent) == ["v.mp4"]
    with av.open(str(path)) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == 12.5
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert [frame.shape for frame in decoded] == [(*shown, 3)] * 6
    factor = shown[0] // size[0]
    for frame, wanted in zip(decoded, frames, strict=True):
        seen = frame[factor // 2 :: factor, factor // 2 :: factor][: size[0], : size[1]]
        assert np.abs(seen.astype(int) - wanted).mean() < 3
        edges = (
            (frame[-1], frame[size[0] * factor - 1]),
            (frame[:, -1], frame[:, size[1] * factor - 1]),
        )
        for padded, last in edges:
            assert np.abs(padded.astype(int) - last).mean() < 4


def test_without_av_a_gif_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from PIL import Image

    monkeypatch.setitem(sys.modules, "av", None)
    frames = gradients(4, 64, 64)
    with caplog.at_level(logging.INFO):
        path = write_video(tmp_path / "v.mp4", frames, fps=10)
    assert path == tmp_path / "v.gif"
    assert os.listdir(tmp_path) == ["v.gif"]
    assert 'pip install "reverie[video]"' in caplog.text
    with Image.open(path) as image:
        assert (image.n_frames, image.size, image.info["duration"]) == (4, (256, 256), 100)
        image.seek(3)
        seen = np.asarray(image.convert("RGB"))[2::4, 2::4]
    assert np.abs(seen.astype(int) - frames[3]).mean() < 12


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((0, 8, 8, 3), np.uint8),
        np.zeros((2, 8, 8, 1), np.uint8),
        np.zeros((2, 8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.uint8),
    ],
)
def test_frames_of_another_form_are_refused(tmp_path: Path, frames: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[T, H, W, 3\]"):
        write_video(tmp_path / "v.mp4", frames, fps=10)
    with pytest.raises(ValueError, match=r"expected uint8 \[T, H, W, 3\]"):
        filmstrip(frames, 2)


def test_fps_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 0"):
        write_video(tmp_path / "v.mp4", gradients(1, 8, 8), fps=0)


def test_failed_write_leaves_nothing_and_keeps_the_older_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("av")
    write_video(tmp_path / "v.mp4", gradients(1, 8, 8), fps=10)
    before = (tmp_path / "v.mp4").read_bytes()

    def fail(tmp: Path, path: Path) -> None:
        assert tmp.stat().st_size > 0
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_video(tmp_path / "v.mp4", gradients(2, 8, 8), fps=10)
    assert os.listdir(tmp_path) == ["v.mp4"]
    assert (tmp_path / "v.mp4").read_bytes() == before


@pytest.mark.parametrize(("count", "picks"), [(3, [0, 5, 10]), (1, [0]), (50, list(range(11)))])
def test_filmstrip_is_evenly_spaced(count: int, picks: list[int]) -> None:
    frames = np.arange(11, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 3), np.uint8)
    strip = filmstrip(frames, count)
    assert strip.shape == (2, 3 * len(picks), 3)
    assert strip[0, ::3, 0].tolist() == picks


def test_depth_is_stretched_from_black_to_white_and_infinity_is_white() -> None:
    depth = np.array([1.0, 2.0, 3.0, np.inf], np.float32).reshape(2, 1, 2, 1)
    assert visible(depth)[..., 0].ravel().tolist() == [0, 128, 255, 255]
    millimetres = np.array([500, 900], np.uint16).reshape(1, 1, 2, 1)
    assert visible(millimetres)[..., 1].ravel().tolist() == [0, 255]
    assert visible(np.full((2, 1, 1, 1), 7.0, np.float32)).ravel().tolist() == [0] * 6


@pytest.mark.parametrize(
    ("channels", "seen"), [(1, [9] * 3), (2, [8] * 3), (3, [9, 8, 7]), (4, [9, 8, 7])]
)
def test_any_number_of_channels_becomes_a_picture(channels: int, seen: list[int]) -> None:
    film = np.arange(9, 9 - channels, -1, dtype=np.uint8) * np.ones((2, 4, 4, 1), np.uint8)
    assert visible(film)[1, 2, 3].tolist() == seen


def test_cameras_of_other_sizes_stand_side_by_side_with_a_line_between() -> None:
    large = np.full((2, 64, 64, 3), 1, np.uint8)
    small = np.full((2, 24, 20, 1), 2, np.uint8)
    film = side_by_side({"large": large, "small": small})
    assert film.shape == (2, 64, 64 + 2 + 40, 3)
    assert (film[:, :, :64] == 1).all()
    assert (film[:, :, 64:66] == 128).all()
    assert (film[:, :48, 66:] == 2).all()
    assert (film[:, 48:, 66:] == 0).all()
    assert (side_by_side({"large": large}) == large).all()


def test_blank_films_are_seen_as_such() -> None:
    film = np.full((3, 4, 4, 3), (9, 0, 0), np.uint8)
    assert is_blank(film)
    film[2, 3, 3, 2] = 1
    assert not is_blank(film)


def test_frames_shrink_by_averaging_whole_blocks() -> None:
    frame = np.zeros((600, 1200, 3), np.uint8)
    frame[:, ::2] = 100
    small = shrunk(frame, 512)
    assert small.shape == (200, 400, 3)
    assert {33, 67} == set(small.ravel().tolist())
    assert shrunk(frame, 1200) is frame


def test_the_last_frame_of_each_film_stays() -> None:
    film = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 1, 3), np.uint8)
    assert with_pauses([film, film[:1]], 2)[:, 0, 0, 0].tolist() == [0, 1, 2, 2, 2, 0, 0, 0]


@pytest.mark.parametrize(("count", "fps"), [(1, 4), (60, 15), (2000, 30)])
def test_short_films_are_slower(count: int, fps: float) -> None:
    assert watchable_fps(count) == fps


def test_pictures_are_written_as_they_are(tmp_path: Path) -> None:
    from PIL import Image

    picture = gradients(1, 5, 7)[0]
    path = write_picture(tmp_path / "new" / "x.png", picture)
    with Image.open(path) as found:
        assert (np.asarray(found) == picture).all()
