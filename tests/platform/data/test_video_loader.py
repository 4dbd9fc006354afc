"""A loader brings its share of each batch, and all shares together are the batch."""

from __future__ import annotations

import numpy as np
import pytest

from reverie.data.video_loader import HELD_OUT, VideoLoader, shares
from reverie.protocols import StreamSpec
from reverie.settings import DataConfig
from reverie.types import Window
from tests.videos import moving_squares

SPECS = {"video": StreamSpec(batch_size=7, batch_length=4)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    folder = moving_squares(tmp_path_factory.mktemp("video"))
    return DataConfig(folders=(str(folder),), holdout=0.2)


def batch(data: DataConfig, count: int, name: str, number: int) -> list[Window]:
    found: list[Window] = []
    for index, share in enumerate(shares(7, count)):
        loader = VideoLoader(data, SPECS, seed=3, index=index, count=count)
        found += loader.sample(name, share, number, 0)
    return found


@pytest.mark.parametrize("name", ["video", HELD_OUT + "video"])
def test_any_number_of_loaders_brings_the_same_batch(name: str, data: DataConfig) -> None:
    whole = batch(data, 1, name, 11)
    assert len(whole) == 7
    for count in (2, 3, 9):
        for one, other in zip(batch(data, count, name, 11), whole, strict=True):
            assert one[0][:2] == other[0][:2]
            for key, value in one[0].data.items():
                np.testing.assert_array_equal(value, other[0].data[key])


def test_slots_are_a_part_of_the_share(data: DataConfig) -> None:
    loader = VideoLoader(data, SPECS, seed=3, index=1, count=2)
    whole = loader.sample("video", 4, 5, 0)
    part = loader.sample("video", 4, 5, 0, range(1, 3))
    assert [piece[:2] for (piece,) in part] == [piece[:2] for (piece,) in whole[1:3]]
    assert loader.stats() == {"windows": 6}


def test_shares_add_up() -> None:
    assert shares(16, 4) == [4, 4, 4, 4]
    assert shares(7, 3) == [2, 2, 3]
    assert shares(2, 4) == [0, 1, 0, 1]
