from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from reverie.errors import PlacementError
from reverie.lease import holder
from reverie.stop_signals import StopSignals
from reverie.tuning.cell_state import states
from reverie.tuning.driver import Driver, SweepStopped
from reverie.tuning.ray_backend import RayLauncher
from reverie.tuning.sweep_settings import RunResources
from tests.platform.tuning.sweeps import make_sweep

pytestmark = pytest.mark.ray


def test_cells_are_actors_and_one_that_is_killed_goes_on(ray_local: None, tmp_path: Path) -> None:
    settings = {"run__env_steps": 150, "run__checkpoint_every_s": 0.5, "env__delay_s": 0.02}
    sweep = make_sweep(tmp_path, settings | {"run__log_every_s": 0.1}, seeds=2)
    launcher = RayLauncher(sweep.config(sweep.cells[0]), RunResources(cpu=1), None)
    signals = StopSignals()
    driver = Driver(sweep, sweep.cells, launcher, at_most=None, max_failures=1, signals=signals)
    victim = sweep.run_folder(sweep.cells[0].id)
    killed: list[int] = []

    def kill_once() -> None:
        owner = holder(victim) if not killed and (victim / "metrics.jsonl").exists() else None
        if owner is not None:
            killed.append(owner.pid)
            os.kill(owner.pid, signal.SIGKILL)

    outcome = driver.run(kill_once)
    assert killed
    assert (outcome.done, outcome.restarts) == (2, 1)
    assert [state.env_steps for state in states(sweep)] == [150, 150]
    assert [state.attempts.failures for state in states(sweep)] == [1, 0]


def test_a_signal_reaches_members_on_the_cluster(ray_local: None, tmp_path: Path) -> None:
    settings = {"run__env_steps": 5000, "env__delay_s": 0.02, "run__log_every_s": 0.1}
    sweep = make_sweep(tmp_path, settings)
    launcher = RayLauncher(sweep.config(sweep.cells[0]), RunResources(cpu=1), None)
    signals = StopSignals()
    driver = Driver(sweep, sweep.cells, launcher, at_most=None, max_failures=0, signals=signals)
    run = sweep.run_folder(sweep.cells[0].id)

    def tell() -> None:
        if states(sweep)[0].env_steps:
            signals.first = signal.SIGTERM

    with pytest.raises(SweepStopped):
        driver.run(tell)
    assert states(sweep)[0].attempts.code == 143
    assert list(run.glob("checkpoints/*/manifest.json"))


def test_what_no_node_has_is_refused(ray_local: None, tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path)
    config = sweep.config(sweep.cells[0])
    with pytest.raises(PlacementError, match=r"a run takes 5 CPU, 0 GPU and 0 GB; no node has"):
        RayLauncher(config, RunResources(cpu=5), None)
    with pytest.raises(PlacementError, match=r"1 GPU"):
        RayLauncher(config, RunResources(gpu=1), None)
