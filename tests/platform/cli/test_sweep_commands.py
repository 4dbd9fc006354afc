from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reverie.cli.sweep_table import status_text
from reverie.lease import Lease
from reverie.tuning.cell_state import Attempts, CellState, write_attempts
from reverie.tuning.sweep_folder import SweepFolder
from tests.platform.commands import Cli, assert_refused
from tests.platform.tuning.sweeps import make_sweep, write_sweep


def test_a_sweep_from_its_file_to_its_report(cli: Cli, tmp_path: Path) -> None:
    wide = {"base": "base.yaml", "learner.batch_size": 5}
    file = write_sweep(tmp_path, bases={"plain": "base.yaml", "wide": wide}, max_concurrent=2)
    folder = tmp_path / "s"
    answer = cli("sweep", file)
    assert answer.code == 0, answer
    assert "2 of 2 cells are done, 0 restarts, 0 env steps taken again" in answer.out
    assert f"reverie report {folder} --out {folder}/report" in answer.out
    status = cli("sweep", "status", folder)
    assert status.code == 0
    assert "2 cells: 2 done, 0 running, 0 waiting, 0 dead" in status.out
    assert "120/120" in status.out
    report = cli("report", folder, "--out", tmp_path / "report")
    assert report.code == 0, report
    assert "plain: IQM" in report.out
    assert "wide: IQM" in report.out

    assert_refused(cli("sweep", file), "exists; go on with it: the same command with --resume")
    assert_refused(cli("sweep", file, "seeds=2"), "is the folder of another sweep: seeds differs")
    other = cli("sweep", file, "--resume", "learner.batch_length=3", "seeds=2")
    assert_refused(other, "is the folder of another sweep: overrides.learner.batch_length, seeds")
    assert cli("sweep", file, "--resume", "max_concurrent=1").code == 0
    assert cli("sweep", "extend", folder, "seeds=3").code == 0
    assert len(SweepFolder(folder).cells) == 6
    assert "2 done, 0 running, 4 waiting" in cli("sweep", "status", folder).out
    assert_refused(cli("sweep", "extend", folder, "seeds=2"), "seeds: expected more than the sweep")
    assert cli("sweep", file, "--resume", "--backend=slurm").code == 0  # extended, yet the same


@pytest.mark.parametrize(
    ("keys", "words", "message"),
    [
        ({}, ["--backend=local", "--address=auto"], "--address: of a Ray cluster"),
        ({}, ["--submit"], "--submit: hands jobs to Slurm, got --backend local"),
        ({"slurm": {"mem": "1G"}}, [], "slurm: keys of Slurm, got --backend local"),
        ({"resources": {"cpu": 100_000}}, [], "resources.cpu: 100000 asked for"),
        ({"seeds": 10_000}, ["samples=1", "tasks=[toy/catch, toy/multi]"], "20,000 cells"),
        ({"param_space": {"learner.prefetsh": {"grid": [1]}}}, [], "did you mean prefetch?"),
        ({"param_space": {"learner.prefetch": {"gird": [1]}}}, [], "unknown sampler 'gird'"),
        ({"search": {}}, [], "search: nothing to search"),
        ({"tasks": ["robodesk/open_slide"]}, [], "tasks: robodesk: "),
        ({}, ["--resume", "--dry-run"], "not allowed with"),
    ],
)
def test_bad_input_starts_nothing(
    keys: dict[str, Any], words: list[str], message: str, cli: Cli, tmp_path: Path
) -> None:
    answer = cli("sweep", write_sweep(tmp_path, **keys), *words)
    assert_refused(answer, message)
    assert not (tmp_path / "s").exists()


def test_a_folder_in_use_or_of_something_else_is_refused(cli: Cli, tmp_path: Path) -> None:
    file = write_sweep(tmp_path)
    (tmp_path / "s").mkdir()
    (tmp_path / "s/mine").touch()
    assert_refused(cli("sweep", file), "exists and holds no sweep; choose another")
    (tmp_path / "s/mine").unlink()
    sweep = make_sweep(tmp_path)
    lease = Lease(sweep.path)
    assert_refused(cli("sweep", file, "--resume"), "works on this sweep; wait for it or end it")
    lease.release()


def test_what_acts_on_a_folder_wants_one(cli: Cli, tmp_path: Path) -> None:
    assert_refused(cli("sweep", "status"), "missing FOLDER, e.g. `reverie sweep status")
    assert_refused(cli("sweep", "status", tmp_path), "expected the folder of a sweep")
    sweep = make_sweep(tmp_path)
    assert_refused(cli("sweep", "extend", sweep.path), "expected seeds=NUMBER, got nothing")
    assert_refused(cli("sweep", "extend", sweep.path, "tasks=toy/catch"), "another sweep")
    assert_refused(cli("sweep", "extend", sweep.path, "seeds=no"), "seeds: expected")
    assert_refused(cli("sweep", "retry", sweep.path, "--dry-run"), "takes no --dry-run")


def test_slurm_scripts_are_printed_or_refused(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_sweep(tmp_path, slurm={"runs_per_task": 2}, seeds=3)
    answer = cli("sweep", file, "--backend=slurm")
    assert answer.code == 0, answer
    assert "3 cells in 2 tasks of 1 job arrays" in answer.out
    assert "job0=$(sbatch --parsable " in answer.out
    monkeypatch.setenv("PATH", str(tmp_path))
    refused = cli("sweep", file, "--backend=slurm", "--submit", "--resume")
    assert_refused(refused, "no sbatch on this machine")


def test_retry_forgets_failures_at_slurm_too(cli: Cli, tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path)
    write_attempts(sweep, sweep.cells[0].id, Attempts(starts=9, failures=9))
    assert cli("sweep", "retry", sweep.path, "--backend=slurm").code == 0
    state = json.loads(sweep.state_file(sweep.cells[0].id).read_text())
    assert (state["starts"], state["failures"]) == (9, 0)


def test_a_dry_run_measures_and_starts_nothing(cli: Cli, tmp_path: Path) -> None:
    file = write_sweep(tmp_path, seeds=4, max_concurrent=2)
    answer = cli("sweep", file, "--dry-run")
    assert answer.code == 0, answer
    for words in ("cells                   4\n", "memory at the peak", "run hours", "200 updates"):
        assert words in answer.out
    assert "measured on this machine:\n  plain: 200 env steps" in answer.out
    assert not (tmp_path / "s").exists()


def test_the_table_says_what_there_is_to_say(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, seeds=2)
    first, second = sweep.cells
    found = [
        CellState(
            cell=first,
            condition="running",
            env_steps=60,
            score=1.25,
            eta_s=3700,
            attempts=Attempts(starts=3),
            note="process 1 on here",
        ),
        CellState(cell=second, condition="dead", note="no space left"),
    ]
    head, one, two, last = status_text(found).splitlines()
    assert head.split() == ["cell", "state", "env", "steps", "score", "ETA", "restarts"]
    assert one.split()[1:] == [
        "running",
        "60/120",
        "1.25",
        "1h01m",
        "2",
        *("process", "1", "on", "here"),
    ]
    assert two.endswith("no space left")
    assert last == "2 cells: 0 done, 1 running, 0 waiting, 1 dead"
