"""How long one call takes, how much memory and arithmetic it needs, and where the time goes.

Needs torch alone, so that the interpreter of a peer can run it too (`peers.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import wraps
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

ALLOCATORS: dict[str, dict[str, str | None]] = {
    "default": {"MALLOC_MMAP_MAX_": None, "MALLOC_TRIM_THRESHOLD_": None},
    "no-mmap": {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000"},
}
"""Environment of glibc's malloc: without mmap, large tensors reuse pages instead of faulting."""
MARK = "@ "
"""Begins the lines that `serve` writes; a library may print others."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Work:
    """Something to measure."""

    step: Callable[[], object]
    params: int
    """Trained parameters."""
    spans: Sequence[tuple[Any, str, str]] = field(default_factory=list)
    """(object, method, phase): the methods whose own time is a phase."""


@dataclass(frozen=True)
class Sample:
    """One call."""

    cpu_ms: float
    """User and system time of the process."""
    wall_ms: float
    gpu_ms: float | None = None
    """Between two events on the stream."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options that ours and every peer take alike."""
    parser.add_argument("--batch", type=int, default=8, help="sequences per update")
    parser.add_argument("--length", type=int, default=32, help="rows of each")
    parser.add_argument("--image", type=int, default=64, help="side of the images")
    parser.add_argument("--actions", type=int, default=6, help="width of the continuous action")
    parser.add_argument("--act", type=int, metavar="ENVS", help="time acting instead of learning")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=DTYPES, default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--allocator", choices=ALLOCATORS, default="default")
    parser.add_argument("--warm-ups", type=int, help="2, or 8 on a GPU, which compiles and records")
    parser.add_argument("--serve", action="store_true", help="one timed call per line on stdin")


def shared_arguments(options: argparse.Namespace) -> list[str]:
    """The same options as command-line words, for another process."""
    names = ("batch", "length", "image", "actions", "threads", "precision", "device")
    words = [f"--{name}={getattr(options, name)}" for name in (*names, "allocator")]
    words.append(f"--warm-ups={options.warm_ups}")
    return words + ([f"--act={options.act}"] if options.act else [])


def settle(options: argparse.Namespace) -> None:
    """Start this process again where allocator or threads need another environment."""
    threads = {"OMP_NUM_THREADS": str(options.threads), "OMP_WAIT_POLICY": "PASSIVE"}
    wanted = ALLOCATORS[options.allocator] | threads | {"MKL_NUM_THREADS": str(options.threads)}
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        kept = {name: value for name, value in os.environ.items() if name not in wanted}
        given = {name: value for name, value in wanted.items() if value is not None}
        os.execve(sys.executable, [sys.executable, *sys.argv], kept | given)
    if options.warm_ups is None:
        options.warm_ups = 8 if options.device.startswith("cuda") else 2
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)


def timed(step: Callable[[], object], device: str) -> Sample:
    """Call once; on a GPU, wait for it before and after."""
    events: list[torch.cuda.Event] = []
    if device.startswith("cuda"):
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        torch.cuda.synchronize(device)
    cpu, wall = time.process_time(), time.perf_counter()
    if events:
        events[0].record()
    step()
    if events:
        events[1].record()
        torch.cuda.synchronize(device)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    gpu = events[0].elapsed_time(events[1]) if events else None
    return Sample(cpu * 1e3, wall * 1e3, gpu)


def medians(samples: Sequence[Sample]) -> dict[str, float]:
    """Median of each kind of time in milliseconds, and the least CPU time, which noise spares."""
    found = {"cpu_ms": statistics.median(s.cpu_ms for s in samples)}
    found["cpu_min_ms"] = min(s.cpu_ms for s in samples)
    found["wall_ms"] = statistics.median(s.wall_ms for s in samples)
    if samples[0].gpu_ms is not None:
        found["gpu_ms"] = statistics.median(s.gpu_ms for s in samples)  # type: ignore[type-var]
    return {name: round(value, 3) for name, value in found.items()}


def examine(
    work: Work,
    options: argparse.Namespace,
    repeats: int,
    make_plain: Callable[[], Work] | None = None,
) -> dict[str, Any]:
    """Time `repeats` calls after warm-ups, then count arithmetic and split phases apart.

    `make_plain` builds the same without compiled parts, into which one cannot see.
    """
    if options.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(options.device)
    for _ in range(options.warm_ups):
        work.step()
    times = medians([timed(work.step, options.device) for _ in range(repeats)])
    memory, plain = peak_mb(options.device), make_plain() if make_plain else work
    gflop, peak = count_gflop(plain.step), gemm_gflops(options.precision, options.device)
    decisive = times.get("gpu_ms", times["cpu_ms" if options.threads == 1 else "wall_ms"])
    return {
        "params": work.params,
        "gflop": round(gflop, 2),
        **times,
        "peak_mb": round(memory),
        "peak_share": round(gflop / decisive * 1e3 / peak, 3),
        "gemm_gflops": round(peak, 1),
        "phases_ms": split_phases(plain, options.device),
        **conditions(options),
    }


def conditions(options: argparse.Namespace) -> dict[str, Any]:
    """What figures hold for."""
    names = ("batch", "length", "act", "threads", "precision", "device", "allocator")
    return {name: getattr(options, name) for name in names}


def peak_mb(device: str) -> float:
    """Most memory so far: of the GPU's allocator, else of the process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


GRAPHS = "cudaGraphLaunch"


def count_launches(step: Callable[[], object]) -> dict[str, int]:
    """Kernels and graphs that one call launches on a GPU, and kernels that run there."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=activities) as profile:
        step()
        torch.cuda.synchronize()
    found = {"launches": 0, "graph_launches": 0, "kernels": 0}
    for event in profile.events() or ():
        if "LaunchKernel" in event.name:
            found["launches"] += 1
        elif event.name == GRAPHS:
            found["graph_launches"] += 1
        elif event.device_type.name == "CUDA" and not _is_other(event):
            found["kernels"] += 1
    return found


def _is_other(event: Any) -> bool:
    """Whether what a GPU's time line shows is a copy, or a span that somebody named."""
    named = getattr(event, "is_user_annotation", False)
    return named or event.name.startswith(("Memcpy", "Memset"))


def gemm_gflops(precision: str, device: str) -> float:
    """Best rate of a large square product on these threads or this GPU, in GFLOP/s."""
    size = 8192 if device.startswith("cuda") else 2048
    a = torch.randn(size, size, device=device, dtype=DTYPES[precision])
    samples = [timed(lambda: a @ a, device) for _ in range(5)]
    one_thread = device == "cpu" and torch.get_num_threads() == 1
    ms = min(s.gpu_ms or (s.cpu_ms if one_thread else s.wall_ms) for s in samples)
    return 2 * size**3 / ms / 1e6


class _FlopCounter(TorchDispatchMode):
    """Adds up products and convolutions, forward and backward.

    `FlopCounterMode` also hooks modules, which fails where a module's output carries a gradient
    but was computed without one.
    """

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def count_gflop(step: Callable[[], object]) -> float:
    """Multiplications and additions of one call, in 1e9."""
    with _FlopCounter() as counter:
        step()
    return counter.total / 1e9


def split_phases(work: Work, device: str) -> dict[str, float]:
    """Milliseconds each phase spends in itself, phases it calls left out; median of 3 calls.

    Wrapping the methods costs a little, on a GPU also a wait at each border, so this pass is
    apart from the timed one.
    """
    passes = [_one_split(work, device) for _ in range(3)]
    names = {name for found in passes for name in found}
    return {
        name: round(statistics.median(found.get(name, 0.0) for found in passes), 2)
        for name in sorted(names, key=lambda name: -passes[0].get(name, 0.0))
    }


def _one_split(work: Work, device: str) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    inner = [0.0]

    def wrap(method: Callable[..., Any], phase: str) -> Callable[..., Any]:
        @wraps(method)
        def measured(*args: Any, **kwargs: Any) -> Any:
            inner.append(0.0)
            begin = _clock(device)
            try:
                return method(*args, **kwargs)
            finally:
                whole = _clock(device) - begin
                found[phase] += (whole - inner.pop()) * 1e3
                inner[-1] += whole

        return measured

    with ExitStack() as stack:
        backward = [(torch.autograd, "grad", "backward"), (torch.Tensor, "backward", "backward")]
        for owner, name, phase in (*work.spans, *backward):
            wrapped = wrap(getattr(owner, name), phase)
            stack.enter_context(patch.object(owner, name, wrapped))
        wrap(work.step, "rest")()
    return found


def _clock(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def serve(work: Work, options: argparse.Namespace) -> None:
    """Warm up, then make one timed call for every line that arrives."""
    for _ in range(options.warm_ups):
        work.step()
    _say({"params": work.params})
    for _ in sys.stdin:
        sample = timed(work.step, options.device)
        _say({**vars(sample), "peak_mb": round(peak_mb(options.device))})


def _say(figures: dict[str, Any]) -> None:
    print(MARK + json.dumps(figures), flush=True)
