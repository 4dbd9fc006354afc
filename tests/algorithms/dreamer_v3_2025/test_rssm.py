"""The block-wise latent dynamics: steps, resets, gates."""

from __future__ import annotations

import pytest
import torch

from reverie_algorithms import fast
from reverie_algorithms.dreamer.latent import LatentState
from reverie_algorithms.dreamer_v3_2025.nets import rms_silu
from reverie_algorithms.dreamer_v3_2025.rssm import BlockGRU, BlockRSSM, RSSMConfig
from tests.algorithms.small_2023 import uniform

B, T, E, A, D, S, K, G = 3, 6, 7, 2, 16, 4, 5, 4


@pytest.fixture
def rssm():
    torch.manual_seed(0)
    return BlockRSSM(RSSMConfig(deter=D, units=6, stoch=S, classes=K, blocks=G), E, A)


@pytest.fixture
def start():
    torch.manual_seed(2)
    stoch = torch.nn.functional.one_hot(torch.randint(0, K, (B, S)), K).float()
    return LatentState(torch.rand(B, D) * 2 - 1, stoch)


@pytest.fixture
def window():
    torch.manual_seed(1)
    is_first = torch.zeros(B, T, dtype=torch.bool)
    is_first[0, 0] = True
    is_first[1, 3] = True
    return torch.randn(B, T, E), torch.randn(B, T, A) * 2, is_first, uniform(B, T, S)


def test_observe_takes_one_step_after_the_other(rssm, window, start):
    embed, action, is_first, draws = window
    with fast.plain():
        observed, state = rssm.observe(*window, start), start
        for t in range(T):
            state, prev_action = rssm.reset(state, action[:, t], is_first[:, t])
            state, probs = rssm.observe_step(state, prev_action, embed[:, t], draws[:, t])
            assert torch.equal(observed.state.feat[:, t], state.feat)
            assert torch.equal(observed.posterior_BTSK[:, t], probs)
    torch.testing.assert_close(observed.prior_BTSK, rssm.prior(observed.state.deter))


def test_no_start_means_zeros_and_a_reset_forgets_state_and_action(rssm, window, start):
    embed, action, is_first, draws = window
    zeros = rssm.initial(B)
    assert not zeros.deter.any()
    assert not zeros.stoch.any()
    state = rssm.observe(*window, start).state
    fresh = rssm.observe(embed[:, 3:], action[:, 3:] * 0, is_first[:, 3:], draws[:, 3:]).state
    torch.testing.assert_close(state.deter[1, 3:4], fresh.deter[1, :1])
    assert not torch.allclose(state.deter[2, 0], rssm.observe(*window).state.deter[2, 0])


def test_gru_works_in_blocks_and_keeps_the_state_by_a_bias_of_minus_one():
    torch.manual_seed(0)
    gru = BlockGRU(D, S * K, A, 6, G)
    deter, stoch, action = torch.randn(B, D), torch.randn(B, S * K), torch.randn(B, A)
    parts = gru.deter_in(deter), gru.stoch_in(stoch), gru.action_in(action)
    inputs, blocks = torch.cat(parts, -1), deter.view(B, G, -1)
    hidden = torch.stack(
        [
            torch.cat([blocks[:, g], inputs], -1) @ gru.hidden.weight[g] + gru.hidden.bias[g]
            for g in range(G)
        ],
        1,
    )
    hidden = rms_silu(hidden.flatten(1), gru.scale.flatten()).view(B, G, -1)
    wanted = []
    for g in range(G):
        r, c, u = (hidden[:, g] @ gru.gates.weight[g] + gru.gates.bias[g]).chunk(3, -1)
        u = torch.sigmoid(u - 1)
        wanted.append(u * torch.tanh(torch.sigmoid(r) * c) + (1 - u) * blocks[:, g])
    got = gru(deter, stoch, action)
    torch.testing.assert_close(got, torch.cat(wanted, -1))


def test_imagined_steps_have_the_type_of_the_state(rssm, start):
    action, draws = torch.randn(B, A), uniform(B, S)
    state = rssm.imagine_step(start, action, draws)
    half = LatentState(*(x.bfloat16() for x in start))
    with torch.autocast("cpu", torch.bfloat16):
        low = rssm.imagine_step(half, action, draws)
    assert {x.dtype for x in low} == {torch.bfloat16}
    torch.testing.assert_close(low.deter.float(), state.deter, atol=0.03, rtol=0.03)


def test_probabilities_hold_one_percent_of_a_uniform(rssm, window):
    observed = rssm.observe(*window)
    for probs in (observed.posterior_BTSK, observed.prior_BTSK):
        assert probs.min() >= 0.01 / K * 0.999
        torch.testing.assert_close(probs.sum(-1), torch.ones(B, T, S))


def test_a_deter_that_does_not_fall_into_blocks_is_refused():
    config = RSSMConfig(deter=18, units=6, stoch=S, classes=K, blocks=G)
    with pytest.raises(ValueError, match=r"rssm\.deter.*multiple of the 4 blocks, got 18"):
        BlockRSSM(config, E, A)
