"""Odd environments are built, standardised and stepped, or refused in the words of a table.

`benchmarks/odd_envs.py` trains in them as well.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch

from reverie.call_thread import own_traceback
from reverie.config import resolve_env
from reverie.config_tree import apply_overrides
from reverie.env_factory import make_env
from reverie.types import Spaces
from reverie_envs.wrappers import NormalActions, spaces_of, standardise
from tests.contract import cases, zoo, zoo_fates
from tests.contract.zoo_env import Calls

STEPS = 25
REFUSES = pytest.raises(ValueError, match=r"DrQ-v2 wants|expected (a uint8 image|sides)")
NAMES = [name for name in zoo.ENVS if name not in zoo_fates.REFUSED and "hangs" not in name]


@pytest.fixture(autouse=True)
def habits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what environments do to the process."""
    monkeypatch.chdir(".")
    Calls.steps, state = 0, np.random.get_state()  # noqa: NPY002
    with np.errstate():
        yield
    np.random.set_state(state)  # noqa: NPY002


def built(name: str) -> NormalActions:
    """As `env.factory` builds it, with the options that it wants."""
    options = [option for option in zoo.OPTIONS.get(name, ()) if option.startswith("env.")]
    tree = apply_overrides({"env": {"factory": f"tests.contract.zoo:{name}"}}, options)
    env = standardise(make_env(resolve_env(tree["env"])))
    assert isinstance(env, NormalActions)
    return env


def play(name: str) -> None:
    """Some random steps; what is seen is what the spaces say."""
    env = built(name)
    try:
        rng, spec = np.random.default_rng(0), spaces_of(env).action
        obs, _ = env.reset(seed=0)
        for _ in range(STEPS):
            assert obs.keys() == env.observation_space.spaces.keys()  # type: ignore[attr-defined]
            if name not in zoo_fates.FAILS_CHECK:
                assert env.observation_space.contains(obs)
            obs, reward, terminated, truncated, _ = env.step(spec.sample(rng, 1)[0])
            assert isinstance(reward, float)
            if terminated or truncated:
                obs, _ = env.reset()
    finally:
        if name != "fault_raises_at_close":
            env.close()


@pytest.mark.filterwarnings("ignore:another one")
@pytest.mark.parametrize("name", [name for name in NAMES if name not in zoo_fates.ENDS])
def test_what_can_be_learned_is_built_and_stepped(name: str) -> None:
    play(name)


@pytest.mark.parametrize("name", zoo_fates.REFUSED)
def test_what_is_refused_is_refused_as_it_is_built(name: str) -> None:
    with pytest.raises((ValueError, TypeError), match=zoo_fates.REFUSED[name]) as error:
        built(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [name for name in zoo_fates.ENDS if "hangs" not in name])
def test_what_fails_as_it_runs_is_named(name: str) -> None:
    with pytest.raises(BaseException) as error:  # noqa: PT011 - its text is looked at below
        play(name)
    assert re.search(zoo_fates.ENDS[name], own_traceback(error.value))


@functools.cache
def distinct_spaces() -> dict[str, Spaces]:
    """Spaces that an agent can tell apart, by the name of the first environment with them."""
    found: dict[Any, tuple[str, Spaces]] = {}
    for name in NAMES:
        if name not in zoo_fates.ENDS:
            env = built(name)
            spaces = spaces_of(env)
            found.setdefault(str((spaces.obs, spaces.action)), (name, spaces))
            if name != "fault_raises_at_close":
                env.close()
    return dict(found.values())


def agent_takes(agent: str, name: str, spaces: Spaces) -> bool:
    """What each agent promises."""
    if name in zoo_fates.DEPTH:
        return False
    sides = [min(spec.shape[:2]) for spec in spaces.obs.values() if spec.is_image]
    return agent != "drqv2" or (min(sides, default=0) > 14 and spaces.action.kind == "box")


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("agent", cases.ACTORS)
def test_agents_are_built_for_all_or_refuse_in_their_words(agent: str) -> None:
    turn = cases.ACTORS.index(agent)
    for index, (name, spaces) in enumerate(distinct_spaces().items()):
        if index % len(cases.ACTORS) != turn and name not in zoo_fates.DEPTH:
            continue  # each has its turn; the benchmark tries all
        takes = agent_takes(agent, name, spaces)
        with torch.device("meta"), nullcontext() if takes else REFUSES:
            cases.make(agent, spaces, device="meta")


def test_at_least_a_hundred_of_a_hundred_and_twenty_can_be_learned() -> None:
    learned = set(zoo.ENVS) - set(zoo_fates.REFUSED) - set(zoo_fates.ENDS) - zoo_fates.DEPTH
    assert len(zoo.ENVS) >= 120
    assert len(learned) >= 100
    assert {
        *zoo_fates.REFUSED,
        *zoo_fates.ENDS,
        *zoo_fates.DEPTH,
        *zoo_fates.FAILS_CHECK,
        *zoo.OPTIONS,
    } <= set(zoo.ENVS)
