"""Products ahead of the time loop and gradients behind it equal one plain step after another."""

from __future__ import annotations

import pytest
import torch

from reverie_algorithms import fast
from reverie_algorithms.dreamer.elu_rssm import EluRSSM, EluRSSMConfig
from reverie_algorithms.dreamer.latent import LatentState
from reverie_algorithms.dreamer_v3_2023.rssm import GRURSSM
from reverie_algorithms.dreamer_v3_2023.rssm import RSSMConfig as Config2023
from reverie_algorithms.dreamer_v3_2025.rssm import BlockRSSM
from reverie_algorithms.dreamer_v3_2025.rssm import RSSMConfig as Config2025
from tests.algorithms.small_2023 import uniform

B, T, E, A, D, S, K = 3, 6, 7, 2, 16, 4, 5
LATENT = {"deter": D, "stoch": S, "classes": K}
MODELS = {
    "2023": lambda: GRURSSM(Config2023(units=12, **LATENT), E, A),
    "2025": lambda: BlockRSSM(Config2025(units=6, blocks=4, **LATENT), E, A),
    "v2": lambda: EluRSSM(EluRSSMConfig(hidden=12, **LATENT), E, A),
    "v2, padded actions": lambda: EluRSSM(EluRSSMConfig(hidden=12, action_width=5, **LATENT), E, A),
}
every_rssm = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def model(make):
    torch.manual_seed(0)
    rssm = make()
    if hasattr(rssm, "initial_deter"):
        torch.nn.init.normal_(rssm.initial_deter)
    return rssm


def window(rssm):
    """Embeddings, actions, resets and draws; 2025 also goes on from a stored state."""
    torch.manual_seed(1)
    is_first = torch.zeros(B, T, dtype=torch.bool)
    is_first[:, 0] = is_first[1, 3] = True
    made = torch.randn(B, T, E), torch.randn(B, T, A) * 2, is_first, uniform(B, T, S)
    if not isinstance(rssm, BlockRSSM):
        return made
    is_first[0, 0] = False
    stoch = torch.nn.functional.one_hot(torch.randint(0, K, (B, S)), K).float()
    return *made, LatentState(torch.rand(B, D) * 2 - 1, stoch)


@every_rssm
def test_observed_windows_equal_those_of_plain_steps(make):
    rssm = model(make)
    found = rssm.observe(*window(rssm))
    with fast.plain():
        wanted = rssm.observe(*window(rssm))
    torch.testing.assert_close(found.state.deter, wanted.state.deter, atol=1e-5, rtol=1e-5)
    assert torch.equal(found.state.stoch.argmax(-1), wanted.state.stoch.argmax(-1))
    torch.testing.assert_close(found.posterior_BTSK, wanted.posterior_BTSK, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.prior_BTSK, wanted.prior_BTSK, atol=1e-4, rtol=1e-4)


@every_rssm
@pytest.mark.parametrize("compiling", [False, True])
def test_gradients_equal_those_of_plain_steps(make, compiling, monkeypatch):
    rssm = model(make)
    used = [p for name, p in rssm.named_parameters() if not name.startswith("prior")]
    direction = torch.randn(B, T, D + S * K)

    def grads():
        feat = rssm.observe(*window(rssm)).state.feat
        return torch.autograd.grad((feat * direction).sum(), used)

    with fast.plain():
        wanted = grads()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    torch.testing.assert_close(grads(), wanted, atol=1e-4, rtol=1e-4)
