"""What does a process of its own cost an environment? 64x64 frames, in process and isolated.

python benchmarks/isolation.py                     # limit: 0.3 ms per step, by wall clock and CPU
python benchmarks/isolation.py --python other/bin/python     # one with gymnasium and numpy

The environment shows stored frames, so that nearly all that is measured is the way there and back.
CPU milliseconds are those of both processes. A B A B in one run, median of 5.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

STEPS, ROUNDS = 5_000, 5
LIMIT_MS = 0.3


class Frames(gymnasium.Env[Any, Any]):
    """Shows 16 frames in turn."""

    observation_space = gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(4)

    def __init__(self) -> None:
        self._frames = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8)
        self._count = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self._frames[0], {}

    def step(self, action: Any) -> Any:
        self._count += 1
        return self._frames[self._count % 16].copy(), 0.0, False, False, {}


def play(env: Any, pid: int | None) -> tuple[float, float]:
    """Wall and CPU milliseconds of one step; the CPU time of process `pid` counts too."""
    env.reset(seed=0)
    begin, cpu = time.perf_counter(), time.process_time() + cpu_s(pid)
    for _ in range(STEPS):
        env.step(1)
    wall, cpu = time.perf_counter() - begin, time.process_time() + cpu_s(pid) - cpu
    return 1e3 * wall / STEPS, 1e3 * cpu / STEPS


def cpu_s(pid: int | None) -> float:
    """Seconds that the main thread of `pid` ran."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9 if pid else 0.0


def memory_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    from common import save

    from reverie_envs.isolated import Isolated
    from reverie_envs.wrappers import DictObservations

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", default="", help="interpreter; by default this one")
    python = parser.parse_args().python
    suite = Isolated()
    isolated = suite.make(f"{Path(__file__).absolute()}:Frames", suite.Config(python=python))
    direct = DictObservations(Frames())
    pid = isolated.unwrapped.process.pid  # type: ignore[attr-defined]
    rounds = [(play(direct, None), play(isolated, pid)) for _ in range(ROUNDS)]
    figures: dict[str, Any] = {"steps": STEPS, "rounds": ROUNDS, "limit_ms": LIMIT_MS}
    for index, clock in enumerate(("wall", "cpu")):
        direct_ms = statistics.median(first[index] for first, _ in rounds)
        isolated_ms = statistics.median(second[index] for _, second in rounds)
        figures[f"direct_{clock}_ms"] = round(direct_ms, 4)
        figures[f"isolated_{clock}_ms"] = round(isolated_ms, 4)
        figures[f"cost_{clock}_ms"] = round(isolated_ms - direct_ms, 4)
    figures["process_mb"] = round(memory_mb(pid), 1)
    isolated.close()
    print(figures)
    print(save("isolation", figures))


if __name__ == "__main__":
    main()
