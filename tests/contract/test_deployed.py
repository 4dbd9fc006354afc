"""`reverie.load` in `make_env`, or in the user's own environment, plays as `reverie eval` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import reverie
from reverie import registry
from reverie.config import resolve_config
from reverie.evaluate_checkpoint import evaluate_checkpoint
from reverie.export import export
from reverie.policy import Policy
from reverie.seeds import EVAL_ENVS, derive_seed
from reverie.trainer import Trainer
from tests.contract.odd_spaces import ODD
from tests.contract.test_env_contract import MAX_STEPS, OPTIONS, one_task_each
from tests.distributed.test_lockstep import DREAMER
from tests.fakes import tree

EPISODES = 2
SMALL = {"env_steps": 48, "prefill": 16, "log_every_s": 1000}
NO_EVAL = {"every": 0, "episodes": 1, "envs": 1, "video": False}
ANY_SPACE = tree(algorithm__name="tests.contract.odd_spaces:AnySpace", learner__training_ratio=0)


def trained(folder: Path, env: dict[str, Any], base: dict[str, Any], **run: int) -> Path:
    more = {"run": SMALL | {"dir": str(folder)} | run, "eval": NO_EVAL, "seed": 3}
    config = resolve_config(base | {"env": env} | more)
    Trainer(config, local=True).run()
    return folder


def returns(policy: Policy, env: gymnasium.Env[Any, Any]) -> list[float]:
    """As the documentation shows it, with the seeds of an evaluation."""
    found = []
    for episode in range(EPISODES):
        policy.reset()
        obs, _ = env.reset(seed=derive_seed(3, EVAL_ENVS, episode))
        total, over = 0.0, False
        while not over:
            action = policy.act(obs)
            assert env.action_space.contains(action), action
            assert action.dtype == env.action_space.dtype
            obs, reward, terminated, truncated, _ = env.step(action)
            total, over = total + float(reward), terminated or truncated
        found.append(total)
    env.close()
    return found


def evaluated(run: Path) -> Any:
    return evaluate_checkpoint(run, EPISODES, None, video=False)["returns"]


def made(run: Path) -> gymnasium.Env[Any, Any]:
    return reverie.make_env(reverie.load_config(run / "config.yaml").env)


@pytest.mark.parametrize("name", ODD)
def test_odd_spaces(name: str, tmp_path: Path) -> None:
    run = trained(tmp_path / "run", {"factory": f"tests.contract.odd_spaces:{name}"}, ANY_SPACE)
    wanted = evaluated(run)
    export(run, tmp_path / "robot")
    for folder in (run, tmp_path / "robot"):
        for env in (made(run), ODD[name]()):
            played = returns(reverie.load(folder, mode="mode"), env)
            np.testing.assert_allclose(played, wanted, rtol=1e-5)


@pytest.mark.parametrize("name", ["wide", "from_five", "nested"])
def test_a_world_model_in_odd_spaces(name: str, tmp_path: Path) -> None:
    factory = {"factory": f"tests.contract.odd_spaces:{name}"}
    run = trained(tmp_path / "run", factory, DREAMER)
    np.testing.assert_allclose(returns(reverie.load(run), ODD[name]()), evaluated(run), rtol=1e-5)


@pytest.mark.parametrize(("name", "task"), list(one_task_each()))
def test_every_suite(name: str, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite, limit = type(registry.suite(name)), MAX_STEPS.get(name, 60)
    make = suite.make
    monkeypatch.setattr(
        suite, "make", lambda *args: gymnasium.wrappers.TimeLimit(make(*args), limit)
    )
    env = {"suite": name, "task": task, **OPTIONS.get(name, {})}
    run = trained(tmp_path / "run", env, ANY_SPACE, env_steps=8, prefill=4)
    mode = registry.suite(name).protocol(task, registry.suite(name).Config()).mode
    played = returns(reverie.load(run, mode=mode), made(run))
    np.testing.assert_allclose(played, evaluated(run), rtol=1e-5)


def batches(obs: Any, count: int) -> Any:
    if isinstance(obs, dict):
        return {key: batches(value, count) for key, value in obs.items()}
    return np.stack([obs] * count)


@pytest.mark.parametrize("name", ["matrix", "from_five", "switches", "scalar", "nested", "place"])
def test_a_batch_gives_a_batch_of_native_actions(name: str, tmp_path: Path) -> None:
    run = trained(tmp_path / "run", {"factory": f"tests.contract.odd_spaces:{name}"}, ANY_SPACE)
    env = ODD[name]()
    obs, _ = env.reset(seed=0)
    actions = reverie.load(run).act(batches(obs, 3))
    assert actions.shape == (3, *(env.action_space.shape or ()))
    assert all(env.action_space.contains(action) for action in actions)
