"""Runs that an earlier version made go on, are evaluated and act (tests/stored_runs/README.md)."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

import reverie
from reverie.checkpoint import Checkpoint
from reverie.cli import main
from reverie.policy import find_checkpoint
from tests.conftest import ROOT
from tests.contract.cases import ACTORS
from tests.stored_runs.make import ACTIONS_FILE, RUNS, frames

ARCHIVES = ROOT / "tests" / "stored_runs"


@pytest.fixture(params=sorted(RUNS))
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVES / f"{request.param}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / request.param


def updates(checkpoint: Checkpoint) -> int:
    return checkpoint.document("record")["progress"]["grad_updates"]


def test_there_is_one_of_every_algorithm_that_acts() -> None:
    assert {name.replace("-", "/") for name in RUNS} == set(ACTORS)
    assert {file.name for file in ARCHIVES.glob("*.tar.xz")} == {f"{n}.tar.xz" for n in RUNS}


def test_its_policy_acts_as_it_did(run: Path) -> None:
    policy = reverie.load(run, seed=0)
    actions = np.array([policy.act(image, normalised=True) for image in frames()])
    wanted = np.array(json.loads((run / ACTIONS_FILE).read_text()))
    if wanted.dtype.kind == "f":
        np.testing.assert_allclose(actions, wanted, atol=2e-5)
    else:
        # A sampled latent may turn at the last digit of another machine.
        assert (actions == wanted).mean() > 0.8


def test_it_is_resumed_with_a_larger_budget_and_evaluated(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = find_checkpoint(run)
    stored, updates_before = before.tensors("policy"), updates(before)
    assert main(["resume", str(run), "--local", "run.env_steps=96"]) == 0
    after = find_checkpoint(run)
    learned = after.tensors("policy")
    assert after.document("record")["progress"]["env_steps"] == 96
    assert updates(after) > updates_before > 0
    assert learned.keys() == stored.keys()
    moved = [name for name in stored if not torch.equal(stored[name], learned[name])]
    assert moved
    assert all(value.isfinite().all() for value in learned.values())
    (resumed,) = json.loads((run / "run_manifest.json").read_text())["resumed"]
    assert resumed["argv"]

    capsys.readouterr()
    assert main(["eval", str(run), "--episodes", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert -1 <= result["score"] <= 1
