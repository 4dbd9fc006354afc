"""Draws: uniform over clips and starts, by weights over data sets, the same for whoever asks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from reverie.data.video_dataset import VideoDataset
from reverie.data.video_sampler import VideoSampler, name_share
from reverie.errors import ConfigError
from tests.platform.data.films import bring_in, numbers_of, write_episode, write_film

LENGTHS = [6, 10, 8, 5, 30, 9]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> VideoDataset:
    folder = tmp_path_factory.mktemp("sampler")
    start = 0
    for index, length in enumerate(LENGTHS):
        write_episode(folder / f"npz/clip{index}.npz", range(start, start + length))
        start += length
    bring_in(folder / "npz", folder / "data")
    return VideoDataset(folder / "data")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> VideoDataset:
    folder = tmp_path_factory.mktemp("other")
    for index in range(3):
        write_episode(folder / f"npz/other{index}.npz", range(100, 120), width=0)
    bring_in(folder / "npz", folder / "data")
    return VideoDataset(folder / "data")


def sampler(
    *datasets: VideoDataset, length: int = 5, seed: int = 0, **more: object
) -> VideoSampler:
    return VideoSampler(datasets, length=length, seed=seed, **more)  # type: ignore[arg-type]


def far_from_uniform(counts: list[int], shares: list[float]) -> float:
    """Chi-square over its degrees of freedom; about 1 where the shares are true."""
    total = sum(counts)
    squares = [(c - total * s) ** 2 / (total * s) for c, s in zip(counts, shares, strict=True)]
    return sum(squares) / (len(counts) - 1)


def test_a_batch_has_the_form_that_agents_train_on(data: VideoDataset) -> None:
    batch = sampler(data).draw(3, range(4, 7))
    forms = {key: (value.shape, str(value.dtype)) for key, value in batch.items()}
    assert forms == {
        "image": ((3, 5, 32, 64, 3), "uint8"),
        "is_first": ((3, 5), "bool"),
        "action": ((3, 5, 2), "float32"),
    }
    np.testing.assert_array_equal(batch["is_first"], [[True, False, False, False, False]] * 3)


def test_a_window_is_contiguous_and_of_one_clip(data: VideoDataset) -> None:
    draws = sampler(data, holdout=0.0)
    starts = np.cumsum([0, *LENGTHS])
    for number in range(20):
        batch = draws.draw(number, range(8))
        for slot in range(8):
            _, clip, start = draws.where(number, slot)
            first = starts[clip] + start
            wanted = list(range(first, first + 5))
            assert numbers_of(batch["image"][slot]) == wanted
            assert batch["action"][slot, :, 0].tolist() == wanted
            assert wanted[-1] < starts[clip + 1]


def test_clips_and_starts_are_uniform(data: VideoDataset) -> None:
    draws = sampler(data, holdout=0.0)
    places = [draws.where(number, slot) for number in range(300) for slot in range(16)]
    clips = Counter(clip for _, clip, _ in places)
    assert far_from_uniform([clips[i] for i in range(6)], [1 / 6] * 6) < 3
    starts = Counter(start for _, clip, start in places if clip == 4)
    assert far_from_uniform([starts[i] for i in range(26)], [1 / 26] * 26) < 2


def test_a_mixture_draws_the_data_set_by_weights(data: VideoDataset, other: VideoDataset) -> None:
    draws = sampler(data, other, weights=[3, 1])
    which = Counter(draws.where(n, s)[0] for n in range(200) for s in range(16))
    assert far_from_uniform([which[0], which[1]], [0.75, 0.25]) < 6
    equal = sampler(data, other)
    which = Counter(equal.where(n, s)[0] for n in range(200) for s in range(16))
    assert far_from_uniform([which[0], which[1]], [0.5, 0.5]) < 6
    only = sampler(data, other, weights=[0, 2])
    assert {only.where(n, 0)[0] for n in range(50)} == {1}


def test_who_asks_and_in_which_order_changes_nothing(
    data: VideoDataset, other: VideoDataset
) -> None:
    whole = sampler(data, other).draw(7, range(16))
    for loaders in (2, 4):
        size = 16 // loaders
        fresh = [sampler(data, other) for _ in range(loaders)]
        fresh[0].draw(99, range(3))
        parts = [
            one.draw(7, range(i * size, (i + 1) * size)) for i, one in reversed([*enumerate(fresh)])
        ][::-1]
        for key, value in whole.items():
            np.testing.assert_array_equal(np.concatenate([part[key] for part in parts]), value)


def test_seeds_batches_and_slots_draw_apart(data: VideoDataset) -> None:
    places = [
        tuple(sampler(data, seed=seed).where(number, slot) for slot in slots)
        for seed, number, slots in (
            (0, 0, range(32)),
            (1, 0, range(32)),
            (0, 1, range(32)),
            (0, 0, range(32, 64)),
        )
    ]
    assert len(set(places)) == 4


def test_these_draws_never_change(data: VideoDataset) -> None:
    """A checkpoint goes on with them: another generator would break every run that is resumed."""
    draws = sampler(data, holdout=0.0, seed=3)
    assert [draws.where(number, 1)[1:] for number in range(4)] == RECORDED


def test_what_is_held_out_is_never_trained_on(data: VideoDataset) -> None:
    both = [sampler(data, holdout=0.3, held_out=out).clips(0) for out in (False, True)]
    trained, held = map(set, both)
    assert trained | held == set(range(6))
    assert not trained & held
    assert trained
    share = sorted(name_share(f"clip{i}") for i in range(6))[2] + 1e-9
    three = {i for i in range(6) if name_share(f"clip{i}") < share}
    assert len(three) == 3
    assert set(sampler(data, holdout=share, held_out=True).clips(0)) == three


def test_one_clip_at_least_is_held_out_and_one_is_trained_on(
    data: VideoDataset, other: VideoDataset
) -> None:
    held = [sampler(data, other, holdout=1e-9, held_out=True).count(i) for i in (0, 1)]
    assert sum(held) == 1
    left = [sampler(data, other, holdout=0.999).count(i) for i in (0, 1)]
    assert left == [1, 1]
    assert {sampler(data, other, holdout=1e-9, held_out=True).where(n, 0)[0] for n in range(9)} == {
        held.index(1)
    }


def test_clips_that_are_too_short_are_left_out(data: VideoDataset) -> None:
    assert sampler(data, length=9, holdout=0.0).clips(0) == [1, 4, 5]
    with pytest.raises(ConfigError, match=r"31 frames do not fit .* the longest has 30 frames"):
        sampler(data, length=31)
    with pytest.raises(ConfigError, match=r"data\.holdout: expected two clips"):
        sampler(data, length=30)
    assert sampler(data, length=30, holdout=0.0).where(5, 2) == (0, 4, 0)


def test_actions_that_mean_different_things_are_left_out(
    data: VideoDataset, other: VideoDataset
) -> None:
    draws = sampler(data, other)
    assert draws.action_width == 0
    assert draws.draw(0, range(2))["action"].shape == (2, 5, 0)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([1], r"expected one per data set \(2\), got 1"),
        ([1, 2, 3], r"expected one per data set \(2\), got 3"),
        ([1, -1], "expected numbers of at least 0"),
        ([0, 0], "one of them more"),
        ([1, float("nan")], "expected numbers"),
    ],
)
def test_weights_that_do_not_fit(
    weights: list[float], words: str, data: VideoDataset, other: VideoDataset
) -> None:
    with pytest.raises(ConfigError, match=words):
        sampler(data, other, weights=weights)


@pytest.mark.parametrize("holdout", [-0.1, 1.0, float("nan")])
def test_a_holdout_that_is_no_share(holdout: float, data: VideoDataset) -> None:
    with pytest.raises(ConfigError, match=r"data\.holdout: expected a share"):
        sampler(data, holdout=holdout)


def test_nothing_held_out_cannot_be_drawn(data: VideoDataset) -> None:
    with pytest.raises(ConfigError, match="no clip is held out"):
        sampler(data, holdout=0.0, held_out=True)


def test_other_shapes_are_refused(data: VideoDataset, tmp_path: Path) -> None:
    write_film(tmp_path / "v/a.mp4", range(9))
    bring_in(tmp_path / "v", tmp_path / "data", size=16)
    small = VideoDataset(tmp_path / "data")
    with pytest.raises(ConfigError, match=r"one shape, got \(32, 64, 3\) in .* and \(16, 16, 3\)"):
        sampler(data, small)
    with pytest.raises(ConfigError, match="at least one data set"):
        sampler()


def test_labels(tmp_path: Path) -> None:
    for label in ("93", "94", "7"):
        for index in range(2):
            write_film(tmp_path / f"v/{label}/{label}_{index}.mp4", range(6))
    bring_in(tmp_path / "v", tmp_path / "data", size=16)
    dataset = VideoDataset(tmp_path / "data")
    draws = sampler(dataset, labels=[93, "94"], holdout=0.0)
    assert {dataset.clips[i].label for i in draws.clips(0)} == {"93", "94"}
    with pytest.raises(ConfigError, match=r"data\.labels: no clip of .* has one of \['5'\]"):
        sampler(dataset, labels=["5"])


RECORDED = [(4, 22), (2, 0), (4, 22), (4, 25)]
