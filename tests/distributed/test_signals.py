"""Signals to a run on Ray, and its learner's death in the final evaluation."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from reverie.checkpoint import CheckpointStore
from reverie.cluster import actors
from reverie.config import resolve_config
from reverie.config_tree import apply_overrides
from reverie.metrics import read_metrics
from reverie.run_loop import Interrupted
from reverie.storage import Storage
from reverie.trainer import Trainer
from tests.conftest import ROOT
from tests.distributed.test_faults import make, process_of
from tests.fakes import tree


def slow_evaluation(folder: Path) -> dict[str, Any]:
    """Settings of evaluations of minutes; the file `evaluating` tells that one has begun."""
    note = str(folder / "evaluating")
    return {"eval.env": {"delay_s": 0.5, "note": note}, "eval.episodes": 200}


def latest(folder: Path) -> Any:
    return CheckpointStore(Storage(str(folder / "run")), 2).latest()


def scores(folder: Path) -> list[Any]:
    rows = read_metrics(folder / "run" / "metrics.jsonl")
    return [row["env_steps"] for row in rows if "eval/score" in row]


def once_evaluating(folder: Path, action: Any) -> threading.Thread:
    """Do something as soon as an evaluation has begun."""

    def wait() -> None:
        while not (folder / "evaluating").exists():
            time.sleep(0.05)
        action()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.ray
@pytest.mark.parametrize("stopped", ["local", "ray"])
def test_a_final_evaluation_that_is_stopped_here_is_played_once_there(
    stopped: str, tmp_path: Path, ray_local: None
) -> None:
    raw = tree(run__dir=str(tmp_path / "run"), run__env_steps=100)
    slow = resolve_config(apply_overrides(raw, slow_evaluation(tmp_path)))
    trainer = Trainer(slow, local=stopped == "local")
    once_evaluating(tmp_path, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted, match="stopped by SIGTERM; checkpoint written"):
        trainer.run()
    found = latest(tmp_path)
    before = found.document("record")["progress"]
    assert before["env_steps"] == 100
    assert [at for *_, at in found.document("pins")] == [100]
    summary = Trainer(resolve_config(raw), local=stopped == "ray", resume="must").run()
    assert summary.env_steps == 100
    assert summary.grad_updates == before["grad_updates"] > 0
    assert scores(tmp_path) == [100]


@pytest.mark.ray
def test_a_learner_that_dies_in_the_final_evaluation_costs_no_update(
    tmp_path: Path, ray_local: None
) -> None:
    trainer = make(
        tmp_path,
        run__env_steps=100,
        eval__env={"delay_s": 0.2, "note": str(tmp_path / "evaluating")},
        eval__episodes=4,
    )
    pid = process_of(trainer, "learner")
    once_evaluating(tmp_path, lambda: os.kill(pid, signal.SIGKILL))
    summary = trainer.run()
    assert summary.restarts == {"learner": 1}
    assert summary.lost_updates == 0
    assert summary.eval_episodes == 4
    learner = latest(tmp_path).tensors("learner")
    assert learner["grad_updates"] == summary.grad_updates > 0


@pytest.mark.ray
def test_a_worker_with_slow_environments_does_not_keep_a_checkpoint_waiting(
    tmp_path: Path, ray_local: None
) -> None:
    """A whole quota of 100 steps takes 50 s."""
    settings = {"replay__chunk_length": 200, "env__delay_s": 0.5, "run__env_steps": 1000}
    trainer = make(tmp_path, **settings)
    try:
        while not trainer.progress.env_steps:  # on a busy machine it takes a while to begin
            trainer.step()
        begin = time.monotonic()
        trainer.save(go_on=False)
        assert time.monotonic() - begin < 5 * actors.COLLECT_S
        assert 0 < trainer.progress.env_steps < 100
    finally:
        trainer.close()


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_second_signal_ends_a_run_and_its_ray_at_once(tmp_path: Path) -> None:
    process, output = begin(tmp_path)
    try:
        until(lambda: "run folder:" in output.read_text())
        assert len(session_of(process.pid)) > 5
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        time.sleep(1)
        assert process.poll() is None, output.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 143
        assert "reverie: stopped at once by SIGTERM; no checkpoint stands yet" in output.read_text()
        until(lambda: not session_of(process.pid))
    finally:
        process.kill()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_signal_while_ray_starts_leaves_neither_processes_nor_a_folder(tmp_path: Path) -> None:
    """`ray.init` takes SIGTERM for itself."""
    process, output = begin(tmp_path)
    try:
        until(lambda: len(session_of(process.pid)) > 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143, output.read_text()
        assert "reverie: stopped by SIGTERM before there was anything to save" in output.read_text()
        assert not (tmp_path / "run").exists()
        until(lambda: not session_of(process.pid))
    finally:
        process.kill()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_run_whose_ray_is_gone_says_so_in_one_line_and_leaves_nothing(
    name: str, tmp_path: Path
) -> None:
    process, output = begin(tmp_path)
    try:
        until(lambda: "run folder:" in output.read_text())
        found = [pid for pid in session_of(process.pid) if title(pid).endswith(f"/{name}")]
        assert len(found) == 1
        os.kill(found[0], signal.SIGKILL)
        assert process.wait(60) == 2
        (line,) = [line for line in output.read_text().splitlines() if "reverie: " in line]
        assert f"Ray's {name} on this machine is gone" in line
        assert "no checkpoint stands yet" in line
        until(lambda: not session_of(process.pid))
    finally:
        process.kill()


def title(pid: int) -> str:
    """The program of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()


def begin(folder: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """A run with a Ray of its own, in a session of its own, and where its output goes."""
    path, output = folder / "config.yaml", folder / "output.txt"
    settings = {"run__dir": str(folder / "run"), "run__env_steps": 1000, "env__delay_s": 20.0}
    path.write_text(resolve_config(tree(**settings)).to_yaml())
    process = subprocess.Popen(
        [sys.executable, "-m", "reverie.cli", "train", str(path)],
        cwd=ROOT,
        stdout=output.open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    return process, output


def until(condition: Any) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def session_of(leader: int) -> list[int]:
    """Living processes of a session."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == leader and fields[0] not in "ZX":
            found.append(int(path.name))
    return found
