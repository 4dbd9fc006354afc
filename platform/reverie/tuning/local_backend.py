"""Members as child processes of this machine, each `reverie train ... --local --resume=auto`."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from reverie.errors import PlacementError
from reverie.tuning.cells import Cell
from reverie.tuning.sweep_folder import SweepFolder
from reverie.tuning.sweep_settings import RunResources

GPUS = "CUDA_VISIBLE_DEVICES"


class LocalMember:
    """A child in a session of its own: neither Ctrl-C in our terminal nor our end reaches it."""

    def __init__(self, command: Sequence[str], log_file: Path, environment: dict[str, str]) -> None:
        with log_file.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "reverie.cli", *command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.poll()

    def wait(self) -> int:
        return self._process.wait()

    def tell(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)


class LocalLauncher:
    """Starts members here.

    Args:
        gpus: devices that members may be given; None: those this process sees.

    Raises:
        PlacementError: this machine can never give a run what it takes.
    """

    def __init__(self, resources: RunResources, gpus: Sequence[str] | None = None) -> None:
        self._resources = resources
        devices = visible_gpus() if gpus is None and resources.gpu else tuple(gpus or ())
        self._free = dict.fromkeys(devices, 1.0)
        self._given: dict[str, tuple[LocalMember, list[str]]] = {}
        _check(resources, len(devices))

    def start(self, sweep: SweepFolder, cell: Cell) -> LocalMember | None:
        self._take_back()
        devices = self._devices()
        if devices is None:
            return None
        environment = member_environment(self._resources)
        if self._resources.gpu:
            environment[GPUS] = ",".join(devices)
        member = LocalMember(sweep.command(cell), sweep.log_file(cell.id), environment)
        for device in devices:
            self._free[device] -= min(1.0, self._resources.gpu)
        self._given[cell.id] = (member, devices)
        return member

    def close(self) -> None:
        """Members are left to themselves."""

    def _devices(self) -> list[str] | None:
        """GPUs for one more member; None: not now."""
        share = min(1.0, self._resources.gpu)
        count = math.ceil(self._resources.gpu)
        # A little less than a share may be left of adding up thirds.
        free = [device for device, left in self._free.items() if left >= share - 1e-6]
        return free[:count] if len(free) >= count else None

    def _take_back(self) -> None:
        for name, (member, devices) in list(self._given.items()):
            if member.poll() is not None:
                del self._given[name]
                for device in devices:
                    self._free[device] += min(1.0, self._resources.gpu)


def member_environment(resources: RunResources) -> dict[str, str]:
    """Of a member: threads as many as it has CPUs, unless the user says otherwise."""
    threads = str(max(1, math.ceil(resources.cpu)))
    return {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE", **os.environ}


@cache
def visible_gpus() -> tuple[str, ...]:
    """GPUs of this machine as CUDA is told them; from `nvidia-smi`, so that torch stays out."""
    if (chosen := os.environ.get(GPUS)) is not None:
        return tuple(part for part in chosen.split(",") if part.strip())
    try:
        said = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    except OSError:
        return ()
    return tuple(str(number) for number, _ in enumerate(said.stdout.splitlines()))


def _check(resources: RunResources, gpus: int) -> None:
    cpus = len(os.sched_getaffinity(0))
    if resources.cpu > cpus:
        raise PlacementError(f"resources.cpu: {resources.cpu:g} asked for, this machine has {cpus}")
    if resources.gpu > gpus or (resources.gpu > 1 and resources.gpu % 1):
        raise PlacementError(
            f"resources.gpu: {resources.gpu:g} asked for, this machine has {gpus}"
            + ("; above 1 a whole number" if resources.gpu % 1 and resources.gpu > 1 else "")
        )
