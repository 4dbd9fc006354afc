"""Clips as files for other programs, and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from reverie.data.export import export
from reverie.data.video_dataset import VideoDataset
from reverie.errors import ConfigError
from tests.platform.data.films import (
    TOP,
    bring_in,
    names_of,
    shown,
    write_episode,
    write_film,
    write_lerobot,
)


def test_npz_is_exact(tmp_path: Path) -> None:
    for name, start in (("a", 0), ("sub/b", 40)):
        write_episode(tmp_path / f"v/{name}.npz", range(start, start + 9))
    bring_in(tmp_path / "v", tmp_path / "data")
    assert export(tmp_path / "data", tmp_path / "out", "npz") == 2
    bring_in(tmp_path / "out", tmp_path / "back")
    before, after = VideoDataset(tmp_path / "data"), VideoDataset(tmp_path / "back")
    assert names_of(before) == names_of(after) == ["a", "sub/b"]
    assert [clip.crc32 for clip in before.clips] == [clip.crc32 for clip in after.clips]


def test_mp4s_show_the_same_frames_at_the_same_rate(tmp_path: Path) -> None:
    pytest.importorskip("av")
    for name, fps in (("a", 10), ("b", 25)):
        write_film(tmp_path / f"v/{name}.mp4", range(20), fps)
    bring_in(tmp_path / "v", tmp_path / "data")
    export(tmp_path / "data", tmp_path / "out", "mp4")
    bring_in(tmp_path / "out", tmp_path / "back")
    dataset = VideoDataset(tmp_path / "back")
    assert [(clip.name, clip.fps, clip.frames) for clip in dataset.clips] == [
        ("a", 10, 20),
        ("b", 25, 20),
    ]
    assert shown(dataset, 1) == list(range(20))
    with pytest.raises(ConfigError, match=r"one frame rate, got \[10.0, 25.0\]"):
        export(tmp_path / "data", tmp_path / "robot", "lerobot")


def test_lerobot_and_back(tmp_path: Path) -> None:
    pytest.importorskip("av")
    robot = write_lerobot(tmp_path / "robot", "v2.1")
    options = {"camera": TOP, "reward_key": "next.reward"}
    bring_in(robot, tmp_path / "data", **options)
    export(tmp_path / "data", tmp_path / "out", "lerobot")
    bring_in(tmp_path / "out", tmp_path / "back", reward_key="next.reward")
    before, after = VideoDataset(tmp_path / "data"), VideoDataset(tmp_path / "back")
    for number, clip in enumerate(before.clips):
        assert shown(after, number) == shown(before, number)
        same = before.read_columns(number, 0, clip.frames)
        for key, value in after.read_columns(number, 0, clip.frames).items():
            np.testing.assert_array_equal(value, same[key])
        assert after.clips[number].task == clip.task
    info = json.loads((tmp_path / "out/meta/info.json").read_text())
    assert (info["codebase_version"], info["total_frames"], info["fps"]) == ("v3.0", 28, 10)
    assert info["features"]["action"]["names"] == ["x", "gripper"]
    stats = json.loads((tmp_path / "out/meta/stats.json").read_text())
    assert stats["action"]["max"] == [27, 0]
    tasks = pq.read_table(tmp_path / "out/meta/tasks.parquet").to_pydict()
    assert tasks["task_index"] == [0, 1]


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    write_episode(tmp_path / "v/a.npz", range(3))
    bring_in(tmp_path / "v", tmp_path / "data")
    with pytest.raises(ConfigError, match="expected a new or empty folder"):
        export(tmp_path / "data", tmp_path / "v", "npz")
    with pytest.raises(ConfigError, match="no data set"):
        export(tmp_path / "v", tmp_path / "out", "npz")
    assert not (tmp_path / "out").exists()
