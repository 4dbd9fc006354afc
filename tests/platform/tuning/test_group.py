"""Groups: members, rungs, scores of all as one, and taking another's state over."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from reverie.config import resolve_config
from reverie.errors import ConfigError
from reverie.trainer import Trainer
from reverie.tuning.group import (
    GroupFailed,
    GroupState,
    Member,
    Rung,
    adopt,
    best,
    check_search,
    group_members,
    is_finished,
    read_groups,
    rung_of,
    rungs,
    with_rung,
    write_group,
)
from reverie.tuning.sweep_file import read_sweep
from reverie.tuning.sweep_settings import SearchConfig
from tests.fakes import tree
from tests.platform.report.runs import make_run
from tests.platform.tuning.sweeps import write_sweep

KEY = "learner.training_ratio"
SPACE: dict[str, Any] = {"param_space": {KEY: {"choice": [1, 2]}}, "search": {"samples": 2}}


def test_a_group_is_every_task_and_seed_of_one_point(tmp_path: Path) -> None:
    tasks = ["toy/catch", "toy/multi"]
    file = read_sweep(write_sweep(tmp_path, seeds=3, tasks=tasks, **SPACE))
    members = group_members(file, {KEY: 2}, tmp_path / "g")
    assert len({member.config.run.dir for member in members}) == 6
    assert [member.config.seed for member in members] == [0, 1, 2] * 2
    assert {member.config.learner.training_ratio for member in members} == {2}
    assert {member.config.env.task for member in members} == {"catch", "multi"}


def test_a_wrong_point_is_refused(tmp_path: Path) -> None:
    file = read_sweep(write_sweep(tmp_path, **SPACE))
    with pytest.raises(ConfigError, match=r"training_ratio: expected"):
        group_members(file, {KEY: -1}, tmp_path / "g")


@pytest.mark.parametrize(
    ("scheduler", "wanted"),
    [(None, [100]), ("asha", [10, 20, 40, 80, 100]), ("median", [*range(10, 100, 10), 100])],
)
def test_where_groups_are_compared(scheduler: Any, wanted: list[int]) -> None:
    search = SearchConfig(scheduler=scheduler, grace_env_steps=10, reduction_factor=2)
    assert rungs(search, 100) == wanted


def test_a_rung_before_the_first_evaluation_is_refused() -> None:
    config = resolve_config(tree(run__dir="x", eval__every=100))
    search = SearchConfig(scheduler="asha", grace_env_steps=50)
    with pytest.raises(ConfigError, match=r"expected eval.every of at most that, got 100"):
        check_search(search, config)
    check_search(dataclasses.replace(search, grace_env_steps=100), config)


def member(folder: Path, scores: dict[int, float], seed: int, task: str = "pong") -> Member:
    """A member whose run reported `scores` by env steps; evaluations are due every 100."""
    place = make_run(folder / f"{task}{seed}", scores, seed=seed, env={"task": task})
    config = resolve_config(tree(run__dir=str(place), run__env_steps=400, eval__every=100))
    env = dataclasses.replace(config.env, task=task)
    return Member(id=f"{task}{seed}", config=dataclasses.replace(config, env=env, seed=seed))


def test_scores_are_normalised_means_over_tasks_of_means_over_seeds(tmp_path: Path) -> None:
    human, random = 14.6, -20.7
    middle = (human + random) / 2
    members = [
        member(tmp_path, {100: human}, 0),
        member(tmp_path, {100: random}, 1),
        member(tmp_path, {100: middle}, 2),
        member(tmp_path, {100: 7127.7}, 0, "alien"),
    ]
    rung = rung_of(members, "eval/score", 150)
    assert rung.score == pytest.approx((0.5 + 1) / 2)
    assert rung.worst == pytest.approx(0)
    assert rung.members == 4


def test_a_member_that_is_ahead_scores_as_it_did_then(tmp_path: Path) -> None:
    ran = {104: -20.7, 203: 14.6, 400: 0.0}
    one = [member(tmp_path, ran, 0)]
    at = [rung_of(one, "eval/score", steps).score for steps in (100, 150, 200, 400)]
    assert at[:3] == [0.0, 0.0, pytest.approx(1.0)]
    assert at[3] == pytest.approx(20.7 / 35.3)


def test_a_metric_that_no_run_reports_fails_the_group(tmp_path: Path) -> None:
    with pytest.raises(GroupFailed, match=r"does not report eval/x; it has eval/score"):
        rung_of([member(tmp_path, {100: 1.0}, 0)], "eval/x", 100)
    with pytest.raises(GroupFailed, match="at 300 env steps, got the last at 100"):
        rung_of([member(tmp_path, {100: 1.0}, 1)], "eval/score", 300)


def state(name: str, *scores: float, failed: str = "") -> GroupState:
    reached = tuple(
        Rung(env_steps=10 * n, score=score, worst=score, members=1)
        for n, score in enumerate(scores, 1)
    )
    return GroupState(id=name, point={KEY: 1}, members=("m",), rungs=reached, failed=failed)


def test_groups_that_got_farther_come_first_and_failed_ones_never() -> None:
    states = [state("a", 0.9), state("b", 0.1, 0.5), state("c", 0.1, 0.6), state("d")]
    states.append(state("e", 1.0, 1.0, failed="a seed"))
    assert [one.id for one in best(states, SearchConfig())] == ["c", "b", "a"]
    assert [one.id for one in best(states, SearchConfig(mode="min"))] == ["b", "c", "a"]


def test_a_group_s_file_comes_back_and_a_rung_is_taken_once(tmp_path: Path) -> None:
    one = state("a", 0.1, 0.2)
    again = with_rung(one, Rung(env_steps=10, score=0.1, worst=0.1, members=1))
    assert len(again.rungs) == 1
    write_group(tmp_path / "a", one)
    (tmp_path / "b").mkdir()
    assert read_groups(tmp_path) == [one]


def test_another_run_s_state_is_taken_over_at_a_checkpoint(tmp_path: Path) -> None:
    def config(name: str, **overrides: Any) -> Any:
        place = str(tmp_path / name)
        return resolve_config(tree(run__dir=place, run__env_steps=120, eval__every=40, **overrides))

    trainer = Trainer(config("a"), local=True)
    while trainer.progress.env_steps < 60:
        trainer.step()
    trainer.save()
    there, number = trainer.progress, 1
    while trainer.progress.env_steps < 80:
        trainer.step()
    assert adopt(tmp_path / "a", tmp_path / "b", number) == 1  # while it goes on
    trainer.close()
    other = Trainer(config("b", learner__training_ratio=2), local=True, resume="must")
    assert other.progress.grad_updates <= there.grad_updates
    assert 60 <= other.progress.env_steps < 80
    assert other.run().env_steps == 120
    finished = Member(id="b", config=config("b"))
    assert is_finished(finished)
    assert not is_finished(Member(id="a", config=config("a")))
    # A number that is gone: the newest.
    assert adopt(tmp_path / "b", tmp_path / "c", 99) > 1
