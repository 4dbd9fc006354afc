"""What Ray costs: the same job on Ray and in one process, CPU time and memory of all processes.

python benchmarks/ray_cost.py [--steps 4000] [--runs 2]      # A B A B; nothing is trained

Two jobs of each kind: a short one, whose CPU time is that of start and end, and a long one, whose
excess over the short one is that of its env steps. CPU time is what every process of the job had
used when it was last seen, 50 times a second; memory is the largest sum of proportional shares.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from common import save

PRESET = "dreamerv3/catch"
OVERRIDES = [
    "learner.training_ratio=0",
    "eval.every=0",
    "eval.episodes=1",
    "eval.envs=1",
    "logging.tensorboard=false",
]
SHORT = 32
"""Env steps of the short job: one quota."""
LIMITS = {"start_cpu_s": 14.0, "step_ratio": 1.5}
TICKS = os.sysconf("SC_CLK_TCK")
SAMPLE_S, MEMORY_EVERY = 0.02, 50


@dataclass(frozen=True)
class Cost:
    """One job."""

    cpu_s: float
    wall_s: float
    memory_gb: float


def descendants(root: int, known: set[int]) -> set[int]:
    """Processes below `root`, those of `known` included that lost their parents meanwhile."""
    parents: dict[int, int] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                text = (path / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(path.name)] = int(text.rpartition(")")[2].split()[1])
    found = {root} | (known & parents.keys())
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return found & parents.keys()


def cpu_s(pid: int) -> float | None:
    """Seconds of processor a process has used itself; None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return (int(fields[11]) + int(fields[12])) / TICKS


def share_kb(pid: int) -> int:
    """Memory of a process, what it shares divided by the sharers."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))


def measure(command: list[str]) -> Cost:
    """Run a command and follow all its processes."""
    begin, used, most, known = time.perf_counter(), dict[int, float](), 0, set[int]()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    sample = 0
    while process.poll() is None:
        known |= descendants(process.pid, known)
        for pid in known:
            if (seconds := cpu_s(pid)) is not None:
                used[pid] = seconds
        if sample % MEMORY_EVERY == 0:
            most = max(most, sum(share_kb(pid) for pid in known))
        sample += 1
        time.sleep(SAMPLE_S)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}")
    return Cost(sum(used.values()), time.perf_counter() - begin, most / 2**20)


def job(steps: int, folder: Path, *, local: bool) -> list[str]:
    command = [sys.executable, "-m", "reverie.cli", "train", PRESET, *OVERRIDES]
    command += [f"run.env_steps={steps}", f"run.prefill={SHORT}", f"run.dir={folder}"]
    return [*command, "--local"] if local else command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=4000, help="env steps of the long jobs")
    parser.add_argument("--runs", type=int, default=2, help="repetitions")
    arguments = parser.parse_args()
    costs: dict[tuple[str, str], list[Cost]] = {}
    for run in range(arguments.runs):
        for length, steps in (("short", SHORT), ("long", arguments.steps)):
            for where in ("local", "ray"):
                with tempfile.TemporaryDirectory() as folder:
                    command = job(steps, Path(folder) / f"{run}", local=where == "local")
                    costs.setdefault((where, length), []).append(measure(command))
    figures: dict[str, object] = {"preset": PRESET, "steps": arguments.steps, "limits": LIMITS}
    per_step = {}
    for where in ("local", "ray"):
        short, long = (costs[where, length] for length in ("short", "long"))
        start = statistics.median(cost.cpu_s for cost in short)
        whole = statistics.median(cost.cpu_s for cost in long)
        per_step[where] = 1000 * (whole - start) / (arguments.steps - SHORT)
        figures[where] = {
            "start_cpu_s": round(start, 2),
            "start_wall_s": round(statistics.median(cost.wall_s for cost in short), 1),
            "memory_gb": round(max(cost.memory_gb for cost in long), 2),
            "step_cpu_ms": round(per_step[where], 2),
            "long_wall_s": round(statistics.median(cost.wall_s for cost in long), 1),
        }
    figures["step_ratio"] = round(per_step["ray"] / per_step["local"], 2)
    print(figures)
    print(save("ray_cost", figures))


if __name__ == "__main__":
    main()
