from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reverie.errors import PlacementError
from reverie.lease import holder
from reverie.metrics import parse_metrics
from reverie.tuning.cell_state import CellState, states
from reverie.tuning.local_backend import GPUS, LocalLauncher, member_environment
from reverie.tuning.sweep_folder import SweepFolder
from reverie.tuning.sweep_settings import RunResources
from tests.platform.tuning.sweeps import make_sweep, start, write_sweep

STEPS = 150
PATIENCE_S = 120.0


def wait_for(what: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < end, "it never came to pass"
        time.sleep(0.1)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def running(sweep: SweepFolder) -> list[CellState]:
    return [state for state in states(sweep) if state.condition == "running" and state.env_steps]


def write_slow_sweep(folder: Path, **keys: object) -> Path:
    """Four cells of two to three seconds each, which save twice a second."""
    settings = {
        "run__env_steps": STEPS,
        "run__checkpoint_every_s": 0.5,
        "run__log_every_s": 0.1,
        "env__delay_s": 0.02,
    }
    return write_sweep(folder, settings, seeds=4, max_concurrent=2, **keys)


def test_killed_drivers_and_members_leave_every_cell_done_once(tmp_path: Path) -> None:
    draw = random.Random()
    file = write_slow_sweep(tmp_path)
    first = start("sweep", file, cwd=tmp_path)
    path = tmp_path / "s"
    wait_for(lambda: (path / "sweep.json").exists())
    sweep = SweepFolder(path)
    wait_for(lambda: bool(running(sweep)))
    time.sleep(draw.random())
    kill(first.pid)
    first.wait()
    left = [state.cell.id for state in states(sweep) if state.condition != "done"]
    assert left, "nothing was left to go on with"

    second = start("sweep", file, "--resume", cwd=tmp_path)
    wait_for(lambda: bool(running(sweep)))
    time.sleep(draw.random())
    victims = [holder(sweep.run_folder(state.cell.id)) for state in running(sweep)]
    victim = next((owner for owner in victims if owner is not None), None)
    if victim is not None:
        kill(victim.pid)
    out, err = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 0, out + err
    assert "4 of 4 cells are done" in out
    assert "env steps taken again" in out
    assert "reverie report s --out s/report" in out

    for state in states(sweep):
        assert (state.condition, state.env_steps) == ("done", STEPS)
        folder = sweep.run_folder(state.cell.id)
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["env_steps"] == STEPS
        assert "writes this run folder" not in sweep.log_file(state.cell.id).read_text()
        rows, _ = parse_metrics(folder / "metrics.jsonl")
        assert_one_writer(rows)
    again = start("sweep", file, "--resume", cwd=tmp_path)
    out, _ = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0
    assert sum(state.attempts.starts for state in states(sweep)) <= 4 + 3
    assert [state.attempts.under_way for state in states(sweep)] == [False] * 4


def assert_one_writer(rows: list) -> None:
    """Steps only grow between two resumes, and the budget is reached at the very end alone."""
    reached = 0
    for row in rows:
        steps = row["env_steps"]
        if row.get("event") == "resumed":
            assert steps < STEPS
            reached = steps
        assert steps >= reached
        reached = steps
    assert reached == STEPS


def test_sigterm_lets_members_write_their_checkpoints(tmp_path: Path) -> None:
    file = write_slow_sweep(tmp_path)
    driver = start("sweep", file, "run.checkpoint_every_s=1000", cwd=tmp_path)
    path = tmp_path / "s"
    wait_for(lambda: (path / "sweep.json").exists())
    sweep = SweepFolder(path)
    wait_for(lambda: len(running(sweep)) == 2)
    before = [state.cell.id for state in running(sweep)]
    driver.send_signal(signal.SIGTERM)
    out, err = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == 143, out + err
    assert "reverie sweep retry s" in err
    assert not running(sweep)
    for name in before:
        assert list(sweep.run_folder(name).glob("checkpoints/*/manifest.json"))
    assert sum(state.attempts.failures for state in states(sweep)) == 0


def test_members_share_gpus_by_their_parts(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, seeds=4)
    for cell in sweep.cells:  # nothing of a run is needed: the command ends at once
        sweep.run_folder(cell.id).write_text("no folder")
    launcher = LocalLauncher(RunResources(gpu=0.5), gpus=["3"])
    first, second = (launcher.start(sweep, cell) for cell in sweep.cells[:2])
    assert first is not None
    assert second is not None
    assert launcher.start(sweep, sweep.cells[2]) is None
    environment = Path(f"/proc/{first.pid}/environ").read_bytes().split(b"\0")
    assert f"{GPUS}=3".encode() in environment
    assert first.wait() == 2
    third = launcher.start(sweep, sweep.cells[2])
    assert third is not None
    assert [second.wait(), third.wait()] == [2, 2]


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (RunResources(cpu=100_000), "resources.cpu: 100000 asked for, this machine has"),
        (RunResources(gpu=3), "resources.gpu: 3 asked for, this machine has 2"),
        (RunResources(gpu=1.5), "above 1 a whole number"),
    ],
)
def test_what_can_never_be_had_is_refused(resources: RunResources, message: str) -> None:
    with pytest.raises(PlacementError, match=message):
        LocalLauncher(resources, gpus=["0", "1"])


def test_a_member_has_as_many_threads_as_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert member_environment(RunResources(cpu=2.5))["OMP_NUM_THREADS"] == "3"
    assert member_environment(RunResources(cpu=0.5))["OMP_NUM_THREADS"] == "1"
