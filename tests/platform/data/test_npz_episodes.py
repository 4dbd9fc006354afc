"""npz episodes, among them demonstrations in a layout of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reverie.data.video_dataset import VideoDataset
from reverie.errors import ConfigError
from tests.conftest import SHARED
from tests.platform.data.films import bring_in, numbered, shown, write_episode


def test_keys_may_be_named(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float64)
    (tmp_path / "v").mkdir()
    np.savez(
        tmp_path / "v/a.npz",
        pixels=numbered(range(6)).astype(np.int64),
        move=values[:, None],
        score=values[:, None] * 2,
    )
    keys = {"image_key": "pixels", "action_key": "move", "reward_key": "score"}
    bring_in(tmp_path / "v", tmp_path / "data", stride=2, size=16, **keys)
    dataset = VideoDataset(tmp_path / "data")
    assert shown(dataset, 0) == [0, 2, 4]
    window = dataset.window(0, 0, 3)
    assert window["action"].tolist() == [[0], [2], [4]]
    assert window["reward"].tolist() == [0, 4, 8]


def test_demonstrations_of_ivideogpt(tmp_path: Path) -> None:
    frames = numbered(range(5), 64).transpose(0, 3, 1, 2)
    stacked = np.concatenate([frames[[0, 0, 0, 1, 2]], frames[[0, 0, 1, 2, 3]], frames], axis=1)
    values = np.array([0, 1, 2, 3, 4], np.float32)[:, None]
    data = {"observation": stacked, "action": values, "reward": values, "discount": values}
    (tmp_path / "v").mkdir()
    np.savez(tmp_path / "v/a.npz", **data)
    bring_in(tmp_path / "v", tmp_path / "data", preset="ivideogpt_demos")
    dataset = VideoDataset(tmp_path / "data")
    assert shown(dataset, 0) == list(range(5))
    window = dataset.window(0, 0, 5)
    # The action in a row of the file led to its image; ours is the one chosen there.
    assert window["action"][:, 0].tolist() == [1, 2, 3, 4, 0]
    assert window["reward"].tolist() == [0, 1, 2, 3, 4]


def test_real_demonstrations(tmp_path: Path) -> None:
    demos = SHARED / "data/metaworld_demos"
    if not demos.is_dir():
        pytest.skip(f"needs the demonstrations of iVideoGPT in {demos}")
    outcome = bring_in(demos / "hammer", tmp_path / "data", preset="ivideogpt_demos")
    assert (outcome.clips, outcome.frames) == (5, 505)
    dataset = VideoDataset(tmp_path / "data")
    assert (dataset.shape, dataset.action_width) == ((64, 64, 3), 4)
    window = dataset.window(0, 0, 101)
    with np.load(demos / "hammer/20240513T151545_0_100.npz") as file:
        np.testing.assert_array_equal(window["action"][:-1], file["action"][1:])
        frames = file["observation"][:, -3:].transpose(0, 2, 3, 1)
        np.testing.assert_array_equal(window["image"], frames)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"picture": np.zeros(3)}, "no 'image' in it; name the key"),
        ({"image": np.zeros((4, 8, 8), np.uint8)}, r"expected whole numbers \[T, H, W, 3\]"),
        ({"image": np.zeros((4, 8, 8, 3), np.float32)}, "expected whole numbers"),
        ({"image": np.full((4, 8, 8, 3), 256)}, "expected 0 to 255, got 256"),
        (
            {"image": np.zeros((4, 8, 8, 3), np.uint8), "action": np.zeros((5, 2))},
            "action: expected 4 rows as of images, got 5",
        ),
        ({"image": np.zeros((0, 8, 8, 3), np.uint8)}, "no frame in it|none of 1 sources"),
        ({"image": np.array([{}], object)}, "no npz file"),
    ],
)
def test_what_cannot_be_used_says_why(
    data: dict[str, np.ndarray], words: str, tmp_path: Path
) -> None:
    (tmp_path / "v").mkdir()
    np.savez(tmp_path / "v/a.npz", **data)
    with pytest.raises(ConfigError, match=words):
        bring_in(tmp_path / "v", tmp_path / "data")
    write_episode(tmp_path / "v/fine.npz", range(3), width=2)
    outcome = bring_in(tmp_path / "v", tmp_path / "data2", size=8)
    assert outcome.clips == 1
    assert [failure.name for failure in outcome.failed] == ["a"]


def test_other_columns_than_the_first_has(tmp_path: Path) -> None:
    write_episode(tmp_path / "v/a.npz", range(3), width=2)
    write_episode(tmp_path / "v/b.npz", range(3), width=4)
    (failure,) = bring_in(tmp_path / "v", tmp_path / "data").failed
    assert failure.reason == (
        "expected values of widths {'action': 2, 'reward': 0}, got {'action': 4, 'reward': 0}"
    )


def test_fps_needs_timestamps(tmp_path: Path) -> None:
    write_episode(tmp_path / "v/a.npz", range(3))
    with pytest.raises(ConfigError, match="no timestamps for --fps"):
        bring_in(tmp_path / "v", tmp_path / "data", fps=5.0)
