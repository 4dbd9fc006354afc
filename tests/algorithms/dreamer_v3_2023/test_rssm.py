"""The latent dynamics: steps, resets, gates."""

from __future__ import annotations

import pytest
import torch

from reverie_algorithms import fast
from reverie_algorithms.dreamer_v3_2023.rssm import GRU, GRURSSM, RSSMConfig
from tests.algorithms.small_2023 import uniform

B, T, E, A, S, K = 3, 6, 7, 2, 4, 5


@pytest.fixture
def rssm():
    torch.manual_seed(0)
    model = GRURSSM(RSSMConfig(deter=16, units=12, stoch=S, classes=K), E, A)
    torch.nn.init.normal_(model.initial_deter)
    return model


@pytest.fixture
def window():
    torch.manual_seed(1)
    is_first = torch.zeros(B, T, dtype=torch.bool)
    is_first[:, 0] = True
    is_first[1, 3] = True
    return torch.randn(B, T, E), torch.randn(B, T, A) * 2, is_first, uniform(B, T, S)


def test_observe_takes_one_step_after_the_other(rssm, window):
    embed, action, is_first, draws = window
    with fast.plain():
        observed, state = rssm.observe(*window), rssm.initial(B)
        for t in range(T):
            state, prev_action = rssm.reset(state, action[:, t], is_first[:, t])
            state, probs = rssm.observe_step(state, prev_action, embed[:, t], draws[:, t])
            assert torch.equal(observed.state.feat[:, t], state.feat)
            assert torch.equal(observed.posterior_BTSK[:, t], probs)
    torch.testing.assert_close(observed.prior_BTSK, rssm.prior(observed.state.deter))


def test_a_reset_row_equals_a_fresh_start(rssm, window):
    embed, action, is_first, draws = window
    state = rssm.observe(*window).state
    fresh = rssm.observe(embed[:, 3:], action[:, 3:], is_first[:, :3], draws[:, 3:]).state
    torch.testing.assert_close(state.feat[1, 3:], fresh.feat[1])
    assert not torch.allclose(state.deter[0, 3:], fresh.deter[0])


def test_the_action_before_a_reset_has_no_effect(rssm, window):
    embed, action, is_first, draws = window
    before = rssm.observe(*window).state.feat
    action[1, 3] += 100
    assert torch.equal(rssm.observe(embed, action, is_first, draws).state.feat, before)


def test_initial_state_is_learned_and_its_stoch_is_the_priors_mode(rssm):
    state = rssm.initial(2)
    assert torch.equal(state.deter[0], torch.tanh(rssm.initial_deter))
    assert torch.equal(state.stoch.argmax(-1), rssm.prior(state.deter).argmax(-1))
    assert not GRURSSM(rssm.config, E, A).initial_deter.any()


def test_gru_equals_its_formula_with_update_bias_of_minus_one():
    torch.manual_seed(0)
    gru, x, h = GRU(3, 4), torch.randn(2, 3), torch.randn(2, 4)
    r, c, u = gru.gates(torch.cat([h, x], -1)).chunk(3, -1)
    u = torch.sigmoid(u - 1)
    wanted = u * torch.tanh(torch.sigmoid(r) * c) + (1 - u) * h
    torch.testing.assert_close(gru(x, h), wanted)
    torch.nn.init.zeros_(gru.gates.norm.weight)
    kept = 1 - torch.sigmoid(torch.tensor(-1.0))
    torch.testing.assert_close(gru(x, h), kept * h)


def test_probabilities_hold_one_percent_of_a_uniform(rssm, window):
    observed = rssm.observe(*window)
    for probs in (observed.posterior_BTSK, observed.prior_BTSK):
        assert probs.min() >= 0.01 / K * 0.999
        torch.testing.assert_close(probs.sum(-1), torch.ones(B, T, S))


def test_actions_are_bounded_without_touching_small_ones():
    action = torch.tensor([0.5, -4.0], requires_grad=True)
    assert GRURSSM.bounded(action).tolist() == [0.5, -1.0]
    GRURSSM.bounded(action).sum().backward()
    assert action.grad.tolist() == [1.0, 0.25]


def test_gradient_flows_through_samples_to_the_embedding(rssm, window):
    embed, *rest = window
    embed.requires_grad_()
    rssm.observe(embed, *rest).state.stoch[..., 0].sum().backward()
    assert embed.grad.abs().sum(-1).all()
