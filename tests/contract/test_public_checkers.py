"""Gymnasium's and Stable-Baselines3's own environment checkers pass on every suite."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env

import reverie
from tests.contract.test_env_contract import OPTIONS, one_task_each

Env = gymnasium.Env[Any, Any]


def suites() -> Iterator[Any]:
    param: Any
    for param in one_task_each():
        if hasattr(param, "values"):
            yield pytest.param(param.values[0], "", {}, marks=param.marks)
        else:
            yield *param, OPTIONS.get(param[0], {})
    skip = pytest.mark.skipif(find_spec("pygame") is None, reason="pygame is not installed")
    yield pytest.param("gym", "CartPole-v1", {"render": True, "size": 16}, marks=skip)


def check(name: str, task: str, options: dict[str, Any], checker: Callable[[Env], None]) -> None:
    env = reverie.make_env(f"{name}/{task}", **options)
    with warnings.catch_warnings():  # what they find fault with raises; what they advise does not
        warnings.simplefilter("ignore")
        checker(env)
    env.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "task", "options"), list(suites()))
def test_gymnasium_finds_no_fault(name: str, task: str, options: dict[str, Any]) -> None:
    check(name, task, options, lambda env: check_env(env, skip_render_check=True))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "task", "options"), list(suites()))
def test_stable_baselines_finds_no_fault(name: str, task: str, options: dict[str, Any]) -> None:
    baselines = pytest.importorskip("stable_baselines3.common.env_checker")
    check(name, task, options, lambda env: baselines.check_env(env, skip_render_check=True))
