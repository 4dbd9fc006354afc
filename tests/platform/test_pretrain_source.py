"""Who grants the batches of a pre-training run."""

from __future__ import annotations

import pytest

from reverie.pretrain_source import PretrainSource
from reverie.protocols import StreamSpec


def make(updates: int = 5, num_loaders: int = 3) -> PretrainSource:
    specs = {"video": StreamSpec(batch_size=7, batch_length=4)}
    return PretrainSource(specs, updates=updates, num_loaders=num_loaders)


def test_all_batches_are_owed_from_the_start_and_none_beyond() -> None:
    source = make()
    grants = [source.request_batch() for _ in range(6)]
    assert [grant and grant.number for grant in grants] == [0, 1, 2, 3, 4, None]
    assert not source.finished()
    for number in range(5):
        source.batch_trained(number)
    assert source.finished()
    assert source.counters().trained_steps == 5 * 7 * 4
    assert source.counters().env_steps == 0


def test_each_loader_brings_the_same_slots_of_every_batch() -> None:
    source = make()
    draws = [source.request_batch().draws for _ in range(5)]  # pyright: ignore
    assert draws == [{"video": [2, 2, 3]}] * 5


def test_a_saved_source_goes_on_and_may_get_a_larger_budget() -> None:
    source = make()
    for number in range(3):
        source.request_batch()
        source.batch_trained(number)
    source.request_batch()  # in flight: counts as never granted
    later = make(updates=9)
    later.load_state_dict(source.state_dict())
    assert later.request_batch().number == 3  # pyright: ignore


def test_after_a_rewind_batches_are_owed_anew() -> None:
    source = make()
    for number in range(4):
        source.request_batch()
        source.batch_trained(number)
    source.request_batch()
    source.rewind(2)
    assert source.counters().grad_updates == 2
    assert source.request_batch().number == 2  # pyright: ignore
    with pytest.raises(ValueError, match="rewind: expected at most the 2 trained, got 3"):
        source.rewind(3)
