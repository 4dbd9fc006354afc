"""Windows become batches exactly, and no granted batch is lost when a shard is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from reverie.batch_stream import BatchStream
from reverie.errors import ReplayLost
from reverie.local_run import LocalShard
from reverie.protocols import StreamSpec
from reverie.replay.chunk import make_chunk
from reverie.replay.coordinator import ReplayCoordinator
from reverie.replay.shard import ReplayShard
from reverie.types import STEP_ID, StreamId, step_ids

ROWS, CHUNK = 40, 7
SPECS = {"replay": StreamSpec(6, 5), "rare": StreamSpec(2, 12, every=3)}


def reward_of(number: Any, row: Any) -> Any:
    """Every row of the test says which one it is."""
    return np.float32(number * 1000 + row)


def history(number: int) -> list[Any]:
    """One stream of ROWS rows in chunks of CHUNK, with an episode end every 9 rows."""
    chunks = []
    for sequence, start in enumerate(range(0, ROWS, CHUNK)):
        rows = np.arange(start, min(start + CHUNK, ROWS))
        data = {
            "image": np.repeat((rows % 256).astype(np.uint8), 12).reshape(-1, 2, 2, 3),
            "reward": reward_of(number, rows),
            "is_first": rows % 9 == 0,
            "is_last": rows % 9 == 8,
            "is_terminal": rows % 9 == 8,
            "log/success": np.ones(len(rows), np.float32),
        }
        chunks.append(make_chunk(StreamId(0, number, 0), number, sequence, start, data))
    return chunks


def parts(prefetch: int = 2, shards: int = 2) -> tuple[BatchStream, Any, list[ReplayShard]]:
    """A coordinator that owes 50 batches, and shards of two streams each."""
    coordinator = ReplayCoordinator(
        SPECS,
        ratio=0,
        prefill=4,
        pretrain_batches=50,
        budget=100,
        steps_ahead=CHUNK,
        envs_per_worker=1,
        num_workers=1,
        num_shards=shards,
    )
    made = [ReplayShard(index, SPECS, 1000) for index in range(shards)]
    quota = coordinator.request_steps(0, 4)
    masses = {
        index: shard.insert([c for n in (index, index + shards) for c in history(n)])
        for index, shard in enumerate(made)
    }
    coordinator.report(0, quota.steps, 0, masses)
    links = [LocalShard(shard) for shard in made]
    return (
        BatchStream(SPECS, coordinator, links, device="cpu", prefetch=prefetch),
        coordinator,
        made,
    )


def take(stream: BatchStream, coordinator: Any) -> Any:
    ready = stream.next()
    assert ready is not None
    stream.trained(ready.number, {})
    return ready


def test_batches_hold_the_inserted_rows_exactly_across_chunk_borders() -> None:
    stream, coordinator, _ = parts()
    crossings = 0
    for _ in range(12):
        batch = take(stream, coordinator).batches["replay"]
        ids = batch[STEP_ID].numpy()
        number, row = ids >> 32, ids & 0xFFFFFFFF
        np.testing.assert_array_equal(np.diff(row, axis=1), 1)
        np.testing.assert_array_equal(number, number[:, :1].repeat(5, 1))
        np.testing.assert_array_equal(batch["reward"].numpy(), reward_of(number, row))
        np.testing.assert_array_equal(batch["image"].numpy()[:, :, 1, 1, 2], row % 256)
        np.testing.assert_array_equal(batch["is_last"].numpy(), row % 9 == 8)
        crossings += int((row[:, 0] // CHUNK != row[:, -1] // CHUNK).sum())
    assert crossings > 20


def test_batches_have_their_shapes_and_dtypes_and_no_log_keys() -> None:
    stream, coordinator, _ = parts()
    batch = take(stream, coordinator).batches["replay"]
    found = {key: (tuple(value.shape), value.dtype) for key, value in batch.items()}
    flags = dict.fromkeys(("is_first", "is_last", "is_terminal"), ((6, 5), torch.bool))
    assert found == flags | {
        "image": ((6, 5, 2, 2, 3), torch.uint8),
        "reward": ((6, 5), torch.float32),
        STEP_ID: ((6, 5), torch.int64),
    }


def test_a_stream_comes_only_when_it_is_due() -> None:
    stream, coordinator, _ = parts()
    found = [take(stream, coordinator) for _ in range(7)]
    assert [ready.number for ready in found] == list(range(7))
    assert ["rare" in ready.batches for ready in found] == [True, False, False] * 2 + [True]
    assert [ready.counters.grad_updates for ready in found] == list(range(7))
    assert found[0].batches["rare"]["reward"].shape == (2, 12)


def test_side_values_missing_from_one_shard_are_zero_there_and_exact_elsewhere() -> None:
    stream, coordinator, shards = parts(prefetch=1)
    ids = np.concatenate([step_ids(number, 0, ROWS) for number in (0, 2)])
    shards[0].write_back(ids, {"latent": np.stack([ids % 97, ids % 89], 1).astype(np.float32)})
    seen = set()
    for _ in range(8):
        batch = take(stream, coordinator).batches["replay"]
        drawn = batch[STEP_ID].numpy()
        here = (drawn >> 32) % 2 == 0
        wanted = np.stack([drawn % 97, drawn % 89], -1) * here[..., None]
        np.testing.assert_array_equal(batch["side/latent"].numpy(), wanted.astype(np.float32))
        np.testing.assert_array_equal(batch["side/valid"].numpy(), here)
        seen |= set(here.ravel().tolist())
    assert seen == {True, False}


def test_a_batch_stays_valid_while_the_next_one_is_made() -> None:
    stream, coordinator, _ = parts()
    first = take(stream, coordinator).batches["replay"]
    kept = {key: value.clone() for key, value in first.items()}
    second = take(stream, coordinator).batches["replay"]
    assert all(torch.equal(value, kept[key]) for key, value in first.items())
    assert not torch.equal(first[STEP_ID], second[STEP_ID])


def test_no_more_than_prefetch_batches_are_granted_ahead() -> None:
    stream, coordinator, _ = parts(prefetch=3)
    stream.next()
    assert coordinator.limiter.in_flight == 3
    assert stream.refund() == 2
    assert coordinator.limiter.in_flight == 1


def test_without_a_grant_there_is_no_batch() -> None:
    stream, coordinator, _ = parts()
    while coordinator.can_grant() or coordinator.limiter.in_flight:
        take(stream, coordinator)
    assert coordinator.limiter.trained_batches == 50
    assert stream.next() is None


@pytest.mark.parametrize("when", ["asked", "short"])
def test_a_lost_shard_sends_back_every_batch_in_flight(
    when: str, caplog: pytest.LogCaptureFixture
) -> None:
    stream, coordinator, _ = parts(prefetch=3)
    take(stream, coordinator)
    numbers = [take(stream, coordinator).number]
    link, real = stream._shards[1], stream._shards[1].sample

    def lost(*arguments: Any) -> Any:
        def wait() -> Any:
            if when == "asked":
                raise ReplayLost("shard 1 died")
            return real(*arguments)()[:-1]

        return wait

    link.sample = lost
    while (ready := stream.next()) is not None:
        stream.trained(ready.number, {})
        numbers.append(ready.number)
    assert stream.next() is None
    assert caplog.text.count("is asked for again") == 1
    assert coordinator.limiter.in_flight == 0
    assert stream.refund() == 0
    link.sample = real
    assert take(stream, coordinator).number == numbers[-1] + 1
    # Whoever was refunded is granted again: no batch of the run is missing or counted twice.
    assert coordinator.limiter.trained_batches == numbers[-1] + 2


def test_feedback_goes_to_the_shard_that_gave_the_window_and_to_no_other() -> None:
    stream, _, shards = parts()
    ready = stream.next()
    assert ready is not None
    ids = ready.batches["replay"][STEP_ID]
    assert set((ids >> 32).unique().remainder(2).tolist()) == {0, 1}
    stream.trained(ready.number, {STEP_ID: ids, "latent": ids.remainder(97).float()})
    assert [shard.stats()["ignored_ids"] for shard in shards] == [0, 0]
    for _ in range(10):
        batch = take(stream, None).batches["replay"]
        valid = batch.get("side/valid", torch.zeros(1, dtype=torch.bool))
        if valid.any():
            wanted = batch[STEP_ID].remainder(97).float()
            assert torch.equal(batch["side/latent"][valid], wanted[valid])
    assert valid.any()
    with pytest.raises(ValueError, match="which gave no window"):
        stream.trained(take_number(stream), {STEP_ID: ids + (99 << 32), "latent": ids.float()})


def take_number(stream: BatchStream) -> int:
    ready = stream.next()
    assert ready is not None
    return ready.number
