"""How fast is the replay? Insert and sample 64x64x3 windows of 16x64, in process and assembled.

python benchmarks/replay.py [--json]       # limits: insert 15,000 steps/s, sample 1.0 ms as pieces

Beside it, in the same run, the floor: slice copies out of one numpy array into a reused buffer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
from common import save

from reverie.batch_stream import BatchStream
from reverie.local_run import LocalShard
from reverie.protocols import StreamSpec
from reverie.replay.chunk import make_chunk
from reverie.replay.coordinator import Grant
from reverie.replay.shard import ReplayShard
from reverie.types import Chunk, Counters, StreamId

BATCH, LENGTH, CHUNK, CHUNKS = 16, 64, 64, 150
LIMITS = {"insert_steps_per_s": 15_000, "sample_ms": 1.0}


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
