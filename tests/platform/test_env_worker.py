"""Workers with a real coordinator and real environments: what decides how episodes start."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from reverie import wiring
from reverie.config import TrainConfig, resolve_config
from reverie.env_factory import spaces_of
from reverie.env_loop import RANDOM_VERSION
from reverie.env_worker import EnvWorker
from reverie.replay.coordinator import ReplayCoordinator
from reverie.types import Array, Chunk, SideRows, Version
from tests.fakes import tree

GAMES: dict[str, dict[str, Any]] = {
    "counting": {"suite": "tests.fakes:Counting", "task": "count"},
    "toy": {"suite": "toy", "task": "catch"},
    "atari": {"suite": "atari100k", "task": "boxing", "frame_cap": 12},
}
DIFFERENT = {"counting": 12, "toy": 3, "atari": 5}
"""Least number of different first images of 4 environments with `EPISODES` episodes each."""
EPISODES = 3
NO_WEIGHTS = SimpleNamespace(newer_than=lambda version: None)


class Keeping:
    """A shard that keeps its chunks."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []

    def insert(self, chunks: list[Chunk], side: Sequence[SideRows]) -> dict[str, float]:
        self.chunks += chunks
        return {}


def make_config(game: str, workers: int, envs: int, seed: int = 0) -> TrainConfig:
    resources = {"num_env_workers": workers, "envs_per_worker": envs}
    run = {"env_steps": 4000, "prefill": 4000}
    base = tree(run=run, resources=resources, seed=seed)
    return resolve_config(base | {"env": GAMES[game]})


def make_coordinator(config: TrainConfig) -> ReplayCoordinator:
    return wiring.make_coordinator(config, wiring.agent_streams(config, spaces_of(config.env)))


def play(config: TrainConfig, coordinator: ReplayCoordinator) -> dict[int, Array]:
    """First images [`EPISODES`, ...] of each environment, by its index in the whole run."""
    spaces, count = spaces_of(config.env), config.resources.envs_per_worker
    starts: dict[int, Array] = {}
    for worker_id in range(config.resources.num_env_workers):
        shard = Keeping()
        worker = EnvWorker(config, spaces, worker_id, coordinator, [shard], NO_WEIGHTS)
        while min(map(len, found := first_images(shard.chunks, count))) < EPISODES:
            worker.collect()
        worker.close()
        starts |= {worker_id * count + env: images for env, images in enumerate(found)}
    return starts


def first_images(chunks: list[Chunk], count: int) -> list[Array]:
    own = [[chunk.data for chunk in chunks if chunk.stream.env == env] for env in range(count)]
    none = np.zeros((0, 1))
    return [
        np.concatenate([rows["image"][rows["is_first"]] for rows in data])[:EPISODES]
        if data
        else none
        for data in own
    ]


@pytest.fixture(params=GAMES)
def game(request: pytest.FixtureRequest) -> str:
    if request.param == "atari":
        pytest.importorskip("ale_py")
    return request.param


def test_start_states_do_not_depend_on_how_environments_are_spread_over_workers(game: str) -> None:
    shapes = [make_config(game, workers, 4 // workers) for workers in (1, 2, 4)]
    together, *apart = [play(config, make_coordinator(config)) for config in shapes]
    for starts in apart:
        assert starts.keys() == together.keys() == {0, 1, 2, 3}
        for index, images in together.items():
            np.testing.assert_array_equal(starts[index], images)
    shown = {image.tobytes() for image in itertools.chain(*together.values())}
    assert len(shown) >= DIFFERENT[game]


def test_a_worker_that_came_back_and_another_seed_of_the_run_start_otherwise(game: str) -> None:
    config = make_config(game, 1, 4)
    coordinator = make_coordinator(config)
    first, again = play(config, coordinator), play(config, coordinator)
    other = make_config(game, 1, 4, seed=1)
    differing = play(other, make_coordinator(other))
    for changed in (again, differing):
        assert any(not np.array_equal(changed[index], first[index]) for index in first)


def collected(**settings: Any) -> list[Chunk]:
    config = resolve_config(tree(run={"env_steps": 24, "prefill": 8}, **settings))
    shard, spaces = Keeping(), spaces_of(config.env)
    worker = EnvWorker(config, spaces, 0, make_coordinator(config), [shard], NO_WEIGHTS)
    worker._actor.version = Version(0, 0)
    while not worker.collect().done:
        pass
    worker.close()
    return shard.chunks


@pytest.mark.parametrize(("quota", "most"), [(None, 8), (1, 1), (3, 3)])
def test_the_weights_are_looked_at_once_per_quota_and_its_rows_handed_over(
    quota: int | None, most: int
) -> None:
    settings = {"learner__training_ratio": 0, "run__quota": quota}
    found = collected(**settings)
    decided = [int((~chunk.data["is_last"]).sum()) for chunk in found]
    assert max(decided) == most
    assert sum(decided) == 24


@pytest.mark.parametrize("who", ["random", "policy"])
def test_a_preset_says_who_acts_in_the_prefill(who: str) -> None:
    found = collected(run__prefill_actions=who, learner__training_ratio=0)
    rows = {
        key: np.concatenate([chunk.data[key] for chunk in found])
        for key in ("policy_version", "is_last")
    }
    versions = rows["policy_version"][~rows["is_last"]]
    assert (versions[:8] == (RANDOM_VERSION if who == "random" else 0)).all()
    assert (versions[8:] == 0).all()
