"""Numbered pictures: the namings of SSv2, Human3.6M and YouTube Driving, and their lists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reverie.data.options import PRESETS, make_options
from reverie.data.sources.frame_folders import FrameSource, find
from reverie.data.video_dataset import VideoDataset
from reverie.errors import ConfigError
from tests.platform.data.films import bring_in, names_of, numbered, shown, write_pictures

cv2 = pytest.importorskip("cv2")
SMALL = {"size": 16, "min_frames": 1}


def test_ssv2_counts_from_one(tmp_path: Path) -> None:
    for clip, first in (("78687", 0), ("42326", 50)):
        names = [f"{number:06d}.jpg" for number in range(1, 9)]
        write_pictures(tmp_path / "v" / clip, names, range(first, first + 8))
    lines = tmp_path / "list.txt"
    lines.write_text("78687 8 19\n42326 6 141\n")
    bring_in(tmp_path / "v", tmp_path / "data", preset="ssv2", list_file=lines, **SMALL)
    dataset = VideoDataset(tmp_path / "data")
    found = [(clip.name, clip.label, shown(dataset, i)) for i, clip in enumerate(dataset.clips)]
    assert found == [("78687", "19", list(range(8))), ("42326", "141", list(range(50, 56)))]


def test_human36m_keeps_every_fifth_number(tmp_path: Path) -> None:
    for title, first in (("S11_Directions.550", 0), ("S9_Walking.601", 100)):
        names = [f"{title}_{number:06d}.jpg" for number in range(1, 32)]
        write_pictures(tmp_path / "v", names, range(first, first + 31))
    lines = tmp_path / "list.txt"
    lines.write_text("S9_Walking.601 7 Walking\n")
    for listed in (lines, None):
        target = tmp_path / f"data{listed is None}"
        bring_in(tmp_path / "v", target, preset="human36m", list_file=listed, **SMALL)
        dataset = VideoDataset(target)
        walking = names_of(dataset).index("S9_Walking.601")
        assert shown(dataset, walking) == [100, 105, 110, 115, 120, 125, 130]
        assert len(dataset.clips) == 1 + (listed is None)


def test_youtube_driving_cuts_at_gaps_and_skips_99_of_each_run(tmp_path: Path) -> None:
    runs = [*range(3, 113), *range(150, 160), *range(201, 326)]
    write_pictures(tmp_path / "v/dir-7", [f"{n}.jpg" for n in runs], [n // 5 for n in runs], 64)
    bring_in(tmp_path / "v", tmp_path / "data", preset="youtube_driving", **SMALL)
    dataset = VideoDataset(tmp_path / "data")
    # Run 0 begins at 3: 3 + 99 = 102 and later multiples of 5; run 1 is too short; run 2: 300 on.
    assert names_of(dataset) == ["dir-7_0", "dir-7_2"]
    assert shown(dataset, 0) == [105 // 5, 110 // 5]
    assert shown(dataset, 1) == [300 // 5, 305 // 5, 310 // 5, 315 // 5, 320 // 5, 325 // 5]


def test_what_its_list_names_was_cut_before(tmp_path: Path) -> None:
    write_pictures(tmp_path / "v/dir-7_0", [f"{n}.jpg" for n in range(12)], range(12), 64)
    lines = tmp_path / "list.txt"
    lines.write_text("dir-7_0 11 None\n")
    preset = "youtube_driving"
    bring_in(tmp_path / "v", tmp_path / "data", preset=preset, list_file=lines, **SMALL)
    dataset = VideoDataset(tmp_path / "data")
    assert shown(dataset, 0) == list(range(11))
    assert dataset.clips[0].label is None


def test_presets_are_those_of_the_publication() -> None:
    sizes = {name: PRESETS[name]["size"] for name in ("ssv2", "human36m", "youtube_driving")}
    assert set(sizes.values()) == {64}
    driving = make_options("youtube_driving")
    assert [n for n in range(120) if driving.keeps(n, n)] == [100, 105, 110, 115]
    assert make_options("ssv2", size=32).size == 32
    with pytest.raises(ConfigError, match="preset: expected one of"):
        make_options("imagenet")


def test_pictures_are_read_as_they_are(tmp_path: Path) -> None:
    write_pictures(tmp_path / "v/a", [f"f{n}.png" for n in range(9, 12)], range(9, 12))
    bring_in(tmp_path / "v", tmp_path / "data")
    dataset = VideoDataset(tmp_path / "data")
    np.testing.assert_array_equal(dataset.window(0, 0, 3)["image"], numbered([9, 10, 11]))


def test_a_gap_cuts_but_even_steps_do_not(tmp_path: Path) -> None:
    def found(numbers: list[int]) -> dict[str, list[int]]:
        for path in tmp_path.rglob("*.jpg"):
            path.unlink()
        write_pictures(tmp_path / "a/b", [f"{n}.jpg" for n in numbers], [0] * len(numbers))
        sources = find(tmp_path, make_options())
        assert {source.label for source in sources} == {"a"}
        return {source.name: list(source.frames.numbers) for source in sources}

    assert found([10, 15, 20, 25]) == {"a/b": [10, 15, 20, 25]}
    assert found([1, 2, 3, 7, 8]) == {"a/b_0": [1, 2, 3], "a/b_1": [7, 8]}


def test_even_numbers_take_little_memory(tmp_path: Path) -> None:
    write_pictures(tmp_path / "a", [f"{n:05d}.jpg" for n in range(5)], range(5))
    (source,) = find(tmp_path, make_options())
    assert isinstance(source, FrameSource)
    assert source.frames.numbers == range(5)
    assert source.frames.path(3).endswith("a/00003.jpg")


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    for clip in "abcd":
        write_pictures(tmp_path / "v" / clip, [f"{n}.jpg" for n in range(5)], range(5))
    return tmp_path / "list.txt"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("a 5 0\nx 5 0\ny 5 0\nz 5 0\nw 5 0", r"4 of 5 clips are not in .*: x, y, z, \.\.\."),
        ("a 6 0\nb 5 0\nc 9 0", r"2 of 3 clips have fewer .*: a \(5 of 6\), c \(5 of 9\)"),
        ("a 5 0\nb 5 0\na 5 0", "a is in it twice"),
        ("a 5 0\nb", "line 2: expected `name frames label`, got 'b'"),
        ("a five 0", "line 1: expected `name frames label`"),
    ],
)
def test_a_list_that_does_not_fit(lines: str, words: str, listed: Path, tmp_path: Path) -> None:
    listed.write_text(lines)
    with pytest.raises(ConfigError, match=words):
        bring_in(tmp_path / "v", tmp_path / "data", list_file=listed, size=16)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"labels": ("7",)}, "no clip has one of 7; there are: 0, 1"),
        ({"min_frames": 9}, "no clip has 9 frames; the longest has 5"),
    ],
)
def test_a_filter_that_leaves_nothing(
    options: dict[str, object], words: str, listed: Path, tmp_path: Path
) -> None:
    listed.write_text("a 5 0\nb 4 1\n")
    with pytest.raises(ConfigError, match=words):
        bring_in(tmp_path / "v", tmp_path / "data", list_file=listed, size=16, **options)


def test_a_gap_ends_what_a_list_may_name(listed: Path, tmp_path: Path) -> None:
    (tmp_path / "v/a/2.jpg").unlink()
    listed.write_text("a 4 0\n")
    with pytest.raises(ConfigError, match=r"a \(2 of 4\)"):
        bring_in(tmp_path / "v", tmp_path / "data", list_file=listed, size=16)


def test_a_picture_that_cannot_be_read_breaks_its_clip_only(listed: Path, tmp_path: Path) -> None:
    (tmp_path / "v/b/3.jpg").write_bytes(b"no picture")
    (tmp_path / "v/c/3.jpg").write_bytes(b"")
    outcome = bring_in(tmp_path / "v", tmp_path / "data", size=16)
    assert [(f.name, f.reason) for f in outcome.failed] == [
        (name, "3.jpg: no picture that can be read") for name in ("b", "c")
    ]
    assert names_of(VideoDataset(tmp_path / "data")) == ["a", "d"]
