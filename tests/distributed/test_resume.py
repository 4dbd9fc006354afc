"""Nothing is lost: exact resume, fresh incarnations, signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from reverie.checkpoint import CheckpointStore
from reverie.cluster.role import LEARNER
from reverie.config import resolve_config
from reverie.env_factory import spaces_of
from reverie.errors import ConfigError
from reverie.local_run import LocalRun
from reverie.metrics import read_metrics
from reverie.storage import Storage
from reverie.trainer import Trainer
from tests.conftest import ROOT
from tests.distributed.test_lockstep import DREAMER, flat
from tests.fakes import tree


def fixed_replay(raw: dict[str, Any], folder: Path, checkpoint: Any = None) -> LocalRun:
    config = resolve_config(raw)
    return LocalRun(config, spaces_of(config.env), folder, checkpoint)


def save(run: LocalRun, folder: Path) -> Any:
    saved = run.save()
    store = CheckpointStore(Storage(str(folder)), 2)
    store.save(1, saved.tensors, saved.documents, saved.files)
    return store.latest()


@pytest.mark.parametrize("agent", ["Plain", "TwoStreams", "DreamerV3", "freshest"])
def test_resume_with_the_replay_held_fixed_is_exact(agent: str, tmp_path: Path) -> None:
    raw = (
        tree(agent, run__env_steps=120, run__prefill=120)
        if agent in ("Plain", "TwoStreams")
        else {
            **DREAMER,
            "run": {"env_steps": 120, "prefill": 120},
            "replay": {"chunk_length": 32, "freshest_first": agent == "freshest"},
        }
    )
    raw["learner"] = raw["learner"] | {"training_ratio": 0, "pretrain": 8}
    runs = [fixed_replay(raw, tmp_path / name) for name in ("straight", "halved")]
    for run in runs:
        while run.coordinator.counters().env_steps < 120:
            run.workers[0].collect()
    assert runs[0].learner.train().updates == 8
    assert runs[1].learner.train(most=4).updates == 4
    resumed = fixed_replay(raw, tmp_path / "halved", save(runs[1], tmp_path / "halved"))
    assert resumed.learner.train().updates == 4
    straight, halved = (flat(run.learner.state_dict()) for run in (runs[0], resumed))
    assert straight.keys() == halved.keys()
    for key, value in straight.items():
        same = torch.equal(value, halved[key]) if torch.is_tensor(value) else value == halved[key]
        assert same, key


def test_after_resume_new_chunks_are_taken_with_a_fresh_incarnation(tmp_path: Path) -> None:
    raw = tree(run__env_steps=200)
    first = fixed_replay(raw, tmp_path)
    while first.coordinator.counters().env_steps < 100:
        first.step()
    rows = first.shards[0].stats()["rows"]
    resumed = fixed_replay(raw, tmp_path, save(first, tmp_path))
    assert resumed.shards[0].stats()["rows"] == rows
    while not resumed.step().finished:
        pass
    assert resumed.coordinator.counters().env_steps == 200
    incarnations = {stored.stream.incarnation for stored in resumed.shards[0]._store}
    assert incarnations == {0, 1}
    for stored in resumed.shards[0]._store:
        if stored.stream.incarnation == 1:
            rows_taken = stored.rows(0, stored.stop_row - stored.start_row)
            versions = rows_taken["policy_version"][~rows_taken["is_last"]]
            assert (versions > 0).all(), "the loaded weights act from the first step on"
    assert resumed.shards[0].stats()["rows"] > rows


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, 143),
        (signal.SIGUSR1, 138),
        (signal.SIGHUP, 129),
    ],
)
def test_signals_write_a_checkpoint_and_the_run_goes_on(
    number: int, code: int, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    path = tmp_path / "config.yaml"
    path.write_text(
        resolve_config(
            tree(run__env_steps=3000, env__delay_s=0.002, run__dir=str(folder))
        ).to_yaml()
    )
    command = [sys.executable, "-m", "reverie.cli"]
    process = subprocess.Popen(
        [*command, "train", str(path), "--local"], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    metrics = folder / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text()):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    os.kill(process.pid, number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == code, error
    assert f"reverie resume {folder}" in error
    before = CheckpointStore(Storage(str(folder)), 2).latest().document("record")["progress"]
    assert 0 < before["env_steps"] < 3000
    config = resolve_config(
        tree(run__env_steps=before["env_steps"] + 100, run__dir=str(folder), env__delay_s=0)
    )
    summary = Trainer(config, local=True, resume="must").run()
    assert summary.env_steps == before["env_steps"] + 100
    assert summary.grad_updates > before["grad_updates"]


def test_resume_auto_starts_or_goes_on_and_an_existing_folder_is_refused(tmp_path: Path) -> None:
    config = resolve_config(tree(run__dir=str(tmp_path / "run"), run__env_steps=100))
    assert Trainer(config, local=True, resume="auto").run().env_steps == 100
    more = resolve_config(tree(run__dir=str(tmp_path / "run"), run__env_steps=150))
    assert Trainer(more, local=True, resume="auto").run().env_steps == 150
    with pytest.raises(ConfigError, match="exists; choose another"):
        Trainer(config, local=True)
    empty = resolve_config(tree(run__dir=str(tmp_path / "none")))
    with pytest.raises(ConfigError, match="nothing to resume"):
        Trainer(empty, local=True, resume="must")


@pytest.mark.ray
def test_an_evaluation_that_was_still_to_come_is_played_after_resume(
    tmp_path: Path, ray_local: None
) -> None:
    raw = tree(run={"dir": str(tmp_path / "run"), "env_steps": 200}, eval__episodes=400)
    trainer = Trainer(resolve_config(raw | {"env": raw["env"] | {"delay_s": 0.005}}))
    while trainer.progress.env_steps < 100:
        trainer.step()
    trainer._backend.parts.ask(LEARNER, "pin", 77)
    trainer.save(go_on=False)
    trainer.close()
    assert CheckpointStore(Storage(str(trainer.folder)), 2).latest().document("pins")[0][2] == 77
    quick = resolve_config(raw | {"eval": raw["eval"] | {"episodes": 2}})
    resumed = Trainer(quick, resume="must")
    resumed.run()
    rows = read_metrics(resumed.folder / "metrics.jsonl")
    assert [row["env_steps"] for row in rows if "eval/score" in row] == [77, 200]
