"""Starting from parts of another run: what is taken, held still, written down and refused."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from reverie.checkpoint import CheckpointStore
from reverie.config import resolve_config
from reverie.errors import ConfigError
from reverie.init_from import read_source
from reverie.settings import InitConfig
from reverie.storage import Storage
from reverie.trainer import Trainer
from tests.fakes import tree


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the agent with two trained parts."""
    run = tmp_path_factory.mktemp("source") / "run"
    trainer(run, "TwoStreams", run__env_steps=80).run()
    return run


def trainer(run: Path, agent: str = "TwoStreams", resume: Any = "never", **overrides: Any) -> Any:
    settings: dict[str, Any] = {"run__dir": str(run), "eval__video": False} | overrides
    return Trainer(resolve_config(tree(agent, **settings)), local=True, resume=resume)


def parts(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The trained parts in the newest checkpoint of a run."""
    checkpoint = CheckpointStore(Storage(str(run)), 1).latest()
    assert checkpoint is not None
    return checkpoint.tensors("learner")["agent"]["modules"]


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, two[key]) for key, value in one.items())


def test_a_run_starts_from_another_and_says_what_it_took(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    overrides = {"init__from": str(source), "init__modules": ["policy"], "seed": 5}
    begun = trainer(tmp_path / "run", **overrides)
    weights = begun._backend.learner.agent.state_dict()["modules"]
    begun.close()
    assert equal(weights["policy"], parts(source)["policy"])
    assert not equal(weights["model"], parts(source)["model"])
    _, published = begun._backend._weights.newer_than(None)
    assert (published["weight"] == parts(source)["policy"]["weight"].numpy()).all()
    found = json.loads((tmp_path / "run/init.json").read_text())
    assert found["from"] == str(max((source / "checkpoints").iterdir()))
    assert found["loaded"] == ["policy/weight", "policy/bias"]
    assert found["skipped"] == {"model/weight": "not chosen", "model/bias": "not chosen"}
    (line,) = [m for m in caplog.messages if m.startswith("init: ")]
    assert "2 tensors loaded" in line
    assert "2 skipped (2 not chosen), 0 mismatched" in line


def test_another_algorithm_s_parts_fit_by_name_and_shape(source: Path, tmp_path: Path) -> None:
    begun = trainer(tmp_path / "run", "Plain", init__from=str(source))
    begun.close()
    found = json.loads((tmp_path / "run/init.json").read_text())
    assert found["loaded"] == ["policy/weight", "policy/bias"]
    assert set(found["skipped"].values()) == {"only in the source"}


def test_frozen_parts_are_released_behind_their_updates_even_across_a_resume(
    source: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    init = {"init__from": str(source), "init__modules": ["policy"], "init__freeze_updates": 30}
    # 20 updates, then 30, then 40; a quarter of an update per env step.
    settings = init | {"learner__training_ratio": 1, "run__prefill": 40}
    trainer(run, run__env_steps=120, **settings).run()
    assert equal(parts(run)["policy"], parts(source)["policy"])
    assert not equal(parts(run)["model"], parts(source)["model"])
    moved = Path(shutil.move(source, tmp_path / "moved"))
    try:
        # The checkpoint wins: the source is not looked at again.
        trainer(run, resume="must", run__env_steps=160, **settings).run()
        assert equal(parts(run)["policy"], parts(moved)["policy"])
        trainer(run, resume="must", run__env_steps=200, **settings).run()
        assert not equal(parts(run)["policy"], parts(moved)["policy"])
    finally:
        shutil.move(moved, source)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"init.modules": ["rssm"]}, "unknown module 'rssm'; known: model, policy"),
        ({"init.from": "nowhere/run"}, "nowhere/run: not a run folder with a checkpoint"),
        ({"algorithm.name": "tests.fakes:Planner", "init.modules": ["model"]}, "known: policy"),
        ({"init.from": "{run}/checkpoints/00000009"}, r"no checkpoint 00000009; it holds \[2\]"),
    ],
)
def test_what_cannot_be_taken_is_refused_and_leaves_no_folder(
    overrides: dict[str, Any], words: str, source: Path, tmp_path: Path
) -> None:
    filled = {
        key: value.format(run=source) if isinstance(value, str) else value
        for key, value in overrides.items()
    }
    with pytest.raises(ConfigError, match=words):
        trainer(tmp_path / "run", **{"init.from": str(source)} | filled)
    assert not (tmp_path / "run").exists()


def test_a_source_of_which_nothing_fits_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "other"
    trainer(run, "Plain", run__env_steps=80).run()
    with pytest.raises(ConfigError, match=r"no tensor of .* fits model; it holds"):
        trainer(tmp_path / "run", init__from=str(run), init__modules=["model"])


def test_one_checkpoint_of_a_run_may_be_named(source: Path) -> None:
    found = read_source(InitConfig(from_=f"{source}/checkpoints/00000002/"))
    assert found is not None
    assert found.state.keys() == {"modules"}
    assert found.name == f"{source}/checkpoints/00000002"
    assert read_source(InitConfig()) is None
