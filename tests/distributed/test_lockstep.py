"""A distributed run in lockstep equals one in this process: same rows, same losses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reverie.checkpoint import CheckpointStore
from reverie.config import resolve_config
from reverie.storage import Storage
from reverie.trainer import Trainer
from tests.algorithms.small_2025 import NANO_TREE
from tests.fakes import tree

DREAMER: dict[str, Any] = {
    "algorithm": {
        "name": "dreamerv3",
        "size": "tiny",
        "horizon": 3,
        "rssm": {"deter": 16, "units": 16, "stoch": 4, "classes": 4},
        "encoder": {"depth": 2},
        "decoder": {"depth": 2},
        "harmony": {"mode": "paper"},
    },
    "env": "toy/catch",
    "learner": {"training_ratio": 1, "batch_size": 4, "batch_length": 8},
    "replay": {"chunk_length": 32},
    "run": {"env_steps": 1_000, "prefill": 100, "lockstep": True},
    "eval": {"every": 400, "episodes": 2},
    "logging": {"tensorboard": False},
}
LATENTS: dict[str, Any] = DREAMER | {
    "algorithm": NANO_TREE,
    "learner": {"training_ratio": 8, "batch_size": 4, "batch_length": 8},
    "run": {"env_steps": 240, "prefill": 40, "prefill_actions": "policy", "quota": 1}
    | {"lockstep": True},
}
"""Acting leaves latents in the replay, row by row."""


def record(trainer: Trainer) -> tuple[list[Any], dict[str, Any], Any]:
    """Run to the end; return losses step by step, files of rows, and all tensors."""
    losses: list[Any] = []
    finished = False
    while not finished:
        events = trainer.step()
        finished = events.finished
        losses += [(stats.updates, stats.metrics) for stats in events.trained]
        losses += [(result.env_steps, result.score) for result in events.evaluated]
    trainer.save()
    trainer.close()
    checkpoint = CheckpointStore(Storage(str(trainer.folder)), 2).latest()
    assert checkpoint is not None
    files = {name: checkpoint.read_file(name) for name in checkpoint.files}
    return losses, files, checkpoint.tensors("learner")


def flat(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {path: value}
    return {k: v for key, part in value.items() for k, v in flat(part, f"{path}/{key}").items()}


@pytest.mark.ray
@pytest.mark.timeout(300)
@pytest.mark.parametrize("agent", ["Plain", "DreamerV3", "latents"])
def test_lockstep_on_ray_equals_local(agent: str, tmp_path: Path, ray_local: None) -> None:
    raw = {"DreamerV3": DREAMER, "latents": LATENTS}.get(
        agent, tree(run={"env_steps": 1_000, "lockstep": True})
    )
    found = []
    for way in ("local", "ray"):
        # One thread: sums over another number of threads round differently.
        resources = {"device": "cpu", "learner_threads": 1}
        run = raw["run"] | {"dir": str(tmp_path / way)}
        config = resolve_config(raw | {"run": run, "resources": resources})
        found.append(record(Trainer(config, local=way == "local")))
    (losses, files, state), (ray_losses, ray_files, ray_state) = found
    assert sum(updates for updates, _ in losses if isinstance(updates, int)) > 25
    assert json.dumps(losses) == json.dumps(ray_losses)
    assert files == ray_files
    assert any("side" in name for name in files) == (agent == "latents")
    state, ray_state = flat(state), flat(ray_state)
    assert state.keys() == ray_state.keys()
    for key, value in state.items():
        same = value.equal(ray_state[key]) if hasattr(value, "equal") else value == ray_state[key]
        assert same, key
