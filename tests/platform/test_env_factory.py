"""Environments behind a time limit."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np
import pytest

from reverie.config import resolve_config
from reverie.env_factory import EnvFault, GuardedVectorEnv, make_vector_env
from reverie.protocols import VectorEnv
from tests.fakes import tree


def guarded(count: int = 2, **env: object) -> GuardedVectorEnv:
    config = resolve_config(tree(**{f"env__{key}": value for key, value in env.items()})).env
    return GuardedVectorEnv(config, count, lambda index, episode: 0)


def step(vector: GuardedVectorEnv) -> dict[str, np.ndarray]:
    mask = np.ones(vector.num_envs, bool)
    return vector.step(vector.spaces.action.zeros(vector.num_envs), mask)


def step_often(vector: GuardedVectorEnv) -> None:
    for _ in range(9):
        step(vector)


def test_it_steps_as_the_environments_behind_it_do() -> None:
    vector = guarded()
    assert step(vector)["is_first"].all()
    assert not step(vector)["is_first"].any()
    vector.close()


@pytest.mark.parametrize(("fault", "cause"), [("raise", ZeroDivisionError), ("hang", RuntimeError)])
def test_a_fault_tells_its_cause_and_closing_behind_it_does_not_wait(
    fault: str, cause: type[Exception]
) -> None:
    vector = guarded(count=1, fault=fault, at=2, step_timeout_s=0.5)
    with pytest.raises(EnvFault, match=r"fakes\.py") as error:
        step_often(vector)
    assert isinstance(error.value.__cause__, cause)
    vector.close()
    vector.close()


def test_closing_twice_closes_once(caplog: pytest.LogCaptureFixture) -> None:
    vector = guarded(step_timeout_s=0.5)
    with caplog.at_level(logging.WARNING):
        vector.close()
        vector.close()
    assert caplog.text == ""


def test_building_may_take_longer_than_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(*arguments: Any) -> VectorEnv:
        time.sleep(0.3)
        return make_vector_env(*arguments)

    monkeypatch.setattr("reverie.env_factory.make_vector_env", slowly)
    guarded(step_timeout_s=0.1).close()


def test_an_interrupt_of_an_environment_s_own_is_its_fault() -> None:
    env = {"factory": "tests.contract.zoo:fault_interrupts"}
    config = resolve_config(tree() | {"env": env}).env
    vector = GuardedVectorEnv(config, 1, lambda index, episode: 0)
    with pytest.raises(EnvFault, match="KeyboardInterrupt"):
        step_often(vector)
    vector.close()
