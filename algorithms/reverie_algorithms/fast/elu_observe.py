"""`observe` of DreamerV2's RSSM with products taken ahead of the time loop.

The products with embed and action need no previous state and are computed for all steps at once.

Shape legend: B batch, T time, A flat action, E embed, D deter, X flat stoch, U hidden units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from reverie_algorithms.dreamer.latent import LatentState, Observed, observed, sample_logits

if TYPE_CHECKING:
    from reverie_algorithms.dreamer.elu_rssm import EluRSSM


def observe(
    rssm: EluRSSM,
    embed_BTE: Tensor,
    prev_action_BTA: Tensor,
    is_first_BT: Tensor,
    uniform_BTS: Tensor,
) -> Observed:
    """The same as `latent.observe_by_steps`, up to the order of sums."""
    keep_BT1 = (~is_first_BT).float().unsqueeze(-1)
    action_BTU = _action_part(rssm, prev_action_BTA * keep_BT1)
    embed_BTU = _embed_part(rssm, embed_BTE)
    steps = zip(
        action_BTU.unbind(1),
        embed_BTU.unbind(1),
        keep_BT1.unbind(1),
        uniform_BTS.unbind(1),
        strict=True,
    )
    stoch_weight = rssm.input.weight[:, : rssm.latent]
    deter_weight = rssm.posterior_hidden.weight[:, : rssm.config.deter]
    deter_BD = embed_BTU.new_zeros(len(embed_BTU), rssm.config.deter)
    stoch_BX = embed_BTU.new_zeros(len(embed_BTU), rssm.latent)
    states, posteriors = [], []
    for action_BU, embed_BU, keep_B1, uniform_BS in steps:
        product_BU = F.linear(stoch_BX * keep_B1, stoch_weight)
        deter_BD = rssm.gru(F.elu(product_BU + action_BU), deter_BD * keep_B1)
        hidden_BU = F.elu(F.linear(deter_BD, deter_weight) + embed_BU)
        posteriors.append(rssm.logits(rssm.posterior_logits, hidden_BU))
        stoch_BSK = sample_logits(posteriors[-1], uniform_BS)
        stoch_BX = stoch_BSK.flatten(-2)
        states.append(LatentState(deter_BD, stoch_BSK))
    return observed(rssm, states, posteriors)


def _action_part(rssm: EluRSSM, action: Tensor) -> Tensor:
    # Padding with zeros and leaving weights out are the same.
    stop = rssm.latent + action.shape[-1]
    return F.linear(action, rssm.input.weight[:, rssm.latent : stop], rssm.input.bias)


def _embed_part(rssm: EluRSSM, embed: Tensor) -> Tensor:
    weight = rssm.posterior_hidden.weight[:, rssm.config.deter :]
    return F.linear(embed, weight, rssm.posterior_hidden.bias)
