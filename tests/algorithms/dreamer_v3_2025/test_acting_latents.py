"""Windows go on from the latents of acting, until an update infers newer ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reverie.config import resolve_config
from reverie.config_tree import apply_overrides
from reverie.env_factory import spaces_of
from reverie.local_run import LocalRun
from reverie.types import STEP_ID, Counters
from tests.algorithms.small_2023 import observation
from tests.algorithms.small_2025 import NANO_TREE, nano_agent, random_batch

CONTEXT, LENGTH = 1, 8
RUN: dict[str, Any] = {
    "algorithm": NANO_TREE,
    "env": "toy/catch",
    "learner": {"training_ratio": 0, "batch_size": 4, "batch_length": LENGTH},
    "replay": {"chunk_length": 16},
    "resources": {"envs_per_worker": 2, "num_shards": 2},
    "run": {"env_steps": 120, "prefill": 0},
    "eval": {"every": 0, "episodes": 1},
    "logging": {"tensorboard": False},
}


def local_run(folder: Path, **overrides: Any) -> LocalRun:
    tree = apply_overrides(RUN, {key.replace("__", "."): v for key, v in overrides.items()})
    config = resolve_config(tree)
    return LocalRun(config, spaces_of(config.env), folder)


def windows(run: LocalRun) -> list[dict[str, Any]]:
    """Every window of a draw from each shard, its pieces joined."""
    found = []
    for shard in run.shards:
        for pieces in shard.sample("replay", 64, 0, 0):
            keys = pieces[0].data
            found.append({key: np.concatenate([p.data[key] for p in pieces]) for key in keys})
    return found


@pytest.mark.parametrize("quota", [None, 1])
def test_a_window_that_was_never_trained_goes_on_from_the_latents_of_acting(
    quota: int | None, tmp_path: Path
) -> None:
    run = local_run(tmp_path, run__quota=quota)
    while not run.step().finished:
        pass
    drawn = windows(run)
    run.close()
    for window in drawn:
        assert window["side/valid"].tolist() == (~window["is_last"]).tolist()
        # Of fresh weights the deter of an episode's first row is zero.
        known = window["side/valid"] & ~window["is_first"]
        assert (window["side/deter"][known] != 0).any(-1).all()
    begin_within = [not window["is_first"][CONTEXT] for window in drawn]
    assert sum(begin_within) > 20


def test_rows_of_random_actions_have_no_latents(tmp_path: Path) -> None:
    for who, wanted in (("random", False), ("policy", True)):
        run = local_run(tmp_path / who, run__prefill=120, run__prefill_actions=who)
        while not run.step().finished:
            pass
        valid = [bool(window.get("side/valid", np.zeros(1)).any()) for window in windows(run)]
        assert set(valid) == {wanted}, who
        run.close()


def test_an_update_s_latents_replace_those_of_acting(tmp_path: Path) -> None:
    run = local_run(tmp_path, learner__training_ratio=64)
    before: dict[int, Any] = {}
    for _ in range(6):
        run.workers[0].collect()
        for window, ids in _by_id(run):
            before |= dict(zip(ids, window["side/deter"].copy(), strict=True))
        run.learner.train()
    changed = [
        not np.array_equal(before[at], row)
        for window, ids in _by_id(run)
        for at, row in zip(ids, window["side/deter"], strict=True)
        if at in before
    ]
    run.close()
    assert np.mean(changed) > 0.5


def _by_id(run: LocalRun) -> list[tuple[dict[str, Any], list[int]]]:
    found = []
    for shard in run.shards:
        if shard.masses()["replay"]:
            for pieces in shard.sample("replay", 32, 0, 0):
                for piece in pieces:
                    first = (piece.number << 32) + piece.start_row
                    rows = len(piece.data["is_first"])
                    found.append((piece.data, list(range(first, first + rows))))
    return found


def test_what_acting_leaves_has_the_form_of_feedback_and_is_the_state_it_acts_from() -> None:
    agent = nano_agent()
    obs = observation(agent.spaces, 3)
    _, carry = agent.act(obs, agent.initial_carry(3), "train", Counters())
    side = agent.side_of(carry)
    feedback = agent.update({"replay": random_batch(agent.spaces)}, Counters())[1]
    forms = {key: (str(v.dtype).split(".")[-1], v.shape[2:]) for key, v in feedback.items()}
    assert {key: (str(v.dtype), v.shape[1:]) for key, v in side.items()} == {
        key: form for key, form in forms.items() if key != STEP_ID
    }
    batch = {f"side/{key}": torch.from_numpy(value)[:, None] for key, value in side.items()}
    batch |= {"side/valid": torch.ones(3, 1, dtype=torch.bool), "is_first": torch.zeros(3, 1)}
    start = agent.stored_state(batch)
    torch.testing.assert_close(start.deter, carry["deter"], atol=1e-3, rtol=0)
    assert torch.equal(start.stoch, carry["stoch"])
