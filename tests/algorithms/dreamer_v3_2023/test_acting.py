"""DreamerV3: acting in every kind of space, and reports."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reverie.types import Counters
from tests.algorithms.small_2023 import (
    BOX,
    DISCRETE,
    MULTI,
    SHAPE,
    TWO_IMAGES,
    nano_agent,
    observation,
    random_batch,
    update,
)


@pytest.mark.parametrize("action", [DISCRETE, MULTI, BOX])
@pytest.mark.parametrize("mode", ["train", "sample", "mode"])
def test_act_returns_actions_of_the_space(action, mode):
    agent = nano_agent(TWO_IMAGES, action)
    obs, carry = observation(agent.spaces, 5), agent.initial_carry(5)
    for _ in range(2):
        actions, carry = agent.act(obs, carry, mode, Counters())
        assert actions.shape == (5, *action.shape)
        assert actions.dtype == action.dtype
        obs["is_first"][:] = False
    assert set(carry) == {"deter", "stoch", "prev_action"}
    assert all(len(value) == 5 and value.ndim >= 2 for value in carry.values())
    if action.kind == "box":
        assert np.abs(actions).max() <= 1


def test_mode_acts_the_same_from_the_same_state_and_sample_does_not():
    agent = nano_agent(action=BOX)
    obs, carry = observation(agent.spaces, 1), agent.initial_carry(1)
    start = agent.act_generator.get_state()
    actions = {}
    for mode in ("mode", "sample"):
        agent.act_generator.set_state(start)
        first, _ = agent.act(obs, carry, mode, Counters())
        agent.act_generator.set_state(start)
        actions[mode], _ = agent.act(obs, carry, mode, Counters())
        assert np.array_equal(first, actions[mode])
    assert not np.array_equal(actions["mode"], actions["sample"])


def test_first_rows_forget_the_carry():
    agent = nano_agent()
    obs = observation(agent.spaces, 2)
    stale = {k: torch.randn_like(v) for k, v in agent.initial_carry(2).items()}
    results = []
    for carry in (stale, agent.initial_carry(2)):
        agent.act_generator.manual_seed(0)
        results.append(agent.act(obs, carry, "train", Counters())[1])
    torch.testing.assert_close(*results)


def test_unknown_mode_is_refused():
    agent = nano_agent()
    with pytest.raises(ValueError, match=r"'train', 'sample', 'mode'.*'eval'"):
        agent.act(observation(agent.spaces, 1), agent.initial_carry(1), "eval", Counters())


def test_acting_does_not_disturb_learning():
    one, two = nano_agent(), nano_agent()
    two.act(observation(two.spaces, 2), two.initial_carry(2), "train", Counters())
    torch.testing.assert_close(update(one), update(two), atol=0, rtol=0)


# Reports


def test_report_shows_real_imagined_and_difference():
    agent = nano_agent(TWO_IMAGES)
    state = agent.learn_generator.get_state()
    batch = random_batch(agent.spaces)
    videos, metrics = agent.report({"replay": batch})
    video = videos["open_loop/image"]
    assert video.shape == (SHAPE[1], 3 * 16, SHAPE[0] * 16, 3)
    assert video.dtype == np.uint8
    assert np.abs(video[:, :16, :16] - batch["image"][0].numpy().astype(int)).max() <= 1
    assert videos["open_loop/wrist"].shape == (SHAPE[1], 3 * 8, SHAPE[0] * 16, 3)
    assert "open_loop/image_mse_1" in metrics
    assert torch.equal(state, agent.learn_generator.get_state())
