"""`observe` of DreamerV3-2025's RSSM with products taken before and after the time loop.

What depends on embed and action alone is computed for all steps at once, and gradients of weights
once after the loop (`late_gradients`). Steps keep the deterministic state [B, D] apart from its
view in blocks [G, B, d], and the loop keeps time first.

Shape legend: B batch, T time, A flat action, E embed, D deter, G blocks, d = D / G, X flat stoch,
S stoch variables, U units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie_algorithms.dreamer.latent import LatentState, Observed, observed, sample
from reverie_algorithms.fast.late_gradients import StepProduct

if TYPE_CHECKING:
    from reverie_algorithms.dreamer_v3_2025.rssm import BlockRSSM


def observe(
    rssm: BlockRSSM,
    embed_BTE: Tensor,
    prev_action_BTA: Tensor,
    is_first_BT: Tensor,
    uniform_BTS: Tensor,
    start: LatentState,
) -> Observed:
    """The same as `latent.observe_by_steps`, up to the order of sums."""
    keep_TB1 = (~is_first_BT).float().t().unsqueeze(-1)
    action_TBA = prev_action_BTA.transpose(0, 1) * keep_TB1
    products = _products(rssm, embed_BTE.transpose(0, 1), action_TBA)
    deter_BD, stoch_BX = start.deter, start.stoch.flatten(-2)
    keep, uniform = keep_TB1.unbind(0), uniform_BTS.unbind(1)

    states, posteriors = [], []
    for t in range(len(keep)):
        deter_BD, stoch_BX = deter_BD * keep[t], stoch_BX * keep[t]
        deter_BD, logits_BX = _step(rssm, products, t, deter_BD, stoch_BX)
        posteriors.append(rssm.probs(logits_BX))
        stoch_BSK = sample(posteriors[-1], uniform[t])
        stoch_BX = stoch_BSK.flatten(-2)
        states.append(LatentState(deter_BD, stoch_BSK))
    return observed(rssm, states, posteriors)


def _products(rssm: BlockRSSM, embed_TBE: Tensor, action_TBA: Tensor) -> dict[str, StepProduct]:
    """The products of the time loop, with all that embed and action add to them."""
    gru, (steps, rows), deter = rssm.gru, action_TBA.shape[:2], rssm.config.deter
    inner = gru.width + 2 * gru.units
    action_TBU = gru.action_in(rssm.bounded(action_TBA))
    action_GNU = action_TBU.flatten(0, 1).expand(gru.blocks, -1, -1)
    from_action = torch.baddbmm(gru.hidden.bias, action_GNU, gru.hidden.weight[:, inner:])
    hidden = rssm.posterior_hidden
    from_embed = F.linear(embed_TBE, hidden.weight[:, deter:], hidden.bias)
    terms = {
        "deter_in": (gru.deter_in.weight, gru.deter_in.bias),
        "stoch_in": (gru.stoch_in.weight, gru.stoch_in.bias),
        "hidden": (
            gru.hidden.weight[:, :inner],
            from_action.unflatten(1, (steps, rows)).transpose(0, 1),
        ),
        "gates": (gru.gates.weight, gru.gates.bias.expand(steps, -1, rows, -1)),
        "posterior": (hidden.weight[:, :deter], from_embed),
        "logits": (rssm.posterior_logits.weight, rssm.posterior_logits.bias),
    }
    return {
        name: StepProduct(weight, term if term.ndim > 1 else term.expand(steps, rows, -1))
        for name, (weight, term) in terms.items()
    }


def _step(
    rssm: BlockRSSM, products: dict[str, StepProduct], t: int, deter_BD: Tensor, stoch_BX: Tensor
) -> tuple[Tensor, Tensor]:
    """The next deter and the posterior's logits [B, X]."""
    gru = rssm.gru
    deter_BU = gru.deter_in.finish(products["deter_in"](t, deter_BD))
    stoch_BU = gru.stoch_in.finish(products["stoch_in"](t, stoch_BX))
    deter_GBd = deter_BD.unflatten(-1, (gru.blocks, -1)).transpose(0, 1)
    inputs = torch.cat([deter_BU, stoch_BU], -1).expand(gru.blocks, -1, -1)
    hidden = gru.normed(products["hidden"](t, torch.cat([deter_GBd, inputs], -1)))
    deter_BD = gru.finish(products["gates"](t, hidden), deter_GBd)
    hidden_BU = rssm.posterior_hidden.finish(products["posterior"](t, deter_BD))
    return deter_BD, products["logits"](t, hidden_BU)
