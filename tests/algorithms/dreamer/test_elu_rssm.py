"""DreamerV2's RSSM against a plain step-by-step form."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from reverie_algorithms.dreamer.elu_rssm import EluGRU, EluRSSM, EluRSSMConfig
from reverie_algorithms.dreamer.latent import LatentState, sample_logits
from tests.algorithms.small_2023 import uniform

SMALL = EluRSSMConfig(deter=6, hidden=5, stoch=3, classes=4)
B, T, A, E = 2, 5, 3, 7


@pytest.mark.parametrize(
    ("options", "embed", "action", "count"),
    [
        ({}, 1536, 4, 13_125_632),
        ({"deter": 200, "hidden": 200}, 1536, 6, 1_247_248),
        ({}, 3072, 8, 14_702_592),
        ({"action_width": 50}, 2048, 4, 13_697_024),
        ({"action_width": 50}, 3072, 0, 14_745_600),
        ({"action_width": 50}, 5120, 6, 16_842_752),
    ],
)
def test_published_models_have_the_published_sizes(options, embed, action, count):
    with torch.device("meta"):
        rssm = EluRSSM(EluRSSMConfig(**options), embed, action)
    assert sum(p.numel() for p in rssm.parameters()) == count


def inputs():
    torch.manual_seed(0)
    is_first = torch.zeros(B, T, dtype=torch.bool)
    is_first[:, 0] = is_first[1, 3] = True
    return torch.randn(B, T, E), torch.randn(B, T, A), is_first, uniform(B, T, 3)


def plain_step(rssm, state, action, embed, draws):
    """One observed step, written with concatenations."""
    hidden = F.elu(rssm.input(torch.cat([state.stoch.flatten(-2), action], -1)))
    deter = rssm.gru(hidden, state.deter)
    hidden = F.elu(rssm.posterior_hidden(torch.cat([deter, embed], -1)))
    logits = rssm.posterior_logits(hidden).unflatten(-1, (3, 4))
    return LatentState(deter, sample_logits(logits, draws)), logits


def test_windows_equal_single_steps_that_start_from_zeros():
    torch.manual_seed(0)
    rssm = EluRSSM(SMALL, E, A)
    embed, action, is_first, draws = inputs()
    observed = rssm.observe(embed, action, is_first, draws)
    state = LatentState(torch.full((B, 6), 9.0), torch.full((B, 3, 4), 9.0))
    for t in range(T):
        keep = (~is_first[:, t]).float()[:, None]
        zeroed = LatentState(state.deter * keep, state.stoch * keep[..., None])
        reset, kept_action = rssm.reset(state, action[:, t], is_first[:, t])
        torch.testing.assert_close(reset, zeroed)
        torch.testing.assert_close(kept_action, action[:, t] * keep)
        step, _ = rssm.observe_step(reset, kept_action, embed[:, t], draws[:, t])
        state, logits = plain_step(rssm, zeroed, kept_action, embed[:, t], draws[:, t])
        torch.testing.assert_close(step, state)
        torch.testing.assert_close(observed.state.deter[:, t], state.deter)
        assert torch.equal(observed.state.stoch[:, t].argmax(-1), state.stoch.argmax(-1))
        torch.testing.assert_close(observed.posterior_BTSK[:, t], logits)
        torch.testing.assert_close(observed.prior_BTSK[:, t], rssm.prior(state.deter))


def test_imagination_samples_the_prior():
    torch.manual_seed(0)
    rssm = EluRSSM(SMALL, E, A)
    embed, action, is_first, draws = inputs()
    state = rssm.observe(embed, action, is_first, draws).state.flatten()
    noise = uniform(B * T, 3, seed=1)
    after = rssm.imagine_step(state, action.flatten(0, 1), noise)
    assert torch.equal(
        after.stoch.argmax(-1), sample_logits(rssm.prior(after.deter), noise).argmax(-1)
    )
    torch.testing.assert_close(after.stoch.sum(-1), torch.ones(B * T, 3))


def test_gru_normalises_with_1e_3_and_leans_towards_keeping_its_state():
    torch.manual_seed(0)
    gru = EluGRU(5, 6)
    inputs, deter = torch.randn(2, 5) * 1e-2, torch.randn(2, 6) * 1e-2
    gates = gru.gates(torch.cat([inputs, deter], -1))
    centred = gates - gates.mean(-1, keepdim=True)
    reset, candidate, update = (
        centred / (centred.square().mean(-1, keepdim=True) + 1e-3).sqrt()
    ).chunk(3, -1)
    share = torch.sigmoid(update - 1)
    wanted = share * torch.tanh(torch.sigmoid(reset) * candidate) + (1 - share) * deter
    torch.testing.assert_close(gru(inputs, deter), wanted)


def test_padding_actions_changes_nothing_but_the_weights_shape():
    torch.manual_seed(0)
    padded = EluRSSM(EluRSSMConfig(deter=6, hidden=5, stoch=3, classes=4, action_width=8), E, A)
    wide = EluRSSM(SMALL, E, 8)
    wide.load_state_dict(padded.state_dict())
    embed, action, is_first, draws = inputs()
    zeros = torch.cat([action, torch.zeros(B, T, 5)], -1)
    got = padded.observe(embed, action, is_first, draws)
    torch.testing.assert_close(got, wide.observe(embed, zeros, is_first, draws))
    torch.testing.assert_close(
        padded.observe(embed, action[..., :0], is_first, draws),
        wide.observe(embed, zeros * 0, is_first, draws),
    )


def test_actions_wider_than_their_slot_are_refused():
    with pytest.raises(ValueError, match=r"action_width: expected at least the 3 .* got 2"):
        EluRSSM(EluRSSMConfig(action_width=2), E, A)
