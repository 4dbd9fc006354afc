"""Pre-training on video in one process: budgets, looks, resumes, refusals."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import reverie
from reverie.checkpoint import CheckpointStore
from reverie.config import resolve_pretrain
from reverie.errors import ConfigError
from reverie.metrics import read_metrics
from reverie.pretrainer import Pretrainer
from reverie.run_loop import Interrupted
from reverie.storage import Storage
from tests.videos import moving_squares, pretrain_tree


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving_squares(tmp_path_factory.mktemp("video"))


def make(folder: Path, data: Path, resume: Any = "never", **sections: Any) -> Pretrainer:
    run = {"dir": str(folder), **sections.pop("run", {"updates": 8})}
    config = resolve_pretrain(pretrain_tree(data, run=run, **sections))
    return Pretrainer(config, local=True, resume=resume)


def weights(folder: Path) -> dict[str, Any]:
    checkpoint = CheckpointStore(Storage(str(folder)), 2).latest()
    assert checkpoint is not None
    return checkpoint.tensors("learner")


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif torch.is_tensor(one):
        assert torch.equal(one, other)
    else:
        assert one == other


def test_a_run_makes_its_updates_and_looks_at_clips_that_are_held_out(
    tmp_path: Path, data: Path
) -> None:
    loop = make(tmp_path / "run", data, run={"updates": 10})
    summary = loop.run()
    assert (summary.grad_updates, summary.trained_steps) == (10, 10 * 5 * 6)
    rows = [
        row for row in read_metrics(tmp_path / "run/metrics.jsonl") if "report/loss/image" in row
    ]
    assert [row["grad_updates"] for row in rows] == [4, 8, 10]
    assert [row["trained_steps"] for row in rows] == [120, 240, 300]
    assert summary.held_out["loss/image"] == rows[-1]["report/loss/image"]
    told = json.loads((tmp_path / "run/summary.json").read_text())
    assert told["held_out"] == summary.held_out
    manifest = json.loads((tmp_path / "run/run_manifest.json").read_text())
    assert [*manifest["assets"]] == [str(data)]
    assert len(summary.videos) == 3
    assert loop.progress.done == 10


def test_a_resumed_run_goes_on_to_the_same_bits(tmp_path: Path, data: Path) -> None:
    make(tmp_path / "straight", data).run()
    half = make(tmp_path / "halved", data)
    half._backend.learner.train(most=3)
    half.save()
    half.close()
    make(tmp_path / "halved", data, resume="must").run()
    assert_same(weights(tmp_path / "halved"), weights(tmp_path / "straight"))


def test_the_number_of_loaders_changes_nothing(tmp_path: Path, data: Path) -> None:
    for loaders in (1, 3):
        make(tmp_path / str(loaders), data, resources={"num_loaders": loaders}).run()
    assert_same(weights(tmp_path / "1"), weights(tmp_path / "3"))


def test_held_out_clips_are_never_trained_on(tmp_path: Path, data: Path) -> None:
    loop = make(tmp_path / "run", data)
    learner: Any = loop._backend.learner
    stream, numbers = learner._stream, set()
    for _ in range(8):
        ready = stream.next()
        numbers |= set((ready.batches["video"]["step_id"] >> 32).flatten().tolist())
        stream.trained(ready.number, {})
    looked = set()
    for batch in learner._held_out:
        looked |= set((batch["video"]["step_id"] >> 32).flatten().tolist())
    assert numbers
    assert looked
    assert not numbers & looked
    loop.close()


def test_a_signal_leaves_a_checkpoint_to_go_on_from(tmp_path: Path, data: Path) -> None:
    loop = make(tmp_path / "run", data, run={"updates": 100_000})
    with pytest.raises(Interrupted, match="reverie resume") as stopped:
        loop.run(lambda progress: signal.raise_signal(signal.SIGTERM))
    assert stopped.value.exit_code == 143
    done = int(weights(tmp_path / "run")["grad_updates"])
    assert 0 < done < 100_000
    again = make(tmp_path / "run", data, resume="must", run={"updates": done + 2})
    assert again.run().grad_updates == done + 2


def test_other_data_than_a_checkpoint_was_trained_on_is_told(
    tmp_path: Path, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path / "run", data, run={"updates": 2}).run()
    other = moving_squares(tmp_path / "other", seed=1)
    make(tmp_path / "run", other, resume="must").run()
    assert "it is not what checkpoint 2 was trained on" in caplog.text


def test_what_was_pre_trained_does_not_act(tmp_path: Path, data: Path) -> None:
    make(tmp_path / "run", data, run={"updates": 1}).run()
    with pytest.raises(ConfigError, match=r"it learned from video and chooses no actions; train"):
        reverie.load(tmp_path / "run")


def test_a_run_starts_from_another_one(tmp_path: Path, data: Path) -> None:
    make(tmp_path / "a", data).run()
    init = {"from": str(tmp_path / "a"), "modules": ["encoder"], "freeze_updates": 8}
    make(tmp_path / "b", data, init=init).run()
    first, second = (weights(tmp_path / name)["agent"]["modules"] for name in "ab")
    same = {
        name: torch.equal(first[name][key], second[name][key])
        for name in ("encoder", "af_rssm")
        for key in [next(key for key in first[name] if key.endswith("weight"))]
    }
    assert same == {"encoder": True, "af_rssm": False}
