from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import pytest

from reverie.lease import LEASE_FILE, STALE_S, Lease, holders
from reverie.tuning import sweep_folder
from reverie.tuning.cell_state import Attempts, repeated_steps, states, write_attempts
from reverie.tuning.sweep_folder import SweepFolder
from tests.platform.tuning.sweeps import make_sweep


def finish(sweep: SweepFolder, cell: str, **figures: object) -> None:
    folder = sweep.run_folder(cell)
    folder.mkdir(exist_ok=True)
    summary = {"env_steps": 120, "eval_episodes": 2, "score": 0.5} | figures
    (folder / "summary.json").write_text(json.dumps(summary))


def test_states_come_from_files_alone(tmp_path: Path) -> None:
    tune = {"base": "base.yaml", "init.from": {"cell": "plain"}, "seeds": 1}
    sweep = make_sweep(tmp_path, bases={"plain": "base.yaml", "tune": tune}, seeds=5)
    done, running, dead, short, waiting, tuned = (cell.id for cell in sweep.cells)
    finish(sweep, done)
    finish(sweep, short, env_steps=119)
    for cell in (running, dead):
        sweep.run_folder(cell).mkdir()
        rows = [{"env_steps": 40, "eval/score": 2.0}, {"env_steps": 60, "fps/env": 30.0}]
        text = "\n".join(map(json.dumps, rows)) + '\n{"torn'
        (sweep.run_folder(cell) / "metrics.jsonl").write_text(text)
    sweep.log_file(dead).write_text("I fine\nreverie: no space left\n\n")
    write_attempts(sweep, running, Attempts(starts=3, under_way=True))
    lease = Lease(sweep.run_folder(running))
    found = {state.cell.id: state for state in states(sweep)}
    lease.release()
    conditions = [found[name].condition for name in (done, running, dead, short, waiting, tuned)]
    assert conditions == ["done", "running", "dead", "dead", "waiting", "waiting"]
    assert (found[done].env_steps, found[done].score) == (120, 0.5)
    assert (found[running].env_steps, found[running].score, found[running].eta_s) == (60, 2.0, 2.0)
    assert found[running].attempts.starts == 3
    assert found[dead].note == "no space left"
    assert found[dead].eta_s is None
    assert found[tuned].note == ""
    assert states(sweep)[1].condition == "dead"


def test_a_run_that_never_trained_is_not_done(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path)
    finish(sweep, sweep.cells[0].id, eval_episodes=0)
    assert states(sweep)[0].condition == "dead"


def test_leases_of_other_machines_count_by_the_age_of_their_beat(tmp_path: Path) -> None:
    import os

    folders = [tmp_path / name for name in ("fresh", "stale", "none")]
    for folder in folders:
        folder.mkdir()
    for folder in folders[:2]:
        lease = Lease(folder)
        text = (folder / LEASE_FILE).read_text()
        lease.release()
        owner = json.loads(text) | {"machine": "another"}
        (folder / LEASE_FILE).write_text(json.dumps(owner))
    old = time.time() - STALE_S - 5
    os.utime(folders[1] / LEASE_FILE, (old, old))
    began = time.monotonic()
    assert list(holders(folders, tmp_path)) == [folders[0]]
    assert time.monotonic() - began < 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "none", "stale"]


def test_steps_that_were_logged_and_taken_again_are_counted(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path)
    folder = sweep.run_folder(sweep.cells[0].id)
    folder.mkdir()
    rows = [
        {"env_steps": 50},
        {"event": "resumed", "env_steps": 30},
        {"env_steps": 60},
        {"event": "resumed", "env_steps": 0},
        {"env_steps": 120},
    ]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert repeated_steps(sweep, sweep.cells) == 20 + 60


def test_a_thousand_cells_are_looked_at_in_three_seconds(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, seeds=1000)
    assert len(sweep.cells) == 1000
    row = json.dumps({"time": 1.0, **{f"train/metric_{i}": 0.123456 for i in range(60)}})
    for at, cell in enumerate(sweep.cells):
        finish(sweep, cell.id, env_steps=120 if at % 2 else 60)
        text = f"{row}\n" * 30 + json.dumps({"env_steps": 60, "fps/env": 5.0})
        (sweep.run_folder(cell.id) / "metrics.jsonl").write_text(text)
        write_attempts(sweep, cell.id, Attempts(starts=1))
    began = time.monotonic()
    found = states(SweepFolder(sweep.path))
    assert time.monotonic() - began < 3
    assert sum(state.condition == "done" for state in found) == 500


def test_a_sweep_of_a_later_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep(tmp_path)
    monkeypatch.setattr(sweep_folder, "FORMAT", 0)
    with pytest.raises(ValueError, match="later version"):
        SweepFolder(sweep.path)
    assert dataclasses.asdict(sweep.cells[0])["seed"] == 0
