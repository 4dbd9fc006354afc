"""The part `speed` of `gpu.py`: updates and acting of every agent on a GPU, each in a process of
its own, so that memory is counted from nothing and a compilation can be ended.

    python benchmarks/gpu_speed.py '{"algorithm": "dreamerv3/2025", "precision": "bfloat16"}'

measures one row. Keys of a row: `first_s` seconds until the first call is through, compiler
included; `gpu_ms` median between two events, `wall_ms` of the host; `peak_gb` of torch's allocator;
`launches` of single kernels and `graph_launches` of captured graphs by the host in one call,
`kernels` run for it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from measure import MARK, Work, count_launches, medians, peak_mb, timed

PRECISIONS = ("float32", "bfloat16")
ACT = (1, 16, 256)
SIZES: dict[str, dict[str, Any]] = {
    "drqv2": {"batch": 256, "length": 1, "image": 84},
    "ipv": {"batch": 16, "length": 25},
}
"""Of agents whose batches are not 16 windows of 64 rows of 64 x 64 pixels."""
DEFAULTS = {
    "algorithm": "dreamerv3/2025",
    "size": None,
    "settings": [],
    "batch": 16,
    "length": 64,
    "image": 64,
    "actions": 6,
    "act": None,
    "precision": "float32",
    "device": "cuda",
    "compile": "off",
    "peer": None,
    "warm_ups": 8,
    "repeats": 20,
}
PEER = "r2dreamer"
TINY = {"device": "cpu", "batch": 2, "warm_ups": 1, "repeats": 3}
"""Of a dry run."""
SPARE_S = 5.0


def all_rows() -> dict[str, dict[str, Any]]:
    """Settings by name of the row: what needs no compiler, then the peer, then compiled ones."""
    from reverie import registry

    eager: dict[str, dict[str, Any]] = {}
    compiled: dict[str, dict[str, Any]] = {}
    # The agent that the peer is compared with goes first.
    for name in sorted(registry.ALGORITHMS, key=lambda name: name != "dreamerv3/2025"):
        for precision in PRECISIONS:
            given = {"algorithm": name, "precision": precision, **SIZES.get(name, {})}
            eager[f"{name} update {precision} eager"] = given
            compiled[f"{name} update {precision} compiled"] = given | {"compile": "on"}
            if registry.learns_from(registry.algorithm(name)) != "video":
                eager |= {f"{name} act {n} {precision}": given | {"act": n} for n in ACT}
    return eager | peer_rows() | compiled


def peer_rows() -> dict[str, dict[str, Any]]:
    """Rows of the peer, where `PEERS` names a folder with its checkout."""
    if not (Path(os.environ.get("PEERS", "")) / PEER).is_dir() or "PEERS" not in os.environ:
        return {}
    given = {"peer": PEER, "precision": "float32"}
    acting = {f"{PEER} act {n} as it comes": given | {"act": n} for n in ACT}
    return {f"{PEER} update float16 compiled": given, **acting}


def tiny_rows() -> dict[str, dict[str, Any]]:
    drq = {"algorithm": "drqv2", "image": 21, "length": 1, **TINY}
    drq["settings"] = ["channels=2", "features=4", "hidden=8"]
    return {
        "drqv2 update float32 eager": drq,
        "drqv2 update bfloat16 eager": drq | {"precision": "bfloat16"},
        "drqv2 act 16 float32": drq | {"act": 16},
    }


def run_speed(options: argparse.Namespace, ledger: Any, deadline: Any) -> list[str]:
    """Measure row after row."""
    from gpu import work_off

    rows = tiny_rows() if options.dry_run else all_rows()

    def run(given: dict[str, Any]) -> dict[str, Any]:
        # A dry run starts one process, to see that it does; the rest is quicker here.
        if options.dry_run and not given.get("act"):
            return measure(given)
        return in_a_process(given, deadline.left() - SPARE_S)

    table = {name: lambda given=given: run(given) for name, given in rows.items()}
    work_off(ledger, table, deadline, options.again)
    return [*rows]


def in_a_process(given: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Measure one row in a process of its own.

    Raises:
        TimeoutError: it took longer than `seconds`.
        RuntimeError: it failed; the message ends with what it wrote.
    """
    own = os.environ.get("PEER_PY", sys.executable) if given.get("peer") else sys.executable
    command = [own, str(Path(__file__).resolve()), json.dumps(given)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"{given}: longer than {seconds:.0f} s") from error
    for line in done.stdout.splitlines():
        if line.startswith(MARK):
            return json.loads(line.removeprefix(MARK))
    raise RuntimeError(f"ended with {done.returncode}:\n{done.stderr[-1500:]}")


def make_work(options: argparse.Namespace) -> Work:
    """The call that is measured; a peer's interpreter needs nothing of ours."""
    if options.peer:
        import peers

        return peers.PEERS[options.peer](options)
    import learner_step

    options.algorithm, _, dialect = options.algorithm.partition("/")
    options.dialect = dialect or None
    return learner_step.make_work(options, options.compile)


def measure(given: dict[str, Any]) -> dict[str, Any]:
    """All figures of one row.

    Raises:
        ValueError: an unknown setting.
    """
    if unknown := given.keys() - DEFAULTS.keys():
        raise ValueError(f"{sorted(unknown)}: expected some of {[*DEFAULTS]}")
    options = argparse.Namespace(**DEFAULTS | given)
    torch.manual_seed(0)
    if options.device == "cpu":
        torch.set_num_threads(1)
    begin = time.perf_counter()
    work = make_work(options)
    made = time.perf_counter()
    timed(work.step, options.device)
    first = time.perf_counter()
    for _ in range(options.warm_ups):
        work.step()
    figures = {
        "params": work.params,
        "make_s": round(made - begin, 2),
        "first_s": round(first - made, 2),
        **medians([timed(work.step, options.device) for _ in range(options.repeats)]),
        "peak_gb": round(peak_mb(options.device) / 1024, 3),
        "repeats": options.repeats,
    }
    if options.device == "cuda":
        figures |= count_launches(work.step)
    return figures


if __name__ == "__main__":
    print(MARK + json.dumps(measure(json.loads(sys.argv[1]))), flush=True)
