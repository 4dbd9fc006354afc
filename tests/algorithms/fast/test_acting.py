"""Agents that only act keep their weights as acting wants them, and act as learners do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from reverie.types import Counters
from reverie_algorithms import fast
from reverie_algorithms.dreamer_v3_2025.images import ObsNetConfig
from tests.algorithms.small_2023 import BOX, TWO_IMAGES, observation
from tests.algorithms.small_2023 import nano_agent as nano_2023
from tests.algorithms.small_2025 import nano_agent as nano_2025
from tests.algorithms.small_drq import MIXED, drq_agent
from tests.algorithms.small_v2 import RESNET, nano_v2

Make = Callable[..., Any]
AGENTS: dict[str, Make] = {
    "dreamerv2": lambda **context: nano_v2(action=BOX, context=context),
    "dreamerv2-resnet": lambda **context: nano_v2(action=BOX, context=context, **RESNET),
    "dreamerv3-2023": lambda **context: nano_2023(TWO_IMAGES, BOX, context=context),
    "dreamerv3-2025": lambda **context: nano_2025(TWO_IMAGES, BOX, context=context),
    "drqv2": lambda **context: drq_agent(MIXED, context=context),
}
WIDE = ObsNetConfig(depth=8, layers=1, units=8)
"""Its second convolution has channels enough for fewer multiplications."""

every_agent = pytest.mark.parametrize("make", AGENTS.values(), ids=AGENTS)


@pytest.fixture(autouse=True)
def _multiplies_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})


def wide_2025(**context: Any) -> Any:
    return nano_2025(action=BOX, encoder=WIDE, context=context)


def pair(make: Make, **context: Any) -> tuple[Any, Any]:
    """A learner, and an agent that only acts, with the learner's weights."""
    learner = make(**context)
    actor = make(training=False, **{**context, "seed": 7})
    actor.load_policy_state(learner.policy_state())
    actor.act_generator.set_state(learner.act_generator.get_state())
    return learner, actor


def first_actions(agent: Any, count: int = 4) -> np.ndarray:
    obs = observation(agent.spaces, count)
    return agent.act(obs, agent.initial_carry(count), "mode", Counters())[0]


@every_agent
def test_bfloat16_weights_are_those_that_autocast_would_make(make: Make) -> None:
    learner, actor = pair(make, precision="bfloat16")
    wide = dict(learner.policy_parts.named_parameters())
    kept = dict(actor.policy_parts.named_parameters())
    assert {param.dtype for param in wide.values()} == {torch.float32}
    for name, param in kept.items():
        product = name.endswith("weight") and param.ndim > 1
        assert param.dtype == (torch.bfloat16 if product else torch.float32), name
        assert torch.equal(param, wide[name].to(param.dtype)), name
    assert torch.bfloat16 in {param.dtype for param in kept.values()}


@every_agent
def test_a_cpu_without_bfloat16_acts_in_float32(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    _, actor = pair(make)
    _, emulating = pair(make, precision="bfloat16")
    assert {param.dtype for param in emulating.policy_parts.parameters()} == {torch.float32}
    np.testing.assert_array_equal(first_actions(emulating), first_actions(actor))


@every_agent
def test_plain_code_casts_weights_as_it_goes(make: Make) -> None:
    with fast.plain():
        _, actor = pair(make, precision="bfloat16")
        assert {param.dtype for param in actor.policy_parts.parameters()} == {torch.float32}
        first_actions(actor)


@every_agent
def test_bfloat16_weights_act_as_autocast_does(make: Make) -> None:
    learner, actor = pair(make, precision="bfloat16")
    np.testing.assert_allclose(first_actions(actor), first_actions(learner), atol=0.01)


@every_agent
def test_agents_in_bfloat16_hand_over_float32(make: Make) -> None:
    _, actor = pair(make, precision="bfloat16")
    state = actor.policy_state()
    assert all(value.dtype == np.float32 for value in state.values())
    actor.load_policy_state(state)


@every_agent
def test_carries_stay_in_float32(make: Make) -> None:
    _, actor = pair(make, precision="bfloat16")
    carry = actor.initial_carry(2)
    types = {key: value.dtype for key, value in carry.items()}
    for _ in range(2):
        _, carry = actor.act(observation(actor.spaces, 2), carry, "train", Counters())
    assert {key: value.dtype for key, value in carry.items()} == types


@every_agent
def test_float32_weights_act_the_same(make: Make) -> None:
    learner, actor = pair(make)
    np.testing.assert_array_equal(first_actions(actor), first_actions(learner))


def test_prepared_layers_follow_the_weights_that_are_loaded() -> None:
    learner, actor = pair(wide_2025)
    layers = actor.encoder.images["image"].layers
    assert [layer.pooled is None for layer in layers] == [True, False]
    obs = observation(actor.spaces, 4)
    inputs = actor.keys.inputs({"image": torch.from_numpy(obs["image"])})
    with torch.no_grad():
        torch.testing.assert_close(actor.encoder(inputs), learner.encoder(inputs))
    np.testing.assert_allclose(first_actions(actor), first_actions(learner), atol=1e-4)
