"""The whole path with stub agents, in one process and on Ray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from reverie.config import resolve_config
from reverie.metrics import read_metrics
from reverie.policy import find_checkpoint
from reverie.trainer import Trainer
from tests.fakes import tree

AGENTS = ["Plain", "TwoStreams", "Planner"]
WAYS = ["local", pytest.param("ray", marks=pytest.mark.ray)]


def run(way: str, folder: Path, request: pytest.FixtureRequest, **overrides: Any) -> Any:
    if way == "ray":
        request.getfixturevalue("ray_local")
    config = resolve_config(tree(run__dir=str(folder / "run"), **overrides))
    trainer = Trainer(config, local=way == "local")
    return trainer, trainer.run()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("agent", AGENTS)
def test_every_agent_runs_the_whole_path(
    way: str, agent: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    trainer, summary = run(
        way,
        tmp_path,
        request,
        agent=agent,
        eval__every=150,
        resources={"num_env_workers": 2, "envs_per_worker": 2, "num_shards": 2},
    )
    steps = 4 * 5 if agent != "TwoStreams" else 4
    owed = 4 * (400 - 40) / steps
    assert summary.env_steps == 400
    assert owed - 1 < summary.grad_updates <= owed
    assert summary.score is not None
    assert summary.restarts == {}
    rows = read_metrics(trainer.folder / "metrics.jsonl")
    assert [row["env_steps"] for row in rows if "eval/score" in row][-1] == 400
    assert json.loads((trainer.folder / "summary.json").read_text())["env_steps"] == 400


@pytest.mark.parametrize("way", WAYS)
def test_a_thousand_environments_pass_the_same_path(
    way: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    _, summary = run(
        way,
        tmp_path,
        request,
        suite="CountingMany",
        resources={"num_env_workers": 1, "envs_per_worker": 1024, "num_shards": 2},
        replay={"chunk_length": 8, "capacity": 100_000},
        learner={"training_ratio": 0.05},
        run={"env_steps": 20_000, "prefill": 8192},
    )
    assert summary.env_steps == 20_000
    assert summary.episodes >= 1024
    assert summary.grad_updates == int((20_000 - 8192) * 0.05 / 20)


@pytest.mark.ray
def test_two_runs_on_one_cluster_do_not_see_each_other(tmp_path: Path, ray_local: None) -> None:
    configs = [
        resolve_config(tree(run__dir=str(tmp_path / name), seed=seed, run__env_steps=steps))
        for seed, (name, steps) in enumerate({"a": 200, "b": 300}.items())
    ]
    trainers = [Trainer(config) for config in configs]
    try:
        finished = [False, False]
        while not all(finished):
            for at, trainer in enumerate(trainers):
                finished[at] = finished[at] or trainer.step().finished
        counts = [trainer._backend.counters().env_steps for trainer in trainers]
    finally:
        for trainer in trainers:
            trainer.close()
    assert counts == [200, 300]


@pytest.mark.parametrize("way", WAYS)
def test_a_run_begins_with_the_parts_of_another_and_holds_them_still(
    way: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    first, _ = run(way, tmp_path / "a", request, agent="TwoStreams")
    settings = {"from": str(first.folder), "modules": ["policy"], "freeze_updates": 1_000}
    overrides = {"agent": "TwoStreams", "init": settings, "seed": 5}
    second, summary = run(way, tmp_path / "b", request, **overrides)
    assert summary.grad_updates > 100
    policies, models = zip(*(parts(trainer.folder) for trainer in (first, second)), strict=True)
    assert torch.equal(*policies)
    assert not torch.equal(*models)


def parts(folder: Path) -> list[torch.Tensor]:
    """Weights of the policy and of the model in the last checkpoint."""
    modules = find_checkpoint(folder).tensors("learner")["agent"]["modules"]
    return [modules[name]["weight"] for name in ("policy", "model")]
