"""What a sweep takes, from a probe of each base on this machine; nothing is started.

Hours count training: env steps and updates at the measured pace, one after the other. Evaluations
are counted and not timed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from reverie.config import TrainConfig
from reverie.documents import from_json, parse
from reverie.errors import RunError
from reverie.tuning.cell_state import last_line
from reverie.tuning.cells import Cell, Plan
from reverie.tuning.local_backend import member_environment
from reverie.tuning.probe import ENV_STEPS, UPDATES, Probe
from reverie.tuning.sweep_settings import SweepFile

PROBE_S = 60.0
"""Seconds that the updates of one probe may take."""
GB = 1e9


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseCost:
    """What the cells of one base take, by the probe of one of them."""

    base: str
    cells: int
    probe: Probe
    peak_gb: float
    """Of one run: what the probe took, and the rest of its replay in memory."""
    disk_gb: float
    """Of one run at its end, checkpoints and replay."""
    hours: float | None
    """Of one run; None: no update could be measured."""
    evaluations: int
    """Of one run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What a sweep takes."""

    bases: tuple[BaseCost, ...]
    at_once: int
    """Runs at once, as the sweep says."""
    most_at_once: int
    """Runs that this machine's memory and CPUs hold."""
    gpu: float
    """Of a run."""


def measure(
    file: SweepFile,
    found: Plan,
    seconds: float = PROBE_S,
    on_probe: Callable[[str], None] = lambda base: None,
) -> Cost:
    """Probe the first cell of every base.

    Raises:
        RunError: a probe failed, in its own words.
    """
    bases: list[BaseCost] = []
    for base in file.bases:
        cells = [cell for cell in found.cells if cell.base == base]
        on_probe(base)
        config = found.configs[cells[0].config]
        bases.append(_cost(base, cells, config, _run_probe(file, base, config, seconds)))
    peak = max(one.peak_gb for one in bases)
    cpus = len(os.sched_getaffinity(0))
    by_cpu = int(cpus // file.resources.cpu) if file.resources.cpu else cpus
    most = max(0, min(by_cpu, int(memory_gb() // peak)))
    return Cost(
        bases=tuple(bases),
        at_once=file.max_concurrent or 1,
        most_at_once=most,
        gpu=file.resources.gpu,
    )


def cost_lines(cost: Cost) -> list[str]:
    """The figures for a person, each with what it is."""
    cells = sum(one.cells for one in cost.bases)
    at_once = min(cost.at_once, cells)
    peak = max(one.peak_gb for one in cost.bases)
    disk = sum(one.disk_gb * one.cells for one in cost.bases)
    evaluations = sum(one.evaluations * one.cells for one in cost.bases)
    rows = {
        "cells": f"{cells:,}",
        "processes at once": f"{at_once}; this machine holds {cost.most_at_once}",
        "memory at the peak": f"{peak * at_once:.1f} GB, {peak:.2f} GB a run",
        "disk at the end": f"{disk:.1f} GB",
        **_hours(cost, at_once),
        "evaluations": f"{evaluations:,}, their time not measured",
        "runs per GPU-hour": "not measured",
    }
    lines = [f"{key:24}{value}" for key, value in rows.items()]
    lines.append("measured on this machine:")
    lines += [f"  {one.base}: {_probe_text(one.probe)}" for one in cost.bases]
    return lines


def _hours(cost: Cost, at_once: int) -> dict[str, str]:
    """What training takes; no figure where one base has none."""
    if any(one.hours is None for one in cost.bases):
        return {"run hours": "not measured: nothing could be sampled in a probe"}
    total = sum((one.hours or 0.0) * one.cells for one in cost.bases)
    return {
        "run hours": f"{total:.2f}, training alone",
        "from begin to end": f"{total / at_once:.2f} h with {at_once} at once",
        "GPU-hours": f"{total * cost.gpu:.2f}" if cost.gpu else "none asked for",
    }


def memory_gb() -> float:
    """Memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GB


def _cost(base: str, cells: list[Cell], config: TrainConfig, probe: Probe) -> BaseCost:
    rows = min(config.replay.capacity, config.run.env_steps)
    replay = max(0, rows - probe.rows) * probe.row_bytes
    steps, hours = config.run.env_steps, None
    if probe.update_s is not None:
        trained = max(0, steps - config.run.prefill) * config.learner.training_ratio
        updates = trained / probe.trained_steps + config.learner.pretrain
        hours = (steps * probe.env_step_s + updates * probe.update_s) / 3600
    every = config.eval.every
    return BaseCost(
        base=base,
        cells=len(cells),
        probe=probe,
        peak_gb=(probe.peak_bytes + replay) / GB,
        disk_gb=(probe.checkpoint_bytes * config.run.keep_checkpoints + rows * probe.row_bytes)
        / GB,
        hours=hours,
        evaluations=1 + (max(0, steps - 1) // every if every else 0),
    )


def _probe_text(probe: Probe) -> str:
    text = f"{probe.env_steps} env steps, {probe.env_step_s * 1e3:.1f} ms each"
    if probe.update_s is None:
        return f"{text}; no update"
    cut = f" (of {UPDATES}: time was up)" if probe.updates < UPDATES else ""
    more = "" if probe.env_steps <= ENV_STEPS else f" ({ENV_STEPS} held nothing to sample)"
    return f"{text}{more}; {probe.updates} updates{cut}, {probe.update_s * 1e3:.0f} ms each"


def _run_probe(file: SweepFile, base: str, config: TrainConfig, seconds: float) -> Probe:
    with tempfile.TemporaryDirectory(prefix="reverie-dry-run-") as folder:
        path, log = Path(folder, "config.yaml"), Path(folder, "log")
        path.write_text(config.to_yaml())
        command = [sys.executable, "-m", "reverie.tuning.probe", str(path), str(seconds)]
        with log.open("wb") as errors:
            found = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=member_environment(file.resources),
                check=False,
            )
        if found.returncode:
            raise RunError(f"bases.{base}: the probe failed: {last_line(log)}")
        line: Iterable[bytes] = found.stdout.splitlines()[-1:]
        return parse(Probe, from_json(b"".join(line)), "probe")
