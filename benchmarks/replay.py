"""How fast is the replay? Insert and sample 64x64x3 windows of 16x64, in process and assembled.

python benchmarks/replay.py [--json]       # limits: insert 15,000 steps/s, sample 1.0 ms as pieces

Beside it, in the same run, the floor: slice copies out of one numpy array into a reused buffer.
And is it flat? Windows of small rows are drawn and rows evicted from 10^4 to 10^6 rows, for 1 and
64 streams and chunks of 8 and 64, the three sizes in turns; limit: 1.3 x from the smallest on.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
from common import save

from reverie.batch_stream import BatchStream
from reverie.local_run import LocalShard
from reverie.protocols import SamplerName, StreamSpec
from reverie.replay.chunk import make_chunk
from reverie.replay.coordinator import Grant
from reverie.replay.shard import ReplayShard
from reverie.replay.store import ChunkStore
from reverie.types import Chunk, Counters, StreamId

BATCH, LENGTH, CHUNK, CHUNKS = 16, 64, 64, 150
LIMITS = {"insert_steps_per_s": 15_000, "sample_ms": 1.0, "growth": 1.3}
ROWS, STREAMS, LENGTHS = (10**4, 10**5, 10**6), (1, 64), (8, 64)
EPISODE = 512
"""Rows of an episode of the flat replay: a window fits, and 64 streams of 10^4 rows hold none."""
EVICTED = 512
"""Rows evicted per timing: one episode, or whole chunks."""


def make_chunks() -> list[Chunk]:
    """Consecutive chunks of one stream with random images."""
    rng = np.random.default_rng(0)
    rows = {
        "image": rng.integers(0, 256, (CHUNK, 64, 64, 3), dtype=np.uint8),
        "reward": np.zeros(CHUNK, np.float32),
        "action": np.zeros(CHUNK, np.int64),
        "policy_version": np.zeros(CHUNK, np.int64),
        **{key: np.zeros(CHUNK, bool) for key in ("is_first", "is_last", "is_terminal")},
    }
    stream = StreamId(0, 0, 0)
    return [make_chunk(stream, 0, index, index * CHUNK, rows) for index in range(CHUNKS)]


class Always:
    """Grants every batch from one shard."""

    number = 0

    def request_batch(self) -> Grant:
        self.number += 1
        return Grant(number=self.number, counters=Counters(), draws={"replay": [BATCH]})

    def await_batch(self, patience: float) -> bool:
        return True

    def batch_trained(self, number: int) -> None: ...
    def refund(self, count: int) -> None: ...
    def counters(self) -> Counters:
        return Counters()


def cpu_ms(work: Callable[[], object], repeats: int) -> float:
    """Median CPU milliseconds of one call."""
    times: list[float] = []
    for _ in range(repeats):
        begin = time.process_time()
        work()
        times.append((time.process_time() - begin) * 1e3)
    return statistics.median(times)


def flatness() -> list[dict[str, float | str]]:
    """Cost of a draw and of an eviction by rows, streams and chunk, with the growth over rows."""
    cases: list[tuple[SamplerName, int, int]] = [
        ("uniform", streams, length) for streams in STREAMS for length in LENGTHS
    ]
    found: list[dict[str, float | str]] = []
    for sampler, streams, length in [*cases, ("episodes", 1, 8)]:
        made = [_small_rows(sampler, rows, streams, length) for rows in ROWS]
        # What was built stays: the collector need not walk it again while a call is timed.
        gc.collect()
        gc.freeze()
        draws = in_turns([_draw(shard) for _, shard in made], 300)
        evictions = in_turns([_evict(store) for store, _ in made], 9)
        gc.unfreeze()
        for rows, draw, evicted in zip(ROWS, draws, evictions, strict=True):
            figures = {
                "sample_ms": round(draw[0], 3),
                "evict_us": round(evicted[0] / EVICTED * 1e3, 3),
                "sample_ms_growth": round(draw[1], 2),
                "evict_us_growth": round(evicted[1], 2),
            }
            where = {"sampler": sampler, "rows": rows, "streams": streams, "chunk": length}
            found.append({**where, **figures})
    return found


def in_turns(works: list[Callable[[], object]], rounds: int) -> list[tuple[float, float]]:
    """Median CPU milliseconds of each, and the median of its ratios to the first.

    The works alternate call by call: what slows the machine down meets all of them.
    """
    times = np.array([[cpu_ms(work, 1) for work in works] for _ in range(rounds)])
    medians = np.median(times, axis=0)
    ratios = np.median(times / times[:, :1], axis=0)
    return [(float(ms), float(ratio)) for ms, ratio in zip(medians, ratios, strict=True)]


def _draw(shard: ReplayShard) -> Callable[[], object]:
    numbers = iter(range(10**6))
    return lambda: shard.sample("replay", BATCH, next(numbers), 0)


def _evict(store: ChunkStore) -> Callable[[], object]:
    def evict() -> None:
        store.capacity_rows -= EVICTED
        store.evict_surplus()

    return evict


def _small_rows(
    sampler: SamplerName, rows: int, streams: int, length: int
) -> tuple[ChunkStore, ReplayShard]:
    """A shard of `streams` streams whose chunks arrive in turn, and its store."""
    specs = {"replay": StreamSpec(BATCH, LENGTH, sampler=sampler)}
    shard = ReplayShard(0, specs, rows)
    per_stream = rows // streams // length
    for sequence in range(per_stream):
        at = np.arange(sequence * length, (sequence + 1) * length)
        data = {
            "state": np.zeros((length, 4), np.float32),
            "reward": np.zeros(length, np.float32),
            "action": np.zeros(length, np.int64),
            "policy_version": np.zeros(length, np.int64),
            "is_first": at % EPISODE == 0,
            "is_last": at % EPISODE == EPISODE - 1,
            "is_terminal": np.zeros(length, bool),
        }
        start = sequence * length
        shard.insert(
            [make_chunk(StreamId(env, 0, 0), env, sequence, start, data) for env in range(streams)]
        )
    store: ChunkStore = shard._store  # pyright: ignore[reportPrivateUsage]
    store.capacity_rows = store.num_rows
    return store, shard


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    specs = {"replay": StreamSpec(BATCH, LENGTH)}
    chunks = make_chunks()
    inserts = []
    for _ in range(5):
        shard = ReplayShard(0, specs, CHUNKS * CHUNK)
        inserts.append(cpu_ms(lambda shard=shard: shard.insert(chunks), 1))
    numbers = iter(range(10**6))
    sample = cpu_ms(lambda: shard.sample("replay", BATCH, next(numbers), 0), 200)
    stream = BatchStream(specs, Always(), [LocalShard(shard)], device="cpu", prefetch=1)
    assembled = cpu_ms(lambda: stream.next(), 200)
    figures = {
        "insert_steps_per_s": round(CHUNKS * CHUNK / statistics.median(inserts) * 1e3),
        "sample_ms": round(sample, 3),
        "sample_and_assemble_ms": round(assembled, 3),
        "floor_copy_ms": round(cpu_ms(_floor(chunks), 200), 3),
        "flat": flatness(),
        "limits": LIMITS,
    }
    print(json.dumps(figures) if options.json else figures)
    print(save("replay", figures))


def _floor(chunks: list[Chunk]) -> Callable[[], None]:
    image = np.concatenate([chunk.data["image"] for chunk in chunks])
    out = np.empty((BATCH, LENGTH, 64, 64, 3), np.uint8)
    rng = np.random.default_rng(0)

    def copy() -> None:
        for row, start in enumerate(rng.integers(0, len(image) - LENGTH, BATCH)):
            out[row] = image[start : start + LENGTH]

    return copy


if __name__ == "__main__":
    main()
