"""Pre-training on a real cluster: the same frames and bits as in one process, through deaths."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import ray

from reverie.cluster.fleet import Key
from reverie.cluster.pretrain_roles import LOADER
from reverie.cluster.role import COORDINATOR, LEARNER
from reverie.config import resolve_pretrain
from reverie.pretrainer import Pretrainer
from tests.platform.test_pretrainer import assert_same, weights
from tests.videos import moving_squares, pretrain_tree

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving_squares(tmp_path_factory.mktemp("video"))


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Any:
    """The weights of a run in one process."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    start(folder, data, 1, local=True).run()
    return weights(folder)


def start(folder: Path, data: Path, loaders: int, **how: Any) -> Pretrainer:
    run = {"dir": str(folder), "updates": 60}
    tree = pretrain_tree(data, run=run, resources={"num_loaders": loaders}, eval={"every": 25})
    return Pretrainer(resolve_pretrain(tree), **how)


def kill(loop: Any, key: Key) -> None:
    actor = loop._backend.fleet.actors[key]
    os.kill(ray.get(actor.__ray_call__.remote(lambda _: os.getpid())), signal.SIGKILL)


@pytest.mark.parametrize("loaders", [1, 4])
def test_a_run_on_ray_equals_one_in_this_process(
    loaders: int, tmp_path: Path, data: Path, straight: Any, ray_local: None
) -> None:
    summary = start(tmp_path / "run", data, loaders).run()
    assert summary.restarts == {}
    assert_same(weights(tmp_path / "run"), straight)


def test_parts_that_are_killed_are_replaced_and_change_nothing(
    tmp_path: Path, data: Path, straight: Any, ray_local: None
) -> None:
    loop = start(tmp_path / "run", data, 2)
    backend: Any = loop._backend
    keys = Key(LOADER, 1), LEARNER, COORDINATOR
    for updates, key in zip((10, 20, 30), keys, strict=True):
        while backend._site.grad_updates < updates:
            loop.step()
        if key == LEARNER:
            loop.save()  # what it makes after this is made again
            while backend._site.grad_updates < updates + 5:
                loop.step()
        kill(loop, key)
    summary = loop.run()
    assert summary.restarts == {key.role: 1 for key in keys}
    assert summary.grad_updates == 60
    assert_same(weights(tmp_path / "run"), straight)
