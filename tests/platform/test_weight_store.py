"""Which weights a worker gets, and which an evaluation keeps."""

from __future__ import annotations

import numpy as np

from reverie.types import Version
from reverie.weight_store import WeightStore


def weights(value: float) -> dict[str, np.ndarray]:
    return {"w": np.full(2, value)}


def test_an_empty_store_has_nothing_newer() -> None:
    assert WeightStore().newer_than(None) is None


def test_only_newer_weights_are_handed_out() -> None:
    store = WeightStore()
    store.publish(Version(0, 3), weights(3))
    version, state = store.newer_than(None)
    assert version == Version(0, 3)
    assert state["w"][0] == 3
    assert store.newer_than(Version(0, 2))[0] == Version(0, 3)
    assert store.newer_than(Version(0, 3)) is None
    assert store.newer_than(Version(0, 4)) is None


def test_a_replaced_learner_s_weights_win_though_it_has_fewer_updates() -> None:
    store = WeightStore()
    store.publish(Version(0, 9), weights(9))
    store.publish(Version(1, 2), weights(2))
    assert store.newer_than(Version(0, 9))[1]["w"][0] == 2
    store.publish(Version(0, 10), weights(10))
    assert store.newer_than(None)[0] == Version(1, 2)


def test_the_same_version_twice_keeps_the_first() -> None:
    store = WeightStore()
    store.publish(Version(0, 1), weights(1))
    store.publish(Version(0, 1), weights(7))
    assert store.newer_than(None)[1]["w"][0] == 1


def test_pinned_weights_stay_until_they_are_unpinned() -> None:
    store = WeightStore()
    store.pin(Version(0, 8), 400, weights(8))
    store.pin(Version(0, 4), 200, weights(4))
    store.publish(Version(0, 9), weights(9))
    assert store.pins() == [200, 400]
    found = store.pinned(200)
    assert (found.version, found.env_steps, found.state["w"][0]) == (Version(0, 4), 200, 4)
    store.unpin(200)
    store.unpin(200)
    assert store.pins() == [400]
    assert store.pinned(200) is None
    assert store.stats() == {"version": Version(0, 9), "pinned": 1}
