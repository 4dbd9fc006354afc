"""The loop with members that are real processes, of a shell that does what a run would leave."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from reverie import lease as lease_module
from reverie.errors import ConfigError
from reverie.lease import LEASE_FILE, Lease
from reverie.stop_signals import StopSignals
from reverie.tuning import driver as driver_module
from reverie.tuning.cell_state import Attempts, read_attempts, states, write_attempts
from reverie.tuning.cells import Cell
from reverie.tuning.driver import CellsFailed, Driver, SweepStopped
from reverie.tuning.sweep_folder import SweepFolder
from tests.platform.tuning.sweeps import make_sweep

SUCCEED = """mkdir -p {run}; echo '{{"env_steps": 120, "eval_episodes": 2, "score": 1.5}}' \
> {run}/summary.json"""
FAIL = "echo first; echo 'reverie: it broke' ; exit 2"


class ShellMember:
    def __init__(self, script: str, log: Path) -> None:
        with log.open("ab") as file:
            self.process = subprocess.Popen(["sh", "-c", script], stdout=file)

    def poll(self) -> int | None:
        return self.process.poll()

    def tell(self, number: int) -> None:
        self.process.send_signal(number)


class Shells:
    """Starts a script per cell, by default one that succeeds; notes in which order."""

    def __init__(self, scripts: dict[str, str] | None = None, room: int = 100) -> None:
        self.scripts, self.room = scripts or {}, room
        self.started: list[str] = []
        self.members: list[ShellMember] = []
        self.most = 0

    def start(self, sweep: SweepFolder, cell: Cell) -> ShellMember | None:
        live = sum(member.poll() is None for member in self.members)
        if live >= self.room:
            return None
        self.most = max(self.most, live + 1)
        self.started.append(cell.id)
        run = shlex.quote(str(sweep.run_folder(cell.id)))
        script = self.scripts.get(cell.id, SUCCEED).format(run=run)
        self.members.append(ShellMember(script, sweep.log_file(cell.id)))
        return self.members[-1]

    def close(self) -> None: ...


def drive(sweep: SweepFolder, launcher: Shells, **options: Any) -> Driver:
    options = {"at_most": 2, "max_failures": 1, "signals": StopSignals()} | options
    return Driver(sweep, sweep.cells, launcher, **options)


def nothing() -> None: ...


def test_every_cell_runs_once_and_no_more_at_once_than_may(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, seeds=5)
    shells = Shells({cell.id: "sleep 0.3;" + SUCCEED for cell in sweep.cells})
    outcome = drive(sweep, shells).run(nothing)
    assert (outcome.done, outcome.cells, outcome.restarts) == (5, 5, 0)
    assert sorted(shells.started) == sorted(cell.id for cell in sweep.cells)
    assert shells.most == 2
    again = Shells()
    assert drive(sweep, again).run(nothing).done == 5
    assert again.started == []


def test_a_launcher_without_room_is_asked_again(tmp_path: Path) -> None:
    sweep, shells = make_sweep(tmp_path, seeds=3), Shells(room=1)
    drive(sweep, shells, at_most=None).run(nothing)
    assert (len(shells.started), shells.most) == (3, 1)


def test_a_cell_that_fails_is_tried_again_so_often_and_its_last_line_kept(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, seeds=2)
    bad, good = (cell.id for cell in sweep.cells)
    shells = Shells({bad: FAIL})
    with pytest.raises(CellsFailed, match=r"1 of 2 cells are done, 1 failed: .*\(it broke\)"):
        drive(sweep, shells, at_most=1).run(nothing)
    assert shells.started.count(bad) == 2
    assert shells.started.count(good) == 1
    assert read_attempts(sweep, bad) == Attempts(starts=2, failures=2, code=2, line="it broke")
    dead = states(sweep)[0]
    assert (dead.condition, dead.note) == ("dead", "it broke")
    with pytest.raises(CellsFailed):  # a resume does not forget
        drive(sweep, again := Shells()).run(nothing)
    assert again.started == []
    assert drive(sweep, again, forgive=True).run(nothing).done == 2
    assert again.started == [bad]


def test_a_cell_begins_when_the_one_it_starts_from_is_done(tmp_path: Path) -> None:
    tune = {"base": "base.yaml", "init.from": {"cell": "plain"}}
    sweep = make_sweep(tmp_path, bases={"tune": tune, "plain": "base.yaml"})
    second, first = (cell.id for cell in sweep.cells)
    shells = Shells({first: "sleep 0.5;" + SUCCEED})
    drive(sweep, shells).run(nothing)
    assert shells.started == [first, second]


def test_a_cell_whose_source_failed_is_named(tmp_path: Path) -> None:
    tune = {"base": "base.yaml", "init.from": {"cell": "plain"}}
    sweep = make_sweep(tmp_path, bases={"tune": tune, "plain": "base.yaml"})
    second, first = (cell.id for cell in sweep.cells)
    with pytest.raises(CellsFailed, match=f"1 wait for a cell that did not end: {second[:4]}"):
        drive(sweep, shells := Shells({first: FAIL}), max_failures=0).run(nothing)
    assert shells.started == [first]


@pytest.mark.parametrize("at_most", [1, 2])
def test_a_cell_that_another_process_writes_is_waited_for(at_most: int, tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, seeds=2)
    held, free = (cell.id for cell in sweep.cells)
    run = sweep.run_folder(held)
    run.mkdir()
    lease = Lease(run)
    shells, begun = Shells(), list[int]()

    def finish() -> None:
        time.sleep(0.5)
        begun.append(len(shells.started))
        subprocess.run(["sh", "-c", SUCCEED.format(run=shlex.quote(str(run)))], check=True)
        lease.release()

    other = threading.Thread(target=finish)
    other.start()
    assert drive(sweep, shells, at_most=at_most).run(nothing).done == 2
    other.join()
    assert shells.started == [free]
    assert begun == [at_most - 1]  # the other takes room as well


def test_a_member_lost_on_another_machine_counts_once_its_lease_has_run_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "STALE_S", 1.0)
    monkeypatch.setattr(driver_module, "LOOK_S", 0.2)
    sweep = make_sweep(tmp_path)
    cell = sweep.cells[0].id
    sweep.run_folder(cell).mkdir()
    held = Lease(tmp_path)
    owner = json.loads((tmp_path / LEASE_FILE).read_text()) | {"machine": "another"}
    held.release()
    (tmp_path / "lease").write_text(json.dumps(owner))
    lose = f"cat {shlex.quote(str(tmp_path / 'lease'))} > {{run}}/{LEASE_FILE}; kill -9 $$"
    shells = Shells({cell: lose})
    with pytest.raises(CellsFailed, match="1 failed"):
        drive(sweep, shells, max_failures=1).run(nothing)
    assert shells.started == [cell] * 2
    assert read_attempts(sweep, cell).failures == 2
    assert read_attempts(sweep, cell).code == -9


def test_one_driver_at_a_time(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path)
    first = drive(sweep, Shells())
    with pytest.raises(ConfigError, match=r"process \d+ on .* works on this sweep"):
        drive(sweep, Shells())
    first.run(nothing)
    drive(sweep, Shells()).run(nothing)


def test_a_signal_reaches_every_member_and_all_are_waited_for(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, seeds=3)
    wait = "trap 'sleep 0.3; echo saved; exit 138' USR1; while :; do sleep 0.05; done"
    shells, signals = Shells({cell.id: wait for cell in sweep.cells}), StopSignals()

    def tell() -> None:
        if len(shells.started) == 2:
            time.sleep(0.3)
            signals.first = signal.SIGUSR1

    with pytest.raises(SweepStopped, match="stopped by SIGUSR1") as error:
        drive(sweep, shells, signals=signals).run(tell)
    assert error.value.exit_code == 138
    for cell in sweep.cells[:2]:
        found = read_attempts(sweep, cell.id)
        assert (found.failures, found.code, found.line) == (0, 138, "saved")
    assert read_attempts(sweep, sweep.cells[2].id).starts == 0


def test_what_a_killed_driver_left_is_no_longer_under_way(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path)
    cell = sweep.cells[0]
    write_attempts(sweep, cell.id, Attempts(starts=1, under_way=True))
    assert states(sweep)[0].condition == "dead"
    lease = Lease(sweep.path)
    assert states(sweep)[0].condition == "running"
    lease.release()
    assert drive(sweep, Shells()).run(nothing).restarts == 1
