"""DreamerV3: a saved and loaded agent goes on to the last bit, and wrong files are named."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from reverie.types import ActionSpec, Counters
from tests.algorithms.small_2023 import (
    BOX,
    DISCRETE,
    MULTI,
    TWO_IMAGES,
    nano_agent,
    observation,
    update,
)


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def act(agent, carry=None):
    carry = carry or agent.initial_carry(2)
    return agent.act(observation(agent.spaces, 2), carry, "train", Counters())[0]


@pytest.mark.parametrize("action", [DISCRETE, MULTI, BOX])
@pytest.mark.parametrize("mode", ["paper", "own_group", "off"])
def test_a_loaded_agent_goes_on_to_the_last_bit(action, mode):
    agent = nano_agent(TWO_IMAGES, action, mode)
    for seed in range(2):
        update(agent, seed)
    act(agent)
    saved = through_a_file(agent.state_dict())
    wanted = [update(agent, seed) for seed in (2, 3)], act(agent)
    other = nano_agent(TWO_IMAGES, action, mode, context={"seed": 9})
    other.load_state_dict(saved)
    got = [update(other, seed) for seed in (2, 3)], act(other)
    torch.testing.assert_close(got[0], wanted[0], atol=0, rtol=0)
    assert np.array_equal(got[1], wanted[1])


def test_a_state_taken_before_the_first_update_loads_too():
    agent, other = nano_agent(), nano_agent(context={"seed": 9})
    other.load_state_dict(through_a_file(agent.state_dict()))
    torch.testing.assert_close(update(other), update(agent), atol=0, rtol=0)


def test_state_is_a_copy():
    agent = nano_agent()
    state = agent.state_dict()
    before = state["modules"]["reward"]["net.hidden.0.weight"].clone()
    update(agent)
    assert torch.equal(before, state["modules"]["reward"]["net.hidden.0.weight"])


def test_wrong_states_are_refused_by_name_and_change_nothing():
    agent = nano_agent()
    before = agent.policy_state()
    name = "modules/rssm/initial_deter"
    for change, message in (
        (lambda tensors: tensors.pop("initial_deter"), f"'{name}' is missing"),
        (lambda tensors: tensors.update(x=torch.ones(1)), "'modules/rssm/x' is not known"),
        (
            lambda tensors: tensors.update({"initial_deter": torch.ones(5)}),
            rf"'{name}': expected shape \(16,\), got \(5,\)",
        ),
    ):
        state = nano_agent(context={"seed": 5}).state_dict()
        change(state["modules"]["rssm"])
        with pytest.raises(ValueError, match=message):
            agent.load_state_dict(state)
    after = agent.policy_state()
    assert all(np.array_equal(before[key], after[key]) for key in before)


def test_policy_state_moves_behavior_to_an_acting_agent():
    agent = nano_agent()
    update(agent)
    actor = nano_agent(context={"training": False, "seed": 3})
    state = agent.policy_state()
    assert all(isinstance(value, np.ndarray) for value in state.values())
    actor.load_policy_state(state)
    actor.act_generator.set_state(agent.act_generator.get_state())
    assert np.array_equal(act(agent), act(actor))


def test_policy_state_of_another_size_is_refused():
    state = nano_agent().policy_state()
    with pytest.raises(ValueError, match=r"'rssm.input.weight': expected shape"):
        nano_agent(action=ActionSpec("discrete", (5,))).load_policy_state(state)


def test_policy_state_is_a_copy():
    agent = nano_agent()
    state = agent.policy_state()
    before = {key: value.copy() for key, value in state.items()}
    update(agent)
    assert all(np.array_equal(before[key], state[key]) for key in state)
