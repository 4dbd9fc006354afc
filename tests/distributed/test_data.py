"""What is sampled is what was inserted, whatever else the shards are doing, and uniformly so."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import ray

from reverie.batch_stream import BatchStream
from reverie.cluster.connection import NAMESPACE
from reverie.cluster.coordinator_actor import CoordinatorActor
from reverie.cluster.light_actors import ShardActor
from reverie.cluster.links import CoordinatorLink, ShardActorLink, actor_name
from reverie.local_run import LocalShard
from reverie.protocols import StreamSpec
from reverie.replay.chunk import make_chunk
from reverie.replay.coordinator import ReplayCoordinator
from reverie.replay.shard import ReplayShard
from reverie.types import STEP_ID, Chunk, StreamId, checksum

ENVS, CHUNK, SIDE = 4, 32, 24
SPECS = {"replay": StreamSpec(8, 20)}


class Writer:
    """Fills one and the same buffer for every chunk, as an environment worker does."""

    def __init__(self, number: int) -> None:
        self._number, self._sequence = number, 0
        self._buffer = {
            "image": np.zeros((CHUNK, SIDE, SIDE, 3), np.uint8),
            "reward": np.zeros(CHUNK, np.float32),
            "is_first": np.zeros(CHUNK, bool),
            "is_last": np.zeros(CHUNK, bool),
            "is_terminal": np.zeros(CHUNK, bool),
        }

    def next(self) -> tuple[Chunk, dict[int, int]]:
        """The stream's next chunk and the checksum of each of its rows by step id."""
        rng = np.random.default_rng([self._number, self._sequence])
        rows = self._buffer
        rows["image"][:] = rng.integers(0, 256, rows["image"].shape, np.uint8)
        rows["reward"][:] = rng.normal(size=CHUNK)
        start = self._sequence * CHUNK
        rows["is_first"][:] = np.arange(start, start + CHUNK) == 0
        stream = StreamId(0, self._number, 0)
        chunk = make_chunk(stream, self._number, self._sequence, start, rows)
        self._sequence += 1
        ids = (self._number << 32) + np.arange(start, start + CHUNK)
        return chunk, {int(at): row_checksum(rows, row) for row, at in enumerate(ids)}


def row_checksum(rows: Any, *at: int) -> int:
    keys = ("image", "reward", "is_first", "is_last", "is_terminal")
    return checksum({key: np.asarray(rows[key])[at] for key in keys})


@pytest.mark.ray
def test_windows_equal_the_inserted_rows_while_busy_shards_answer_many_requests(
    ray_local: None,
) -> None:
    run = "torn"

    def start(cls: Any, role: str, index: int, *arguments: Any) -> Any:
        options = {"name": actor_name(run, role, index), "namespace": NAMESPACE, "num_cpus": 0}
        return ray.remote(cls).options(**options).remote(*arguments)

    settings = {"ratio": 0, "prefill": 8, "pretrain_batches": 60, "budget": 100}
    shape = {"steps_ahead": CHUNK, "envs_per_worker": ENVS, "num_workers": 1, "num_shards": 2}
    plain = ReplayCoordinator(SPECS, **settings, **shape)
    actors = [start(CoordinatorActor, "coordinator", 0, plain, 0)]
    # Small enough that old chunks are evicted while others are drawn.
    for index in range(2):
        shard = ReplayShard(index, SPECS, capacity_rows=10 * CHUNK)
        actors.append(start(ShardActor, "replay_shard", index, shard, "", None))
    coordinator = CoordinatorLink(run, life=0)
    links = [ShardActorLink(run, index, wait_for_feedback=False) for index in range(2)]
    writers, inserted = [Writer(number) for number in range(ENVS)], {}

    def insert(wait: bool) -> list[dict[str, float]]:
        masses: list[dict[str, float]] = []
        for number, writer in enumerate(writers):
            chunk, rows = writer.next()
            inserted.update(rows)
            if wait:
                masses.append(links[number % 2].insert([chunk]))
            else:
                links[number % 2].handle().insert.remote([chunk])
        return masses

    try:
        for _ in range(4):
            masses = insert(wait=True)
        quota = coordinator.request_steps(0, 8)
        coordinator.report(0, quota.steps, 0, {0: masses[2], 1: masses[3]})
        stream = BatchStream(SPECS, coordinator, links, device="cpu", prefetch=5)
        windows, latest = 0, 0
        while (ready := stream.next()) is not None:
            insert(wait=False)
            rows = {key: value.numpy() for key, value in ready.batches["replay"].items()}
            ids = rows[STEP_ID]
            np.testing.assert_array_equal(np.diff(ids, axis=1), 1)
            for at in itertools.product(*map(range, ids.shape)):
                assert row_checksum(rows, *at) == inserted[int(ids[at])]
            windows += len(ids)
            latest = max(latest, int((ids & 0xFFFFFFFF).max()))
            stream.trained(ready.number, {})
    finally:
        for actor in actors:
            ray.kill(actor)
    assert windows == 60 * 8
    assert len(inserted) >= 60 * ENVS * CHUNK
    # Windows came from rows that were inserted while requests were under way.
    assert latest > 30 * CHUNK


LENGTHS = {0: 61, 1: 7, 2: 23, 3: 150, 4: 40, 5: 12}
"""Rows per stream; streams go round three shards, so the shards are unequal."""


def history(number: int, length: int, life: int) -> list[Chunk]:
    made = []
    for sequence, start in enumerate(range(0, length, 9)):
        count = min(9, length - start)
        flags = dict.fromkeys(("is_last", "is_terminal"), np.zeros(count, bool))
        first = np.arange(start, start + count) == 0
        rows = {"reward": np.zeros(count, np.float32), "is_first": first} | flags
        stream = StreamId(0, number % len(LENGTHS), life)
        made.append(make_chunk(stream, number, sequence, start, rows))
    return made


def test_window_starts_are_uniform_over_unequal_shards_and_restarted_streams() -> None:
    specs, shards, updates = {"replay": StreamSpec(16, 5)}, 3, 3000
    coordinator = ReplayCoordinator(
        specs,
        ratio=0,
        prefill=1,
        pretrain_batches=updates,
        budget=10,
        steps_ahead=9,
        envs_per_worker=1,
        num_workers=1,
        num_shards=shards,
        seed=11,
    )
    made = [ReplayShard(index, specs, 10_000, seed=11) for index in range(shards)]
    lives = [*LENGTHS.items(), *((number + len(LENGTHS), n // 2) for number, n in LENGTHS.items())]
    starts = {}
    for number, length in lives:
        shard = number % len(LENGTHS) % shards
        made[shard].insert(history(number, length, number // len(LENGTHS)))
        for row in range(length - 4):
            starts[(number << 32) + row] = 0
    quota = coordinator.request_steps(0, 1)
    coordinator.report(0, quota.steps, 0, {i: shard.masses() for i, shard in enumerate(made)})
    links = [LocalShard(shard) for shard in made]
    stream = BatchStream(specs, coordinator, links, device="cpu", prefetch=2)
    for _ in range(updates):
        ready = stream.next()
        assert ready is not None
        for start in ready.batches["replay"][STEP_ID][:, 0].tolist():
            starts[start] += 1  # a start that no window may have is a KeyError
        stream.trained(ready.number, {})
    counts = np.array(list(starts.values()))
    expected = 16 * updates / len(counts)
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    freedom = len(counts) - 1
    # The seed is fixed; four standard deviations of the chi-square distribution.
    assert abs(chi_square - freedom) < 4 * np.sqrt(2 * freedom)
    assert counts.min() > 0
