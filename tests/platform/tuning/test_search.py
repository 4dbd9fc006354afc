"""Schedulers, searchers and winners as a sweep's file names them; Ray is not started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray.tune")

from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
)

from reverie.tuning import search as module
from reverie.tuning.group import GroupState, Rung, read_groups, write_group
from reverie.tuning.sweep_file import read_sweep
from reverie.tuning.sweep_folder import create
from reverie.tuning.sweep_settings import SearchConfig
from tests.platform.commands import Cli, assert_refused
from tests.platform.tuning.sweeps import write_sweep

KEY = "learner.training_ratio"
SPACE: dict[str, Any] = {"param_space": {KEY: {"choice": [1, 2, 4]}}}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("asha", AsyncHyperBandScheduler),
        ("median", MedianStoppingRule),
        ("pbt", PopulationBasedTraining),
        (None, FIFOScheduler),
    ],
)
def test_schedulers(name: Any, kind: type, tmp_path: Path) -> None:
    file = read_sweep(write_sweep(tmp_path, search={}, **SPACE))
    found = module.make_scheduler(SearchConfig(scheduler=name), 100_000, file.space)
    assert type(found) is kind


def test_what_is_drawn_depends_on_the_seed_alone(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, search={"samples": 20}, **SPACE)
    file = read_sweep(path)
    assert module.all_points(file) == module.all_points(file)
    assert len(module.all_points(file)) == 20
    assert module.all_points(read_sweep(path, ["sweep.seed=1"])) != module.all_points(file)


def test_winners_run_on_seeds_that_chose_nothing(tmp_path: Path) -> None:
    file = read_sweep(write_sweep(tmp_path, seeds=3, search={"fresh_seeds": 2}, **SPACE))
    sweep = create(file, module.empty_plan())
    rung = Rung(env_steps=120, score=0.5, worst=0.5, members=3)
    winner = GroupState(id="x1", point={KEY: 4}, members=(), rungs=(rung,))
    again = module.winners_file(sweep, [winner])
    assert again.seeds == (3, 4)
    (base,) = again.bases.values()
    assert base.tree["learner"]["training_ratio"] == 4
    assert list(again.bases) == ["plain-x1"]
    assert again.search is None
    assert not again.space


@pytest.mark.parametrize(
    ("keys", "words", "message"),
    [
        ({"param_space": {KEY: {"choice": [1, -2]}}}, [], "training_ratio: expected"),
        (SPACE, ["--backend=slurm"], "--backend slurm: a search is Ray's"),
        (SPACE, ["--dry-run"], "--dry-run: of a comparison"),
        (SPACE, ["resources.cpu=5000"], "a group of 1 runs at once takes 5000.1 CPU, this machine"),
        (SPACE, ["search.scheduler=asha", "run.env_steps=20000"], "before the first evaluation"),
    ],
)
def test_bad_searches_start_nothing(
    keys: dict[str, Any], words: list[str], message: str, cli: Cli, tmp_path: Path
) -> None:
    file = write_sweep(tmp_path, search={"samples": 9}, **keys)
    assert_refused(cli("sweep", file, *words), message)
    assert not (tmp_path / "s").exists()


def test_a_search_is_not_extended(cli: Cli, tmp_path: Path) -> None:
    file = read_sweep(write_sweep(tmp_path, search={}, **SPACE))
    create(file, module.empty_plan())
    assert_refused(cli("sweep", "extend", tmp_path / "s", "seeds=3"), "got a search")
    answer = cli("sweep", "status", tmp_path / "s")
    assert (answer.code, answer.out) == (0, "0 groups\n")


def test_groups_that_failed_may_try_again(tmp_path: Path) -> None:
    write_group(tmp_path / "a", GroupState(id="a", point={}, members=(), failed="a seed"))
    module._forgive(tmp_path)
    assert [one.failed for one in read_groups(tmp_path)] == [""]
