"""`observe` of DreamerV3-2023's RSSM with products taken before and after the time loop.

What does not depend on the previous state (the products with embed and action, the initial state)
is computed for all steps at once, and gradients of weights once after the loop (`late_gradients`).

Shape legend: B batch, T time, A flat action, E embed, D deter, X flat stoch, U units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie_algorithms.dreamer.latent import LatentState, Observed, observed, sample
from reverie_algorithms.fast.late_gradients import StepProduct

if TYPE_CHECKING:
    from reverie_algorithms.dreamer_v3_2023.rssm import GRURSSM


def observe(
    rssm: GRURSSM,
    embed_BTE: Tensor,
    prev_action_BTA: Tensor,
    is_first_BT: Tensor,
    uniform_BTS: Tensor,
) -> Observed:
    """The same as `latent.observe_by_steps`, up to the order of sums."""
    is_first_BT1 = is_first_BT.unsqueeze(-1)
    initial = rssm.initial(1)
    products = _products(rssm, embed_BTE, prev_action_BTA * ~is_first_BT1)
    start_deter = (initial.deter * is_first_BT1).unbind(1)
    start_stoch = (initial.stoch.flatten(-2) * is_first_BT1).unbind(1)
    keep = (~is_first_BT1).float().unbind(1)
    uniform = uniform_BTS.unbind(1)

    deter_BD, stoch_BX = start_deter[0], start_stoch[0]
    states, posteriors = [], []
    for t in range(len(uniform)):
        if t:
            deter_BD = torch.addcmul(start_deter[t], deter_BD, keep[t])
            stoch_BX = torch.addcmul(start_stoch[t], stoch_BX, keep[t])
        inputs_BU = rssm.input.finish(products["input"](t, stoch_BX))
        gates = products["gates"](t, torch.cat([deter_BD, inputs_BU], -1))
        deter_BD = rssm.gru.finish(rssm.gru.gates.finish(gates), deter_BD)
        hidden_BU = rssm.posterior_hidden.finish(products["hidden"](t, deter_BD))
        posteriors.append(rssm.probs(products["logits"](t, hidden_BU)))
        stoch_BSK = sample(posteriors[-1], uniform[t])
        stoch_BX = stoch_BSK.flatten(-2)
        states.append(LatentState(deter_BD, stoch_BSK))
    return observed(rssm, states, posteriors)


def _products(rssm: GRURSSM, embed_BTE: Tensor, action_BTA: Tensor) -> dict[str, StepProduct]:
    """The products of the time loop, with all that embed and action add to them."""
    shape = (embed_BTE.shape[1], len(embed_BTE), -1)
    stoch_weight, action_weight = rssm.input.weight.tensor_split([rssm.one_hots.width], 1)
    action_TBU = F.linear(rssm.bounded(action_BTA.transpose(0, 1)), action_weight)
    sizes = [rssm.config.deter, embed_BTE.shape[-1]]
    deter_weight, embed_weight = rssm.posterior_hidden.weight.split(sizes, 1)
    embed_TBU = F.linear(embed_BTE.transpose(0, 1), embed_weight)
    gates, logits = rssm.gru.gates.weight, rssm.posterior_logits
    terms = {
        "input": (stoch_weight, action_TBU),
        "gates": (gates, gates.new_zeros(len(gates)).expand(shape)),
        "hidden": (deter_weight, embed_TBU),
        "logits": (logits.weight, logits.bias.expand(shape)),
    }
    return {name: StepProduct(weight, term) for name, (weight, term) in terms.items()}
