"""A sweep as Slurm job arrays: each task works off a few cells, as `reverie sweep` does on one
machine, and is queued again before its time is up.

A task's cells are its own, so tasks need not know of each other. Members run in one process each
and open no ports; every task has a temporary folder of its own.
"""

from __future__ import annotations

import logging
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reverie.documents import json_text, parse, read_json
from reverie.errors import ConfigError, RunError
from reverie.names import identifier
from reverie.storage import Storage
from reverie.tuning.cells import Cell
from reverie.tuning.sweep_folder import SweepFolder
from reverie.tuning.sweep_settings import RunResources, SlurmConfig

log = logging.getLogger(__name__)

DEFAULT_ARRAY = 1001
"""Slurm's own MaxArraySize, where none can be asked for."""
PARTS_SUFFIX = ".parts.json"
BODY = """\
export TMPDIR="$(mktemp -d "${{SLURM_TMPDIR:-${{TMPDIR:-/tmp}}}}/reverie-$SLURM_JOB_ID-XXXXXX")"
export RAY_TMPDIR="$TMPDIR"
{prologue}cd {folder}
{command} "$SLURM_ARRAY_TASK_ID" &
child=$!
trap 'kill -USR1 $child' USR1
trap 'kill -TERM $child' TERM
# A signal ends `wait`, not the child, which writes checkpoints first.
while wait $child; kill -0 $child 2>/dev/null; do :; done
wait $child
code=$?
rm -rf "$TMPDIR"
if [ $code = 138 ]; then  # told by USR1 that its time is up
  scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
"""


@dataclass(frozen=True, slots=True)
class Job:
    """One job array."""

    script: Path
    parts: tuple[tuple[str, ...], ...]
    """Cells of each task."""
    stage: int
    """It begins once all jobs of earlier stages have ended."""


def write_jobs(
    sweep: SweepFolder,
    cells: Sequence[Cell],
    config: SlurmConfig,
    resources: RunResources,
    *,
    max_array: int | None = None,
) -> list[Job]:
    """Write the scripts for `cells`, those that others start from first.

    `max_array` is the most tasks of one array; None asks Slurm.
    """
    most = max_array or max_array_size()
    storage = Storage(str(sweep.path / "slurm"))
    stamp = time.strftime("%Y%m%d-%H%M%S")
    jobs: list[Job] = []
    for stage, group in enumerate(_stages(cells)):
        size = config.runs_per_task
        parts = [tuple(group[at : at + size]) for at in range(0, len(group), size)]
        for at in range(0, len(parts), most):
            cut = tuple(parts[at : at + most])
            name = f"{stamp}-{len(jobs)}"
            script = sweep.path / "slurm" / f"{name}.sh"
            storage.write_atomic(f"{name}{PARTS_SUFFIX}", json_text(cut).encode())
            text = _script(sweep, name, len(cut), config, resources)
            storage.write_atomic(script.name, text.encode())
            jobs.append(Job(script, cut, stage))
    return jobs


def submit(jobs: Sequence[Job]) -> list[str]:
    """Hand the jobs to Slurm; returns their numbers.

    Raises:
        RunError: sbatch refuses one, in its own words; those before it stay queued.
    """
    numbers: dict[int, list[str]] = {}
    for job in jobs:
        command = ["sbatch", "--parsable"]
        if earlier := numbers.get(job.stage - 1):
            command.append(f"--dependency=afterany:{':'.join(earlier)}")
        found = subprocess.run([*command, str(job.script)], capture_output=True, text=True)
        if found.returncode:
            raise RunError(f"sbatch {job.script}: {found.stderr.strip()}")
        numbers.setdefault(job.stage, []).append(found.stdout.strip().partition(";")[0])
    return [number for stage in sorted(numbers) for number in numbers[stage]]


def check_can_submit() -> None:
    """Raises: ConfigError, where there is no Slurm."""
    if shutil.which("sbatch") is None:
        raise ConfigError(
            "--submit: no sbatch on this machine; leave --submit out to write the scripts only"
        )


def submit_command(jobs: Sequence[Job]) -> str:
    """What a person types to submit them, one line a job."""
    lines: list[str] = []
    for at, job in enumerate(jobs):
        earlier = [f"$job{i}" for i, one in enumerate(jobs) if one.stage == job.stage - 1]
        wait = f" --dependency=afterany:{':'.join(earlier)}" if earlier else ""
        lines.append(f"job{at}=$(sbatch --parsable{wait} {shlex.quote(str(job.script))})")
    return "\n".join(lines)


def read_part(file: Path, index: int) -> tuple[str, ...]:
    """Ids of the cells of one task. Raises: ConfigError, there is no such task."""
    parts = parse(tuple[tuple[str, ...], ...], read_json(file), str(file))
    if not 0 <= index < len(parts):
        raise ConfigError(f"{file}: expected a task from 0 to {len(parts) - 1}, got {index}")
    return parts[index]


def max_array_size() -> int:
    """The most tasks that an array may have here."""
    try:
        said = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True)
    except OSError:
        return DEFAULT_ARRAY
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", said.stdout, re.M)
    return max(1, int(found[1])) if found else DEFAULT_ARRAY


def _stages(cells: Sequence[Cell]) -> list[list[str]]:
    """Ids of cells by how many others must have ended before."""
    by_id = {cell.id: cell for cell in cells}

    def depth(cell: Cell) -> int:
        source = by_id.get(cell.after or "")
        return 0 if source is None else 1 + depth(source)

    found: dict[int, list[str]] = {}
    for cell in cells:
        found.setdefault(depth(cell), []).append(cell.id)
    return [found[stage] for stage in sorted(found)]


def _script(
    sweep: SweepFolder, name: str, tasks: int, config: SlurmConfig, resources: RunResources
) -> str:
    running = f"%{config.max_running}" if config.max_running else ""
    # In Slurm's patterns % begins a field, and %% is itself.
    output = str(sweep.path / "slurm" / f"{name}-").replace("%", "%%") + "%a.log"
    options = [
        f"--job-name={identifier(sweep.file.name)}",
        f"--array=0-{tasks - 1}{running}",
        "--ntasks=1",
        f"--cpus-per-task={max(1, math.ceil(config.runs_per_task * resources.cpu))}",
        "--requeue",
        "--open-mode=append",
        f"--output={output}",
    ]
    if config.signal_s:
        options.append(f"--signal=B:USR1@{config.signal_s}")
    for key in ("account", "partition", "time", "gres", "mem"):
        if (value := getattr(config, key)) is not None:
            options.append(f"--{key}={value}")
    options += config.extra
    command = [sys.executable, "-m", "reverie.cli", "sweep", "retry", str(sweep.path)]
    command += ["--part", str(sweep.path / "slurm" / f"{name}{PARTS_SUFFIX}")]
    lines = ["#!/bin/bash", *(f"#SBATCH {shlex.quote(option)}" for option in options)]
    body = BODY.format(
        prologue=config.prologue.rstrip("\n") + "\n" if config.prologue else "",
        folder=shlex.quote(os.getcwd()),
        command=shlex.join([*command, "--task"]),
    )
    return "\n".join([*lines, body])
